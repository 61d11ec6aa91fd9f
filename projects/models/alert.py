import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from projects.models.budget import BudgetPeriod
from projects.models.project import Project


class AlertKind(models.TextChoices):
    BUDGET_ACTUAL = "budget_actual", "Budget used"
    BUDGET_FORECAST = "budget_forecast", "Budget forecast"
    REFUSED = "refused", "Refused for want of budget"
    PROVIDER_BALANCE = "provider_balance", "Provider's balance is low"
    LANE_PAUSED = "lane_paused", "Submitting pauses or goes on"
    OVERCHARGED = "overcharged", "Charged more than reserved"
    ENDED = "ended", "Generations have ended"
    UNCONFIRMED = "unconfirmed", "Unconfirmed: an owner decides"
    NEEDS_LOOK = "needs_look", "A generation needs a look"
    LATE_DEDUCT = "late_deduct", "Deducted after it was released"
    LATE_SUCCESS = "late_success", "Came after it had failed"
    STORAGE = "storage", "Videos can't be stored"
    CHECK_FAILED = "check_failed", "Files or books don't agree"
    DISPATCHER = "dispatcher", "The studio's processes"


class Alert(models.Model):
    """Something that people should hear of, once: per budget period, kind and threshold, or per `key`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=20, choices=AlertKind)
    key = models.CharField(max_length=200, unique=True, help_text="what makes it be told once")
    project = models.ForeignKey(Project, on_delete=models.PROTECT, null=True, related_name="alerts")
    budget_period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, null=True, related_name="alerts")
    threshold = models.PositiveSmallIntegerField(null=True, help_text="percent of the limit")
    title = models.CharField(max_length=200)
    text = models.TextField()
    path = models.CharField(max_length=300, blank=True, help_text="the page about it, without the host")
    links = models.JSONField(default=list, help_text="several things that it is about: [text, path] each")
    count = models.PositiveIntegerField(default=1, help_text="how many times it happened")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["budget_period", "kind", "threshold"],
                condition=Q(budget_period__isnull=False),
                name="alert_once_per_period_and_threshold",
            )
        ]

    def __str__(self) -> str:
        return self.title


class Notification(models.Model):
    """An alert for one person: in the bell until it is read, and in one digest by e-mail."""

    alert = models.ForeignKey(Alert, on_delete=models.CASCADE, related_name="notifications")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications")
    read_at = models.DateTimeField(null=True)
    email_at = models.DateTimeField(
        null=True, help_text="when it is due by e-mail; ahead while somebody sends it; empty: not to be sent (any more)"
    )
    emailed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-alert__created_at"]
        constraints = [models.UniqueConstraint(fields=["alert", "user"], name="notification_once_per_person")]
        indexes = [
            models.Index(fields=["user"], condition=Q(read_at=None), name="notification_unread"),
            models.Index(fields=["email_at"], condition=Q(email_at__isnull=False), name="notification_to_email"),
        ]

    def __str__(self) -> str:
        return f"{self.alert} to {self.user}"


class NotificationPreference(models.Model):
    """What a person wants to hear of by e-mail; without a row, everything."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notification_preference"
    )
    own_generations = models.BooleanField(default=True, help_text="when generations that I asked for have ended")

    def __str__(self) -> str:
        return f"Preference of {self.user}"
