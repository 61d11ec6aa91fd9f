"""Projects; here and not in `projects`, because their page shows what generations hold and make."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.decorators import display

from generations import reports
from generations.admin.members import MembershipInline, save_membership
from generations.models import Generation, PausedProject, Status
from generations.services import pauses, refusals
from projects import permissions, projects
from projects.admin.access import ArchivedFilter, StudioAdmin, access, person
from projects.admin.asking import ask
from projects.admin.display import DollarsField, amount, bars
from projects.admin.versions import VersionedAdmin, VersionedForm
from projects.models import Budget, Membership, Project, SourceImage

MOST_PAUSES = 10
ARCHIVES = "Nothing new can be made in it; what runs goes on. Its videos, its people and its books stay. A studio owner can open it again."


def _count(rows: QuerySet[Any]) -> Coalesce:
    """How many of `rows` a project has, as a sub-select: joined, each kind would multiply the others."""
    own = rows.filter(project=OuterRef("pk")).order_by().values("project").annotate(number=Count("pk"))
    return Coalesce(Subquery(own.values("number"), output_field=IntegerField()), 0)


def _has_budget(project: Project) -> bool:
    return Budget.objects.active().filter(project=project, user=None).exists()


class ProjectForm(VersionedForm):
    approval_above = DollarsField(
        label="Approval above",
        required=False,
        help_text="Dollars. What costs more, alone or queued together, needs an approver other than who asks. Empty: nothing does.",
    )

    class Meta:
        model = Project
        fields = ["name", "description", "time_zone", "approval_above", "retention_days"]


@admin.register(Project)
class ProjectAdmin(VersionedAdmin, StudioAdmin):
    project_path = "pk"
    change_action = "manage"
    list_display = ["name", "members_count", "pictures_count", "generations_count", "time_zone", "state"]
    list_filter = [ArchivedFilter]
    search_fields = ["name", "description"]
    form = ProjectForm
    fields = ["name", "description", "time_zone", "approval_above", "retention_days"]
    readonly_fields = ["approval_above_shown"]
    inlines = [MembershipInline]
    change_form_template = "admin/projects/project/change_form.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("pause__paused_by")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """What each project has is counted for those that are shown."""
        changelist = super().get_changelist_instance(request)
        rows = list(changelist.result_list)
        shown = Project.objects.filter(pk__in=[project.pk for project in rows])
        counts = {
            pk: tuple(numbers)
            for pk, *numbers in shown.values_list(
                "pk",
                _count(Membership.objects.filter(is_active=True)),
                _count(SourceImage.objects.filter(archived_at=None)),
                _count(Generation.objects.all()),
            )
        }
        for project in rows:
            project.members_count, project.pictures_count, project.generations_count = counts[project.pk]
        changelist.result_list = rows
        return changelist

    def has_add_permission(self, request: HttpRequest) -> bool:
        return access(request).is_studio_owner

    def get_fields(self, request: HttpRequest, obj: Project | None = None) -> list[str]:
        """Who may not change it reads dollars, not what is stored."""
        may_change = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return [name if may_change or name != "approval_above" else "approval_above_shown" for name in self.fields]

    @display(description="Approval above")
    def approval_above_shown(self, project: Project) -> str:
        return amount(project.approval_above)

    def get_inlines(self, request: HttpRequest, obj: Project | None) -> list[Any]:
        return self.inlines if obj else []

    def get_urls(self) -> list[URLPattern]:
        views = {
            "archive": self.archive_view,
            "bring-back": self.bring_back_view,
            "pause": self.pause_view,
            "resume": self.resume_view,
        }
        own = [
            path(f"<uuid:pk>/{name}/", self.admin_site.admin_view(require_POST(view)), name=f"projects_project_{name}")
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    @display(description="Members")
    def members_count(self, project: Any) -> int:
        return int(project.members_count)

    @display(description="Pictures")
    def pictures_count(self, project: Any) -> int:
        return int(project.pictures_count)

    @display(description="Generations")
    def generations_count(self, project: Any) -> int:
        return int(project.generations_count)

    @display(description="State", label={"Open": "success", "Paused": "warning", "Archived": "default"})
    def state(self, project: Project) -> str:
        if project.archived_at:
            return "Archived"
        return "Paused" if hasattr(project, "pause") else "Open"

    def save_model(self, request: HttpRequest, obj: Project, form: Any, change: bool) -> None:
        if change:
            projects.edit(obj, by=person(request), **form.changes)
            return
        permissions.require_studio_owner(person(request), "make projects")
        obj.created_by = person(request)
        obj.save()

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        """Roles change by the rules about members, not by saving rows."""
        formset.save(commit=False)
        for membership, changed in formset.changed_objects:
            save_membership(membership, changed, request)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        project = self.get_object(request, object_id)
        if project is None or not self.has_view_permission(request, project):
            return super().change_view(request, object_id, form_url, extra_context)
        standing = reports.project_spend(project)
        member_budgets = [each for each in reports.member_budgets(project) if self._sees(request, project, each)]
        context = {
            "project": project,
            "project_query": f"?project={project.pk}",
            "project_links": self._links(access(request).may("manage", project.pk)),
            "budget_bars": bars([*standing.figures, *member_budgets]),
            "spent": amount(standing.spent),
            "reserved": amount(standing.reserved),
            "unconfirmed": amount(standing.unconfirmed) if standing.unconfirmed else "",
            "has_own_budget": any(each.budget.project_id for each in standing.figures),
            "studio_owners": permissions.names_of_studio_owners(),
            "set_budget_url": self._budget_url(project) if access(request).is_studio_owner else "",
            "next_steps": self._next_steps(request, project),
            "may_edit": access(request).may("edit", project.pk) and not project.archived_at,
            "may_manage": access(request).may("manage", project.pk),
            **self._pause_facts(request, project),
        }
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def _budget_url(self, project: Project) -> str:
        return f"{reverse('admin:projects_budget_add')}?project={project.pk}"

    def _next_steps(self, request: HttpRequest, project: Project) -> list[tuple[str, str, bool]]:
        """What a project needs before its first video, with what is done; nothing after that, and for who can't do it."""
        if not access(request).is_studio_owner or project.archived_at or project.generations.exists():
            return []
        query = f"?project={project.pk}"
        return [
            ("Set a budget: without one nothing can be spent", self._budget_url(project), _has_budget(project)),
            (
                "Invite people",
                reverse("admin:projects_invitation_add") + query,
                project.memberships.filter(is_active=True).exists(),
            ),
            ("Add pictures", reverse("admin:projects_sourceimage_add") + query, project.source_images.exists()),
            ("Make a video", reverse("admin:generations_generation_add") + query, False),
        ]

    def response_add(self, request: HttpRequest, obj: Project, post_url_continue: str | None = None) -> HttpResponse:
        """To its page, which says what comes next."""
        messages.success(request, f"Made {obj}.")
        return HttpResponseRedirect(reverse("admin:projects_project_change", args=[obj.pk]))

    def _links(self, may_manage: bool) -> list[tuple[str, str]]:
        links = [
            ("Source images", "admin:projects_sourceimage_changelist"),
            ("Generations", "admin:generations_generation_changelist"),
            ("Videos", "admin:generations_video_changelist"),
            ("Spend", "spend"),
            ("Spend entries", "admin:projects_spendentry_changelist"),
        ]
        return [*links, ("Invite somebody", "admin:projects_invitation_add")] if may_manage else links

    def _sees(self, request: HttpRequest, project: Project, figures: Any) -> bool:
        return access(request).may("manage", project.pk) or figures.budget.user_id == person(request).pk

    def _pause_facts(self, request: HttpRequest, project: Project) -> dict[str, Any]:
        paused: PausedProject | None = getattr(project, "pause", None)
        may_manage = access(request).may("manage", project.pk)
        return {
            "pause": paused,
            "may_pause": may_manage and paused is None and not project.archived_at,
            "may_resume": may_manage and paused and (access(request).is_studio_owner or not paused.is_the_studios),
            "queued_count": Generation.objects.filter(project=project, status=Status.QUEUED).count(),
            "pauses": [("", event) for event in project.pauses.select_related("by")[:MOST_PAUSES]],
        }

    def pause_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        done = "is paused: nothing more of it is submitted until somebody resumes it. What was submitted goes on"
        return self._switch(request, pk, pauses.pause_project, done)

    def resume_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        return self._switch(request, pk, pauses.resume_project, "goes on: what is queued is submitted in turn")

    def _switch(self, request: HttpRequest, pk: Any, do: Callable[..., object], done: str) -> HttpResponse:
        project = self.get_or_404(request, pk)
        try:
            do(project, reason=request.POST.get("reason", ""), by=person(request))
            messages.success(request, f"{project} {done}.")
        except refusals.Refused as refusal:
            messages.error(request, str(refusal))
        return HttpResponseRedirect(reverse("admin:projects_project_change", args=[project.pk]))

    def archive_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        project = self.get_or_404(request, pk)
        question = ask(request, f"Archive {project}?", ARCHIVES, yes="Archive this project")
        if question and access(request).is_studio_owner:
            return question
        done = "is archived: nothing new can be made in it; what runs goes on"
        return self._put_away(request, pk, projects.archive, done)

    def bring_back_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        return self._put_away(request, pk, projects.bring_back, "is open again")

    def _put_away(self, request: HttpRequest, pk: Any, do: Callable[..., None], done: str) -> HttpResponse:
        project = self.get_or_404(request, pk)
        if not access(request).is_studio_owner:
            raise PermissionDenied
        try:
            do(project, by=person(request))
            messages.success(request, f"{project} {done}.")
        except ValidationError:
            messages.error(request, f"Another project is called {project.name} now: rename that one first.")
        return HttpResponseRedirect(reverse("admin:projects_project_change", args=[project.pk]))
