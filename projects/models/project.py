import base64
import hashlib
import uuid
import zoneinfo
from datetime import timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.crypto import salted_hmac
from simple_history.models import HistoricalRecords

from projects.models.versioned import Versioned


def validate_time_zone(name: str) -> None:
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"“{name}” is no time zone; use a name such as Europe/Berlin or America/Los_Angeles.")


class Role(models.TextChoices):
    """What a member may do in a project; each role may also do what the roles before it may."""

    VIEWER = "viewer", "Viewer"
    EDITOR = "editor", "Editor"
    APPROVER = "approver", "Approver"
    OWNER = "owner", "Owner"


class Studio(Versioned):
    """The one row of studio-wide settings. Reservations lock it first, so that studio budgets change wholly before or after them."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="Studio-wide budgets turn at midnight here.",
    )
    history = HistoricalRecords()

    class Meta:
        verbose_name_plural = "studio"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="studio_is_one_row")]

    def __str__(self) -> str:
        return "Studio"

    @classmethod
    def current(cls) -> "Studio":
        """The row, made with its defaults when nobody needed it before."""
        return cls.objects.get_or_create(pk=1)[0]

    @classmethod
    def hold(cls) -> "Studio":
        """The row, locked until the transaction ends."""
        return cls.objects.select_for_update().get_or_create(pk=1)[0]


class Project(Versioned):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="Budgets of this project turn at midnight here. A change applies from the next budget period.",
    )
    approval_above = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="micro-dollars: what costs more, alone or queued together, needs an approver; empty: nothing does",
    )
    retention_days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="Videos older than this go to the trash by themselves. Empty: they are kept for good.",
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    history = HistoricalRecords()

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["name"],
                condition=models.Q(archived_at=None),
                name="project_name_unique",
                violation_error_message="Another project has this name.",
            )
        ]

    def __str__(self) -> str:
        return self.name


class Membership(Versioned):
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.EDITOR)
    is_active = models.BooleanField(
        default=True, help_text="Switched off, a member sees nothing of the project; what they did stays."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    history = HistoricalRecords()

    class Meta:
        ordering = ["project__name", "user__username"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "user"],
                name="membership_unique",
                violation_error_message="This person is a member of the project already.",
            )
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.project} ({self.get_role_display()})"

    def lock(self) -> None:
        """After the project's row, under which its people change."""
        project_id = Membership.objects.values_list("project", flat=True).get(pk=self.pk)
        Project.locked(project_id)
        super().lock()


class InvitationQuerySet(models.QuerySet["Invitation"]):
    def open(self) -> "InvitationQuerySet":
        return self.filter(accepted_at=None, expires_at__gt=timezone.now(), project__archived_at=None)

    def to_mail(self) -> "InvitationQuerySet":
        """Those whose mail is owed; of one that is just being sent the time is ahead."""
        return self.open().filter(email_at__lte=timezone.now())

    def for_token(self, token: str) -> "InvitationQuerySet":
        return self.filter(token_digest=digest(token))


class Invitation(models.Model):
    """A one-time link into a project. Its token is made of its id and SECRET_KEY; the database keeps the SHA-256 alone."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=10, choices=Role, default=Role.EDITOR)
    for_anyone = models.BooleanField(
        default=False, help_text="whoever has the link may use it; else only who has the address"
    )
    token_digest = models.CharField(max_length=64, unique=True, editable=False)
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    email_at = models.DateTimeField(
        null=True, editable=False, help_text="when its mail is due; ahead while somebody sends it; empty: none is owed"
    )
    emailed_at = models.DateTimeField(null=True, editable=False)
    accepted_at = models.DateTimeField(null=True, editable=False)
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+", editable=False
    )

    objects = InvitationQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["email_at"], condition=models.Q(email_at__isnull=False), name="invitation_to_mail")
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.project}"

    def new_token(self) -> str:
        """Sets the digest and expiry of a fresh token and returns the token, which is not kept."""
        token = self._token_by(settings.SECRET_KEY)
        self.token_digest = digest(token)
        self.expires_at = timezone.now() + timedelta(days=settings.INVITATION_DAYS)
        return token

    def token(self) -> str:
        """The token again, for the mail: no message carries it. Empty when no present SECRET_KEY makes it."""
        keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
        return next((token for token in map(self._token_by, keys) if digest(token) == self.token_digest), "")

    def _token_by(self, key: str) -> str:
        made = salted_hmac("projects.invitation", str(self.pk), secret=key, algorithm="sha256").digest()
        return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
