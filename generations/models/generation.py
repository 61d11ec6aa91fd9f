import uuid
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models import Case, F, Q, When
from django.utils import timezone

from generations.models.approval import Approval
from generations.models.element import Element
from projects.models import Change, Project, SourceImage, Versioned, together
from projects.money import to_dollars

log = structlog.get_logger("generations.moves")


class Status(models.TextChoices):
    DRAFT = "draft", "Draft"
    AWAITING_APPROVAL = "awaiting_approval", "Awaiting approval"
    QUEUED = "queued", "Queued"
    SUBMITTING = "submitting", "Submitting"
    PROCESSING = "processing", "Processing"
    UNCONFIRMED = "unconfirmed", "Unconfirmed"
    STORING = "storing", "Storing"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


class Priority(models.IntegerChoices):
    LOW = -1, "Low"
    NORMAL = 0, "Normal"
    HIGH = 1, "High"


CANCELLABLE = frozenset({Status.DRAFT, Status.AWAITING_APPROVAL, Status.QUEUED})
RETRYABLE = frozenset({Status.FAILED, Status.CANCELLED, Status.COMPLETED})
NOT_ASKED_FOR = frozenset({Status.DRAFT, Status.CANCELLED})
# A paid request may have been sent, or is about to be, and no prediction is known.
WITHOUT_PREDICTION = frozenset({Status.SUBMITTING, Status.UNCONFIRMED})
# The picture is still read: it is uploaded at the submit. So it may have been sent since a backup was made.
NOT_ACCEPTED = CANCELLABLE | WITHOUT_PREDICTION
# On its way, as people see it; and what a page keeps itself fresh for.
RUNNING = frozenset({Status.SUBMITTING, Status.PROCESSING, Status.STORING})
WATCHED = RUNNING | {Status.QUEUED, Status.UNCONFIRMED}
# Due rows of these are overdue when nobody hands them out; what is queued waits for the lane.
HANDED_OUT = frozenset({Status.UNCONFIRMED, Status.PROCESSING, Status.STORING})
# What has not ended; and since when it waits where it is, as near as its row says.
WAITS_SINCE = {
    Status.AWAITING_APPROVAL: "created_at",
    Status.QUEUED: "queued_at",
    Status.SUBMITTING: "submitted_at",
    Status.PROCESSING: "submitted_at",
    Status.UNCONFIRMED: "submitted_at",
    Status.STORING: "submitted_at",
}

MOVES = frozenset(
    {
        (Status.DRAFT, Status.AWAITING_APPROVAL),
        (Status.DRAFT, Status.QUEUED),
        (Status.AWAITING_APPROVAL, Status.DRAFT),
        (Status.AWAITING_APPROVAL, Status.QUEUED),
        *((status, Status.CANCELLED) for status in CANCELLABLE),
        (Status.QUEUED, Status.SUBMITTING),
        (Status.QUEUED, Status.FAILED),
        (Status.SUBMITTING, Status.QUEUED),
        (Status.SUBMITTING, Status.PROCESSING),
        (Status.SUBMITTING, Status.UNCONFIRMED),
        (Status.SUBMITTING, Status.FAILED),
        (Status.UNCONFIRMED, Status.PROCESSING),
        (Status.UNCONFIRMED, Status.FAILED),
        (Status.PROCESSING, Status.STORING),
        (Status.PROCESSING, Status.FAILED),
        (Status.STORING, Status.COMPLETED),
        (Status.STORING, Status.FAILED),
        (Status.FAILED, Status.STORING),
    }
)


