import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from generations.models.generation import Generation, LeasedQuerySet


class UnassignedPrediction(models.Model):
    """A prediction at the provider that no generation here is known to have asked for.

    It is a candidate of the unconfirmed generations in `candidate_for`, or an orphan. What it made is stored at once, so that it
    can't expire while somebody thinks; `assigned_to` says whose it turned out to be.
    """

    class FoundBy(models.TextChoices):
        LIST = "list", "The provider's list of predictions"
        WEBHOOK = "webhook", "A webhook"
        BILL = "bill", "The provider's bill"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    prediction_id = models.CharField(max_length=64, unique=True)
    endpoint = models.CharField(max_length=120, blank=True)
    provider_status = models.CharField(max_length=40, blank=True)
    made_at = models.DateTimeField(null=True, help_text="when the provider says that it was asked for")
    inputs = models.JSONField(default=dict, help_text="as the provider lists them, redacted; empty where it hides them")
    outputs = models.JSONField(default=list, help_text="the provider's URLs; they die after 7 days")
    error_message = models.TextField(blank=True, help_text="why it failed there, or why it is not stored here (yet)")
    found_by = models.CharField(max_length=10, choices=FoundBy)
    found_at = models.DateTimeField(default=timezone.now)
    candidate_for = models.ManyToManyField(Generation, related_name="candidates", blank=True)

    stored_at = models.DateTimeField(null=True, help_text="when its outputs were stored and checked")
    assigned_to = models.OneToOneField(
        Generation, on_delete=models.PROTECT, null=True, related_name="assigned_prediction"
    )
    assigned_at = models.DateTimeField(null=True)
    assigned_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", help_text="empty: a sure match"
    )

    # As on a generation.
    next_action_at = models.DateTimeField(default=timezone.now, null=True, help_text="when it is looked at again")
    sent_at = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    lost_leases = models.PositiveIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)

    objects = LeasedQuerySet.as_manager()

    class Meta:
        verbose_name = "unassigned video"
        ordering = ["-found_at", "id"]
        indexes = [
            models.Index(fields=["next_action_at"], condition=Q(next_action_at__isnull=False), name="unassigned_due"),
        ]

    def __str__(self) -> str:
        return self.prediction_id
