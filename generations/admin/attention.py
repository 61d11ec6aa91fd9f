"""What waits for a person: on the Operations page in full, and on the dashboard of studio owners in one line."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Min, Q
from django.urls import reverse
from django.utils import timezone

from generations.models import (
    Generation,
    Lane,
    PauseCause,
    PausedEndpoint,
    PausedProject,
    Process,
    Reconciliation,
    Status,
    UnassignedPrediction,
)
from generations.provider import calls
from generations.storage import room
from generations.watching import health
from projects import digest
from projects.models import Alert, AlertKind

LATELY = timedelta(days=7)
# These end by themselves once somebody has done what their reason says.
ENDS_BY_ITSELF = frozenset({PauseCause.KEY_REFUSED, PauseCause.NO_CREDITS})


@dataclass(frozen=True)
class Matter:
    """Something that goes on only when somebody does something about it."""

    title: str
    text: str
    url: str
    link: str
    since: datetime | None = None


def matters() -> list[Matter]:
    """The most urgent first; as many queries however many there are."""
    return [
        *_processes(),
        *_lane(),
        *_need_a_look(),
        *_calls(),
        *_generations(),
        *_predictions(),
        *_room(),
        *_mail(),
        *_pauses(),
        *_checks(),
    ]


def _processes() -> Iterator[Matter]:
    alive = set(Process.objects.alive().order_by().values_list("kind", flat=True))
    page = reverse("admin:generations_process_changelist")
    kinds = Process.Kind
    if not alive & {kinds.DISPATCHER, kinds.STUDIO}:
        text = "What is queued may wait, and finished videos are fetched late or not at all. Start it with “manage.py dispatch”."
        yield Matter("No dispatcher runs", text, f"{page}#processes", "Processes")
    if not alive & {kinds.WORKER, kinds.STUDIO}:
        text = "Nothing is submitted, fetched or stored. Start one with “manage.py rundramatiq”."
        yield Matter("No worker runs", text, f"{page}#processes", "Processes")
    elif missing := [queue for queue, workers in health.workers_by_queue().items() if not workers]:
        text = f"What is sent to {', '.join(missing)} waits for one. Start it with “manage.py rundramatiq --queues {missing[0]}”."
        yield Matter("A worker is missing", text, f"{page}#processes", "Processes")


def _lane() -> Iterator[Matter]:
    lane = Lane.current()
    if lane.paused_at:
        yield Matter(
            "The lane is paused: nothing is submitted",
            lane.paused_reason or "No reason was given.",
            reverse("admin:generations_lane_changelist"),
            "Open the lane" if lane.paused_cause in ENDS_BY_ITSELF else "Resume it",
            lane.paused_at,
        )


def _generations() -> Iterator[Matter]:
    now = timezone.now()
    settled_by_people = now - timedelta(minutes=settings.UNCONFIRMED_MINUTES)
    unclear = Q(status=Status.UNCONFIRMED, submitted_at__lte=settled_by_people)
    not_stored = Q(status=Status.STORING) & ~Q(error_code="")
    found = Generation.objects.filter(status__in=(Status.UNCONFIRMED, Status.STORING)).aggregate(
        unclear=Count("pk", filter=unclear),
        unclear_since=Min("submitted_at", filter=unclear),
        not_stored=Count("pk", filter=not_stored),
        not_stored_since=Min("submitted_at", filter=not_stored),
    )
    if count := found["unclear"]:
        yield Matter(
            f"{_counted(count, 'generation is', 'generations are')} unconfirmed",
            "Whether the provider made anything is not known, and the price stays held. Open each one and say what became of it.",
            _generations_page(Status.UNCONFIRMED),
            "Decide",
            found["unclear_since"],
        )
    if count := found["not_stored"]:
        yield Matter(
            f"{_counted(count, 'finished video is', 'finished videos are')} not stored yet",
            "Paid, and tried again by itself; the provider keeps a video for 7 days. See what the last try said.",
            _generations_page(Status.STORING),
            "Show them",
            found["not_stored_since"],
        )


def _need_a_look() -> Iterator[Matter]:
    rows = Generation.objects.filter(needs_look_since__isnull=False).order_by("needs_look_since")
    count = rows.count()
    if first := rows.first():
        one = reverse("admin:generations_generation_change", args=[first.pk])
        several = f"{reverse('admin:generations_generation_changelist')}?needs_look=yes"
        yield Matter(
            f"{_counted(count, 'generation needs', 'generations need')} a look",
            f"“{first}”: {first.needs_look_why}" if count == 1 else f"The first, “{first}”: {first.needs_look_why}",
            one if count == 1 else several,
            "Open it" if count == 1 else "Show them",
            first.needs_look_since,
        )


def _calls() -> Iterator[Matter]:
    page = f"{reverse('admin:generations_process_changelist')}#calls"
    for name, call in calls.failing(before=timezone.now() - calls.PASSES):
        last = f"{call.good_at:%H:%M UTC on %d %B}" if call.good_at else "never"
        yield Matter(
            f"{name} can’t be had", f"{call.error} Last good answer: {last}.", page, "The calls", call.failing_since
        )


def _predictions() -> Iterator[Matter]:
    rows = UnassignedPrediction.objects.filter(assigned_to=None)
    found = rows.aggregate(count=Count("pk"), since=Min("found_at"))
    if count := found["count"]:
        yield Matter(
            f"{_counted(count, 'prediction belongs', 'predictions belong')} to no generation",
            "Made on the studio’s account at the provider, without anybody here being known to have asked.",
            reverse("admin:generations_unassignedprediction_changelist"),
            "Look at them",
            found["since"],
        )


def _room() -> Iterator[Matter]:
    if shortage := room.shown_shortage():
        yield Matter("There is no room for more videos", shortage, _generations_page(Status.STORING), "What is storing")


def _mail() -> Iterator[Matter]:
    waiting = health.mail()
    if waiting.state != health.State.OK:
        page = reverse("admin:projects_notification_changelist")
        yield Matter("E-mails can’t be sent", waiting.message, page, "What they say", digest.waiting_since())


def _pauses() -> Iterator[Matter]:
    page = reverse("admin:generations_lane_changelist")
    for endpoint in PausedEndpoint.objects.order_by("endpoint"):
        yield Matter(f"{endpoint.endpoint} is paused", endpoint.reason, page, "Open the lane", endpoint.paused_at)
    for pause in PausedProject.objects.select_related("project").order_by("project__name"):
        url = reverse("admin:projects_project_change", args=[pause.project_id])
        yield Matter(
            f"Submitting for {pause.project} is paused", pause.reason, url, "Open the project", pause.paused_at
        )


def _checks() -> Iterator[Matter]:
    last = Reconciliation.objects.filter(finished_at__isnull=False).first()
    if last and (last.error or (last.differences and not last.applied)):
        count = _counted(last.differences, "difference", "differences")
        yield Matter(
            "The bill could not be compared" if last.error else f"Books and bill: {count}",
            last.error or "Some may be booked by now; the page says which, and what to do about each.",
            reverse("admin:generations_reconciliation_change", args=[last.pk]),
            "Open the reconciliation",
            last.finished_at,
        )
    failed = Alert.objects.filter(kind=AlertKind.CHECK_FAILED, created_at__gte=timezone.now() - LATELY).first()
    if failed:
        url = failed.path or reverse("admin:projects_notification_changelist")
        yield Matter(failed.title, failed.text, url, "Look at it", failed.created_at)


def _generations_page(status: Status) -> str:
    return f"{reverse('admin:generations_generation_changelist')}?status__exact={status}"


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"
