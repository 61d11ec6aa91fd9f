"""Days in the life of the studio, in one process and within seconds: the dispatcher's own jobs and the real actors, while the time flies.

Nothing is driven by hand: what is due is found by the dispatcher, and between two due times the clock, the provider's too, jumps.
"""

import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import dramatiq
import time_machine
from django.utils import timezone

from generations import dispatch
from generations.models import Generation, Lane, Status, UnassignedPrediction
from generations.timetable import Timetable

# What the clock jumps over where nothing says when it wants attention, as a paused lane does not.
MINUTE = timedelta(minutes=1)
MOST_ROUNDS = 400
# The jobs that move a generation; the others tell people, tidy up, or wait for a certain hour of the night.
MOVING = {"tick", "resume_if_account_is_back", "refresh_secret"}
# The provider renders in real time, however fast the clock goes.
REAL_PAUSE = 0.02


def live(traveller: time_machine.Traveller, lasting: timedelta, *, look: Callable[[], None] = lambda: None) -> None:
    """Lets so much time pass, or less if nothing waits for anything any more; `look` is called after each thing that happened."""
    timetable = Timetable()
    dispatch.schedule(timetable)
    # Without what a job is wrapped in, which would close the test's own database connection.
    jobs = [job.run.args[0] for name, job in timetable.jobs.items() if name in MOVING]
    ends = timezone.now() + lasting
    for _ in range(MOST_ROUNDS):
        for job in jobs:
            job()
            deliver(look)
        following = _next()
        if following is None or following > ends:
            return
        if following > timezone.now():
            traveller.move_to(following)
        time.sleep(REAL_PAUSE)
    raise AssertionError("It does not come to rest.")


def deliver(look: Callable[[], None] = lambda: None) -> None:
    """Works off every message that was sent, as a worker would."""
    broker: Any = dramatiq.get_broker()
    while message := _message(broker):
        broker.get_actor(message.actor_name)(*message.args, **message.kwargs)
        look()


def _message(broker: Any) -> dramatiq.Message[Any] | None:
    for queue in broker.queues.values():
        if not queue.empty():
            return dramatiq.Message.decode(queue.get_nowait())
    return None


def _next() -> datetime | None:
    """When something wants attention; None when nothing does."""
    lane = Lane.objects.filter(pk=Lane.WAVESPEED).first()
    waits = Generation.objects.filter(status=Status.QUEUED).exists()
    if lane and lane.paused_at and waits:
        return timezone.now() + MINUTE
    return min(_times(lane.slowed_until if lane and waits else None), default=None)


def _times(slowed_until: datetime | None) -> Iterable[datetime]:
    now = timezone.now()
    for row in Generation.objects.all():
        leased = row.lease_until if row.lease_until and row.lease_until > now else None
        if row.status == Status.SUBMITTING and row.lease_until:
            yield max(now, row.lease_until)
        if row.next_action_at:
            yield max(filter(None, (row.next_action_at, leased, slowed_until if row.status == Status.QUEUED else None)))
        if row.settle_at:
            yield row.settle_at
    yield from UnassignedPrediction.objects.exclude(next_action_at=None).values_list("next_action_at", flat=True)
