from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateFilter
from unfold.decorators import display

from projects.admin.access import ProjectFilter, ReadOnlyAdmin
from projects.admin.display import NOTHING, amount, change, link
from projects.models import EntryKind, SpendEntry

KIND_COLOURS = {
    EntryKind.RESERVE.label: "info",
    EntryKind.CHARGE.label: "primary",
    EntryKind.RELEASE.label: "success",
    EntryKind.ADJUST.label: "warning",
}


@admin.register(SpendEntry)
class SpendEntryAdmin(ReadOnlyAdmin):
    list_display = ["when", "kind_label", "project", "spent", "held", "user", "what_for", "reason"]
    list_display_links = ["when"]
    list_select_related = ["project", "user"]
    list_filter = [ProjectFilter, ("kind", ChoicesDropdownFilter), ("created_at", RangeDateFilter)]
    search_fields = ["reason", "endpoint", "user__username", "=reference"]
    ordering = ["-created_at", "id"]

    @display(description="When", ordering="created_at")
    def when(self, entry: SpendEntry) -> str:
        return f"{entry.created_at:%Y-%m-%d %H:%M} UTC"

    @display(description="Kind", label=KIND_COLOURS, ordering="kind")
    def kind_label(self, entry: SpendEntry) -> str:
        return EntryKind(entry.kind).label

    @display(description="Spent", ordering="spent_delta")
    def spent(self, entry: SpendEntry) -> str:
        return change(entry.spent_delta)

    @display(description="Held", ordering="reserved_delta")
    def held(self, entry: SpendEntry) -> str:
        return change(entry.reserved_delta)

    @display(description="For")
    def what_for(self, entry: SpendEntry) -> SafeString:
        return link("admin:generations_generation_change", entry.reference, "Generation")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        entry = self.get_or_404(request, object_id)
        lines = entry.lines.select_related("budget_period__budget__project", "budget_period__budget__user")
        facts = [
            ("When", self.when(entry)),
            ("Project", entry.project),
            ("Spent", change(entry.spent_delta)),
            ("Held", change(entry.reserved_delta)),
            ("On behalf of", entry.user),
            ("For", self.what_for(entry)),
            ("Model", entry.endpoint),
            ("Reason", entry.reason or NOTHING),
            ("Booked by", entry.created_by or "The studio itself"),
            ("Counts in", ", ".join(str(line.budget_period.budget) for line in lines) or "no budget"),
            ("Key", entry.key),
        ]
        title = f"{entry.get_kind_display()} of {amount(abs(entry.spent_delta or entry.reserved_delta))}"
        context = {**self.admin_site.each_context(request), "opts": self.opts, "title": title, "facts": facts}
        return TemplateResponse(request, "admin/includes/facts.html", context)
