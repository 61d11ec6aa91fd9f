from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from generations import catalog
from generations.models import Lane
from generations.services import pauses, refusals
from generations.storage import room
from generations.watching import lane as lane_figures
from projects.admin.access import StudioAdmin, access, person
from projects.admin.display import amount

PAGE = "admin:generations_lane_changelist"


@admin.register(Lane)
class LaneAdmin(StudioAdmin):
    """One lane, so one page: whether the studio submits, who waits, and the switches."""

    project_path = None

    def _may(self, request: HttpRequest, action: str, obj: Any) -> bool:
        return access(request).is_studio_owner

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        def own(route: str, view: Callable[..., HttpResponse]) -> URLPattern:
            wrapped: Callable[..., HttpResponse] = self.admin_site.admin_view(require_POST(view))
            return path(f"{route}/", wrapped, name=f"generations_lane_{route.replace('-', '_')}")

        return [
            own("pause", self.pause_view),
            own("resume", self.resume_view),
            own("pause-endpoint", self.pause_endpoint_view),
            own("resume-endpoint", self.resume_endpoint_view),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        standing = lane_figures.standing()
        paused_endpoints = lane_figures.paused_endpoints()
        context = {
            **self.admin_site.each_context(request),
            "title": "Lane",
            "lane": standing.lane,
            "standing": standing,
            "shortage": room.shown_shortage(),
            "queues": [(queue, amount(queue.held)) for queue in lane_figures.queues()],
            "paused_projects": lane_figures.paused_projects(),
            "paused_endpoints": paused_endpoints,
            "open_endpoints": self._open_endpoints({each.endpoint for _, each in paused_endpoints}),
            "pauses": lane_figures.events(),
        }
        return TemplateResponse(request, "admin/generations/lane/page.html", context)

    def _open_endpoints(self, paused: set[str]) -> list[tuple[str, str]]:
        return [(each.id, each.title) for each in catalog.ENDPOINTS.values() if each.id not in paused]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse(PAGE))

    def pause_view(self, request: HttpRequest) -> HttpResponse:
        return self._do(
            request,
            lambda: pauses.pause_lane(reason=request.POST.get("reason", ""), by=person(request)),
            "Paused: nothing more is submitted until somebody resumes. What was submitted goes on.",
        )

    def resume_view(self, request: HttpRequest) -> HttpResponse:
        return self._do(
            request,
            lambda: pauses.resume_lane(reason=request.POST.get("reason", ""), by=person(request)),
            "Resumed: what is queued is submitted again, in turn.",
        )

    def pause_endpoint_view(self, request: HttpRequest) -> HttpResponse:
        endpoint = request.POST.get("endpoint", "")
        return self._do(
            request,
            lambda: pauses.pause_endpoint(endpoint, reason=request.POST.get("reason", ""), by=person(request)),
            f"Paused: nothing more is submitted to {lane_figures.title(endpoint)}. Other models go on.",
        )

    def resume_endpoint_view(self, request: HttpRequest) -> HttpResponse:
        endpoint = request.POST.get("endpoint", "")
        return self._do(
            request,
            lambda: pauses.resume_endpoint(endpoint, by=person(request)),
            f"Resumed: what is queued for {lane_figures.title(endpoint)} is submitted again, in turn.",
        )

    def _do(self, request: HttpRequest, do: Callable[[], None], done: str) -> HttpResponse:
        try:
            do()
            messages.success(request, done)
        except (refusals.Refused, catalog.UnknownEndpoint) as refusal:
            messages.error(request, str(refusal))
        return HttpResponseRedirect(reverse(PAGE))
