"""Where the money went in a range of days: totals, and what each day, endpoint, member, tag, status or project cost.

An entry counts on the day that it was booked. Each of these is one query over the ledger, whatever its length.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import TruncDate

from generations import catalog
from generations.models import Generation, Status
from generations.reports.scope import Days, Scope
from projects.models import EntryKind, SpendEntry

# What moves spent money; a reservation and its release are no cost.
SPENDING = (EntryKind.CHARGE, EntryKind.ADJUST, EntryKind.REFUND)


class By(models.TextChoices):
    DAY = "day", "Day"
    ENDPOINT = "endpoint", "Endpoint"
    MEMBER = "member", "Member"
    TAG = "tag", "Tag"
    STATUS = "status", "Status"
    PROJECT = "project", "Project"


@dataclass(frozen=True)
class Amounts:
    """Micro-dollars; `refunded` is positive and lowers `net`, `adjusted` has its sign. `charges` counts paid requests."""

    charged: int = 0
    refunded: int = 0
    adjusted: int = 0
    charges: int = 0

    @property
    def net(self) -> int:
        return self.charged + self.adjusted - self.refunded

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(
            self.charged + other.charged,
            self.refunded + other.refunded,
            self.adjusted + other.adjusted,
            self.charges + other.charges,
        )


@dataclass(frozen=True)
class Row:
    """`key` is the day (ISO 8601), endpoint, username, tag, status or project id; empty for what has no tag or status."""

    key: str
    label: str
    amounts: Amounts


@dataclass(frozen=True)
class Report:
    """`failed` and `ignored` (micro-dollars) were paid for nothing; `seconds` is the length of the finished videos."""

    scope: Scope
    days: Days
    totals: Amounts
    statuses: list[Row]
    failed: int
    ignored: int
    videos: int
    seconds: int

    @property
    def wasted(self) -> int:
        return self.failed + self.ignored

    @property
    def per_video(self) -> int | None:
        """All that was spent in the range by each video finished in it, so that waste makes the videos dearer."""
        return int((Decimal(self.totals.net) / self.videos).to_integral_value()) if self.videos else None


def report(scope: Scope, days: Days) -> Report:
    generation = Generation.objects.filter(pk=OuterRef("reference"))
    rows = _summed(
        _spending(scope, days).annotate(
            status=Subquery(generation.values("status")),
            is_ignored=Exists(generation.filter(result_ignored_at__isnull=False)),
        ),
        "status",
        "is_ignored",
    )
    statuses: dict[str, Amounts] = defaultdict(Amounts)
    failed = ignored = 0
    for (status, is_ignored), amounts in rows:
        statuses[status or ""] += amounts
        if status == Status.FAILED:
            failed += amounts.net
        elif is_ignored:
            ignored += amounts.net
    starts_at, ends_at = days.bounds(scope.zone)
    finished = scope.generations().filter(
        status=Status.COMPLETED, completed_at__gte=starts_at, completed_at__lt=ends_at
    )
    return Report(
        scope=scope,
        days=days,
        totals=sum(statuses.values(), Amounts()),
        statuses=_dearest_first(Row(key, _status_label(key), amounts) for key, amounts in statuses.items()),
        failed=failed,
        ignored=ignored,
        **finished.aggregate(videos=Count("pk"), seconds=Sum("duration", default=0)),
    )


def breakdown(scope: Scope, days: Days, by: By) -> list[Row]:
    """Days in their order, each of the range; of the others those that cost something, the dearest first.

    What has several tags counts in full under each, so the rows of tags may add up to more than was spent.
    """
    entries = _spending(scope, days)
    match by:
        case By.DAY:
            return _by_day(entries, scope, days)
        case By.TAG:
            return _by_tag(entries)
        case By.STATUS:
            return report(scope, days).statuses
        case By.PROJECT:
            rows = _summed(entries, "project_id", "project__name")
            return _dearest_first(Row(str(pk), name, amounts) for (pk, name), amounts in rows)
        case By.MEMBER:
            return _dearest_first(Row(name, name, amounts) for (name,), amounts in _summed(entries, "user__username"))
        case By.ENDPOINT:
            rows = _summed(entries, "endpoint")
            return _dearest_first(Row(endpoint, _title(endpoint), amounts) for (endpoint,), amounts in rows)


def _spending(scope: Scope, days: Days) -> QuerySet[SpendEntry]:
    return days.narrow(scope.entries(), scope.zone).filter(kind__in=SPENDING)


def _summed(entries: QuerySet[Any], *keys: str) -> list[tuple[tuple[Any, ...], Amounts]]:
    """The amounts of each group, in one query; without the model's ordering, which would split the groups."""
    groups = (
        entries.order_by()
        .values_list(*keys)
        .annotate(
            charged_sum=_sum(EntryKind.CHARGE),
            refunded_sum=-_sum(EntryKind.REFUND),
            adjusted_sum=_sum(EntryKind.ADJUST),
            charges=Count("pk", filter=Q(kind=EntryKind.CHARGE)),
        )
    )
    return [(group[: len(keys)], Amounts(*group[len(keys) :])) for group in groups]


def _sum(kind: EntryKind) -> Sum:
    return Sum("spent_delta", filter=Q(kind=kind), default=0)


def _by_day(entries: QuerySet[SpendEntry], scope: Scope, days: Days) -> list[Row]:
    booked = entries.annotate(day=TruncDate("created_at", tzinfo=scope.zone))
    known = {day: amounts for (day,), amounts in _summed(booked, "day")}
    return [Row(day.isoformat(), day.isoformat(), known.get(day, Amounts())) for day in days]


def _by_tag(entries: QuerySet[SpendEntry]) -> list[Row]:
    generation = Generation.objects.filter(pk=OuterRef("reference"))
    tagged = entries.annotate(
        own=Subquery(generation.values("tags")), inherited=Subquery(generation.values("image__tags"))
    )
    tags: dict[str, Amounts] = defaultdict(Amounts)
    for (own, inherited), amounts in _summed(tagged, "own", "inherited"):
        for tag in effective_tags(own, inherited) or [""]:
            tags[tag] += amounts
    return _dearest_first(Row(tag, tag or "Untagged", amounts) for tag, amounts in tags.items())


def effective_tags(own: list[str] | None, inherited: list[str] | None) -> list[str]:
    """A generation's own tags, else those of the picture that it starts from; each once."""
    return list(dict.fromkeys(str(tag) for tag in own or inherited or []))


def _title(endpoint: str) -> str:
    known = catalog.ENDPOINTS.get(endpoint)
    return known.title if known else endpoint


def _dearest_first(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (-row.amounts.net, row.label))


def _status_label(status: str) -> str:
    return Status(status).label if status else "Unknown"
