import mimetypes
import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from generations.models.generation import Generation
from generations.models.unassigned import UnassignedPrediction


def _at_most(most: int, column: str) -> Q:
    return Q(**{column: None}) | Q(**{f"{column}__gte": 0, f"{column}__lte": most})


class Video(models.Model):
    """A stored output, checked by length and SHA-256, that can be read to its end; or one that an owner took as it is.

    `probe_error` says why one can't be read: it was taken as it is, or stored by an earlier version of the studio.

    It belongs to a generation, or to a prediction that nobody is known to have asked for (yet). In the trash (`trashed_at`) it can be
    brought back until its files are deleted (`purged_at`); the row stays, as it was paid.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    generation = models.ForeignKey(Generation, on_delete=models.PROTECT, null=True, related_name="videos")
    unassigned = models.ForeignKey(UnassignedPrediction, on_delete=models.PROTECT, null=True, related_name="videos")
    position = models.PositiveSmallIntegerField(default=0, help_text="its place among the outputs of the generation")
    file = models.FileField(max_length=300)
    poster = models.FileField(max_length=300, blank=True)
    bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    width = models.PositiveIntegerField(null=True, help_text="pixels")
    height = models.PositiveIntegerField(null=True, help_text="pixels")
    duration = models.DecimalField(max_digits=8, decimal_places=3, null=True, help_text="seconds")
    fps = models.DecimalField(max_digits=7, decimal_places=3, null=True, help_text="frames per second")
    codec = models.CharField(max_length=40, blank=True)
    has_audio = models.BooleanField(null=True)
    probe_error = models.CharField(max_length=300, blank=True)
    probe_note = models.CharField(max_length=300, blank=True, help_text="what the file tells of itself that can't be")
    taken_as_it_is_at = models.DateTimeField(null=True, help_text="when an owner took it although it can't be read")
    created_at = models.DateTimeField(default=timezone.now)
    trashed_at = models.DateTimeField(null=True)
    trashed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        help_text="empty: the project's retention",
    )
    restored_at = models.DateTimeField(
        null=True, help_text="when it came out of the trash, or was given to a generation: retention counts anew"
    )
    purged_at = models.DateTimeField(null=True, help_text="when its files were deleted")

    class Meta:
        ordering = ["generation", "position"]
        constraints = [
            models.UniqueConstraint(fields=["generation", "position"], name="video_once_per_position"),
            models.UniqueConstraint(fields=["unassigned", "position"], name="unassigned_video_once_per_position"),
            models.CheckConstraint(
                condition=Q(generation__isnull=False) ^ Q(unassigned__isnull=False), name="video_of_one_thing"
            ),
            # PostgreSQL refuses what its columns can't hold. SQLite takes it, and then no list with that row can be read.
            models.CheckConstraint(condition=_at_most(99_999, "duration"), name="video_duration_can_be_read"),
            models.CheckConstraint(condition=_at_most(9_999, "fps"), name="video_fps_can_be_read"),
            models.CheckConstraint(
                condition=_at_most(2**31 - 1, "width") & _at_most(2**31 - 1, "height"), name="video_size_can_be_read"
            ),
        ]
        indexes = [
            models.Index(fields=["-created_at", "-id"], name="video_by_time"),
            models.Index(
                fields=["trashed_at"], condition=Q(trashed_at__isnull=False, purged_at=None), name="video_in_trash"
            ),
        ]

    def __str__(self) -> str:
        return f"Video of {self.generation or self.unassigned}"

    @property
    def content_type(self) -> str:
        """By its name, whose end the container decided, as the storage tells it to browsers."""
        return mimetypes.guess_type(self.file.name or "")[0] or "application/octet-stream"


class RefusedOutput(models.Model):
    """What came, the last time, in place of an output's video: evidence, and no video. One row an output, whatever number of tries.

    `file` keeps it in the storage until the video is here, so that an owner can take it as it is; empty where nothing came whole. What
    `is_picture` beside a video is a cover, and left out.
    """

    generation = models.ForeignKey(Generation, on_delete=models.PROTECT, related_name="refused_outputs")
    position = models.PositiveSmallIntegerField()
    why = models.TextField()
    file = models.FileField(max_length=300, blank=True)
    bytes = models.PositiveBigIntegerField(null=True)
    sha256 = models.CharField(max_length=64, blank=True)
    content_type = models.CharField(max_length=100, blank=True)
    beginning = models.TextField(blank=True, help_text="the first bytes, as text for people")
    is_picture = models.BooleanField(default=False)
    times = models.PositiveIntegerField(default=0)
    first_at = models.DateTimeField(default=timezone.now)
    last_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["generation", "position"]
        constraints = [
            models.UniqueConstraint(fields=["generation", "position"], name="refused_output_once_per_position")
        ]

    def __str__(self) -> str:
        return f"Output {self.position + 1} of {self.generation}"
