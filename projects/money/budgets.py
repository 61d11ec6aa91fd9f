"""Sets budgets and opens their periods.

Every change of money or of a limit holds the till, so that each is wholly before or wholly after the others.
"""

import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models, transaction
from django.db.models import F, OuterRef, Q, Subquery, Sum

from projects import clock, permissions, versions
from projects.models import Budget, BudgetPeriod, Enforcement, Period, Project, SpendEntry, SpendLine, Studio, TopUp
from projects.versions import Expected

# As many characters as the column takes.
MAX_REASON = 300
# Periods of a top-up that are told one by one; nobody reads more.
MOST_SPANS = 12


class BudgetExists(ValidationError):
    """There is one of the same kind."""


class BudgetArchived(ValidationError):
    """It limits nothing any more."""


@dataclass(frozen=True)
class Figures:
    """A budget in its present period; amounts in micro-dollars, `ends_at` None for a total."""

    budget: Budget
    starts_at: datetime
    ends_at: datetime | None
    spent: int
    reserved: int
    topped_up: int = 0

    @property
    def base_limit(self) -> int:
        return self.budget.limit

    @property
    def limit(self) -> int:
        """What is in force now: the budget's own limit and the top-ups that last."""
        return self.base_limit + self.topped_up

    @property
    def used(self) -> int:
        return self.spent + self.reserved

    @property
    def free(self) -> int:
        return self.limit - self.used


def hold_till() -> None:
    """Locks the studio's row until the transaction ends. Whoever moves money or a limit takes it: the last in the order of locks
    (docs/architecture.md), and before any row of money.

    Without it PostgreSQL let 90 reservations past a limit of 50 that was lowered meanwhile, and a budget that is
    created while a charge is booked would miss that charge.
    """
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError("Money moves inside a transaction only.")
    Studio.hold()


@transaction.atomic
def create(
    *,
    project: Project | None,
    user: User | None,
    period: Period,
    enforcement: Enforcement,
    limit: int,
    by: User,
    thresholds: Sequence[int] | None = None,
) -> Budget:
    """Makes a budget that opens with what was charged and held since its period began.

    Raises `PermissionDenied`, `BudgetExists` and `ValidationError` (a negative limit).
    """
    require_may_set(by, project, user)
    hold_till()
    budget = Budget(project=project, user=user, period=period, enforcement=enforcement, limit=limit, created_by=by)
    if thresholds is not None:
        budget.thresholds = list(thresholds)
    budget.full_clean(validate_constraints=False)
    try:
        budget.validate_constraints()
    except ValidationError as error:
        raise BudgetExists(error.messages) from error
    budget.save()
    open_period(budget, clock.now())
    return budget


def change(budget: Budget, *, by: User, expected: Expected = None, **fields: Any) -> None:
    """Sets its `limit`, `thresholds` or both. Raises `PermissionDenied`, `ValidationError`, `Stale`."""
    with versions.editing(budget, by=by, expected=expected):
        require_may_set(by, budget.project, budget.user)
        _require_in_force(budget)
        for name, value in fields.items():
            setattr(budget, name, value)


def change_limit(budget: Budget, *, limit: int, by: User) -> None:
    """Takes effect at once, below what is spent too: then nothing new passes, and what is held goes on."""
    change(budget, by=by, limit=limit)


def change_thresholds(budget: Budget, *, thresholds: Sequence[int], by: User) -> None:
    """Percents of the limit at which people hear of it; one that was told in this period is not told again."""
    change(budget, by=by, thresholds=list(thresholds))


def _require_in_force(budget: Budget) -> None:
    if budget.archived_at:
        raise BudgetArchived("This budget is archived: make a new one instead.")


@transaction.atomic
def top_up(
    budget: Budget, *, amount: int, ends_at: datetime, reason: str, by: User, starts_at: datetime | None = None
) -> TopUp:
    """Raises the limit by `amount` from `starts_at` (or now) until `ends_at`, in each period that lies between them.

    Raises `PermissionDenied` like a change of the limit, and `ValidationError`.
    """
    budget.lock()
    require_may_set(by, budget.project, budget.user)
    _require_in_force(budget)
    now = clock.now()
    top_up = TopUp(
        budget=budget,
        amount=amount,
        reason=reason.strip(),
        starts_at=now if starts_at is None else starts_at,
        ends_at=ends_at,
        created_by=by,
    )
    _check_top_up(top_up, now)
    top_up.save()
    return top_up


