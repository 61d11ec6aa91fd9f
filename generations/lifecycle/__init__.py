"""The steps of a generation: admit, submit, resolve, poll, store, settle. Each does one thing, is safe to run twice, and enqueues nothing.

A step leases its row and commits, does the slow work without a transaction, then commits the outcome, guarded by its lease.
"""

from generations.lifecycle import lost_leases, strays, unexpected
from generations.lifecycle.account import resume_if_account_is_back
from generations.lifecycle.adopt import adopt
from generations.lifecycle.lane import admit, ask_for_worker
from generations.lifecycle.needs_look import TRIES_UNTIL_LOOK, ask_for_look
from generations.lifecycle.poll import poll
from generations.lifecycle.refused import delete as delete_refused
from generations.lifecycle.refused import forget as forget_refused
from generations.lifecycle.resolve import look_interval, may_settle_at, resolve, what_is_unread
from generations.lifecycle.settle import book_late_deducts, book_refunds, booked_bill, settle
from generations.lifecycle.store import store
from generations.lifecycle.submit import recover_submit, request_body, submit, take_up_announced
from generations.lifecycle.success import new_refunds, pause_if_overcharged, succeeded
from generations.lifecycle.timing import RESULTS_LAST, poll_interval, redelivery
from generations.lifecycle.unassigned import candidates, find_orphans, store_unassigned

__all__ = [
    "RESULTS_LAST",
    "TRIES_UNTIL_LOOK",
    "admit",
    "adopt",
    "ask_for_look",
    "ask_for_worker",
    "book_late_deducts",
    "book_refunds",
    "booked_bill",
    "candidates",
    "delete_refused",
    "find_orphans",
    "forget_refused",
    "look_interval",
    "lost_leases",
    "may_settle_at",
    "new_refunds",
    "pause_if_overcharged",
    "poll",
    "poll_interval",
    "recover_submit",
    "redelivery",
    "request_body",
    "resolve",
    "resume_if_account_is_back",
    "settle",
    "store",
    "store_unassigned",
    "strays",
    "submit",
    "succeeded",
    "take_up_announced",
    "unexpected",
    "what_is_unread",
]
