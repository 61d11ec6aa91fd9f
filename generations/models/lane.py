from django.conf import settings
from django.db import models
from django.utils import timezone


class Lane(models.Model):
    """The way into the provider's account; its row is locked while a generation is admitted, so that limits hold across machines."""

    WAVESPEED = "wavespeed"

    name = models.CharField(max_length=20, primary_key=True, default=WAVESPEED)
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_reason = models.CharField(max_length=500, blank=True)
    paused_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="+",
        help_text="empty: the studio itself",
    )
    slowed_until = models.DateTimeField(
        null=True, blank=True, help_text="after a 429: nothing is submitted before this"
    )

    def __str__(self) -> str:
        return self.name


class PausedEndpoint(models.Model):
    """An endpoint that nothing is submitted to: it charged more than was reserved, or an owner paused it."""

    endpoint = models.CharField(max_length=120, primary_key=True)
    paused_at = models.DateTimeField(default=timezone.now)
    reason = models.CharField(max_length=500)
    paused_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        help_text="empty: the studio itself",
    )

    def __str__(self) -> str:
        return self.endpoint
