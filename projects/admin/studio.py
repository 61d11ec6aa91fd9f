from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from projects import permissions, versions
from projects.admin.access import StudioAdmin, access, person
from projects.admin.versions import VersionedAdmin, VersionedForm
from projects.models import Studio


class SettingsForm(VersionedForm):
    class Meta:
        model = Studio
        fields = ["time_zone"]
        help_texts = {
            "time_zone": "Studio-wide budgets turn at midnight here; a change applies from their next period. The days of reports "
            "across projects, and the hour of the nightly reconciliation, are of this zone too."
        }


@admin.register(Studio)
class SettingsAdmin(VersionedAdmin, StudioAdmin):
    """One row, so one page: what holds for the whole studio. Only studio owners see it."""

    form = SettingsForm

    def _may(self, request: HttpRequest, action: str, obj: Any) -> bool:
        return access(request).is_studio_owner

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Studio]:
        return Studio.objects.all()

    def save_model(self, request: HttpRequest, obj: Studio, form: Any, change: bool) -> None:
        with versions.editing(obj, by=person(request)):
            permissions.require_studio_owner_now(person(request), "change the studio's settings")
            for name, value in form.changes.items():
                setattr(obj, name, value)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse("admin:projects_studio_change", args=[Studio.current().pk]))

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        return super().change_view(request, object_id, form_url, {"title": "Settings", **(extra_context or {})})
