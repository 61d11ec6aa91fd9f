"""Users; here and not in `projects`, because switching somebody off withdraws what they asked to have approved."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import User
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.forms.models import model_to_dict
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.forms import UserChangeForm, UserCreationForm

from generations.services import people
from projects import permissions
from projects.admin.access import StudioAdmin, access, person, sentence
from projects.admin.asking import ask
from projects.admin.versions import SEEN, SeesVersion, VersionedAdmin
from projects.models import Change
from projects.people import members, tokens
from projects.people.forms import SomebodysPasswordForm
from projects.people.members import MembershipRefused

admin.site.unregister(User)
FOUND = 302


class UserForm(SeesVersion, UserChangeForm):
    """A user has no version of ours: the page carries what it shows, signed."""

    seen_version = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial[SEEN] = self.seen_now(self.instance)

    @property
    def row(self) -> User | None:
        return None if self.instance._state.adding else self.instance

    def locked(self, row: User) -> User:
        return User.objects.select_for_update(no_key=True).get(pk=row.pk)

    def take(self, now: User) -> None:
        self.instance = now
        self.initial.update(model_to_dict(now, fields=list(self.fields)))

    def seen_now(self, now: User) -> str:
        return signing.dumps(self._values(now)) if now.pk else ""

    def changes_since(self, now: User, seen: str) -> dict[str, Change]:
        try:
            old = signing.loads(seen)
        except signing.BadSignature:
            return {}
        last = LogEntry.objects.filter(content_type__model="user", object_id=str(now.pk)).select_related("user").first()
        by, at = (last.user, last.action_time) if last else (None, timezone.now())
        values = self._values(now).items()
        return {name: Change(old[name], new, by, at) for name, new in values if name in old and old[name] != new}

    def _values(self, user: User) -> dict[str, Any]:
        columns = {name for name in self.fields if name not in {SEEN, "password", "groups", "user_permissions"}}
        values = {name: getattr(user, name) for name in columns if hasattr(user, name)}
        return {**values, "groups": sorted(user.groups.values_list("pk", flat=True))}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self.require_fresh()
        return cleaned


@admin.register(User)
class UserAdmin(VersionedAdmin, StudioAdmin, DjangoUserAdmin):
    """For studio owners. Only superusers touch superusers: nobody gives themselves more than they have."""

    form, add_form, change_password_form = UserForm, UserCreationForm, SomebodysPasswordForm
    list_display = ["username", "full_name", "email", "kind", "is_active", "seen"]
    list_filter = ["is_active"]
    search_fields = ["username", "first_name", "last_name", "email"]
    readonly_fields = ["is_active", "last_login", "date_joined"]
    filter_horizontal = ()
    fieldsets = [
        (None, {"fields": ["username", "password"]}),
        ("Person", {"fields": ["first_name", "last_name", "email"]}),
        ("Rights", {"fields": ["is_active", "is_staff", "groups", "is_superuser"]}),
        ("Dates", {"fields": ["last_login", "date_joined"]}),
    ]
    add_fieldsets = [(None, {"fields": ["username", "email", "is_staff", "usable_password", "password1", "password2"]})]
    change_form_template = "admin/auth/user/studio_change_form.html"

    def get_queryset(self, request: HttpRequest) -> Any:
        return User.objects.prefetch_related("groups")

    def _may(self, request: HttpRequest, action: str, obj: Any) -> bool:
        if action == "edit" and isinstance(obj, User) and obj.is_superuser and not person(request).is_superuser:
            return False
        return access(request).is_studio_owner

    def has_add_permission(self, request: HttpRequest) -> bool:
        return access(request).is_studio_owner

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return [*self.readonly_fields, *([] if person(request).is_superuser else ["is_superuser"])]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"is_staff": True, **super().get_changeform_initial_data(request)}

    def get_urls(self) -> list[URLPattern]:
        off, on = (
            self.admin_site.admin_view(require_POST(view)) for view in (self.switch_off_view, self.switch_on_view)
        )
        return [
            path("<id>/switch-off/", off, name="auth_user_switch_off"),
            path("<id>/switch-on/", on, name="auth_user_switch_on"),
            *super().get_urls(),
        ]

    @display(description="Name", ordering="first_name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    @display(description="Last login", ordering="last_login")
    def seen(self, user: User) -> str:
        return f"{user.last_login:%-d %b %Y, %H:%M} UTC" if user.last_login else "never"

    @display(description="Kind", label={"Superuser": "primary", "Studio owner": "info", "Person": "default"})
    def kind(self, user: User) -> str:
        if user.is_superuser:
            return "Superuser"
        is_owner = any(group.name == permissions.STUDIO_OWNERS for group in user.groups.all())
        return "Studio owner" if is_owner else "Person"

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        """Of somebody who exists only what was changed: switching off, a login or a new password of the same moment stays."""
        if not change:
            super().save_model(request, obj, form, change)
            return
        columns = {field.name for field in User._meta.concrete_fields}
        if changed := columns.intersection(form.changed_data):
            obj.save(update_fields=changed)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if change:
            people.rights_changed(form.instance, by=person(request))

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        response = super().user_change_password(request, id, form_url)
        if request.method == "POST" and response.status_code == FOUND:
            messages.info(request, tokens.told(self.get_or_404(request, id)))
        return response

    def _to(self, user: User) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:auth_user_change", args=[user.pk]))

    def switch_off_view(self, request: HttpRequest, id: str) -> HttpResponse:
        user = self._changeable(request, id)
        text = (
            "They are logged out everywhere, their tokens and open invitations end, and what they asked to have approved goes back to "
            "draft. What they did stays. You can switch them on again."
        )
        if question := ask(request, f"Switch off {user}?", text, yes="Switch off"):
            return question
        try:
            people.switch_off(user, by=person(request))
            messages.success(request, f"{user} is switched off: sessions, tokens and open invitations have ended.")
        except MembershipRefused as refusal:
            messages.error(request, sentence(refusal))
        return self._to(user)

    def switch_on_view(self, request: HttpRequest, id: str) -> HttpResponse:
        user = self._changeable(request, id)
        members.switch_on(user, by=person(request))
        messages.success(request, f"{user} is switched on and can log in again.")
        return self._to(user)

    def _changeable(self, request: HttpRequest, id: str) -> User:
        user: User = self.get_or_404(request, id)
        if not self.has_change_permission(request, user):
            raise PermissionDenied
        return user
