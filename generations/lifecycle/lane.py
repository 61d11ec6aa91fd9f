"""The lane: whose turn it is, within the provider account's limits; slowed by a 429, paused when the account is refused.

Projects take turns, however much each has queued; within a project the priority counts, then the age.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils import timezone

from generations.lifecycle import restored
from generations.lifecycle.timing import RESULTS_LAST, backoff, call_lease, redelivery
from generations.models import Generation, Lane, PausedEndpoint, PausedProject, ProjectTurn, Status
from generations.models.lane import FULL_RATE
from generations.storage import room
from projects.models import Project

log = structlog.get_logger(__name__)

MINUTE = timedelta(minutes=1)
# After a 429: this long, twice as long each time that no quiet minute has passed, at most a minute, as that is the provider's window.
FIRST_WAIT = timedelta(seconds=5)
LONGEST_WAIT = MINUTE
# What the provider asks for is honoured this far: an answer that names a week does not stop the studio for a week.
LONGEST_ASKED = timedelta(minutes=15)
TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Lease:
    """A queued generation that was let into the lane, for one submit."""

    pk: uuid.UUID
    token: uuid.UUID


@dataclass(frozen=True)
class Slots:
    """How many videos at once and a minute: what the account takes, or what is taken of it."""

    at_once: int
    per_minute: int

    def have_room_for(self, used: "Slots") -> bool:
        return used.at_once < self.at_once and used.per_minute < self.per_minute


def admit() -> Lease | None:
    """Leases the queued generation whose turn it is, if the lane is open, has a slot, and what is made would have room here.

    From a database that was restored from a backup nothing is let in.
    """
    if shortage := room.shortage():
        log.warning("no_room", reason=shortage)
        return None
    lease = _admit()
    if lease is None or _confirm_database():
        return lease
    again_at = timezone.now() + backoff(0)
    Generation.objects.save_leased(lease.pk, lease.token, release=True, next_action_at=again_at)
    return None


def _confirm_database() -> bool:
    try:
        return not restored.pause_if_earlier()
    except Exception:
        # Storages raise what their vendor's library raises. Without an answer nothing is submitted.
        log.exception("storage_not_read")
        return False


@transaction.atomic
def _admit() -> Lease | None:
    lane = Lane.locked()
    now = timezone.now()
    if lane.sent_at:
        lane.sent_at = None
        lane.save(update_fields=["sent_at"])
    if not _is_open(lane, now) or not limits(lane, now).have_room_for(used(now)):
        return None
    turn = first_in_turn(_due(now))
    if turn is None:
        return None
    # `submit` renews it before each call, so that the slot of a worker that dies is soon free again.
    token = Generation.objects.lease(turn.pk, call_lease(), status=Status.QUEUED)
    if token is None:
        return None
    _remember_turn(turn.project_id, now)
    return Lease(turn.pk, token)


def _is_open(lane: Lane, now: datetime) -> bool:
    return lane.paused_at is None and not lane.is_slowed(now)


def limits(lane: Lane, now: datetime) -> Slots:
    """What the account takes, at the rate that the lane has now; one always passes."""
    rate = lane.rate_at(now)
    return Slots(
        at_once=max(1, settings.WAVESPEED_VIDEOS_AT_ONCE * rate // FULL_RATE),
        per_minute=max(1, settings.WAVESPEED_VIDEOS_PER_MINUTE * rate // FULL_RATE),
    )


def used(now: datetime) -> Slots:
    """What occupies the account: what uploads, what is at the provider, and what may be there."""
    uploading = Q(status=Status.QUEUED, lease_until__gt=now)
    # One of which the provider has said nothing since is still asked for; it is not working on it any more. What waits for people holds
    # nobody up: the provider has finished it, or queues what is too much by itself.
    processing = Q(status=Status.PROCESSING, submitted_at__gt=now - RESULTS_LAST, needs_look_since=None)
    there = Q(status=Status.SUBMITTING) | processing | may_be_there(now)
    return Slots(
        at_once=Generation.objects.filter(uploading | there).count(),
        # Not what a clock that was wrong says of the future.
        per_minute=Generation.objects.filter(
            uploading | Q(submitted_at__gt=now - MINUTE, submitted_at__lte=now + MINUTE)
        ).count(),
    )


def may_be_there(now: datetime) -> Q:
    """Unconfirmed ones occupy a slot for as long as the provider may be working on them."""
    return Q(status=Status.UNCONFIRMED, submitted_at__gt=now - timedelta(minutes=settings.UNCONFIRMED_MINUTES))


def is_held(generation: Generation) -> bool:
    """Whether it was paused since it was let in. With the lane's row locked this is wholly before or wholly after a pause."""
    return (
        Lane.objects.filter(pk=Lane.WAVESPEED, paused_at__isnull=False).exists()
        or PausedProject.objects.filter(project=generation.project_id).exists()
        or PausedEndpoint.objects.filter(endpoint=generation.endpoint).exists()
    )


