from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminSelectWidget

from projects import members
from projects.admin.access import ProjectFilter, StudioAdmin, access, person, sentence, told
from projects.admin.asking import ask, counted
from projects.members import MembershipRefused
from projects.models import Invitation, Membership, Project, Role

ROLE_COLOURS = {
    Role.VIEWER.label: "default",
    Role.EDITOR.label: "info",
    Role.APPROVER.label: "success",
    Role.OWNER.label: "primary",
}
REFUSALS = (MembershipRefused, PermissionDenied, ValidationError)


def save_membership(membership: Membership, changed: list[str], request: HttpRequest) -> None:
    """A role and the switch go through the rules about members; a member is switched on again by an invitation."""
    by, is_active, role = person(request), membership.is_active, Role(membership.role)
    membership.refresh_from_db()
    if "role" in changed:
        members.change_role(membership, role=role, by=by)
    if "is_active" in changed and not is_active:
        members.remove(membership, by=by)
    if "is_active" in changed and is_active:
        raise MembershipRefused(
            "removed", f"{membership.user} left {membership.project}: invite them again to switch them on."
        )


class MembershipInline(TabularInline):
    """Roles of the members; new ones come by invitation."""

    model = Membership
    fields = ["member", "role", "is_active", "since"]
    readonly_fields = ["member", "since"]
    extra = 0
    can_delete = False
    tab = False
    hide_title = True
    verbose_name_plural = "members"

    @display(description="Member")
    def member(self, membership: Membership) -> str:
        user = membership.user
        return f"{members.name_of(user)} · {user.email}" if user.email else members.name_of(user)

    @display(description="Since")
    def since(self, membership: Membership) -> str:
        return f"{membership.created_at:%-d %B %Y}"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        rows: QuerySet[Membership] = super().get_queryset(request)
        return rows.select_related("user", "project").order_by("-is_active", "user__username")

    def has_view_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        return obj is None or access(request).may("view", obj.pk)

    def has_add_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        return obj is not None and access(request).may("manage", obj.pk)

    def has_delete_permission(self, request: HttpRequest, obj: Project | None = None) -> bool:
        return False


@admin.register(Membership)
class MembershipAdmin(StudioAdmin):
    change_action = "manage"
    list_display = ["member", "project", "role_label", "is_active", "since"]
    list_filter = [ProjectFilter, ("role", ChoicesDropdownFilter)]
    list_select_related = ["project", "user"]
    search_fields = ["user__username", "user__email", "user__first_name", "user__last_name", "project__name"]
    fields = ["member", "project", "role", "is_active", "since"]
    readonly_fields = ["member", "project", "since"]
    actions = ["remove"]

    @display(description="Member", ordering="user__username")
    def member(self, membership: Membership) -> str:
        user = membership.user
        return f"{members.name_of(user)} · {user.email}" if user.email else members.name_of(user)

    @display(description="Role", label=ROLE_COLOURS, ordering="role")
    def role_label(self, membership: Membership) -> str:
        return membership.get_role_display()

    @display(description="Since", ordering="created_at")
    def since(self, membership: Membership) -> str:
        return f"{membership.created_at:%-d %B %Y}"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Membership, form: forms.ModelForm, change: bool) -> None:
        save_membership(obj, form.changed_data, request)

    @admin.action(description="Remove from the project", permissions=["change"])
    def remove(self, request: HttpRequest, queryset: QuerySet[Membership]) -> HttpResponse | None:
        text = (
            "They see nothing of the project any more. What they made and paid stays. An invitation brings them back."
        )
        yes = f"Remove {counted(len(queryset), 'member')}"
        if question := ask(request, f"{yes}?", text, yes=yes, things=queryset):
            return question
        removed, refused = 0, []
        for membership in queryset.filter(is_active=True).select_related("project", "user"):
            try:
                members.remove(membership, by=person(request))
                removed += 1
            except REFUSALS as refusal:
                refused.append(sentence(refusal))
        return told(request, f"Removed {removed} of {removed + len(refused)} members." if removed else "", refused)


class InvitationForm(forms.Form):
    project = forms.ModelChoiceField(Project.objects.none(), widget=UnfoldAdminSelectWidget(), empty_label=None)
    email = forms.EmailField(
        label="E-mail",
        widget=UnfoldAdminEmailInputWidget(),
        help_text="The link goes there; you get it too, to pass it on.",
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.EDITOR, widget=UnfoldAdminSelectWidget())

    def __init__(self, projects: QuerySet[Project], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["project"].queryset = projects  # type: ignore[attr-defined]


@admin.register(Invitation)
class InvitationAdmin(StudioAdmin):
    view_action = change_action = "manage"
    list_display = ["email", "project", "role", "state", "inviter", "expires"]
    list_filter = [ProjectFilter]
    list_select_related = ["project", "invited_by", "accepted_by"]
    search_fields = ["email", "project__name"]
    fields = readonly_fields = ["email", "project", "role", "state", "inviter", "expires"]

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @display(description="State", label={"Open": "info", "Accepted": "success", "Expired": "default"})
    def state(self, invitation: Invitation) -> str:
        if invitation.accepted_at:
            return "Accepted"
        return "Open" if invitation.expires_at > timezone.now() else "Expired"

    @display(description="Invited by", ordering="invited_by__username")
    def inviter(self, invitation: Invitation) -> str:
        return members.name_of(invitation.invited_by)

    @display(description="Valid until", ordering="expires_at")
    def expires(self, invitation: Invitation) -> str:
        return f"{invitation.expires_at:%-d %B %Y, %H:%M} UTC"

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        projects = access(request).open_projects("manage")
        form = InvitationForm(projects, request.POST or None, initial={"project": request.GET.get("project")})
        if request.method == "POST" and form.is_valid():
            link = self._invited(request, form)
            if link:
                return HttpResponseRedirect(reverse("admin:projects_invitation_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Invite somebody",
            "form": form,
            "save_label": "Send the invitation",
            "nothing": "" if projects.exists() else "There is no project yet to invite somebody to.",
            "explanation": "They get a one-time link, with which they make their own account or join with the one they have.",
        }
        return TemplateResponse(request, "admin/includes/plain_form.html", context)

    def _invited(self, request: HttpRequest, form: InvitationForm) -> str:
        """The link, told once; empty when it was refused, which is told in the form."""
        data = form.cleaned_data
        try:
            _, link = members.invite(data["project"], email=data["email"], role=Role(data["role"]), by=person(request))
        except REFUSALS as refusal:
            form.add_error(None, sentence(refusal))
            return ""
        told = 'Invited {}. The one-time link is shown only now: <code class="studio-link">{}</code>'
        messages.success(request, format_html(told, data["email"], link))
        return link
