from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from projects.admin.access import StudioAdmin, person
from projects.links import NotHere
from projects.models import Notification, NotificationPreference

PAGE = "admin:projects_notification_changelist"
PER_PAGE = 30


def unread(request: HttpRequest) -> int:
    """What the bell shows."""
    return Notification.objects.filter(user=person(request), read_at=None).count()


@admin.register(Notification)
class NotificationAdmin(StudioAdmin):
    """What a person was told of: only their own, one page."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Notification]:
        return Notification.objects.filter(user=person(request))

    def _may(self, request: HttpRequest, action: str, obj: Model | None) -> bool:
        return action == self.view_action

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_urls(self) -> list[URLPattern]:
        read, read_all, preference = (
            self.admin_site.admin_view(require_POST(view))
            for view in (self.read_view, self.read_all_view, self.preference_view)
        )
        return [
            path("<int:pk>/open/", self.admin_site.admin_view(self.open_view), name="projects_notification_open"),
            path("<int:pk>/read/", read, name="projects_notification_read"),
            path("read-all/", read_all, name="projects_notification_read_all"),
            path("preference/", preference, name="projects_notification_preference"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        only_unread = request.GET.get("show") == "unread"
        listed = (
            self.get_queryset(request).select_related("alert", "alert__project").order_by("-alert__created_at", "-pk")
        )
        if only_unread:
            listed = listed.filter(read_at=None)
        preference = NotificationPreference.objects.filter(user=person(request)).first()
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Notifications",
            "page": Paginator(listed, PER_PAGE).get_page(request.GET.get("page")),
            "only_unread": only_unread,
            "query": urlencode({"show": "unread"}) if only_unread else "",
            "own_generations": preference.own_generations if preference else True,
        }
        return TemplateResponse(request, "admin/projects/notification/page.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return HttpResponseRedirect(reverse(PAGE))

    def open_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        """To the page about it; who has gone there has read it."""
        return HttpResponseRedirect(self._read(request, pk).alert.path or reverse(PAGE))

    def read_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        self._read(request, pk)
        return _back(request)

    def _read(self, request: HttpRequest, pk: int) -> Notification:
        notification = self.get_queryset(request).select_related("alert").filter(pk=pk).first()
        if notification is None:
            raise NotHere("This notification doesn’t exist, or is somebody else’s.")
        self.get_queryset(request).filter(pk=pk, read_at=None).update(read_at=timezone.now())
        return notification

    def read_all_view(self, request: HttpRequest) -> HttpResponse:
        count = self.get_queryset(request).filter(read_at=None).update(read_at=timezone.now())
        messages.success(request, f"Marked {count} notification{'' if count == 1 else 's'} as read.")
        return _back(request)

    def preference_view(self, request: HttpRequest) -> HttpResponse:
        wanted = request.POST.get("own_generations") == "on"
        NotificationPreference.objects.update_or_create(user=person(request), defaults={"own_generations": wanted})
        told = "You get an e-mail" if wanted else "You get no e-mail any more"
        messages.success(
            request, f"{told} when generations that you asked for have ended. They stand here in any case."
        )
        return HttpResponseRedirect(reverse(PAGE))


def _back(request: HttpRequest) -> HttpResponse:
    """To the same list, all or unread ones."""
    query = "?show=unread" if request.POST.get("show") == "unread" else ""
    return HttpResponseRedirect(reverse(PAGE) + query)