def put_back(lease: Lease) -> None:
    """It was not asked for yet: it waits in the queue again."""
    Generation.objects.save_leased(lease.pk, lease.token, release=True, next_action_at=timezone.now())


def queued() -> QuerySet[Generation]:
    """What nothing but the lane itself holds up: neither its project nor its endpoint is paused."""
    paused = list(PausedEndpoint.objects.values_list("endpoint", flat=True))
    return Generation.objects.filter(status=Status.QUEUED).exclude(endpoint__in=paused)


def _due(now: datetime) -> QuerySet[Generation]:
    """The time is compared so that no index of due rows is taken: each project's queue has its own, in the order of turns."""
    is_free = Q(lease_until=None) | Q(lease_until__lt=now)
    return queued().alias(due_at=Coalesce("next_action_at", now)).filter(is_free, due_at__lte=now)


def first_in_turn(candidates: QuerySet[Generation]) -> Generation | None:
    """The next one: of the project that was let in longest ago, its most urgent, then its oldest."""
    ordered = candidates.order_by("-priority", "queued_at", "pk")
    # No EXISTS: PostgreSQL might make a join of that which reads the whole queue.
    first = Subquery(ordered.filter(project=OuterRef("pk")).values("pk")[:1])
    project = in_turn(Project.objects.alias(first=first).filter(first__isnull=False, pause=None)).first()
    return ordered.filter(project=project).first() if project else None


def in_turn(projects: QuerySet[Project]) -> QuerySet[Project]:
    """Who was never let in comes first, then who was let in longest ago (`last_turn`)."""
    last_turn = ProjectTurn.objects.filter(project=OuterRef("pk")).values("last_at")
    return projects.annotate(last_turn=Subquery(last_turn)).order_by(
        F("last_turn").asc(nulls_first=True), "created_at", "pk"
    )


def _remember_turn(project_id: uuid.UUID, now: datetime) -> None:
    """Turns have an order of their own: clocks of several machines differ, and may go back."""
    latest = ProjectTurn.objects.aggregate(latest=Max("last_at"))["latest"]
    last_at = max(now, latest + TICK) if latest else now
    ProjectTurn.objects.update_or_create(project_id=project_id, defaults={"last_at": last_at})


def ask_for_worker() -> bool:
    """Whether a worker should fill the lane: True once in a redelivery time, until one has looked."""
    now = timezone.now()
    lane = Lane.objects.filter(pk=Lane.WAVESPEED).first() or Lane.objects.get_or_create(pk=Lane.WAVESPEED)[0]
    was_asked = lane.sent_at is not None and lane.sent_at > now - redelivery()
    if was_asked or not _is_open(lane, now) or not limits(lane, now).have_room_for(used(now)):
        return False
    if not _due(now).filter(project__pause=None).exists():
        return False
    return Lane.objects.filter(pk=lane.pk, sent_at=lane.sent_at).update(sent_at=now) == 1


@transaction.atomic
def slow(asked: timedelta = timedelta(0)) -> datetime:
    """The provider said that it is too much: nothing is submitted until the moment that is returned, and then half as much.

    What was on its way at the same time and is refused too halves nothing again. `asked` is how long the provider asks to wait.
    """
    lane, now = Lane.locked(), timezone.now()
    asked_until = now + min(asked, LONGEST_ASKED)
    if lane.slowed_until and lane.is_slowed(now):
        lane.slowed_until = max(lane.slowed_until, asked_until)
    else:
        wait = _wait(lane, now)
        lane.rate = max(lane.rate_at(now) // 2, min(lane.rate_at(now), _least_rate()))
        lane.rate_changed_at, lane.slowed_until = now, max(now + wait, asked_until)
        log.warning("lane_slowed", rate=lane.rate, until=lane.slowed_until.isoformat())
    lane.save(update_fields=["rate", "rate_changed_at", "slowed_until"])
    return lane.slowed_until


def _wait(lane: Lane, now: datetime) -> timedelta:
    """Twice the last one if no quiet minute has passed since."""
    if lane.slowed_until is None or lane.rate_changed_at is None or now - lane.slowed_until > MINUTE:
        return FIRST_WAIT
    return min(LONGEST_WAIT, 2 * (lane.slowed_until - lane.rate_changed_at))


def _least_rate() -> int:
    """The lowest rate that is no lower in effect: with it both limits are one."""
    return -(-FULL_RATE // max(settings.WAVESPEED_VIDEOS_AT_ONCE, settings.WAVESPEED_VIDEOS_PER_MINUTE))
