"""What a budget's period will have cost when it ends, if people go on as they did.

The method, which every forecast also says in words: what is spent and held in the period, and for the time that is left
the mean net spend of the last 14 days (since the first booking where that is later, but of one day at least). What is held
comes on top because a charge lands in the period of its reservation. What waits for approval holds nothing and does not count.

An hour of work is no pace: there is no forecast before there was spend on three days, or a quarter of the period has passed
since the first booking. A hard budget comes to no more than its limit: what is told of it is when that is used up.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import QuerySet, Sum
from django.db.models.functions import TruncDate

from projects.models import Budget, Enforcement, SpendEntry
from projects.money import about, shown
from projects.money.budgets import Figures

LOOK_BACK = timedelta(days=14)
# Either is enough to tell a pace.
DAYS_WITH_SPEND = 3
PARTS_OF_PERIOD = 4
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
# Beyond this a date would say more than anybody can know.
FORESEEABLE = timedelta(days=3650)
TOO_EARLY = "Too early to tell: it takes three days with spend, or a quarter of the period after the first of them."


@dataclass(frozen=True)
class Forecast:
    """Micro-dollars; `daily` is the mean net spend per 24 hours, `method` says in words how `amount` came about.

    `amount` and `daily` are None while it is too early to tell. `lasts_until` is when the limit is reached at that pace; None
    if that can't be told either, nothing is being spent, or not in ten years.
    """

    figures: Figures
    amount: int | None
    daily: int | None
    method: str
    ends_at: datetime | None
    lasts_until: datetime | None

    @property
    def used_up_at(self) -> datetime | None:
        """When a hard budget is used up at that pace, if that is before its period ends."""
        is_hard = self.figures.budget.enforcement == Enforcement.HARD
        in_time = self.lasts_until and (self.ends_at is None or self.lasts_until < self.ends_at)
        return self.lasts_until if is_hard and in_time else None


def forecast(figures: Figures, *, now: datetime) -> Forecast:
    """Where the present period of a budget is heading; a total budget has no end, so its amount is what is spent and held."""
    entries = entries_of(figures.budget)
    if not _tells_a_pace(entries, figures, now):
        return Forecast(figures, None, None, TOO_EARLY, figures.ends_at, None)
    net, span = recent_spend(entries, now)
    return extrapolate(figures, net=net, span=span, now=now)


def _tells_a_pace(entries: QuerySet[SpendEntry], figures: Figures, now: datetime) -> bool:
    spent = entries.filter(spent_delta__gt=0, created_at__lte=now)
    lately = spent.filter(created_at__gt=now - LOOK_BACK).order_by()
    days = lately.annotate(day=TruncDate("created_at", tzinfo=figures.budget.time_zone())).values("day").distinct()
    if days.count() >= DAYS_WITH_SPEND:
        return True
    first = spent.order_by("created_at").values_list("created_at", flat=True).first()
    if first is None or figures.ends_at is None:
        return False
    return PARTS_OF_PERIOD * (now - first) >= figures.ends_at - figures.starts_at


def extrapolate(figures: Figures, *, net: int, span: timedelta, now: datetime) -> Forecast:
    """The arithmetic alone: `net` micro-dollars were spent in the `span` before `now`; more refunds than charges count as nothing."""
    pace = max(net, 0)
    left = max(figures.ends_at - now, timedelta(0)) if figures.ends_at else timedelta(0)
    to_come = at_pace(pace, span, left)
    daily = at_pace(pace, span, DAY)
    amount = figures.used + to_come
    is_capped = figures.budget.enforcement == Enforcement.HARD and amount > figures.limit
    return Forecast(
        figures=figures,
        amount=max(figures.limit, figures.used) if is_capped else amount,
        daily=daily,
        method=_method(figures, to_come, daily, span, left, is_capped=is_capped),
        ends_at=figures.ends_at,
        lasts_until=_lasts_until(figures.free, pace, span, now),
    )


def entries_of(budget: Budget) -> QuerySet[SpendEntry]:
    """The ledger entries that a budget counts, of all times."""
    entries: QuerySet[SpendEntry] = SpendEntry.objects.all()
    if budget.project_id:
        entries = entries.filter(project_id=budget.project_id)
    if budget.user_id:
        entries = entries.filter(user_id=budget.user_id)
    return entries


def recent_spend(entries: QuerySet[SpendEntry], now: datetime) -> tuple[int, timedelta]:
    """The net spend of the last 14 days in micro-dollars, and the span that it was spent in."""
    first = entries.order_by("created_at").values_list("created_at", flat=True).first()
    span = min(max(now - first, DAY), LOOK_BACK) if first else LOOK_BACK
    recent = entries.filter(created_at__gt=now - LOOK_BACK, created_at__lte=now)
    net: int = recent.aggregate(net=Sum("spent_delta", default=0))["net"]
    return net, span


def at_pace(net: int, span: timedelta, time: timedelta) -> int:
    """What `time` costs if `span` cost `net`, rounded up to a whole micro-dollar."""
    return -(-net * (time // SECOND) // (span // SECOND))


def _lasts_until(free: int, pace: int, span: timedelta, now: datetime) -> datetime | None:
    if free <= 0:
        return now
    if not pace:
        return None
    seconds = free * (span // SECOND) // pace
    return now + timedelta(seconds=seconds) if seconds < FORESEEABLE // SECOND else None


def _method(figures: Figures, to_come: int, daily: int, span: timedelta, left: timedelta, *, is_capped: bool) -> str:
    so_far = f"{shown(figures.spent)} spent and {shown(figures.reserved)} held in this period"
    pace = f"the mean net spend of the last {duration(span)} is {about(daily)} a day"
    if figures.ends_at is None:
        return f"{so_far}; this budget has no end, so nothing is added ({pace})."
    if is_capped:
        return f"{so_far}; {pace}, which is more than the limit has for the {duration(left)} left."
    return f"{so_far}, and {about(to_come)} for the {duration(left)} left ({pace})."


def duration(time: timedelta) -> str:
    """`12 days`, or hours below two days."""
    count, unit = (time // DAY, "day") if time >= 2 * DAY else (time // timedelta(hours=1), "hour")
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
