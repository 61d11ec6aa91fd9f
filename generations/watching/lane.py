"""What the lane does now, for people: its limits and what they are used for, who waits and whose turn it is, what is paused."""

from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.db.models import Count, Min, Q, QuerySet, Sum
from django.utils import timezone

from generations import catalog
from generations.lifecycle import lane as lanes
from generations.models import (
    RUNNING,
    Generation,
    Lane,
    PauseCause,
    PausedEndpoint,
    PausedProject,
    PauseEvent,
    Status,
)
from generations.models.lane import FULL_RATE, RECOVERY
from projects.models import Project

MOST_PROJECTS = 100
MOST_EVENTS = 15
# What ends a pause, by its cause.
ENDS = {
    PauseCause.OWNER: "It goes on when a studio owner resumes it.",
    PauseCause.KEY_REFUSED: "The key is tried every minute, which costs nothing: it goes on by itself once the provider accepts it.",
    PauseCause.NO_CREDITS: "The balance is read every minute: it goes on by itself once it covers the next video.",
    PauseCause.RESTORED: "Run “manage.py after_restore” on the server, which compares it with the provider; then resume it here.",
}


@dataclass(frozen=True)
class Standing:
    """`full` is what the account takes, `limits` what the lane uses of it now, `used` how much of that is taken."""

    lane: Lane
    full: lanes.Slots
    limits: lanes.Slots
    used: lanes.Slots
    rate: int
    uploading: int
    at_provider: int
    maybe_at_provider: int
    unconfirmed: int
    storing: int
    is_slowed: bool

    @property
    def is_below_full(self) -> bool:
        return self.rate < FULL_RATE

    @property
    def full_again_in(self) -> int:
        """Quiet minutes until the whole limit is used again."""
        return -(-(FULL_RATE - self.rate) // RECOVERY)

    @property
    def what_resumes_it(self) -> str:
        return ENDS.get(PauseCause(self.lane.paused_cause), "") if self.lane.paused_cause else ENDS[PauseCause.OWNER]


@dataclass(frozen=True)
class Queue:
    """What one project has queued; `held` in micro-dollars."""

    project: Project
    waiting: int
    urgent: int
    resting: int
    held: int
    oldest: datetime
    last_turn: datetime | None
    pause: PausedProject | None


def standing() -> Standing:
    now = timezone.now()
    lane = Lane.current()
    counts = Generation.objects.filter(
        Q(status=Status.QUEUED, lease_until__gt=now) | Q(status__in=RUNNING | {Status.UNCONFIRMED})
    ).aggregate(
        uploading=Count("pk", filter=Q(status=Status.QUEUED)),
        at_provider=Count("pk", filter=Q(status__in=(Status.SUBMITTING, Status.PROCESSING))),
        maybe_at_provider=Count("pk", filter=lanes.may_be_there(now)),
        unconfirmed=Count("pk", filter=Q(status=Status.UNCONFIRMED)),
        storing=Count("pk", filter=Q(status=Status.STORING)),
    )
    return Standing(
        lane=lane,
        full=lanes.Slots(settings.WAVESPEED_VIDEOS_AT_ONCE, settings.WAVESPEED_VIDEOS_PER_MINUTE),
        limits=lanes.limits(lane, now),
        used=lanes.used(now),
        rate=lane.rate_at(now),
        is_slowed=lane.is_slowed(now),
        **counts,
    )


def queues() -> list[Queue]:
    """Of each project that has something queued, in the order of their turns; the paused ones last. At most a hundred."""
    now = timezone.now()
    queued = Generation.objects.filter(status=Status.QUEUED)
    figures = {
        row["project"]: row
        for row in queued.values("project")
        .annotate(
            waiting=Count("pk"),
            urgent=Count("pk", filter=Q(priority__gt=0)),
            resting=Count("pk", filter=Q(next_action_at__gt=now)),
            held=Sum("quote"),
            oldest=Min("queued_at"),
        )
        .order_by()
    }
    projects = lanes.in_turn(Project.objects.filter(pk__in=figures)).select_related("pause__paused_by")
    found = [_queue(project, figures[project.pk]) for project in projects[:MOST_PROJECTS]]
    return sorted(found, key=lambda queue: queue.pause is not None)


def _queue(project: Project, figures: dict[str, object]) -> Queue:
    return Queue(
        project=project,
        last_turn=getattr(project, "last_turn", None),
        pause=getattr(project, "pause", None),
        **{name: figures[name] for name in ("waiting", "urgent", "resting", "oldest")},  # type: ignore[arg-type]
        held=figures["held"] or 0,  # type: ignore[arg-type]
    )


def paused_endpoints() -> list[tuple[str, PausedEndpoint]]:
    """With the title of the model, which is what people know it by."""
    paused = PausedEndpoint.objects.select_related("paused_by").order_by("endpoint")
    return [(title(each.endpoint), each) for each in paused]


def paused_projects() -> QuerySet[PausedProject]:
    return PausedProject.objects.select_related("project", "paused_by").order_by("project__name")


def title(endpoint: str) -> str:
    known = catalog.ENDPOINTS.get(endpoint)
    return known.title if known else endpoint


def events() -> list[tuple[str, PauseEvent]]:
    """The latest pauses and their ends: of what, and the event."""
    latest = PauseEvent.objects.select_related("project", "by")[:MOST_EVENTS]
    return [(_what(event), event) for event in latest]


def _what(event: PauseEvent) -> str:
    return str(event.project) if event.project else title(event.endpoint) if event.endpoint else "Everything"
