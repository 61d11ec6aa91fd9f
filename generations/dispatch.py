"""Finds due work and hands it to the actors: the scheduler and the rescuer are the same thing. Harmless when several run at once."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from apscheduler.schedulers.base import BaseScheduler
from django.db import close_old_connections, connection, transaction
from django.utils import timezone

from generations import lifecycle, tasks
from generations.models import Generation, Lane, Status

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


def _lane_wants_filling() -> bool:
    now = timezone.now()
    lane = Lane.objects.filter(pk=Lane.WAVESPEED).first()
    if lane and (lane.paused_at or (lane.slowed_until and lane.slowed_until > now)):
        return False
    return Generation.objects.filter(status=Status.QUEUED, next_action_at__lte=now).exists()


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
    scheduler.add_job(
        _run,
        "interval",
        seconds=SECONDS_BETWEEN_TICKS,
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
        next_run_time=timezone.now() + timedelta(milliseconds=10),
    )


def _run() -> None:
    """A tick in a scheduler's thread, whose database connection nobody else looks after."""
    close_old_connections()
    try:
        tick()
    finally:
        close_old_connections()
