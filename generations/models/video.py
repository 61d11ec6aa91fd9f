import uuid

from django.db import models
from django.utils import timezone

from generations.models.generation import Generation


class Video(models.Model):
    """A stored output, checked by length and SHA-256. One that can't be probed is kept, with `probe_error` saying why."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    generation = models.ForeignKey(Generation, on_delete=models.PROTECT, related_name="videos")
    position = models.PositiveSmallIntegerField(default=0, help_text="its place among the outputs of the generation")
    file = models.FileField(max_length=300)
    poster = models.FileField(max_length=300, blank=True)
    bytes = models.PositiveBigIntegerField()
    sha256 = models.CharField(max_length=64)
    width = models.PositiveIntegerField(null=True, help_text="pixels")
    height = models.PositiveIntegerField(null=True, help_text="pixels")
    duration = models.DecimalField(max_digits=8, decimal_places=3, null=True, help_text="seconds")
    fps = models.DecimalField(max_digits=7, decimal_places=3, null=True, help_text="frames per second")
    codec = models.CharField(max_length=20, blank=True)
    has_audio = models.BooleanField(null=True)
    probe_error = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["generation", "position"]
        constraints = [models.UniqueConstraint(fields=["generation", "position"], name="video_once_per_position")]

    def __str__(self) -> str:
        return f"Video of {self.generation}"
