from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from projects import permissions
from projects.admin import top_ups
from projects.admin.access import ArchivedFilter, ProjectFilter, access, person, sentence, told
from projects.admin.asking import ask, counted
from projects.admin.display import NOTHING, BudgetBar, DollarsField, amount, link
from projects.admin.versions import SEEN, VersionedAdmin, VersionedForm
from projects.models import Budget, Enforcement, Membership, Period
from projects.models.budget import default_thresholds
from projects.money import budgets

STUDIO = "The whole studio"
EVERYBODY = "Everybody together"


class PercentsField(forms.CharField):
    """Whole percents as people write them: `50, 80, 100`."""

    widget = UnfoldAdminTextInputWidget(attrs={"class": "studio-short"})

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[int]:
        typed = super().clean(value).replace("%", " ").replace(",", " ").split()
        if not all(each.isascii() and each.isdigit() and len(each) < 4 for each in typed):
            raise ValidationError("Type whole percents, such as 50, 80, 100; leave it empty to hear of none.")
        return [int(each) for each in typed]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.prepare_value(initial) != data)


class BudgetForm(VersionedForm):
    by: User  # set by the admin for each request
    limit = DollarsField(label="Limit in dollars", help_text="Such as 10 or 1,250.50.")
    thresholds = PercentsField(
        required=False,
        label="Tell at, in percent",
        initial=default_thresholds,
        help_text="Owners and approvers hear of it when this much of the limit is used, or will be by the forecast.",
    )

    class Meta:
        model = Budget
        fields = ["project", "user", "period", "enforcement", "limit", "thresholds"]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        project, member = cleaned.get("project"), cleaned.get("user")
        if not self.instance._state.adding or self.errors:
            return cleaned
        if project is None and member is not None:
            raise ValidationError({"project": "A member's budget is one in a project: name the project."})
        if project and member and not Membership.objects.filter(project=project, user=member, is_active=True).exists():
            raise ValidationError({"user": f"{member} is no member of {project}: invite them first."})
        if not permissions.may_set_budget(self.by, project, member):
            raise ValidationError(
                "Studio owners set the budgets of the studio and of projects, and a project's owners those of its other members."
                f"{permissions.who_they_are(self.by, 'Studio owners are')}"
            )
        # Here, because the form's own check leaves out constraints that name a column it has no field for (archived_at).
        named = {name: value for name, value in cleaned.items() if name != SEEN}
        Budget(**named).validate_constraints()
        return cleaned


