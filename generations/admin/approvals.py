"""Requests for approval: what waits for whom, what it costs, and what it would leave of the budgets."""

import uuid
from collections import Counter
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter
from unfold.decorators import display

from generations.admin.display import ago
from generations.models import Approval, Generation
from generations.services import approvals, orders, refusals
from projects.admin.access import ProjectFilter, ReadOnlyAdmin, person, sentence
from projects.admin.display import BudgetBar, amount, thumbnail
from projects.models import Budget
from projects.money import budgets, shown
from projects.money.spend import SpendRefused

DECISION_COLOURS = {
    "Waiting": "warning",
    "Approved": "success",
    "Rejected": "danger",
    "Expired": "default",
    "Withdrawn": "default",
}
MOST_PICTURES = 4
REFUSALS = (refusals.Refused, SpendRefused, PermissionDenied, ValidationError)


class ForMeFilter(DropdownFilter):
    title = "waiting for you"
    parameter_name = "for_me"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Waiting for you")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() != "yes":
            return queryset
        return queryset.filter(pk__in=approvals.waiting_for(person(request)).values("pk"))


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    list_display = ["pictures", "what", "total", "decision_label", "project", "requested_by", "asked", "until"]
    list_display_links = ["pictures", "what"]
    list_filter = [ForMeFilter, ProjectFilter, ("decision", ChoicesDropdownFilter)]
    list_select_related = ["project", "requested_by"]
    search_fields = ["project__name", "requested_by__username", "generations__prompt"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("generations__image")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        title = "Waiting for you" if request.GET.get("for_me") == "yes" else "Approvals"
        response: HttpResponse = super().changelist_view(request, {"title": title, **(extra_context or {})})
        return response

    @display(description="Pictures")
    def pictures(self, approval: Approval) -> SafeString:
        made = list(approval.generations.all())
        thumbnails = format_html_join("", "{}", ((_picture(generation),) for generation in made[:MOST_PICTURES]))
        return format_html('<span class="studio-thumbs">{}</span>', thumbnails)

    @display(description="What")
    def what(self, approval: Approval) -> SafeString:
        made = list(approval.generations.all())
        more = f" and {len(made) - 1} more" if len(made) > 1 else ""
        return format_html('<span class="studio-prompt">{}{}</span>', made[0] if made else "Nothing any more", more)

    @display(description="Total", ordering="amount")
    def total(self, approval: Approval) -> str:
        return shown(approval.amount)

    @display(description="Decision", label=DECISION_COLOURS, ordering="decision")
    def decision_label(self, approval: Approval) -> str:
        return str(approval.get_decision_display())

    @display(description="Asked", ordering="requested_at")
    def asked(self, approval: Approval) -> SafeString:
        return ago(approval.requested_at)

    @display(description="Until", ordering="expires_at")
    def until(self, approval: Approval) -> str:
        if approval.decision != Approval.Decision.WAITING:
            return ""
        return format_html('<span class="studio-nowrap">{} UTC</span>', f"{approval.expires_at:%-d %b, %H:%M}")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        approval = self.get_or_404(request, object_id)
        question = ""
        if request.method == "POST":
            try:
                self._decide(request, approval)
            except refusals.NeedsConfirmation as refusal:
                question = str(refusal)
            except REFUSALS as refusal:
                messages.error(request, sentence(refusal))
            else:
                return HttpResponseRedirect(reverse("admin:generations_approval_change", args=[approval.pk]))
            # What was refused was rolled back in the database, not in this object.
            approval = self.get_or_404(request, object_id)
        return self._page(request, approval, question)

    def _decide(self, request: HttpRequest, approval: Approval) -> None:
        comment = request.POST.get("comment", "")
        if "_reject" in request.POST:
            approvals.reject(approval, by=person(request), comment=comment)
            messages.success(request, "Rejected. They are drafts again, with your comment; nothing was paid.")
        else:
            approvals.approve(approval, by=person(request), comment=comment, confirm="confirm" in request.POST)
            messages.success(request, f"Approved: {shown(approval.amount)} is held, and they are queued.")
            for text in orders.soft_budget_warnings(approval.generations.all()):
                messages.warning(request, text)

    def _page(self, request: HttpRequest, approval: Approval, question: str) -> HttpResponse:
        made = list(approval.generations.select_related("image", "requested_by").order_by("created_at", "pk"))
        label = approval.get_decision_display()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Approval of {shown(approval.amount)}",
            "original": approval,
            "approval": approval,
            "total": shown(approval.amount),
            "decision": label,
            "colour": DECISION_COLOURS[label],
            "lines": [(generation, amount(generation.quote), _picture(generation)) for generation in made],
            "bars": _bars(approval, made) if approval.decision == Approval.Decision.WAITING else [],
            "is_waiting": approval.decision == Approval.Decision.WAITING,
            "may_decide": approval.decision == Approval.Decision.WAITING
            and approvals.may_decide(approval, person(request)),
            "question": question,
            "comment": request.POST.get("comment", ""),
        }
        return TemplateResponse(request, "admin/generations/approval/page.html", context)


def _picture(generation: Generation) -> SafeString:
    return thumbnail(generation.image.thumbnail if generation.image else None, str(generation))


def _bars(approval: Approval, generations: list[Generation]) -> list[BudgetBar]:
    """Each budget that it has to fit, before and after: who asked pays."""
    needs: Counter[uuid.UUID] = Counter()
    for generation in generations:
        matching = Budget.objects.matching(generation.project_id, approval.requested_by_id)
        for pk in matching.values_list("pk", flat=True):
            needs[pk] += generation.quote or 0
    figures = budgets.figures(Budget.objects.filter(pk__in=list(needs)))
    return [BudgetBar(each, needs[each.budget.pk]) for each in figures]