def _check_top_up(top_up: TopUp, now: datetime) -> None:
    errors = {}
    if top_up.amount <= 0:
        errors["amount"] = "A top-up is more than zero dollars; to take money away, lower the limit."
    if not top_up.reason:
        errors["reason"] = "Say why: whoever reads the books later will want to know."
    elif len(top_up.reason) > MAX_REASON:
        errors["reason"] = f"A reason has at most {MAX_REASON} characters; this one has {len(top_up.reason)}."
    if top_up.starts_at < now:
        errors["starts_at"] = "A top-up starts now or later, not in the past."
    if top_up.ends_at <= now:
        errors["ends_at"] = "A top-up ends in the future: give a later end."
    elif top_up.ends_at <= top_up.starts_at:
        errors["ends_at"] = "A top-up ends after it starts: give a later end."
    if errors:
        raise ValidationError(errors)


def top_up_by_period(budget: Budget, starts_at: datetime | None, ends_at: datetime) -> list[tuple[datetime, datetime]]:
    """From when to when a top-up would raise the limit, for each period that it lies in: in each of them the whole amount counts."""
    begin = starts_at or clock.now()
    spans: list[tuple[datetime, datetime]] = []
    while begin < ends_at and len(spans) < MOST_SPANS:
        turn = budget.bounds(None, begin)[1] or ends_at
        spans.append((begin, min(turn, ends_at)))
        begin = turn
    return spans


def end_top_up(top_up: TopUp, *, by: User, expected: Expected = None) -> None:
    """Ends it now, or before it has begun; what it let through goes on. Raises `PermissionDenied`, `ValidationError`, `Stale`."""
    with versions.editing(top_up, by=by, expected=expected):
        require_may_set(by, top_up.budget.project, top_up.budget.user)
        now = clock.now()
        if top_up.ends_at <= now:
            raise ValidationError("This top-up has ended already.")
        top_up.ends_at = max(now, top_up.starts_at)


def topped_up(budgets: Collection[Budget], now: datetime) -> Counter[uuid.UUID]:
    """By budget, what its top-ups add to its limit at `now`, in micro-dollars."""
    lasting = TopUp.objects.filter(budget__in=budgets, starts_at__lte=now, ends_at__gt=now)
    return Counter(dict(lasting.order_by().values_list("budget").annotate(Sum("amount"))))


def archive(budget: Budget, *, by: User, expected: Expected = None) -> None:
    """Takes the budget out of force; what was booked in it stays, and holds in it end there."""
    with versions.editing(budget, by=by, expected=expected):
        require_may_set(by, budget.project, budget.user)
        budget.archived_at = budget.archived_at or clock.now()


def require_may_set(by: User, project: Project | None, user: User | None) -> None:
    if not permissions.may_set_budget(User.objects.get(pk=by.pk), project, user):
        raise PermissionDenied(
            "Studio owners set the budgets of the studio and of projects, and a project's owners those of its other members."
            f"{permissions.who_they_are(by, 'Studio owners are')}"
        )


def require_may_change(budget: Budget, by: User) -> None:
    """Before what they ask for is looked at: who may not learns nothing of what it would take."""
    require_may_set(by, budget.project, budget.user)


def open_period(budget: Budget, now: datetime) -> BudgetPeriod:
    """The period of `budget` around `now`, made when it is missing. Needs the till.

    A period that exists keeps its end, whatever happens to the time zone.
    """
    latest = budget.periods.filter(starts_at__lte=now).order_by("-starts_at").first()
    if latest is not None and latest.lasts(now):
        return latest
    starts_at, ends_at = budget.bounds(latest, now)
    if ends_at and (
        ahead := budget.periods.filter(starts_at__gt=now, starts_at__lt=ends_at).order_by("starts_at").first()
    ):
        return _begin_sooner(ahead, starts_at)
    period = BudgetPeriod.objects.create(budget=budget, starts_at=starts_at, ends_at=ends_at)
    _open_with_what_was_booked(period)
    return period


