"""Finds due work and hands it to the actors: the scheduler and the rescuer are the same thing. Harmless when several run at once."""

from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from uuid import UUID

from apscheduler.schedulers.base import BaseScheduler
from django.db import close_old_connections, connection, transaction
from django.utils import timezone

from generations import alerts, approvals, lifecycle, reconcile, tasks
from generations.models import Generation, Lane, PausedEndpoint, Status
from projects import alerts as budget_alerts
from projects import digest

BATCH = 200
SECONDS_BETWEEN_TICKS = 1


def tick() -> None:
    """One look at what is due: each due row is moved ahead by the redelivery time, then its message is sent."""
    now = timezone.now()
    if _lane_wants_filling():
        tasks.fill_lane.send()
    for pk in Generation.objects.filter(status=Status.SUBMITTING, lease_until__lt=now).values_list("pk", flat=True)[
        :BATCH
    ]:
        tasks.recover_submit.send(str(pk))
    for pk in _claim("next_action_at", status=Status.STORING):
        tasks.store.send(str(pk))
    for pk in _claim("next_action_at", status=Status.PROCESSING):
        tasks.poll.send(str(pk))
    for pk in _claim("settle_at"):
        tasks.settle.send(str(pk))


def reconcile_tonight() -> None:
    """Looked at every minute, so that it follows the studio's time zone, and a night that was slept through is made up for."""
    if reconciliation := reconcile.tonight():
        tasks.reconcile.send(str(reconciliation.pk))


def _lane_wants_filling() -> bool:
    now = timezone.now()
    lane = Lane.objects.filter(pk=Lane.WAVESPEED).first()
    if lane and (lane.paused_at or (lane.slowed_until and lane.slowed_until > now)):
        return False
    waiting = Generation.objects.filter(status=Status.QUEUED, next_action_at__lte=now)
    return waiting.exclude(endpoint__in=PausedEndpoint.objects.values("endpoint")).exists()


@transaction.atomic
def _claim(field: str, **conditions: str) -> Iterable[UUID]:
    """Due rows, most overdue first, that look due again only after the redelivery time."""
    now = timezone.now()
    due = Generation.objects.filter(**{f"{field}__lte": now}, **conditions).order_by(field)
    if connection.features.has_select_for_update_skip_locked:
        due = due.select_for_update(skip_locked=True)
    claimed = list(due.values_list("pk", flat=True)[:BATCH])
    Generation.objects.filter(pk__in=claimed).update(**{field: now + lifecycle.REDELIVERY})
    return claimed


def schedule(scheduler: BaseScheduler) -> None:
    """Adds the studio's jobs to a scheduler of `manage.py dispatch` or of the embedded process."""
    _every(scheduler, tick, seconds=SECONDS_BETWEEN_TICKS)
    _every(scheduler, approvals.expire, minutes=1)
    _every(scheduler, budget_alerts.check_budgets, minutes=1)
    _every(scheduler, alerts.announce_ended, minutes=1)
    _every(scheduler, digest.send, minutes=1)
    _every(scheduler, alerts.check_balance, hours=1)
    _every(scheduler, reconcile_tonight, minutes=1)


def _every(scheduler: BaseScheduler, job: Callable[[], None], **interval: int) -> None:
    scheduler.add_job(
        partial(_run, job),
        "interval",
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
        next_run_time=timezone.now() + timedelta(milliseconds=10),
        **interval,
    )


def _run(job: Callable[[], None]) -> None:
    """A job in a scheduler's thread, whose database connection nobody else looks after."""
    close_old_connections()
    try:
        job()
    finally:
        close_old_connections()
