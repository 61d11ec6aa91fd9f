from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RangeDateFilter
from unfold.decorators import display

from generations.admin.display import video_facts
from generations.models import Generation, Video
from projects.admin.access import ProjectFilter, ReadOnlyAdmin
from projects.admin.display import NOTHING, download_url, size, thumbnail


class VideoProjectFilter(ProjectFilter):
    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        known = dict(self.lookup_choices)
        return queryset.filter(generation__project_id=value) if value and value in known else queryset


def download_name(video: Video) -> str:
    """Says what it is in a folder of downloads."""
    words = "".join(character if character.isalnum() else "-" for character in str(video.generation).lower())
    return f"{'-'.join(filter(None, words.split('-')))[:60] or 'video'}.mp4"


def player(video: Video) -> dict[str, Any]:
    """What the templates need to show and hand out a video."""
    return {
        "video": video,
        "facts": video_facts(video),
        "url": video.file.url,
        "poster_url": video.poster.url if video.poster else "",
        "download_url": download_url(video.file, download_name(video)),
    }


@admin.register(Video)
class VideoAdmin(ReadOnlyAdmin):
    project_path = "generation__project"
    list_display = ["poster_shown", "name", "project", "picture", "length", "sound", "file_size", "stored"]
    list_display_links = ["poster_shown", "name"]
    list_filter = [VideoProjectFilter, ("created_at", RangeDateFilter)]
    list_select_related = ["generation__project", "generation__image"]
    search_fields = ["generation__prompt", "generation__project__name", "sha256"]
    ordering = ["-created_at"]

    @display(description="Video")
    def poster_shown(self, video: Video) -> SafeString:
        image = video.generation.image
        return thumbnail(video.poster or (image.thumbnail if image else None), str(video.generation))

    @display(description="Prompt")
    def name(self, video: Video) -> str:
        return str(video.generation)

    @display(description="Project", ordering="generation__project__name")
    def project(self, video: Video) -> str:
        return str(video.generation.project)

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
        }
        return TemplateResponse(request, "admin/generations/video/page.html", context)