def _begin_sooner(period: BudgetPeriod, starts_at: datetime) -> BudgetPeriod:
    """The clock was ahead when it was opened, and the zone was another: the time before it joins it, and has no limit of its own."""
    period.starts_at = starts_at
    period.save(update_fields=["starts_at"])
    return period


def _open_with_what_was_booked(period: BudgetPeriod) -> None:
    """Adds lines for each spending reserved in the period; its charges and releases to come copy them."""
    budget = period.budget
    reserved = SpendEntry.objects.filter(reservation=None, created_at__gte=period.starts_at)
    if period.ends_at:
        reserved = reserved.filter(created_at__lt=period.ends_at)
    if budget.project_id:
        reserved = reserved.filter(project_id=budget.project_id)
    if budget.user_id:
        reserved = reserved.filter(user_id=budget.user_id)
    entries = SpendEntry.objects.filter(Q(pk__in=reserved.values("pk")) | Q(reservation__in=reserved.values("pk")))
    lines = [
        SpendLine(entry_id=pk, budget_period=period, reserved_delta=reserved, spent_delta=spent)
        for pk, reserved, spent in entries.values_list("pk", "reserved_delta", "spent_delta").iterator()
    ]
    SpendLine.objects.bulk_create(lines, batch_size=1000)
    BudgetPeriod.objects.filter(pk=period.pk).update(
        reserved=sum(line.reserved_delta for line in lines), spent=sum(line.spent_delta for line in lines)
    )
    period.refresh_from_db()


def figures(budgets: models.QuerySet[Budget]) -> list[Figures]:
    """Each budget's present period, in three queries; one that nothing was reserved in yet reads zero."""
    now = clock.now()
    listed = list(budgets.select_related("project", "user"))
    begun = BudgetPeriod.objects.filter(budget=OuterRef("budget"), starts_at__lte=now)
    newest = begun.order_by("-starts_at").values("pk")[:1]
    periods = BudgetPeriod.objects.filter(budget__in=listed, pk=Subquery(newest))
    latest = {period.budget_id: period for period in periods}
    added = topped_up(listed, now)
    return [_figures(budget, latest.get(budget.pk), now, added[budget.pk]) for budget in listed]


def _figures(budget: Budget, latest: BudgetPeriod | None, now: datetime, topped_up: int) -> Figures:
    if latest is not None and latest.lasts(now):
        return Figures(budget, latest.starts_at, latest.ends_at, latest.spent, latest.reserved, topped_up)
    starts_at, ends_at = budget.bounds(latest, now)
    return Figures(budget, starts_at, ends_at, spent=0, reserved=0, topped_up=topped_up)


def figures_of(periods: Sequence[BudgetPeriod], now: datetime) -> list[Figures]:
    """How the budget of each period stands in it, with the top-ups of `now`."""
    added = topped_up([period.budget for period in periods], now)
    return [
        Figures(each.budget, each.starts_at, each.ends_at, each.spent, each.reserved, added[each.budget_id])
        for each in periods
    ]


def has_own(matching: Iterable[Budget]) -> bool:
    """Whether a project can spend at all: one of the budgets that match a spending is its own, and nobody's in particular."""
    return any(budget.project_id and not budget.user_id for budget in matching)


def of_project(project: Project) -> models.QuerySet[Budget]:
    """The active budgets that everybody's spending in the project has to fit: the studio's and its own."""
    return Budget.objects.active().filter(Q(project=None) | Q(project=project), user=None)


def add_to_period(period_id: int, *, reserved: int, spent: int, limit: int | None = None) -> bool:
    """Adds to a period's balances; with a `limit`, only if the sum stays within it. False: it would not."""
    rows = BudgetPeriod.objects.filter(pk=period_id)
    if limit is not None:
        rows = rows.filter(spent__lte=limit - reserved - spent - F("reserved"))
    return rows.update(reserved=F("reserved") + reserved, spent=F("spent") + spent) == 1
