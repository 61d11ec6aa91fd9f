from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget, UnfoldAdminURLInputWidget

from projects import source_images
from projects.admin.access import (
    ArchivedFilter,
    ProjectFilter,
    StudioAdmin,
    TrashFilter,
    access,
    person,
    sentence,
    told,
)
from projects.admin.asking import ask, counted
from projects.admin.display import TagsField, link, size, thumbnail
from projects.admin.versions import VersionedAdmin, VersionedForm
from projects.fetch import FetchFailed, FetchRefused
from projects.images import ImageRefused
from projects.models import Project, SourceImage

CHANGE = "admin:projects_sourceimage_change"
ARCHIVES = "No new video can be made of it; those that were made stay. You can bring it back at any time."
TRASHES = (
    "Its own files are deleted {days} days later; until then you can bring it back. Videos that were made of it stay."
)
REFUSALS = (ImageRefused, FetchRefused, FetchFailed, ValidationError, PermissionDenied)


class FilesInput(forms.FileInput):
    allow_multiple_selected = True


class FilesField(forms.FileField):
    """One or several files."""

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        return [super(FilesField, self).clean(each, initial) for each in data or []]


class UploadForm(forms.Form):
    project = forms.ModelChoiceField(Project.objects.none(), widget=UnfoldAdminSelectWidget(), empty_label=None)
    pictures = FilesField(
        label="Pictures",
        required=False,
        widget=FilesInput(
            attrs={"accept": "image/jpeg,image/png,image/webp,image/heic,.heic", "class": "studio-files"}
        ),
        help_text="JPEG, PNG, WebP or HEIC; each side 300 pixels or more; not longer than 2.5 : 1. Several at once are fine.",
    )
    url = forms.URLField(
        label="Or an address",
        required=False,
        assume_scheme="https",
        max_length=2000,
        widget=UnfoldAdminURLInputWidget(attrs={"placeholder": "https://example.com/picture.jpg"}),
        help_text="The picture is fetched and kept here.",
    )
    title = forms.CharField(
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(),
        help_text="For one picture; left empty, the file’s name is shown.",
    )
    tags = TagsField(required=False, help_text="Words between commas.")

    def __init__(self, projects: QuerySet[Project], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["project"].queryset = projects  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors and not cleaned["pictures"] and not cleaned["url"]:
            raise ValidationError("Choose one or several pictures, or give the address of one.")
        if not self.errors and cleaned["title"] and len(cleaned["pictures"]) + bool(cleaned["url"]) > 1:
            raise ValidationError(
                {"title": "A title names one picture: upload several without one, and name them after."}
            )
        return cleaned


class SourceImageForm(VersionedForm):
    tags = TagsField(required=False, help_text="Words between commas.")

    class Meta:
        model = SourceImage
        fields = ["title", "tags"]


@admin.register(SourceImage)
class SourceImageAdmin(VersionedAdmin, StudioAdmin):
    form = SourceImageForm
    list_display = ["preview", "name", "project", "pixels", "tags_shown", "added_by", "created"]
    list_display_links = ["preview", "name"]
    list_filter = [ProjectFilter, ArchivedFilter, TrashFilter]
    list_select_related = ["project", "created_by"]
    search_fields = ["title", "original_name", "project__name"]
    actions = ["archive", "move_to_trash", "bring_back"]
    fields = [
        "title",
        "tags",
        "project",
        "pixels",
        "file_size",
        "changes",
        "original_name",
        "source",
        "added_by",
        "created",
        "digest",
    ]
    readonly_fields = fields[2:]
    change_form_template = "admin/projects/sourceimage/change_form.html"

    def get_fields(self, request: HttpRequest, obj: SourceImage | None = None) -> list[str]:
        """Who may only look reads the tags as words; the column alone would show as JSON."""
        may_change = self.has_change_permission(request, obj)
        return [name if name != "tags" or may_change else "tags_shown" for name in self.fields]

    def get_readonly_fields(self, request: HttpRequest, obj: SourceImage | None = None) -> list[str]:
        return [*self.readonly_fields, "tags_shown"]

    def get_urls(self) -> list[URLPattern]:
        views = {"archive": self.archive_view, "trash": self.trash_view, "restore": self.restore_view}
        own = [
            path(
                f"<path:object_id>/{name}/",
                self.admin_site.admin_view(require_POST(view)),
                name=f"projects_sourceimage_{name}",
            )
            for name, view in views.items()
        ]
        return [*own, *super().get_urls()]

    @display(description="Picture")
    def preview(self, image: SourceImage) -> SafeString:
        return thumbnail(image.thumbnail, str(image))

    @display(description="Title", ordering="title")
    def name(self, image: SourceImage) -> str:
        return f"{image} (archived)" if image.archived_at else str(image)

    @display(description="Pixels", ordering="width")
    def pixels(self, image: SourceImage) -> str:
        return f"{image.width} × {image.height}"

    @display(description="Tags")
    def tags_shown(self, image: SourceImage) -> str:
        return ", ".join(map(str, image.tags))

    @display(description="Size")
    def file_size(self, image: SourceImage) -> str:
        return f"{size(image.bytes)}, {image.content_type.removeprefix('image/').upper()}"

    @display(description="What was changed")
    def changes(self, image: SourceImage) -> str:
        return " ".join(map(str, image.notes)) or "Nothing: the provider takes it as it is."

    @display(description="From")
    def source(self, image: SourceImage) -> str:
        return image.source_url or "Uploaded"

    @display(description="Added by", ordering="created_by__username")
    def added_by(self, image: SourceImage) -> str:
        return str(image.created_by)

    @display(description="SHA-256")
    def digest(self, image: SourceImage) -> str:
        return image.sha256

    @display(description="Added", ordering="created_at")
    def created(self, image: SourceImage) -> str:
        return f"{image.created_at:%-d %b %Y, %H:%M} UTC"

    def save_model(self, request: HttpRequest, obj: SourceImage, form: Any, change: bool) -> None:
        source_images.edit(obj, by=person(request), **form.changes)

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        context = {
            "image_query": f"?image={object_id}",
            "trash_days": settings.TRASH_DAYS,
            **(extra_context or {}),
        }
        return super().change_view(request, object_id, form_url, context)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Not Django's: each picture is its own transaction, so that a bad one keeps no good one out."""
        if not self.has_add_permission(request):
            raise PermissionDenied(
                "Adding pictures takes the role “Editor” or higher in a project. Ask one of its owners."
            )
        projects = access(request).open_projects("edit")
        initial = {"project": request.GET.get("project")}
        form = UploadForm(projects, request.POST or None, request.FILES or None, initial=initial)
        if request.method == "POST" and form.is_valid():
            added = self._add_all(request, form)
            if len(added) == 1:
                return HttpResponseRedirect(reverse(CHANGE, args=[added[0].pk]))
            if added:
                return HttpResponseRedirect(reverse("admin:projects_sourceimage_changelist"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Add source images",
            "form": form,
            "has_file_field": True,
            "save_label": "Add",
            "nothing": "" if projects.exists() else "There is no project yet to put pictures into.",
        }
        return TemplateResponse(request, "admin/includes/plain_form.html", context)

    def _add_all(self, request: HttpRequest, form: UploadForm) -> list[SourceImage]:
        """Adds each picture; what was refused, and what was there already, is told by its name."""
        data, by = form.cleaned_data, person(request)
        details = {"by": by, "title": data["title"], "tags": data["tags"]}
        found: list[SourceImage] = []
        for file in data["pictures"]:
            try:
                added = source_images.add(data["project"], cast(BinaryIO, file), filename=file.name or "", **details)
            except REFUSALS as refusal:
                form.add_error("pictures", f"{file.name}: {sentence(refusal)}")
            else:
                found.append(self._found(request, *added))
        if data["url"]:
            try:
                added = source_images.import_url(data["project"], data["url"], **details)
            except REFUSALS as refusal:
                form.add_error("url", sentence(refusal))
            else:
                found.append(self._found(request, *added))
        if found:
            self._tell_refused(request, form)
        return found

    def _found(self, request: HttpRequest, image: SourceImage, is_new: bool) -> SourceImage:
        if is_new:
            messages.success(request, format_html("Added {}.", link(CHANGE, image.pk, image)))
        else:
            sentence = "The same picture exists already in {}: {}. Nothing was added."
            messages.warning(request, format_html(sentence, image.project, link(CHANGE, image.pk, image)))
        return image

    def _tell_refused(self, request: HttpRequest, form: UploadForm) -> None:
        for errors in form.errors.values():
            for error in cast(Iterable[str], errors):
                messages.error(request, error)

    def archive_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        title = f"Archive “{self.get_or_404(request, object_id)}”?"
        return ask(request, title, ARCHIVES, yes="Archive") or self._do(
            request, object_id, source_images.archive, "Archived {}. You can bring it back here."
        )

    def trash_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        done = "{} is in the trash. Videos made of it stay; its own files are deleted in {days} days."
        title = f"Move “{self.get_or_404(request, object_id)}” to the trash?"
        question = ask(request, title, TRASHES.format(days=settings.TRASH_DAYS), yes="Move to the trash")
        return question or self._do(request, object_id, source_images.trash, done)

    def restore_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._do(request, object_id, source_images.restore, "{} is back.")

    def _do(self, request: HttpRequest, object_id: str, do: Callable[..., None], done: str) -> HttpResponse:
        image = self.get_or_404(request, object_id)
        try:
            do(image, by=person(request))
            messages.success(request, done.format(image, days=settings.TRASH_DAYS))
        except REFUSALS as refusal:
            messages.error(request, sentence(refusal))
        return HttpResponseRedirect(reverse(CHANGE, args=[image.pk]))

    @admin.action(description="Archive", permissions=["change"])
    def archive(self, request: HttpRequest, queryset: QuerySet[SourceImage]) -> HttpResponse | None:
        title = f"Archive {counted(len(queryset), 'picture')}?"
        question = ask(request, title, ARCHIVES, yes="Archive", things=queryset)
        return question or self._each(request, queryset, source_images.archive, "Archived")

    @admin.action(description="Move to the trash", permissions=["change"])
    def move_to_trash(self, request: HttpRequest, queryset: QuerySet[SourceImage]) -> HttpResponse | None:
        title, text = (
            f"Move {counted(len(queryset), 'picture')} to the trash?",
            TRASHES.format(days=settings.TRASH_DAYS),
        )
        question = ask(request, title, text, yes="Move to the trash", things=queryset)
        return question or self._each(request, queryset, source_images.trash, "Moved to the trash:")

    @admin.action(description="Bring back", permissions=["change"])
    def bring_back(self, request: HttpRequest, queryset: QuerySet[SourceImage]) -> HttpResponse | None:
        return self._each(request, queryset, source_images.restore, "Brought back")

    def _each(
        self, request: HttpRequest, queryset: QuerySet[SourceImage], do: Callable[..., None], done: str
    ) -> HttpResponse | None:
        count, refused = 0, []
        for image in queryset.select_related("project"):
            try:
                do(image, by=person(request))
                count += 1
            except REFUSALS as refusal:
                refused.append(sentence(refusal))
        return told(request, f"{done} {count} of {count + len(refused)} pictures." if count else "", refused)
