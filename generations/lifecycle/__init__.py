"""The steps of a generation: admit, submit, poll, store, settle. Each does one thing, is safe to run twice, and enqueues nothing.

A step leases its row and commits, does the slow work without a transaction, then commits the outcome, guarded by its lease.
"""

from generations.lifecycle.poll import poll, poll_interval
from generations.lifecycle.settle import book_refunds, booked_bill, new_refunds, pause_if_overcharged, settle
from generations.lifecycle.store import store
from generations.lifecycle.submit import UNCONFIRMED_OCCUPIES, admit, adopt, recover_submit, request_body, submit
from generations.lifecycle.timing import REDELIVERY, RESULTS_LAST

__all__ = [
    "REDELIVERY",
    "RESULTS_LAST",
    "UNCONFIRMED_OCCUPIES",
    "admit",
    "adopt",
    "book_refunds",
    "booked_bill",
    "new_refunds",
    "pause_if_overcharged",
    "poll",
    "poll_interval",
    "recover_submit",
    "request_body",
    "settle",
    "store",
    "submit",
]
