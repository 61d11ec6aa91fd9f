import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone


class Reconciliation(models.Model):
    """One comparison of our books with the provider's bill: what was compared, and each difference."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)
    since = models.DateTimeField(help_text="the bill was read from here")
    until = models.DateTimeField()
    differences = models.PositiveIntegerField(default=0)
    applied = models.BooleanField(default=False)
    report = models.JSONField(default=dict)
    error = models.CharField(max_length=500, blank=True, help_text="why it could not be done")
    started_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"Reconciliation of {self.started_at:%Y-%m-%d %H:%M}"
