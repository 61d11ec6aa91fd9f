import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone
from simple_history.models import HistoricalRecords

from projects.models.project import Project
from projects.models.versioned import Versioned


def stored_name(instance: "SourceImage", filename: str) -> str:
    """Where a picture's files lie; `filename` is one that we made (`original.heic`), never the uploader's."""
    return f"projects/{instance.project_id}/source-images/{instance.pk}/{filename}"


MEASURED = [
    "file",
    "original",
    "thumbnail",
    "content_type",
    "width",
    "height",
    "bytes",
    "sha256",
    "notes",
    "original_name",
    "source_url",
]


class SourceImage(Versioned):
    """A picture as the provider takes it (JPEG or PNG, sRGB, upright, no metadata), with the original beside it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="source_images")
    title = models.CharField(max_length=200, blank=True)
    tags = models.JSONField(default=list, blank=True)
    file = models.FileField(upload_to=stored_name, max_length=300, editable=False)
    original = models.FileField(upload_to=stored_name, max_length=300, editable=False)
    thumbnail = models.FileField(upload_to=stored_name, max_length=300, editable=False)
    content_type = models.CharField(max_length=40, editable=False)
    width = models.PositiveIntegerField(editable=False, help_text="pixels")
    height = models.PositiveIntegerField(editable=False, help_text="pixels")
    bytes = models.PositiveBigIntegerField(editable=False, help_text="size of the normalised file")
    sha256 = models.CharField(max_length=64, editable=False, help_text="of the original, as it was uploaded")
    notes = models.JSONField(default=list, editable=False, help_text="what was changed to make the provider take it")
    original_name = models.CharField(max_length=255, blank=True, editable=False)
    source_url = models.URLField(
        max_length=2000, blank=True, editable=False, help_text="where it was imported from; query removed"
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    trashed_at = models.DateTimeField(null=True, blank=True, editable=False)
    trashed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", editable=False
    )
    purged_at = models.DateTimeField(null=True, editable=False, help_text="when its files were deleted")
    # Of what people change: what is known of the file itself never changes.
    history = HistoricalRecords(excluded_fields=MEASURED)

    class Meta:
        ordering = ["-created_at", "id"]
        constraints = [models.UniqueConstraint(fields=["project", "sha256"], name="source_image_once_per_project")]
        indexes = [
            models.Index(
                fields=["trashed_at"],
                condition=models.Q(trashed_at__isnull=False, purged_at=None),
                name="source_image_in_trash",
            )
        ]

    def __str__(self) -> str:
        return self.title or self.original_name or str(self.pk)
