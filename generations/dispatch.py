"""Finds due work and hands it to the actors: the scheduler and the rescuer are the same thing. Harmless when several run at once."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import dramatiq
import structlog
from django.db import close_old_connections, connection, transaction
from django.db.models import Case, Q, QuerySet, Value, When
from django.utils import timezone
from dramatiq import Actor, Message
from structlog.contextvars import bound_contextvars

from generations import alerts, announcements, lifecycle, reconcile, tasks
from generations.lifecycle import restored, wrong_clock
from generations.models import Generation, Status, UnassignedPrediction
from generations.services import approvals, webhooks
from generations.storage import room
from generations.timetable import Timetable
from projects import alerts as budget_alerts
from projects import digest
from projects.tasks import mail_due_invitations

log = structlog.get_logger(__name__)

BATCH = 200
SECONDS_BETWEEN_TICKS = 1
SECONDS_BETWEEN_LOOKS_AT_THE_CLOCK = 10
# When more is due than may be handed out, one in so many is what became due last: so what is new does not wait for a whole backlog.
NEWEST = 4
# A broker that refuses so many messages in a row is not asked for the rest of them.
REFUSALS = 3
# What ended its worker again and again took others' work with it each time.
SELDOM = timedelta(minutes=10)
# Seven days after it was submitted, what the provider made is gone.
EXPIRES_SOON = timedelta(days=6)


@dataclass(frozen=True)
class Work:
    """One kind of due work: the rows that may want it, and the actor that does it.

    A row is due when `clock` has come. Handing it out moves the clock ahead by the redelivery time and notes `mark`, which a worker
    clears that takes it. At most `most` are handed out and not taken: the rest waits here, where it can be put in order, and not in
    the broker. Several dispatchers at the same instant may hand out a batch each beyond that.
    """

    actor: Actor
    rows: Callable[[], QuerySet]
    most: int
    clock: str = "next_action_at"
    mark: str = "sent_at"
    moves_clock: bool = True
    urgent_first: bool = False

    def claim(self) -> list[Message]:
        """Hands out what is due: the messages that are to be sent now, one for each row."""
        if not self.due(timezone.now()).exists():
            return []
        return [self.actor.message(str(pk)) for pk in self._claim()]

    @transaction.atomic
    def _claim(self) -> list[UUID]:
        now = timezone.now()
        due = self.due(now)
        if connection.features.has_select_for_update_skip_locked:
            due = due.select_for_update(skip_locked=True, no_key=True)
        oldest = self._first(due, BATCH)
        handed_out = self.rows().filter(**{f"{self.mark}__gt": now - lifecycle.redelivery()}).count()
        room = max(0, min(BATCH, self.most - handed_out))
        claimed = oldest[:room]
        if len(oldest) > room or len(oldest) == BATCH:
            newest = self._first(due.order_by(f"-{self.clock}"), (room + random.randrange(NEWEST)) // NEWEST)
            claimed = list(dict.fromkeys([*newest, *oldest]))[:room]
        changes: dict[str, Any] = {self.mark: now}
        if self.moves_clock:
            is_deadly = When(lost_leases__gte=lifecycle.TRIES_UNTIL_LOOK, then=Value(now + SELDOM))
            changes[self.clock] = Case(is_deadly, default=Value(now + lifecycle.redelivery()))
        self.rows().filter(pk__in=claimed).update(**changes)
        return claimed

    def due(self, now: datetime) -> QuerySet:
        """The rows that are due, in the order in which they are handed out."""
        due = self.rows().filter(**{f"{self.clock}__lte": now})
        if not self.moves_clock:
            mark = self.mark
            due = due.filter(Q(**{mark: None}) | Q(**{f"{mark}__lte": now - lifecycle.redelivery()}))
        return due.order_by(*self._order(now))

    def _order(self, now: datetime) -> list[str | Case]:
        """Most overdue first."""
        if not self.urgent_first:
            return [self.clock]
        return [Case(When(submitted_at__lt=now - EXPIRES_SOON, then=Value(0)), default=Value(1)), self.clock]

    def _first(self, rows: QuerySet, number: int) -> list[UUID]:
        return list(rows.values_list("pk", flat=True)[:number])


def _in(status: Status) -> Callable[[], QuerySet]:
    return partial(Generation.objects.filter, status=status)


WORK = [
    # What a dead worker had: its lease has ended.
    Work(tasks.recover_submit, _in(Status.SUBMITTING), 100, clock="lease_until", moves_clock=False),
    Work(tasks.store, _in(Status.STORING), 100, urgent_first=True),
    Work(tasks.store_unassigned, UnassignedPrediction.objects.filter, 50),
    Work(tasks.poll, _in(Status.PROCESSING), 500),
    # A late success.
    Work(tasks.poll, _in(Status.FAILED), 100),
    Work(tasks.resolve, _in(Status.UNCONFIRMED), 100),
    Work(
        tasks.settle,
        partial(Generation.objects.filter, settle_at__isnull=False),
        200,
        clock="settle_at",
        mark="settle_sent_at",
    ),
]


def tick() -> None:
    """One look at what is due. Whatever goes wrong with one kind of work, the others go on; then it is raised."""
    troubles: list[Exception] = []
    refused: list[Exception] = []
    for look in (_fill_lane, *(work.claim for work in WORK)):
        try:
            refused += _send(look())
        except Exception as error:
            troubles.append(error)
    if refused:
        log.error("broker_refuses", messages=len(refused), reason=repr(refused[0]))
    if troubles:
        raise ExceptionGroup("Not all that is due was handed out.", troubles)


def _fill_lane() -> list[Message]:
    return [tasks.fill_lane.message()] if lifecycle.ask_for_worker() else []


def _send(messages: list[Message]) -> list[Exception]:
    """What the broker refuses comes due again."""
    broker, refused, in_a_row = dramatiq.get_broker(), list[Exception](), 0
    for message in messages:
        try:
            broker.enqueue(message)
            in_a_row = 0
        except Exception as error:
            refused.append(error)
            in_a_row += 1
            if in_a_row == REFUSALS:
                break
    return refused


def reconcile_tonight() -> None:
    """Looked at every minute, so that it follows the studio's time zone, and a night that was slept through is made up for."""
    if reconciliation := reconcile.tonight():
        tasks.reconcile.send(str(reconciliation.pk))
        tasks.check_storage.send()


