from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from generations import services
from generations.admin.display import RUNNING
from generations.models import Generation, Lane, PausedEndpoint, Status
from projects.admin.access import StudioAdmin, access, person


@admin.register(Lane)
class LaneAdmin(StudioAdmin):
    """One lane, so one page: whether the studio submits, and the switch."""

    def _may(self, request: HttpRequest, action: str, obj: Any) -> bool:
        return access(request).is_studio_owner

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        pause, resume, resume_endpoint = (
            self.admin_site.admin_view(require_POST(view))
            for view in (self.pause_view, self.resume_view, self.resume_endpoint_view)
        )
        return [
            path("pause/", pause, name="generations_lane_pause"),
            path("resume/", resume, name="generations_lane_resume"),
            path("resume-endpoint/", resume_endpoint, name="generations_lane_resume_endpoint"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        lane = Lane.objects.select_related("paused_by").filter(pk=Lane.WAVESPEED).first() or Lane()
        statuses = list(
            Generation.objects.filter(status__in=[*RUNNING, Status.QUEUED, Status.UNCONFIRMED]).values_list(
                "status", flat=True
            )
        )
        context = {
            **self.admin_site.each_context(request),
            "title": "Lane",
            "lane": lane,
            "is_slowed": lane.slowed_until is not None and lane.slowed_until > timezone.now(),
            "waiting": statuses.count(Status.QUEUED),
            "running": sum(status in RUNNING for status in statuses),
            "unconfirmed": statuses.count(Status.UNCONFIRMED),
            "paused_endpoints": PausedEndpoint.objects.select_related("paused_by").order_by("endpoint"),
            "per_minute": settings.WAVESPEED_VIDEOS_PER_MINUTE,
            "at_once": settings.WAVESPEED_VIDEOS_AT_ONCE,
        }
        return TemplateResponse(request, "admin/generations/lane/page.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:generations_lane_changelist"))

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        services.pause_lane(reason=request.POST.get("reason", "").strip()[:500], by=person(request))
        messages.success(
            request, "Paused: nothing more is submitted until somebody resumes. What was submitted goes on."
        )
        return HttpResponseRedirect(reverse("admin:generations_lane_changelist"))

    def resume_view(self, request: HttpRequest) -> HttpResponse:
        services.resume_lane(by=person(request))
        messages.success(request, "Resumed: what is queued is submitted again, in turn.")
        return HttpResponseRedirect(reverse("admin:generations_lane_changelist"))

    def resume_endpoint_view(self, request: HttpRequest) -> HttpResponse:
        endpoint = request.POST.get("endpoint", "")
        services.resume_endpoint(endpoint, by=person(request))
        messages.success(request, f"Resumed: what is queued for {endpoint} is submitted again, in turn.")
        return HttpResponseRedirect(reverse("admin:generations_lane_changelist"))
