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
from unfold.decorators import display
from unfold.widgets import UnfoldAdminEmailInputWidget, UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from projects.admin.access import ProjectFilter, StudioAdmin, access, person, sentence
from projects.models import Invitation, Project, Role
from projects.people import members
from projects.people.members import MembershipRefused

REFUSALS = (MembershipRefused, PermissionDenied, ValidationError)


class InvitationForm(forms.Form):
    project = forms.ModelChoiceField(Project.objects.none(), widget=UnfoldAdminSelectWidget(), empty_label=None)
    email = forms.EmailField(
        label="E-mail",
        widget=UnfoldAdminEmailInputWidget(),
        help_text="The link goes there; you get it too, to pass it on.",
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.EDITOR, widget=UnfoldAdminSelectWidget())
    for_anyone = forms.BooleanField(
        label="For anyone who has the link",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
        help_text="Off: only an account of this address can join by it. On: whoever opens it first joins, whatever their address.",
    )

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

    @display(
        description="State",
        label={
            "Open": "info",
            "Open, not mailed yet": "warning",
            "Open to anyone": "warning",
            "Accepted": "success",
            "Expired": "default",
        },
    )
    def state(self, invitation: Invitation) -> str:
        if invitation.accepted_at:
            return "Accepted"
        if invitation.expires_at <= timezone.now():
            return "Expired"
        if invitation.email_at:
            return "Open, not mailed yet"
        return "Open to anyone" if invitation.for_anyone else "Open"

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
            _, link = members.invite(
                data["project"],
                email=data["email"],
                role=Role(data["role"]),
                by=person(request),
                for_anyone=data["for_anyone"],
            )
        except REFUSALS as refusal:
            form.add_error(None, sentence(refusal))
            return ""
        told = 'Invited {}. The one-time link is shown only now: <code class="studio-link">{}</code>'
        messages.success(request, format_html(told, data["email"], link))
        return link
