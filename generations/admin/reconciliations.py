from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST
from unfold.decorators import display

from generations.models import Generation, Reconciliation
from generations.reconcile import RETRY_AFTER
from generations.reconcile.findings import Kind, dollars
from generations.services import reconciliations
from projects.admin.access import ReadOnlyAdmin, access, person
from projects.admin.display import NOTHING

PAGE = "admin/generations/reconciliation/page.html"
SECTIONS = (
    ("Our own books", (Kind.BALANCE, Kind.LEDGER), "Balances and lines that do not agree with their entries."),
    (
        "Deducts that came late",
        (Kind.CHARGE,),
        "Booked without being asked: it had failed, and its hold was released.",
    ),
    ("Refunds that came late", (Kind.REFUND,), "Booked without being asked, in the budget period of the reservation."),
    (
        "Differences from the bill",
        (Kind.DRIFT,),
        "Looked at by people, then booked with “manage.py reconcile --apply”, each as an adjustment of its own.",
    ),
    ("Orphans", (Kind.ORPHAN,), "Billed by the provider, and not known here."),
    ("Waiting", (Kind.WAITING,), "Not settled yet; the bill may still change."),
    ("Held", (Kind.HELD,), "Unconfirmed: nobody knows whether they were made. People decide, never the studio."),
)


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyAdmin):
    """The comparisons with the provider's bill, and the button that makes one. For studio owners."""

    list_display = ["started", "since_shown", "result", "adjusted", "by"]
    list_display_links = ["started"]
    list_before_template = "admin/generations/reconciliation/now.html"

    def _may(self, request: HttpRequest, action: str, obj: Any) -> bool:
        return access(request).is_studio_owner

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reconciliation]:
        rows = Reconciliation.objects.select_related("started_by")
        return rows if access(request).is_studio_owner else rows.none()

    def get_urls(self) -> list[URLPattern]:
        now = self.admin_site.admin_view(require_POST(self.now_view))
        return [path("now/", now, name="generations_reconciliation_now"), *super().get_urls()]

    @display(description="Started", ordering="started_at")
    def started(self, reconciliation: Reconciliation) -> str:
        return f"{reconciliation.started_at:%-d %b %Y, %H:%M} UTC"

    @display(description="Bill read from", ordering="since")
    def since_shown(self, reconciliation: Reconciliation) -> str:
        return f"{reconciliation.since:%-d %b %Y}"

    @display(
        description="Result",
        label={"No difference": "success", "Differences": "danger", "Not done": "warning", "Running": "info"},
    )
    def result(self, reconciliation: Reconciliation) -> tuple[str, str]:
        return standing(reconciliation), told(reconciliation)

    @display(description="Booked")
    def adjusted(self, reconciliation: Reconciliation) -> str:
        if not reconciliation.differences:
            return NOTHING
        return (
            "drift, late refunds and late deducts" if reconciliation.applied else "late refunds and late deducts only"
        )

    @display(description="By")
    def by(self, reconciliation: Reconciliation) -> str:
        return str(reconciliation.started_by or "the studio")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        reconciliation = self.get_or_404(request, object_id)
        report = reconciliation.report
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(reconciliation),
            "original": reconciliation,
            "told": told(reconciliation),
            "by": self.by(reconciliation),
            "totals": _totals(report) if report else None,
            "sections": _sections(report.get("findings", [])),
        }
        return TemplateResponse(request, PAGE, context)

    def now_view(self, request: HttpRequest) -> HttpResponse:
        reconciliation = reconciliations.reconcile_now(by=person(request))
        messages.success(request, "The bill is being read. Load this page again in a moment.")
        return HttpResponseRedirect(reverse("admin:generations_reconciliation_change", args=[reconciliation.pk]))


def standing(reconciliation: Reconciliation) -> str:
    if reconciliation.finished_at is None:
        return "Running" if timezone.now() - reconciliation.started_at < RETRY_AFTER else "Not done"
    if reconciliation.error:
        return "Not done"
    return "Differences" if reconciliation.differences else "No difference"


def told(reconciliation: Reconciliation) -> str:
    if standing(reconciliation) == "Differences":
        return f"{reconciliation.differences} difference{'' if reconciliation.differences == 1 else 's'}"
    return standing(reconciliation)


def _totals(report: dict[str, Any]) -> dict[str, Any]:
    ours, theirs = report["ours"], report["theirs"]
    return {
        "compared": report["compared"],
        "ours": dollars(ours),
        "theirs": dollars(theirs),
        "difference": dollars(theirs - ours),
    }


def _sections(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = _names(findings)
    sections = []
    for title, kinds, lead in SECTIONS:
        rows = [_row(finding, names) for finding in findings if finding["kind"] in kinds]
        if rows:
            sections.append({"title": title, "lead": lead, "rows": rows})
    return sections


def _names(findings: list[dict[str, Any]]) -> dict[str, str]:
    """What people call the generations that are reported, by id."""
    pks = {finding["generation"] for finding in findings if finding["generation"]}
    made = Generation.objects.filter(pk__in=pks).select_related("project")
    return {str(generation.pk): f"“{generation}” in {generation.project}" for generation in made}


def _row(finding: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    known = finding["details"]
    facts = [known.get(name, "") for name in ("model", "status", "billed_at", "prompt")]
    return finding | {
        "what": names.get(finding["generation"], finding["what"]),
        "amounts": [(name.capitalize(), dollars(finding[name])) for name in ("ours", "theirs", "difference")],
        "held_shown": dollars(finding["held"]) if finding["held"] else "",
        "known": ", ".join(str(fact) for fact in facts if fact),
    }