class LeasedQuerySet(models.QuerySet[Any]):
    """Rows that a step claims for a while: `lease_token` says who has it, `lease_until` how long."""

    def lease(self, pk: uuid.UUID, seconds: float, **conditions: Any) -> uuid.UUID | None:
        """Claims a row that fits `conditions` and that nobody works on; the token of the lease, or None."""
        free = self.filter(Q(lease_until=None) | Q(lease_until__lt=timezone.now()))
        # Whoever had it and gave nothing back has died with it.
        lost = Case(When(lease_token__isnull=False, then=1), default=0)
        return free._claim(pk, seconds, conditions, lost_leases=F("lost_leases") + lost)

    def take_over(self, pk: uuid.UUID, seconds: float, **conditions: Any) -> uuid.UUID | None:
        """Claims a row that fits `conditions`, whoever works on it: they find that it is not theirs any more, and stop."""
        return self._claim(pk, seconds, conditions)

    def _claim(self, pk: uuid.UUID, seconds: float, conditions: dict[str, Any], **changes: Any) -> uuid.UUID | None:
        token = uuid.uuid4()
        until = timezone.now() + timedelta(seconds=seconds)
        rows = self.filter(pk=pk, **conditions)
        claimed = rows.update(lease_token=token, lease_until=until, sent_at=None, **changes)
        return token if claimed == 1 else None

    def renew(self, pk: uuid.UUID, token: uuid.UUID, seconds: float) -> bool:
        """Keeps a lease that is still ours; False: somebody else has the row, stop."""
        until = timezone.now() + timedelta(seconds=seconds)
        return self.filter(pk=pk, lease_token=token).update(lease_until=until) == 1

    def save_leased(self, pk: uuid.UUID, token: uuid.UUID, *, release: bool = False, **changes: Any) -> bool:
        """Changes a row that is leased with `token`; False if it is not any more."""
        if release:
            changes |= {"lease_token": None, "lease_until": None, "lost_leases": 0}
        return self.filter(pk=pk, lease_token=token).update(**changes) == 1


class GenerationQuerySet(LeasedQuerySet):
    def move(
        self,
        pk: uuid.UUID,
        old: Status,
        new: Status,
        *,
        token: uuid.UUID | None = None,
        reason: str = "",
        by: User | None = None,
        **changes: Any,
    ) -> bool:
        """Moves one generation from `old` to `new`, ends its lease and writes the event.

        False if it was not in `old`, or is not leased with `token`: somebody else moved it, stop quietly.
        """
        if (old, new) not in MOVES:
            raise ValueError(f"A generation never moves from {old} to {new}.")
        rows = self.filter(pk=pk, status=old)
        if token is not None:
            rows = rows.filter(lease_token=token)
        # Where it stands now was told to nobody yet, and what went wrong before is over.
        changes = {
            "attempts": 0,
            "lease_token": None,
            "lease_until": None,
            "lost_leases": 0,
            "sent_at": None,
            "announced_at": None,
            "error_code": "",
            "error_message": "",
            "needs_look_since": None,
            "needs_look_why": "",
            "version": F("version") + 1,
        } | changes
        with transaction.atomic():
            moved = rows.update(status=new, **changes) == 1
            if moved:
                GenerationEvent.objects.create(
                    generation_id=pk, old_status=old, new_status=new, reason=reason[:500], by=by
                )
                transaction.on_commit(partial(_log_move, pk, old, new, changes))
        return moved


def _log_move(pk: uuid.UUID, old: Status, new: Status, changes: dict[str, Any]) -> None:
    """A line once it is so, with what it brought: what it costs, and what the provider calls it."""
    told = {"price_usd": changes.get("quote"), "charged_usd": changes.get("charged")}
    amounts = {name: str(to_dollars(amount)) for name, amount in told.items() if amount is not None}
    prediction = {"prediction": found} if (found := changes.get("prediction_id")) else {}
    log.info("generation_moved", generation=str(pk), was=str(old), status=str(new), **prediction, **amounts)


EDITABLE = (
    "prompt",
    "image_id",
    "end_image_id",
    "duration",
    "sound",
    "shot_type",
    "multi_prompt",
    "tags",
    "priority",
)