def clean_up() -> None:
    tasks.clean_up.send()


def find_orphans() -> None:
    tasks.find_orphans.send()


def mend_strays() -> None:
    lifecycle.strays.mend()


def tell_of_lost_leases() -> None:
    lifecycle.lost_leases.tell()


def find_out_restored() -> None:
    """Looked at here too, so that owners hear of it before anybody queues something."""
    restored.pause_if_earlier()


def schedule(timetable: Timetable) -> None:
    """Adds the studio's jobs to the timetable of `manage.py dispatch` or of the embedded process."""
    _every(timetable, tick, seconds=SECONDS_BETWEEN_TICKS)
    _every(timetable, wrong_clock.Watch().look, seconds=SECONDS_BETWEEN_LOOKS_AT_THE_CLOCK)
    _every(timetable, find_out_restored, minutes=1)
    _every(timetable, approvals.expire, minutes=1)
    _every(timetable, budget_alerts.check_budgets, minutes=1)
    _every(timetable, announcements.announce_ended, minutes=1)
    _every(timetable, digest.send, minutes=1)
    _every(timetable, mail_due_invitations, minutes=1)
    _every(timetable, alerts.check_balance, hours=1)
    _every(timetable, alerts.check_expiring, minutes=10)
    _every(timetable, alerts.check_not_sent, minutes=10)
    _every(timetable, room.tell_of_shortage, minutes=1)
    _every(timetable, lifecycle.resume_if_account_is_back, minutes=1)
    _every(timetable, reconcile_tonight, minutes=1)
    _every(timetable, clean_up, hours=1)
    _every(timetable, find_orphans, minutes=10)
    _every(timetable, mend_strays, minutes=10)
    _every(timetable, tell_of_lost_leases, minutes=1)
    _every(timetable, webhooks.refresh_secret, hours=1)


def _every(timetable: Timetable, job: Callable[[], object], **interval: int) -> None:
    timetable.every(timedelta(**interval).total_seconds(), job.__name__, partial(_run, job))


def _run(job: Callable[[], object]) -> None:
    """A job in a thread of the timetable, whose database connection nobody else looks after."""
    close_old_connections()
    try:
        with bound_contextvars(job=job.__name__):
            job()
    finally:
        # What looks every second keeps its connection; the others would hold theirs for nothing.
        if job is tick:
            close_old_connections()
        else:
            connection.close()
