from collections.abc import Collection
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from projects.models import Project


class PauseCause(models.TextChoices):
    """Why the lane is paused: what the studio itself paused for, it may resume from by itself; the others wait for an owner."""

    OWNER = "owner", "An owner paused it"
    KEY_REFUSED = "key_refused", "The provider refuses the key"
    NO_CREDITS = "no_credits", "The provider's account has not enough credits"
    RESTORED = "restored", "The database was restored from a backup"


# What an owner's pause takes the place of, and a restored database's: before that nothing else counts.
LESSER_CAUSES = frozenset(PauseCause) - {PauseCause.RESTORED}

# A quiet minute gives back as many points of the rate.
RECOVERY = 10
FULL_RATE = 100


class Lane(models.Model):
    """The way into the provider's account; its row is locked while a generation is admitted, so that limits hold across machines."""

    WAVESPEED = "wavespeed"

    name = models.CharField(max_length=20, primary_key=True, default=WAVESPEED)
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_cause = models.CharField(max_length=20, choices=PauseCause, blank=True)
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
    rate = models.PositiveSmallIntegerField(
        default=FULL_RATE,
        help_text="percent of the account's limits that is used: a 429 halves it, quiet minutes restore it",
    )
    rate_changed_at = models.DateTimeField(null=True, blank=True)
    admitted = models.PositiveBigIntegerField(
        default=0, help_text="how many were ever let in; it only grows, so a restored backup is found out"
    )
    compared_at = models.DateTimeField(
        null=True,
        editable=False,
        help_text="when the restored database that it is paused for was compared with the provider; empty: not yet",
    )
    webhook_secret = models.CharField(
        max_length=200, blank=True, editable=False, help_text="as the provider last told it; never shown"
    )
    orphans_until = models.DateTimeField(
        null=True,
        editable=False,
        help_text="until when the provider's list was searched for what nobody here asked for",
    )
    sent_at = models.DateTimeField(
        null=True, editable=False, help_text="when the dispatcher asked to fill it; empty once a worker looked"
    )

    def __str__(self) -> str:
        return self.name

    @classmethod
    def locked(cls) -> "Lane":
        """The one row, made when it is missing and locked until the transaction ends."""
        cls.objects.get_or_create(pk=cls.WAVESPEED)
        return cls.objects.select_for_update().get(pk=cls.WAVESPEED)

    @classmethod
    def current(cls) -> "Lane":
        """The one row as it is, or as it would be made."""
        return cls.objects.select_related("paused_by").filter(pk=cls.WAVESPEED).first() or cls()

    @classmethod
    def pause(
        cls,
        cause: PauseCause,
        reason: str,
        *,
        by: User | None = None,
        replaces: Collection[PauseCause] = (),
    ) -> bool:
        """Pauses it, with its line in the history. False: it is paused already, for a cause that this one does not replace."""
        cls.objects.get_or_create(pk=cls.WAVESPEED)
        now = timezone.now()
        rows = cls.objects.filter(Q(paused_at=None) | Q(paused_cause__in=replaces), pk=cls.WAVESPEED)
        with transaction.atomic():
            if not rows.update(paused_at=now, paused_cause=cause, paused_reason=reason, paused_by=by):
                return False
            PauseEvent.objects.create(is_pause=True, reason=reason, by=by, at=now)
        return True

    @transaction.atomic
    def resume(self, reason: str = "", *, by: User | None = None) -> bool:
        """Ends this pause, with its line in the history. False: it has ended, or is another pause by now."""
        rows = Lane.objects.filter(pk=self.pk, paused_at__isnull=False)
        this_pause = rows.filter(paused_at=self.paused_at, paused_cause=self.paused_cause)
        if not this_pause.update(paused_at=None, paused_cause="", paused_reason="", paused_by=None):
            return False
        PauseEvent.objects.create(is_pause=False, reason=reason, by=by)
        return True

    def is_slowed(self, now: datetime) -> bool:
        return self.slowed_until is not None and self.slowed_until > now

    def rate_at(self, now: datetime) -> int:
        """Percent of the limits in force: each quiet minute since the last 429, and since what it made wait, gives back ten points."""
        if self.rate_changed_at is None:
            return self.rate
        quiet_since = max(self.rate_changed_at, self.slowed_until or self.rate_changed_at)
        minutes = max(0, (now - quiet_since) // timedelta(minutes=1))
        return min(FULL_RATE, self.rate + RECOVERY * minutes)


class ProjectTurn(models.Model):
    """When the lane last let a project's generation in: who waited longest is next, however much others queue."""

    project = models.OneToOneField(Project, on_delete=models.PROTECT, primary_key=True, related_name="+")
    last_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.project)


class PausedProject(models.Model):
    """A project for which nothing is submitted until an owner resumes it."""

    project = models.OneToOneField(Project, on_delete=models.PROTECT, primary_key=True, related_name="pause")
    paused_at = models.DateTimeField(default=timezone.now)
    reason = models.CharField(max_length=500)
    paused_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    is_the_studios = models.BooleanField(default=False, help_text="a studio owner paused it: only they resume it")

    def __str__(self) -> str:
        return str(self.project)


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

    @classmethod
    def pause(cls, endpoint: str, reason: str, *, by: User | None = None) -> bool:
        """Pauses it, with its line in the history. False: it is paused already. Needs a transaction."""
        _, is_new = cls.objects.get_or_create(endpoint=endpoint, defaults={"reason": reason, "paused_by": by})
        if is_new:
            PauseEvent.objects.create(is_pause=True, endpoint=endpoint, reason=reason, by=by)
        return is_new


class PauseEvent(models.Model):
    """Who paused or resumed what, when and why: the history of pauses, which nothing changes.

    Neither project nor endpoint: the lane, so everything. `by` is empty when the studio itself did it.
    """

    at = models.DateTimeField(default=timezone.now)
    is_pause = models.BooleanField(help_text="else it was resumed")
    project = models.ForeignKey(Project, on_delete=models.PROTECT, null=True, related_name="pauses")
    endpoint = models.CharField(max_length=120, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+")

    class Meta:
        ordering = ["-at", "-id"]

    def __str__(self) -> str:
        what = self.project or self.endpoint or "The lane"
        return f"{what} was {'paused' if self.is_pause else 'resumed'} at {self.at:%Y-%m-%d %H:%M:%S}"