@admin.register(Budget)
class BudgetAdmin(VersionedAdmin, top_ups.WithTopUps):
    form = BudgetForm
    change_action = "manage"
    list_display = ["budget", "enforcement_label", "limit_shown", "spent", "held", "free", "bar"]
    list_filter = [ProjectFilter, ArchivedFilter]
    list_select_related = ["project", "user"]
    search_fields = ["project__name", "user__username"]
    actions = ["archive"]
    change_form_outer_before_template = "admin/projects/budget/bar.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """The studio's budgets bind everybody, so that every member sees them; another member's bind only that member."""
        who = access(request)
        rows = Budget.objects.select_related("project", "user")
        if who.is_studio_owner:
            return rows
        mine, managed = who.projects("view"), who.projects("manage")
        own = Q(user=None) | Q(user=person(request)) | Q(project__in=managed)
        studio = Q(project=None) if who.roles else Q(pk=None)
        return rows.filter(studio | (Q(project__in=mine) & own))

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if not isinstance(obj, Budget) or obj.project_id:
            return super().has_view_permission(request, obj)
        return access(request).may_somewhere("view")

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        if not isinstance(obj, Budget):
            return super().has_change_permission(request)
        return obj.archived_at is None and permissions.may_change_budget(person(request), obj)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The figures of the whole page in two queries."""
        changelist = super().get_changelist_instance(request)
        rows = list(changelist.result_list)
        figures = budgets.figures(Budget.objects.filter(pk__in=[row.pk for row in rows]))
        known = {each.budget.pk: BudgetBar(each) for each in figures}
        for row in rows:
            row.as_bar = known[row.pk]
        changelist.result_list = rows
        return changelist

    @display(description="Budget", ordering="project__name")
    def budget(self, row: Any) -> str:
        return str(row.as_bar.title)

    @display(description="Kind", label={"Hard (refuses)": "info", "Soft (warns)": "warning", "Archived": "default"})
    def enforcement_label(self, row: Budget) -> str:
        return "Archived" if row.archived_at else row.get_enforcement_display()

    @display(description="Limit", ordering="limit")
    def limit_shown(self, row: Any) -> str:
        """What is in force, on the list; the budget's own on its page, beside the top-ups."""
        return str(row.as_bar.limit_shown) if hasattr(row, "as_bar") else amount(row.limit)

    @display(description="Project")
    def whose(self, row: Budget) -> str:
        if row.project is None:
            return STUDIO
        return link("admin:projects_project_change", row.project_id, row.project)

    @display(description="Member")
    def member(self, row: Budget) -> str:
        return str(row.user) if row.user else EVERYBODY

    @display(description="Tell at, in percent")
    def thresholds_shown(self, row: Budget) -> str:
        return ", ".join(map(str, row.thresholds)) or NOTHING

    @display(description="Spent")
    def spent(self, row: Any) -> str:
        return str(row.as_bar.spent_shown)

    @display(description="Held")
    def held(self, row: Any) -> str:
        return str(row.as_bar.reserved_shown)

    @display(description="Free")
    def free(self, row: Any) -> str:
        return str(row.as_bar.free_shown)

    @display(description="This period")
    def bar(self, row: Any) -> SafeString:
        return render_to_string("admin/includes/bar.html", {"bar": row.as_bar})

    def get_readonly_fields(self, request: HttpRequest, obj: Budget | None = None) -> list[str]:
        return ["whose", "member", "period", "enforcement"] if obj else []

    def get_fields(self, request: HttpRequest, obj: Budget | None = None) -> list[str]:
        if obj and not self.has_change_permission(request, obj):
            return ["whose", "member", "period", "enforcement", "limit_shown", "thresholds_shown"]
        if obj:
            return ["whose", "member", "period", "enforcement", "limit", "thresholds"]
        return ["project", "user", "period", "enforcement", "limit", "thresholds"]

    def get_form(self, request: HttpRequest, obj: Budget | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        form.by = person(request)
        fields = form.base_fields
        if "project" in fields:
            fields["project"].required = not access(request).is_studio_owner
            fields["project"].empty_label = STUDIO
            fields["user"].empty_label = EVERYBODY
            fields["user"].label = "Member"
            fields["user"].help_text = "Leave it empty for a limit that everybody shares."
            fields["project"].help_text = "A project can spend only when it has a budget of its own."
            managed = access(request).open_projects("manage")
            fields["user"].queryset = (
                fields["user"].queryset.filter(memberships__project__in=managed, memberships__is_active=True).distinct()
            )
            fields["period"].choices = Period.choices
            fields["enforcement"].choices = Enforcement.choices
        return form

    def save_model(self, request: HttpRequest, obj: Budget, form: BudgetForm, change: bool) -> None:
        if change:
            budgets.change(obj, by=person(request), **form.changes)
            return
        made = budgets.create(
            project=obj.project,
            user=obj.user,
            period=Period(obj.period),
            enforcement=Enforcement(obj.enforcement),
            limit=obj.limit,
            thresholds=obj.thresholds,
            by=person(request),
        )
        obj.__dict__.update(made.__dict__)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        budget = self.get_object(request, object_id)
        bar = [BudgetBar(each) for each in budgets.figures(Budget.objects.filter(pk=budget.pk))] if budget else []
        context: dict[str, Any] = {"budget_bars": bar, "title": str(budget), **(extra_context or {})}
        if budget:
            context["top_ups"] = top_ups.rows(budget)
            context["may_top_up"] = self.has_change_permission(request, budget)
        return super().change_view(request, object_id, form_url, context)

    @admin.action(description="Archive (nothing is checked against it any more)", permissions=["change"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Budget]) -> HttpResponse | None:
        text = (
            "Nothing is checked against it any more, and a project whose last budget it is can’t spend. What was spent stays on the books. "
            "There is no way back; make a new budget instead."
        )
        yes = f"Archive {counted(len(queryset), 'budget')}"
        if question := ask(request, f"{yes}?", text, yes=yes, things=queryset):
            return question
        archived, refused = 0, []
        for budget in queryset:
            try:
                budgets.archive(budget, by=person(request))
                archived += 1
            except (PermissionDenied, ValidationError) as refusal:
                refused.append(sentence(refusal))
        return told(request, f"Archived {archived} of {archived + len(refused)} budgets." if archived else "", refused)
