from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.decorators import display

from generations.admin.display import video_facts
from generations.models import Generation, Video
from generations.services import trash
from generations.services.refusals import Refused
from generations.storage import naming, retention, shortcomings
from projects.admin.access import ProjectFilter, ReadOnlyAdmin, TrashFilter, access, person, told
from projects.admin.asking import ask, counted
from projects.admin.display import NOTHING, size, thumbnail

CHANGE = "admin:generations_video_change"
TRASHES = (
    "Their files are deleted {days} days later. Until then you can bring them back. What was paid stays on the books."
)


class VideoProjectFilter(ProjectFilter):
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        known = dict(self.lookup_choices)
        return queryset.filter(generation__project_id=value) if value and value in known else queryset


def player(video: Video) -> dict[str, Any]:
    """What the templates need to show and hand out a video."""
    return {
        "video": video,
        "facts": video_facts(video),
        "shortcomings": shortcomings.of(video),
        "url": video.file.url if video.file else "",
        "poster_url": video.poster.url if video.poster else "",
        "download_url": naming.download_url(video) if video.file else "",
        "deleted_on": retention.deleted_on(video.trashed_at) if video.trashed_at else None,
    }


@admin.register(Video)
class VideoAdmin(ReadOnlyAdmin):
    project_path = "generation__project"
    list_display = ["poster_shown", "name", "project", "picture", "length", "sound", "file_size", "stored"]
    list_display_links = ["poster_shown", "name"]
    list_filter = [VideoProjectFilter, TrashFilter, ("created_at", RangeDateFilter)]
    list_select_related = ["generation__project", "generation__image"]
    search_fields = ["generation__prompt", "generation__project__name", "sha256"]
    ordering = ["-created_at"]
    actions = ["move_to_trash", "bring_back"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Those that belong to a generation; what belongs to nobody yet has a page of its own."""
        return super().get_queryset(request).filter(generation__isnull=False)

    def get_urls(self) -> list[URLPattern]:
        views = {"trash": self.trash_view, "restore": self.restore_view}
        own = [
            path(f"<uuid:pk>/{name}/", self.admin_site.admin_view(require_POST(view)), name=f"generations_video_{name}")
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    @display(description="Video")
    def poster_shown(self, video: Video) -> SafeString:
        image = video.generation.image if video.generation else None
        return thumbnail(video.poster or (image.thumbnail if image else None), str(video.generation))

    @display(description="Prompt")
    def name(self, video: Video) -> str:
        return str(video.generation or video.unassigned)

    @display(description="Project", ordering="generation__project__name")
    def project(self, video: Video) -> str:
        return str(video.generation.project) if video.generation else NOTHING

    @display(description="Pixels", ordering="width")
    def picture(self, video: Video) -> str:
        return f"{video.width} × {video.height}" if video.width else NOTHING

    @display(description="Duration", ordering="duration")
    def length(self, video: Video) -> str:
        return f"{video.duration.normalize():f} s" if video.duration is not None else NOTHING

    @display(description="Sound", ordering="has_audio")
    def sound(self, video: Video) -> str:
        return {True: "yes", False: "no", None: NOTHING}[video.has_audio]

    @display(description="Size", ordering="bytes")
    def file_size(self, video: Video) -> str:
        return size(video.bytes)

    @display(description="Stored", ordering="created_at")
    def stored(self, video: Video) -> str:
        return f"{video.created_at:%-d %b %Y, %H:%M} UTC"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        video = self.get_or_404(request, object_id)
        generation = Generation.objects.select_related("project", "requested_by").get(pk=video.generation_id)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": str(generation),
            "player": player(video),
            "generation": generation,
            "original": video,
            "may_edit": access(request).may("edit", generation.project_id),
        }
        return TemplateResponse(request, "admin/generations/video/page.html", context)

    def trash_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        title, text = (
            f"Move “{self.get_or_404(request, str(pk)).generation}” to the trash?",
            TRASHES.format(days=settings.TRASH_DAYS),
        )
        return ask(request, title, text, yes="Move to the trash") or self._do(
            request,
            pk,
            trash.trash,
            "In the trash. Its files are deleted in {days} days, unless somebody brings it back.",
        )

    def restore_view(self, request: HttpRequest, pk: Any) -> HttpResponse:
        return self._do(request, pk, trash.restore, "Back from the trash.")

    def _do(self, request: HttpRequest, pk: Any, do: Callable[..., None], done: str) -> HttpResponse:
        video = self.get_or_404(request, str(pk))
        try:
            do(video, by=person(request))
            messages.success(request, done.format(days=settings.TRASH_DAYS))
        except (Refused, PermissionDenied) as refusal:
            messages.error(request, str(refusal))
        return HttpResponseRedirect(reverse(CHANGE, args=[video.pk]))

    @admin.action(description="Move to the trash", permissions=["view"])
    def move_to_trash(self, request: HttpRequest, queryset: QuerySet[Video]) -> HttpResponse | None:
        title, text = f"Move {counted(len(queryset), 'video')} to the trash?", TRASHES.format(days=settings.TRASH_DAYS)
        question = ask(request, title, text, yes="Move to the trash", things=[video.generation for video in queryset])
        return question or self._each(request, queryset, trash.trash, "moved to the trash")

    @admin.action(description="Bring back from the trash", permissions=["view"])
    def bring_back(self, request: HttpRequest, queryset: QuerySet[Video]) -> HttpResponse | None:
        return self._each(request, queryset, trash.restore, "brought back")

    def _each(
        self, request: HttpRequest, queryset: QuerySet[Video], do: Callable[..., None], done: str
    ) -> HttpResponse | None:
        count, refused = 0, []
        for video in queryset.select_related("generation__project"):
            try:
                do(video, by=person(request))
                count += 1
            except (Refused, PermissionDenied) as refusal:
                refused.append(str(refusal))
        return told(request, f"{count} {'video' if count == 1 else 'videos'} {done}." if count else "", refused)
