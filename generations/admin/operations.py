"""One page of how the studio runs, in plain words: what waits, on what and since when; what needs a person; processes, lane, errors."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, F, Min
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone

from generations.admin.attention import LATELY, Matter, matters
from generations.admin.display import ago, failure_sentence
from generations.admin.reconciliations import told
from generations.lifecycle import lane as lanes
from generations.models import (
    HANDED_OUT,
    WAITS_SINCE,
    Exchange,
    Generation,
    Lane,
    PausedEndpoint,
    PausedProject,
    Process,
    ProviderCall,
    Reconciliation,
    Status,
    UnassignedPrediction,
)
from generations.provider import calls
from generations.watching import health, unended
from projects.admin.access import ReadOnlyAdmin, access
from projects.models import Alert, AlertKind

MOST = 6
# Somebody should have taken up by then what is due.
LATE = timedelta(seconds=10)
# Errors are looked for among so many of the newest exchanges.
EXCHANGES_LOOKED_AT = 200
STATE_COLOURS = {health.State.OK: "success", health.State.DEGRADED: "warning", health.State.FAILED: "danger"}
WAITS_FOR = {
    Status.AWAITING_APPROVAL: "Somebody who may approve it.",
    Status.SUBMITTING: "The provider’s answer to the request.",
    Status.PROCESSING: "The provider, which is making the video.",
    Status.UNCONFIRMED: "Its outcome: the studio looks for it, and in the end an owner decides.",
    Status.STORING: "The copy from the provider to the studio.",
}


@dataclass(frozen=True)
class Waiting:
    title: str
    count: int
    on: str
    since: datetime | None
    url: str
    looked_at: datetime | None = None
    sent_at: datetime | None = None

    @property
    def oldest(self) -> str:
        return ago(self.since) if self.since else ""

    @property
    def is_late(self) -> bool:
        """Due for longer than a look takes that hands it out."""
        return self.looked_at is not None and timezone.now() - self.looked_at > LATE

    @property
    def is_not_taken(self) -> bool:
        """Handed out, and for some time no worker has taken it."""
        return self.sent_at is not None and timezone.now() - self.sent_at > LATE


@admin.register(Process)
class OperationsAdmin(ReadOnlyAdmin):
    """The page stands in the place of a list of processes, and shows them. For studio owners."""

    project_path = None

    def _may(self, request: HttpRequest, action: str, obj: Any) -> bool:
        return access(request).is_studio_owner

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {**self.admin_site.each_context(request), "title": "Operations", **_page()}
        return TemplateResponse(request, "admin/generations/process/page.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:generations_process_changelist"))


def _page() -> dict[str, Any]:
    now = timezone.now()
    lane = Lane.current()
    used, limits = lanes.used(now), lanes.limits(lane, now)
    checks = health.results()
    return {
        "now": now,
        "matters": [*_failed(checks), *matters()],
        "waiting": list(_waiting(lane, has_room=limits.have_room_for(used), now=now)),
        "processes": _processes(),
        "checks": [
            {"name": name.capitalize(), "result": result, "colour": STATE_COLOURS[result.state]}
            for name, result in checks.items()
        ],
        "lane": lane,
        "is_slowed": lane.is_slowed(now),
        "rate": lane.rate_at(now),
        "used": used,
        "limits": limits,
        "troubles": list(_troubles()),
        "errors": _errors(),
        "calls": _calls(),
        "reconciliation": _reconciliation(),
        "storage_check": Alert.objects.filter(kind=AlertKind.CHECK_FAILED).first(),
    }


def _waiting(lane: Lane, *, has_room: bool, now: datetime) -> Iterator[Waiting]:
    found = unended.by_status()
    page = reverse("admin:generations_generation_changelist")
    for status in WAITS_SINCE:
        if row := found.get(status):
            on = _what_queued_waits_for(lane, has_room, now) if status == Status.QUEUED else WAITS_FOR[status]
            handed_out = status in HANDED_OUT
            yield Waiting(
                status.label,
                row.count,
                on,
                row.since,
                f"{page}?status__exact={status}",
                row.due if handed_out else None,
                row.sent if handed_out else None,
            )
    unsettled = Generation.objects.filter(settle_at__isnull=False).aggregate(count=Count("pk"), due=Min("settle_at"))
    if unsettled["count"]:
        on = "The provider’s bill, which may lag; their money is booked or held."
        yield Waiting("To be settled", unsettled["count"], on, None, page, unsettled["due"])
    fetched = UnassignedPrediction.objects.filter(stored_at=None, next_action_at__isnull=False)
    unassigned = fetched.aggregate(count=Count("pk"), since=Min("found_at"), due=Min("next_action_at"))
    if unassigned["count"]:
        url = reverse("admin:generations_unassignedprediction_changelist")
        on = "The copy from the provider, before it is known whose they are."
        yield Waiting("Unassigned", unassigned["count"], on, unassigned["since"], url, unassigned["due"])


def _what_queued_waits_for(lane: Lane, has_room: bool, now: datetime) -> str:
    if lane.paused_at:
        return "The lane, which is paused."
    if lane.is_slowed(now):
        return f"The provider, which asked to wait until {lane.slowed_until:%H:%M:%S} UTC."
    if not has_room:
        return "A free place at the provider."
    paused = PausedProject.objects.exists() or PausedEndpoint.objects.exists()
    return "Its turn, or the end of its project’s or endpoint’s pause." if paused else "Its turn, which comes at once."


def _processes() -> list[dict[str, Any]]:
    alive = set(Process.objects.alive().values_list("pk", flat=True))
    rows = Process.objects.order_by("kind", "host", "-seen_at")
    return [
        {
            "process": process,
            "is_alive": process.pk in alive,
            "started": ago(process.started_at),
            "seen": ago(process.seen_at),
        }
        for process in rows
    ]


def _failed(checks: dict[str, health.Result]) -> Iterator[Matter]:
    """What /readyz finds broken, but the processes, of which there is more to say."""
    for name, result in checks.items():
        if result.state == health.State.FAILED and name not in ("dispatcher", "workers"):
            yield Matter(f"The check of the {name} fails", result.message, "", "")


def _troubles() -> Iterator[dict[str, Any]]:
    """The last that failed, and what is in trouble now."""
    now = timezone.now()
    rows = Generation.objects.select_related("project")
    in_trouble = rows.filter(status__in=WAITS_SINCE).exclude(error_message="").order_by("-submitted_at")
    failed = rows.filter(status=Status.FAILED, completed_at__gte=now - LATELY).order_by("-completed_at")
    for generation in [*in_trouble[:MOST], *failed[:MOST]]:
        when = generation.completed_at or generation.submitted_at or generation.created_at
        yield {
            "generation": generation,
            "sentence": failure_sentence(generation),
            "says": generation.error_message,
            "when": ago(when),
        }


def _errors() -> list[dict[str, Any]]:
    """The last calls to the provider that brought no good answer; evidence is redacted when it is kept."""
    rows = Exchange.objects.order_by("-pk").select_related("generation")[:EXCHANGES_LOOKED_AT]
    bad = [row for row in rows if row.detail.get("failure") or (row.detail.get("status") or 0) >= 400]
    return [{"exchange": row, "when": ago(row.at)} for row in bad[:MOST]]


def _calls() -> list[dict[str, Any]]:
    """Each call that was made so far: whether it fails, and since when."""
    rows = ProviderCall.objects.order_by(F("failing_since").asc(nulls_last=True), "route")
    return [{"name": calls.NAMES.get(row.route, row.route), "call": row} for row in rows]


def _reconciliation() -> dict[str, Any] | None:
    last = Reconciliation.objects.first()
    return {"row": last, "told": told(last), "when": ago(last.started_at)} if last else None
