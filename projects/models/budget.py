import uuid
import zoneinfo
from datetime import datetime, time, timedelta

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from simple_history.models import HistoricalRecords

from projects.models.project import Project, Studio
from projects.models.versioned import Versioned

# A total budget has one period; it began before anything could be spent.
BEGINNING = datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC"))
# Between the first and the last midnight of one date on earth: UTC+14 and UTC-12.
ZONES_DIFFER = timedelta(hours=26)
# Percent; a soft budget may be told of beyond its limit.
MAX_THRESHOLD = 200


class Enforcement(models.TextChoices):
    HARD = "hard", "Hard (refuses)"
    SOFT = "soft", "Soft (warns)"


class Period(models.TextChoices):
    TOTAL = "total", "In total"
    DAY = "day", "Per day"
    WEEK = "week", "Per week (from Monday)"
    MONTH = "month", "Per month"
    QUARTER = "quarter", "Per quarter"
    YEAR = "year", "Per year"

    def bounds(self, moment: datetime, zone: zoneinfo.ZoneInfo) -> tuple[datetime, datetime | None]:
        """The calendar period around `moment`: its start and end in UTC, local midnights. A total has no end."""
        today = moment.astimezone(zone).date()
        match self:
            case Period.TOTAL:
                return BEGINNING, None
            case Period.DAY:
                first, following = today, today + timedelta(days=1)
            case Period.WEEK:
                first = today - timedelta(days=today.weekday())
                following = first + timedelta(days=7)
            case Period.MONTH:
                first = today.replace(day=1)
                following = (first + timedelta(days=32)).replace(day=1)
            case Period.QUARTER:
                first = today.replace(month=3 * ((today.month - 1) // 3) + 1, day=1)
                following = (first + timedelta(days=100)).replace(day=1)
            case Period.YEAR:
                first = today.replace(month=1, day=1)
                following = first.replace(year=first.year + 1)
        utc = zoneinfo.ZoneInfo("UTC")
        return (
            datetime.combine(first, time(), zone).astimezone(utc),
            datetime.combine(following, time(), zone).astimezone(utc),
        )


def default_thresholds() -> list[int]:
    return [50, 80, 100]


def _are_thresholds(value: object) -> bool:
    if not isinstance(value, list) or not all(type(each) is int and 1 <= each <= MAX_THRESHOLD for each in value):
        return False
    return len(set(value)) == len(value)


class BudgetQuerySet(models.QuerySet["Budget"]):
    def active(self) -> "BudgetQuerySet":
        return self.filter(archived_at=None)

    def matching(self, project_id: uuid.UUID, user_id: int) -> "BudgetQuerySet":
        """The budgets that a spending of `user_id` in `project_id` has to fit, in their locking order."""
        studio, project = Q(project=None, user=None), Q(project=project_id, user=None)
        return self.active().filter(studio | project | Q(project=project_id, user=user_id)).order_by("pk")


class Budget(Versioned):
    """A limit in micro-dollars for the studio (no project), a project (no user) or one member in a project."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    project = models.ForeignKey(Project, on_delete=models.PROTECT, null=True, blank=True, related_name="budgets")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    period = models.CharField(max_length=10, choices=Period, default=Period.MONTH)
    enforcement = models.CharField(max_length=4, choices=Enforcement, default=Enforcement.HARD)
    limit = models.BigIntegerField(help_text="micro-dollars")
    thresholds = models.JSONField(
        default=default_thresholds,
        blank=True,
        help_text="percent of the limit at which its owners and approvers hear of it",
    )
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    history = HistoricalRecords()

    objects = BudgetQuerySet.as_manager()

    class Meta:
        ordering = ["project__name", "user__username", "period", "enforcement"]
        constraints = [
            models.CheckConstraint(condition=Q(limit__gte=0), name="budget_limit_not_negative"),
            models.CheckConstraint(
                condition=Q(user=None) | Q(project__isnull=False), name="budget_of_a_member_names_the_project"
            ),
            # NULLs are distinct in a unique index, so each scope has its own.
            models.UniqueConstraint(
                fields=["period", "enforcement"],
                condition=Q(project=None, user=None, archived_at=None),
                name="budget_unique_studio",
                violation_error_message="The studio has a budget of this kind already: change its limit instead.",
            ),
            models.UniqueConstraint(
                fields=["project", "period", "enforcement"],
                condition=Q(project__isnull=False, user=None, archived_at=None),
                name="budget_unique_project",
                violation_error_message="The project has a budget of this kind already: change its limit instead.",
            ),
            models.UniqueConstraint(
                fields=["project", "user", "period", "enforcement"],
                condition=Q(user__isnull=False, archived_at=None),
                name="budget_unique_member",
                violation_error_message="This member has a budget of this kind already: change its limit instead.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.title}, {self.enforcement}"

    def clean(self) -> None:
        if isinstance(self.limit, int) and self.limit < 0:
            raise ValidationError({"limit": "A limit is zero or more dollars."})
        if self.user and not self.project:
            raise ValidationError({"project": "A member's budget is one in a project: name the project."})
        if not _are_thresholds(self.thresholds):
            raise ValidationError(
                {
                    "thresholds": f"Thresholds are different whole percents from 1 to {MAX_THRESHOLD}, such as 50, 80, 100."
                }
            )
        self.thresholds = sorted(self.thresholds)

    def lock(self) -> None:
        """After the till, which whoever moves money or a limit holds."""
        Studio.hold()
        super().lock()

    @property
    def title(self) -> str:
        return f"{self.scope} budget, {self.get_period_display().lower()}"

    @property
    def scope(self) -> str:
        if self.project is None:
            return "Studio"
        return f"{self.project}" if self.user is None else f"{self.user} in {self.project}"

    def time_zone(self) -> zoneinfo.ZoneInfo:
        owner = self.project or Studio.current()
        return zoneinfo.ZoneInfo(owner.time_zone)

    def bounds(self, latest: "BudgetPeriod | None", moment: datetime) -> tuple[datetime, datetime | None]:
        """Start and end of the period around `moment`, which is not before the end of the `latest` one.

        When the time zone has changed, it begins where the latest ended. What is then left of its calendar period joins the
        following one, if it is no longer than time zones can differ: of a day that is all of it. So no change of zone, to
        and fro or round the globe, buys a limit. Of a week or longer nearly all may be left, after a move to the east: that
        is a period of its own, or a month's limit would have to last for two.
        """
        period, zone = Period(self.period), self.time_zone()
        starts_at, ends_at = period.bounds(moment, zone)
        if latest is None or latest.ends_at is None or ends_at is None or latest.ends_at <= starts_at:
            return starts_at, ends_at
        if ends_at - latest.ends_at <= ZONES_DIFFER:
            ends_at = period.bounds(ends_at, zone)[1]
        return latest.ends_at, ends_at


class TopUp(Versioned):
    """A one-off addition to a budget's limit that ends by itself; it is never changed, only ended sooner."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    budget = models.ForeignKey(Budget, on_delete=models.PROTECT, related_name="top_ups")
    amount = models.BigIntegerField(help_text="micro-dollars")
    reason = models.CharField(max_length=300)
    starts_at = models.DateTimeField(default=timezone.now)
    ends_at = models.DateTimeField(help_text="exclusive")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    history = HistoricalRecords()

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="top_up_above_zero"),
            models.CheckConstraint(condition=Q(ends_at__gte=F("starts_at")), name="top_up_ends_after_it_starts"),
        ]

    def lock(self) -> None:
        Studio.hold()
        super().lock()

    def __str__(self) -> str:
        return f"Top-up of {self.budget} until {self.ends_at:%Y-%m-%d}"


class BudgetPeriod(models.Model):
    """One calendar period of a budget. `spent` and `reserved` (micro-dollars) are projections of the ledger's lines."""

    budget = models.ForeignKey(Budget, on_delete=models.PROTECT, related_name="periods")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, help_text="exclusive; null for a total")
    spent = models.BigIntegerField(default=0, help_text="micro-dollars")
    reserved = models.BigIntegerField(default=0, help_text="micro-dollars: everything that is held")

    class Meta:
        ordering = ["-starts_at"]
        constraints = [
            models.UniqueConstraint(fields=["budget", "starts_at"], name="budget_period_unique"),
            models.CheckConstraint(
                condition=Q(ends_at=None) | Q(ends_at__gt=F("starts_at")), name="budget_period_not_empty"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.budget} from {self.starts_at:%Y-%m-%d}"

    def lasts(self, moment: datetime) -> bool:
        return self.starts_at <= moment and (self.ends_at is None or moment < self.ends_at)
