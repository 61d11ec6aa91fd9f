import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone


class IdempotencyKey(models.Model):
    """A client's promise that requests with this key are one request. `status_code` is null while the first is in flight."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=255)
    request_digest = models.CharField(max_length=64, help_text="SHA-256 of method, path and body")
    holder = models.UUIDField(default=uuid.uuid4, editable=False, help_text="the request that answers it")
    locked_until = models.DateTimeField(
        help_text="its process moves this ahead while it lives; after it, a request that never answered may be taken over"
    )
    status_code = models.PositiveSmallIntegerField(null=True)
    response = models.JSONField(null=True, help_text="with names of files where addresses stood, which are signed anew")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_key_unique")]

    def __str__(self) -> str:
        return self.key
