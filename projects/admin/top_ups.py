"""The top-ups of a budget: a page to make one, a card that lists them, a button that ends one."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminTextInputWidget

from projects import permissions
from projects.admin.access import StudioAdmin, person, sentence
from projects.admin.asking import ask
from projects.admin.display import DollarsField, amount
from projects.models import Budget, TopUp
from projects.money import budgets

MOST_SHOWN = 20
A_WEEK = timedelta(days=7)


class DateInput(UnfoldAdminTextInputWidget):
    input_type = "date"


class TopUpForm(forms.Form):
    amount = DollarsField(label="Dollars to add", help_text="Such as 50 or 1,250.50.")
    first_day = forms.DateField(
        required=False,
        label="From",
        widget=DateInput(attrs={"class": "studio-short"}),
        help_text="The midnight before this day; empty: from now on.",
    )
    last_day = forms.DateField(label="Until the end of", widget=DateInput(attrs={"class": "studio-short"}))
    reason = forms.CharField(
        max_length=budgets.MAX_REASON, widget=UnfoldAdminTextInputWidget(), help_text="It stays in the books."
    )

    def __init__(self, budget: Budget, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.budget, self.zone = budget, budget.time_zone()
        self.fields["last_day"].help_text = (
            f"It ends by itself at the midnight after this day, in {self.zone}. "
            "If a new period begins before, the top-up counts in that one again."
        )

    def spans(self) -> list[tuple[datetime, datetime]]:
        """The part of the top-up in each budget period."""
        if not {"amount", "last_day"} <= self.cleaned_data.keys():
            return []
        return budgets.top_up_by_period(self.budget, self.starts_at(), self.ends_at())

    def is_agreed(self) -> bool:
        """Within one period there is nothing to ask; over the turn of one the amount counts again, which people don't expect."""
        return len(self.spans()) <= 1 or self.data.get("agreed") == self._agreement()

    def _agreement(self) -> str:
        """What was told when it was agreed to: another amount or another day is asked about anew."""
        return f"{self.cleaned_data['amount']} {self.cleaned_data['first_day']} {self.cleaned_data['last_day']}"

    def question(self) -> dict[str, Any]:
        """What is to be confirmed; nothing while something is wrong."""
        spans = self.spans() if self.is_valid() else []
        if len(spans) < 2:
            return {}
        lines = [
            f"{amount(self.cleaned_data['amount'])} from {self._told(begin)} to {self._told(end)}"
            for begin, end in spans
        ]
        if spans[-1][1] < self.ends_at():
            lines.append("and so on, in each period until the end")
        return {"lines": lines, "agreed": self._agreement()}

    def _told(self, moment: datetime) -> str:
        return f"{moment.astimezone(self.zone):%-d %B %Y, %H:%M}"

    def starts_at(self) -> datetime | None:
        day = self.cleaned_data["first_day"]
        return self._midnight(day) if day else None

    def ends_at(self) -> datetime:
        return self._midnight(self.cleaned_data["last_day"] + timedelta(days=1))

    def clean_last_day(self) -> date:
        day: date = self.cleaned_data["last_day"]
        if day.year > timezone.now().year + 10:
            raise ValidationError("A top-up lasts at most ten years.")
        return day

    def _midnight(self, day: date) -> datetime:
        return datetime.combine(day, time(), self.zone)


@dataclass(frozen=True)
class TopUpRow:
    top_up: TopUp
    zone: Any

    @property
    def amount(self) -> str:
        return f"+{amount(self.top_up.amount)}"

    @property
    def lasts(self) -> bool:
        return self.top_up.ends_at > timezone.now()

    @property
    def span(self) -> str:
        """`22 November 2026, 12:00 to 1 December 2026, 00:00 (Europe/Berlin)`, in the time zone of the budget."""
        begin, end = (
            f"{each.astimezone(self.zone):%-d %B %Y, %H:%M}" for each in (self.top_up.starts_at, self.top_up.ends_at)
        )
        return f"{begin} to {end} ({self.zone})"

    @property
    def state(self) -> str:
        if not self.lasts:
            return "ended"
        return "in force" if self.top_up.starts_at <= timezone.now() else "to come"


def rows(budget: Budget) -> list[TopUpRow]:
    """The newest first."""
    zone = budget.time_zone()
    found: Iterable[TopUp] = budget.top_ups.select_related("created_by").order_by("-ends_at")[:MOST_SHOWN]
    return [TopUpRow(each, zone) for each in found]


class WithTopUps(StudioAdmin):
    """What the admin of budgets adds for top-ups."""

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<uuid:object_id>/top-up/", wrap(self.top_up_view), name="projects_budget_top-up"),
            path(
                "<uuid:object_id>/top-ups/<uuid:top_up_id>/end/",
                wrap(require_POST(self.end_top_up_view)),
                name="projects_budget_end-top-up",
            ),
            *super().get_urls(),
        ]

    def top_up_view(self, request: HttpRequest, object_id: Any) -> HttpResponse:
        budget: Budget = self.get_or_404(request, str(object_id))
        if budget.archived_at or not permissions.may_change_budget(person(request), budget):
            raise PermissionDenied
        form = TopUpForm(budget, request.POST or None, initial={"last_day": _last_day(budget)})
        is_agreed = request.method == "POST" and form.is_valid() and form.is_agreed()
        if is_agreed and self._topped_up(request, budget, form):
            return HttpResponseRedirect(reverse("admin:projects_budget_change", args=[budget.pk]))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Top up: {budget}",
            "form": form,
            "question": form.question() if request.method == "POST" and not is_agreed else {},
            "save_label": "Top up",
            "explanation": "Raises the limit for a while, and ends by itself. To raise it for good, change the limit instead.",
        }
        return TemplateResponse(request, "admin/includes/plain_form.html", context)

    def _topped_up(self, request: HttpRequest, budget: Budget, form: TopUpForm) -> bool:
        data = form.cleaned_data
        try:
            budgets.top_up(
                budget,
                amount=data["amount"],
                starts_at=form.starts_at(),
                ends_at=form.ends_at(),
                reason=data["reason"],
                by=person(request),
            )
        except ValidationError as refusal:
            form.add_error(None, refusal.messages)
            return False
        messages.success(request, f"Topped up by {amount(data['amount'])}.")
        return True

    def end_top_up_view(self, request: HttpRequest, object_id: Any, top_up_id: Any) -> HttpResponse:
        budget: Budget = self.get_or_404(request, str(object_id))
        top_up = get_object_or_404(TopUp, pk=top_up_id, budget=budget)
        text = f"The limit is lower again from now on, by {amount(top_up.amount)}. There is no way back; top up anew instead."
        if question := ask(request, f"End this top-up of {amount(top_up.amount)} now?", text, yes="End it now"):
            return question
        try:
            budgets.end_top_up(top_up, by=person(request))
            messages.success(request, f"The top-up of {amount(top_up.amount)} has ended.")
        except (PermissionDenied, ValidationError) as refusal:
            messages.error(request, sentence(refusal))
        return HttpResponseRedirect(reverse("admin:projects_budget_change", args=[budget.pk]))


def _last_day(budget: Budget) -> date:
    """The last day of the present period; of a total, which has none, a week from now."""
    [figures] = budgets.figures(Budget.objects.filter(pk=budget.pk))
    ends_at = figures.ends_at or timezone.now() + A_WEEK
    return (ends_at.astimezone(budget.time_zone()) - timedelta(days=1)).date()
