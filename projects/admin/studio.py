from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from projects.admin.access import StudioAdmin, access
from projects.models import Studio


class SettingsForm(forms.ModelForm):
    class Meta:
        model = Studio
        fields = ["time_zone"]
        help_texts = {
            "time_zone": "Studio-wide budgets turn at midnight here; a change applies from their next period. The days of reports "
            "across projects, and the hour of the nightly reconciliation, are of this zone too."
        }


@admin.register(Studio)
class SettingsAdmin(StudioAdmin):
    """One row, so one page: what holds for the whole studio. Only studio owners see it."""

    form = SettingsForm

    def _may(self, request: HttpRequest, action: str, obj: Any) -> bool:
        return access(request).is_studio_owner

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Studio]:
        return Studio.objects.all()

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse("admin:projects_studio_change", args=[Studio.current().pk]))

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        return super().change_view(request, object_id, form_url, {"title": "Settings", **(extra_context or {})})
