import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from projects.models import Project


class Approval(models.Model):
    """A request to approve one or several generations together, at a price that is frozen until `expires_at`."""

    class Decision(models.TextChoices):
        WAITING = "waiting", "Waiting"
        APPROVED = "approved", "Approved"
        REJECTED = "rejected", "Rejected"
        EXPIRED = "expired", "Expired"
        WITHDRAWN = "withdrawn", "Withdrawn"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="approvals")
    amount = models.BigIntegerField(help_text="micro-dollars, of all its generations")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    requested_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    decision = models.CharField(max_length=10, choices=Decision, default=Decision.WAITING)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")
    decided_at = models.DateTimeField(null=True)
    comment = models.CharField(max_length=500, blank=True)
    budget_error = models.TextField(blank=True, help_text="why the last try to approve it did not fit")

    class Meta:
        ordering = ["-requested_at"]
        indexes = [models.Index(fields=["expires_at"], condition=Q(decision="waiting"), name="approval_waiting")]

    def __str__(self) -> str:
        return f"Approval in {self.project}, {self.get_decision_display().lower()}"