class Generation(Versioned):
    """One video to be made: its inputs, its state, and at most one paid request at the provider, ever."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="generations")
    # Who made the draft, until it is asked for: from then on who queued it, and pays.
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False
    )
    retry_of = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="retries", editable=False
    )

    approval = models.ForeignKey(
        Approval, on_delete=models.PROTECT, null=True, blank=True, related_name="generations", editable=False
    )
    tags = models.JSONField(default=list, blank=True, help_text="for reports and filters")

    # What is asked for, under the provider's names.
    endpoint = models.CharField(max_length=120)
    prompt = models.TextField(blank=True)
    image = models.ForeignKey(SourceImage, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    end_image = models.ForeignKey(SourceImage, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    duration = models.PositiveSmallIntegerField(default=5, help_text="seconds")
    sound = models.BooleanField(default=False)
    shot_type = models.CharField(max_length=20, blank=True)
    multi_prompt = models.JSONField(default=list, blank=True)
    elements = models.ManyToManyField(Element, through="GenerationElement", related_name="generations", blank=True)
    inputs_digest = models.CharField(
        max_length=64, editable=False, db_index=True, help_text="equal inputs, equal digest"
    )

    priority = models.SmallIntegerField(
        choices=Priority, default=Priority.NORMAL, help_text="among what its project has queued"
    )

    # Where it stands.
    status = models.CharField(max_length=20, choices=Status, default=Status.DRAFT, editable=False)
    next_action_at = models.DateTimeField(null=True, editable=False, help_text="when the dispatcher looks at it again")
    sent_at = models.DateTimeField(
        null=True, editable=False, help_text="when the dispatcher sent its message; empty once a worker took it"
    )
    settle_at = models.DateTimeField(
        null=True, editable=False, help_text="when its money is compared with the provider's bill"
    )
    settle_attempts = models.PositiveSmallIntegerField(
        default=0, editable=False, help_text="comparisons in a row that ended in an unexpected error"
    )
    settle_sent_at = models.DateTimeField(null=True, editable=False, help_text="as `sent_at`, of that comparison")
    lease_token = models.UUIDField(null=True, editable=False)
    lease_until = models.DateTimeField(null=True, editable=False)
    lost_leases = models.PositiveIntegerField(
        default=0, editable=False, help_text="leases in a row whose worker ended before it was done"
    )
    attempts = models.PositiveSmallIntegerField(
        default=0, editable=False, help_text="tries of the present step that did not end it"
    )
    error_code = models.CharField(max_length=60, blank=True, editable=False)
    error_message = models.TextField(blank=True, editable=False, help_text="the provider's words")
    needs_look_since = models.DateTimeField(
        null=True, editable=False, help_text="since when it waits for a person to look at it; empty once it moves"
    )
    needs_look_why = models.TextField(blank=True, editable=False, help_text="why, in a sentence for people")

    # The paid request. `quote` and `charged` are micro-dollars.
    quote = models.BigIntegerField(null=True, editable=False, help_text="micro-dollars; frozen when it is queued")
    charged = models.BigIntegerField(null=True, editable=False, help_text="micro-dollars")
    uploads = models.JSONField(
        default=dict, editable=False, help_text="the provider's URLs of what was uploaded for this request alone"
    )
    uploaded_at = models.DateTimeField(null=True, editable=False)
    request_body = models.JSONField(null=True, editable=False, help_text="exactly what was sent")
    prediction_id = models.CharField(max_length=64, null=True, unique=True, editable=False)
    outputs = models.JSONField(default=list, editable=False, help_text="the provider's URLs; they die after 7 days")

    created_at = models.DateTimeField(default=timezone.now, editable=False)
    queued_at = models.DateTimeField(null=True, editable=False)
    submitted_at = models.DateTimeField(null=True, editable=False)
    completed_at = models.DateTimeField(null=True, editable=False)
    announced_at = models.DateTimeField(null=True, editable=False, help_text="when who asked was told how it ended")
    result_ignored_at = models.DateTimeField(
        null=True, editable=False, help_text="nobody wants the video any more; it is stored all the same"
    )

    objects = GenerationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "id"]
        indexes = [
            models.Index(fields=["status", "next_action_at"], name="generation_due"),
            models.Index(fields=["settle_at"], condition=Q(settle_at__isnull=False), name="generation_to_settle"),
            models.Index(fields=["project", "-created_at"], name="generation_by_project"),
            models.Index(fields=["submitted_at"], name="generation_submitted"),
            # Lists of everything, of one state, and what failed lately, newest first.
            models.Index(fields=["-created_at", "id"], name="generation_by_time"),
            models.Index(fields=["status", "-created_at", "id"], name="generation_by_status_and_time"),
            models.Index(fields=["status", "-completed_at"], name="generation_ended"),
            models.Index(
                fields=["project", "-priority", "queued_at", "id"],
                condition=Q(status="queued"),
                name="generation_in_queue",
            ),
            models.Index(
                fields=["status", "sent_at"], condition=Q(sent_at__isnull=False), name="generation_handed_out"
            ),
            models.Index(
                fields=["settle_sent_at"],
                condition=Q(settle_sent_at__isnull=False),
                name="generation_settle_handed_out",
            ),
            models.Index(
                fields=["status", "lease_until"], condition=Q(lease_until__isnull=False), name="generation_leased"
            ),
            models.Index(
                fields=["completed_at"],
                condition=Q(announced_at=None, completed_at__isnull=False),
                name="generation_to_announce",
            ),
            models.Index(
                fields=["needs_look_since"],
                condition=Q(needs_look_since__isnull=False),
                name="generation_needs_look",
            ),
        ]

    def lock(self) -> None:
        """After its project's row, under which drafts and requests for approval change: docs/architecture.md, “The order of locks”."""
        Project.locked(Generation.objects.values_list("project", flat=True).get(pk=self.pk))
        super().lock()

    def editable(self) -> dict[str, Any]:
        """By column, what people edit; `element_list` are ids of elements, as they stand in the database."""
        values = {name: getattr(self, name) for name in EDITABLE}
        values |= {name: str(values[name]) if values[name] else None for name in ("image_id", "end_image_id")}
        links = GenerationElement.objects.filter(generation=self).order_by("position")
        return {**values, "element_list": [str(pk) for pk in links.values_list("element", flat=True)]}

    def note_edit(self, before: dict[str, Any], *, by: User, reason: str = "") -> None:
        """Raises the version and notes who changed what, if anything is not as it was `before`; needs the row's lock."""
        self.refresh_from_db()
        now = self.editable()
        changes = {name: [before[name], value] for name, value in now.items() if value != before[name]}
        if not changes:
            return
        Generation.objects.filter(pk=self.pk).update(version=F("version") + 1)
        self.version += 1
        named = ", ".join(name.removesuffix("_id").replace("_", " ") for name in changes)
        GenerationEvent.objects.create(
            generation=self,
            old_status=self.status,
            new_status=self.status,
            reason=reason or f"Edited: {named}.",
            by=by,
            edit={"version": self.version, "changes": changes},
        )

    def changes_since(self, version: int) -> dict[str, Change]:
        edits: Any = self.events.filter(edit__isnull=False).select_related("by")
        return together(
            (column, Change(old, new, event.by, event.at))
            for event in edits
            if event.edit["version"] > version
            for column, (old, new) in event.edit["changes"].items()
        )

    def __str__(self) -> str:
        words = self.prompt or (self.multi_prompt[0]["prompt"] if self.multi_prompt else "")
        return f"{words[:60]}…" if len(words) > 60 else words or str(self.pk)


