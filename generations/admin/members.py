"""Members; here and not in `projects`, because who leaves has what they asked for withdrawn."""

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from generations.services import people
from projects.admin.access import ProjectFilter, StudioAdmin, access, person, sentence, told
from projects.admin.asking import ask, counted
from projects.admin.members import REFUSALS
from projects.admin.versions import VersionedAdmin, VersionedForm
from projects.models import Membership, Project, Role
from projects.people import members
from projects.people.members import MembershipRefused

ROLE_COLOURS = {
    Role.VIEWER.label: "default",
    Role.EDITOR.label: "info",
    Role.APPROVER.label: "success",
    Role.OWNER.label: "primary",
}


def save_membership(membership: Membership, changed: list[str], request: HttpRequest) -> None:
    """A role and the switch go through the rules about members; a member is switched on again by an invitation."""
    by, is_active, role = person(request), membership.is_active, Role(membership.role)
    membership.refresh_from_db()
    if "role" in changed:
        people.change_role(membership, role=role, by=by)
    if "is_active" in changed and not is_active:
        people.remove_member(membership, by=by)
    if "is_active" in changed and is_active:
        raise MembershipRefused(
            "removed", f"{membership.user} left {membership.project}: invite them again to switch them on."
        )


class MembershipForm(VersionedForm):
    class Meta:
        model = Membership
        fields = ["role", "is_active"]


class MembershipInline(VersionedAdmin, TabularInline):
    """Roles of the members; new ones come by invitation."""

    model = Membership
    form = MembershipForm
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
class MembershipAdmin(VersionedAdmin, StudioAdmin):
    form = MembershipForm
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
            "They see nothing of the project any more, and what they asked to have approved goes back to draft. "
            "What they made and paid stays. An invitation brings them back."
        )
        yes = f"Remove {counted(len(queryset), 'member')}"
        if question := ask(request, f"{yes}?", text, yes=yes, things=queryset):
            return question
        removed, refused = 0, []
        for membership in queryset.filter(is_active=True).select_related("project", "user"):
            try:
                people.remove_member(membership, by=person(request))
                removed += 1
            except REFUSALS as refusal:
                refused.append(sentence(refusal))
        return told(request, f"Removed {removed} of {removed + len(refused)} members." if removed else "", refused)
