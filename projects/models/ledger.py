import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone

from projects.models.budget import BudgetPeriod
from projects.models.project import Project


class LedgerIsAppendOnly(Exception):
    """Somebody tried to change or delete what was booked; book an adjustment instead."""


class AppendOnlyQuerySet(models.QuerySet[Any]):
    def update(self, **kwargs: Any) -> int:
        raise LedgerIsAppendOnly("Ledger entries are never changed; book an adjustment.")

    def delete(self) -> tuple[int, dict[str, int]]:
        raise LedgerIsAppendOnly("Ledger entries are never deleted; book an adjustment.")

    def bulk_create(self, *args: Any, **kwargs: Any) -> list[Any]:
        if kwargs.get("update_conflicts"):
            raise LedgerIsAppendOnly("Ledger entries are never changed; book an adjustment.")
        return super().bulk_create(*args, **kwargs)

    def bulk_update(self, *args: Any, **kwargs: Any) -> int:
        raise LedgerIsAppendOnly("Ledger entries are never changed; book an adjustment.")


class AppendOnly(models.Model):
    """Rows that can be inserted and read; on PostgreSQL a trigger holds this against raw SQL too."""

    objects = AppendOnlyQuerySet.as_manager()

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise LedgerIsAppendOnly("Ledger entries are never changed; book an adjustment.")
        # Without force_insert, a new instance with the primary key of a booked one would overwrite it.
        super().save(*args, **{**kwargs, "force_insert": True})

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise LedgerIsAppendOnly("Ledger entries are never deleted; book an adjustment.")


class EntryKind(models.TextChoices):
    RESERVE = "reserve", "Reserve"
    CHARGE = "charge", "Charge"
    RELEASE = "release", "Release"
    ADJUST = "adjust", "Adjust"
    REFUND = "refund", "Refund"


class SpendEntry(AppendOnly):
    """One movement of a project's money, in micro-dollars.

    `reference` is the UUID of what was paid for. Every entry of one spending names its `reservation`; the one that ends
    the hold also `ends` it, which is unique: a hold ends once.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    key = models.CharField(max_length=120, unique=True, help_text="what makes the booking happen once")
    kind = models.CharField(max_length=10, choices=EntryKind)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="spend_entries")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="+",
        help_text="on whose behalf: their member budget counts it",
    )
    reference = models.UUIDField(db_index=True)
    endpoint = models.CharField(max_length=120)
    reserved_delta = models.BigIntegerField(default=0, help_text="micro-dollars added to what is held")
    spent_delta = models.BigIntegerField(default=0, help_text="micro-dollars added to what is spent")
    reservation = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="entries")
    ends = models.OneToOneField("self", on_delete=models.PROTECT, null=True, related_name="ended_by")
    reason = models.CharField(max_length=300, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        related_name="+",
        help_text="empty: the studio itself",
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at", "id"]
        verbose_name_plural = "spend entries"
        indexes = [
            models.Index(fields=["project", "-created_at"], name="spend_by_project_and_time"),
            models.Index(fields=["created_at"], name="spend_by_time"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["reference"], condition=models.Q(kind=EntryKind.RESERVE), name="spend_reserved_once"
            ),
            models.UniqueConstraint(
                fields=["reservation"], condition=models.Q(kind=EntryKind.CHARGE), name="spend_charged_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.reference}"


class SpendLine(AppendOnly):
    """What an entry adds to one budget period. A period's balances are the sums of its lines."""

    entry = models.ForeignKey(SpendEntry, on_delete=models.PROTECT, related_name="lines")
    budget_period = models.ForeignKey(BudgetPeriod, on_delete=models.PROTECT, related_name="lines")
    reserved_delta = models.BigIntegerField(help_text="micro-dollars")
    spent_delta = models.BigIntegerField(help_text="micro-dollars")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["entry", "budget_period"], name="spend_line_once_per_period")]

    def __str__(self) -> str:
        return f"{self.entry} in {self.budget_period}"