class GenerationElement(models.Model):
    """An element that a generation uses, in order."""

    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, related_name="element_links")
    element = models.ForeignKey(Element, on_delete=models.PROTECT, related_name="+")
    position = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [models.UniqueConstraint(fields=["generation", "element"], name="generation_element_once")]

    def __str__(self) -> str:
        return str(self.element)


class GenerationEvent(models.Model):
    """A move of a generation: its history for people. `by` is empty when the studio itself moved it."""

    generation = models.ForeignKey(Generation, on_delete=models.PROTECT, related_name="events")
    at = models.DateTimeField(default=timezone.now)
    old_status = models.CharField(max_length=20, choices=Status, blank=True)
    new_status = models.CharField(max_length=20, choices=Status)
    reason = models.CharField(max_length=500, blank=True)
    edit = models.JSONField(
        null=True, help_text="of an edit: {version, changes: {column: [old, new]}}, the version being the one it made"
    )
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["at", "id"]

    def __str__(self) -> str:
        return f"{self.get_new_status_display()} at {self.at:%Y-%m-%d %H:%M:%S}"


class Exchange(models.Model):
    """Evidence: what was said between us and the provider where it matters, redacted (no key, no signed URL)."""

    class Kind(models.TextChoices):
        UPLOAD = "upload", "Upload"
        SUBMIT = "submit", "Submit"
        RESULT = "result", "Result"
        BILL = "bill", "Bill"
        WEBHOOK = "webhook", "Webhook"
        LIST = "list", "List of predictions"

    generation = models.ForeignKey(Generation, on_delete=models.PROTECT, related_name="exchanges")
    kind = models.CharField(max_length=10, choices=Kind)
    at = models.DateTimeField(default=timezone.now)
    prediction_id = models.CharField(max_length=64, blank=True)
    delivery_id = models.CharField(max_length=100, blank=True, help_text="a webhook's own id: each is kept once")
    summary = models.CharField(max_length=300)
    detail = models.JSONField(default=dict)

    class Meta:
        ordering = ["at", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["generation", "delivery_id"], condition=~Q(delivery_id=""), name="exchange_once_per_delivery"
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.summary}"
