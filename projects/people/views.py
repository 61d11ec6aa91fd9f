"""The pages outside the admin: joining a project by an invitation, and a new password by e-mail."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import login, views
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.generic import View

from projects.models import Membership
from projects.people import members, tokens
from projects.people.forms import AddressForm, NewMemberForm, NewPasswordForm, OwnPasswordForm
from projects.people.members import InvitationRefused
from projects.people.throttling import limited, too_many
from projects.tasks import ask_for_password_reset

BACKEND = "django.contrib.auth.backends.ModelBackend"
NOT_FOUND, GONE, CONFLICT = 404, 410, 409
MESSAGES_AN_HOUR = 3
STATUS = {"unknown": NOT_FOUND, "member": CONFLICT}


@method_decorator(
    [limited("join", limit=30, seconds=300), never_cache, sensitive_post_parameters(), sensitive_variables("token")],
    name="dispatch",
)
class Join(View):
    """Shows an invitation; who is logged in accepts it, and anybody else makes their account with it."""

    def dispatch(self, request: HttpRequest, token: str) -> HttpResponseBase:
        try:
            return super().dispatch(request, token)
        except InvitationRefused as refusal:
            status = STATUS.get(refusal.code, GONE)
            return _page(request, "projects/invitation_refused.html", {"refusal": refusal}, status)

    def get(self, request: HttpRequest, token: str) -> HttpResponse:
        invitation = members.find_invitation(token)
        if isinstance(request.user, User):
            members.require_for(invitation, request.user)
        return self._invitation(request, token, NewMemberForm(asks_address=invitation.for_anyone))

    def post(self, request: HttpRequest, token: str) -> HttpResponse:
        if isinstance(request.user, User):
            return self._joined(request, members.accept(token, request.user))
        form = NewMemberForm(request.POST, asks_address=members.find_invitation(token).for_anyone)
        if not form.is_valid():
            return self._invitation(request, token, form)
        membership = members.register(token, form.save(commit=False))
        login(request, membership.user, BACKEND)
        return self._joined(request, membership)

    def _invitation(self, request: HttpRequest, token: str, form: NewMemberForm) -> HttpResponse:
        invitation = members.find_invitation(token)
        context = {"invitation": invitation, "inviter": members.name_of(invitation.invited_by), "form": form}
        return _page(request, "projects/invitation.html", context)

    def _joined(self, request: HttpRequest, membership: Membership) -> HttpResponse:
        role = membership.get_role_display().lower()
        messages.success(request, f"Welcome to {membership.project}. Your role there: {role}.")
        return redirect("admin:index")


def _page(request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
    return render(request, template, {**_dress(request), **context}, status=status)


def _dress(request: HttpRequest) -> dict[str, Any]:
    """What Unfold's page skeleton needs (colours, theme, the studio's name), without its link to a site outside the admin."""
    return {**admin.site.each_context(request), "site_url": None}


class Dressed:
    request: HttpRequest

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        context = super().get_context_data(**context)  # type: ignore[misc]
        return {**_dress(self.request), **context}


@method_decorator(limited("password-reset", limit=10, seconds=3600), name="dispatch")
class PasswordReset(Dressed, views.PasswordResetView):
    form_class = AddressForm

    def form_valid(self, form: Any) -> HttpResponse:
        """One address gets a few messages an hour, however many people ask; the page, and the time it takes, are the same for all."""
        address = form.cleaned_data["email"]
        if not too_many("password-reset-address", address.casefold(), limit=MESSAGES_AN_HOUR, seconds=3600):
            ask_for_password_reset(address)
        return HttpResponseRedirect(self.get_success_url())


class PasswordResetDone(Dressed, views.PasswordResetDoneView):
    pass


@method_decorator(limited("password-reset-confirm", limit=30, seconds=300), name="dispatch")
class PasswordResetConfirm(Dressed, views.PasswordResetConfirmView):
    form_class = NewPasswordForm

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        messages.success(self.request, f"Your password was changed. {tokens.told(form.user)}")
        return response


class OwnPassword(Dressed, views.PasswordChangeView):
    """In the admin, for whoever is logged in."""

    form_class = OwnPasswordForm
    success_url = reverse_lazy("admin:password_change_done")

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        messages.success(self.request, tokens.told(form.user))
        return response


class PasswordResetComplete(Dressed, views.PasswordResetCompleteView):
    pass
