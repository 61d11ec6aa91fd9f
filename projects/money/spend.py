"""Moves money: reserve, charge, release, adjust, refund. The only code that writes the ledger; a key is booked once.

All amounts are micro-dollars. A hard budget is checked when money is reserved; what was reserved is later charged or
released in the budget periods of the reservation, whatever budgets there are by then. A key that comes again gives the
entry that exists, with the first amount; one that stands for another booking raises `ValueError`.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR
from functools import partial

import structlog
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import QuerySet

from projects import clock, permissions
from projects.models import Budget, BudgetPeriod, Enforcement, EntryKind, Project, SpendEntry, SpendLine
from projects.money import budgets, shown, to_dollars
from projects.money.budgets import MAX_REASON, Figures

log = structlog.get_logger(__name__)

NEVER = datetime.max.replace(tzinfo=UTC)


class SpendRefused(Exception):
    """The money was not reserved, and nothing changed. The text is for people."""

    # On whose behalf it was asked for, until the refusal is told.
    spender: tuple[Project, User] | None = None


class NoBudget(SpendRefused):
    """The project has no budget. `what` alone is for who can set one."""

    def __init__(self, project: Project) -> None:
        self.what = f"{project} has no budget, so nothing can be spent in it."
        super().__init__(f"{self.what} A studio owner can set one: {permissions.names_of_studio_owners()}.")


class ProjectArchived(SpendRefused):
    """Nothing new is spent in an archived project; what it holds is still charged or released."""

    def __init__(self, project: Project) -> None:
        super().__init__(f"{project} is archived, so nothing can be spent in it any more.")


class OverBudget(SpendRefused):
    """A hard budget refuses: `needed` is more than its `free`, which is below zero after a limit was lowered.

    Where several refuse, it is the one with the least free, and among equals the one that resets last.
    """

    def __init__(self, needed: int, figures: Figures) -> None:
        self.needed = needed
        self.free = figures.free
        self.limit = figures.limit
        self.budget = figures.budget
        self.resets_at = figures.ends_at
        until = f" until {_day(self.resets_at, self.budget)}" if self.resets_at else ""
        # Rounded apart, so that the two never read the same.
        need, free = shown(needed, ROUND_CEILING), shown(max(self.free, 0), ROUND_FLOOR)
        topped_up = f", {shown(figures.topped_up)} of it topped up" if figures.topped_up else ""
        super().__init__(
            f"Not enough budget: this needs {need}, {free} is free{until} "
            f"({self.budget}, limit {shown(self.limit)}{topped_up})."
        )


class HoldEnded(Exception):
    """The reservation was charged or released before; what was charged is corrected by an adjustment."""


class RefundExceedsCharge(Exception):
    """More would be given back than was taken: the charge that it belongs to is not booked (yet), or is smaller."""


def _day(moment: datetime, budget: Budget) -> str:
    local = moment.astimezone(budget.time_zone())
    return f"{local.day} {local:%B %Y}"


@transaction.atomic
def reserve(
    *, project: Project, user: User, reference: uuid.UUID, endpoint: str, amount: int, key: str, by: User | None
) -> SpendEntry:
    """Holds `amount` in every budget that matches; the same key again gives the entry that exists.

    Raises `ProjectArchived`, `NoBudget` or `OverBudget`, and then nothing is held. A soft budget lets it through: see
    `soft_budgets_passed`.
    """
    if amount < 0:
        raise ValueError("A reservation is not negative.")
    budgets.hold_till()
    if booked := _booked(key, EntryKind.RESERVE, reference):
        return booked
    if reservation_of(reference):
        raise ValueError(f"Money for {reference} was reserved before, under another key.")
    if Project.objects.filter(pk=project.pk, archived_at__isnull=False).exists():
        raise ProjectArchived(project)
    matching = list(Budget.objects.matching(project.pk, user.pk).select_for_update())
    if not budgets.has_own(matching):
        raise NoBudget(project)
    now = clock.now()
    periods = [budgets.open_period(budget, now) for budget in matching]
    entry = SpendEntry.objects.create(
        key=key,
        kind=EntryKind.RESERVE,
        project=project,
        user=user,
        reference=reference,
        endpoint=endpoint,
        reserved_delta=amount,
        created_by=by,
        created_at=now,
    )
    _hold_in(periods, amount, now)
    SpendLine.objects.bulk_create(
        SpendLine(entry=entry, budget_period=period, reserved_delta=amount, spent_delta=0) for period in periods
    )
    transaction.on_commit(partial(_log, entry))
    return entry


def _hold_in(periods: Sequence[BudgetPeriod], amount: int, now: datetime) -> None:
    """Raises the tightest `OverBudget` unless all hard budgets agree."""
    refusals = []
    for period, figures in zip(periods, budgets.figures_of(periods, now), strict=True):
        limit = figures.limit if figures.budget.enforcement == Enforcement.HARD else None
        if not budgets.add_to_period(period.pk, reserved=amount, spent=0, limit=limit):
            refusals.append(OverBudget(amount, figures))
    if refusals:
        raise max(refusals, key=lambda refusal: (-refusal.free, refusal.resets_at or NEVER))


def soft_budgets_passed(reservations: Iterable[SpendEntry]) -> list[Figures]:
    """The soft budgets that are over their limit in the periods of these reservations: what to warn of, each once."""
    booked = SpendLine.objects.filter(entry__in=reservations).values("budget_period")
    periods = BudgetPeriod.objects.filter(pk__in=booked, budget__enforcement=Enforcement.SOFT).order_by("pk")
    standing = budgets.figures_of(list(periods.select_related("budget__project", "budget__user")), clock.now())
    return [figures for figures in standing if figures.free < 0]


def charge(reservation: SpendEntry, *, amount: int, key: str, reason: str = "", by: User | None = None) -> SpendEntry:
    """Ends the hold with a charge, which no limit stops; after a release it is a charge alone (a late success).

    Raises `HoldEnded` if there is a charge under another key: one spending is charged once.
    """
    return _book(reservation, EntryKind.CHARGE, spent=amount, ends=True, key=key, reason=reason, by=by)


def release(reservation: SpendEntry, *, key: str, reason: str = "", by: User | None = None) -> SpendEntry:
    """Ends the hold without a charge. Raises `HoldEnded` if it was charged or released under another key."""
    return _book(reservation, EntryKind.RELEASE, spent=0, ends=True, key=key, reason=reason, by=by)


def adjust(reservation: SpendEntry, *, amount: int, key: str, reason: str, by: User | None = None) -> SpendEntry:
    """Corrects what was charged by `amount`, which may be negative; the hold stays as it is."""
    return _book(reservation, EntryKind.ADJUST, spent=amount, ends=False, key=key, reason=reason, by=by)


def refund(reservation: SpendEntry, *, amount: int, key: str, reason: str, by: User | None = None) -> SpendEntry:
    """Gives back `amount` (above zero) of what was charged, in the budget periods of the reservation; no hold re-opens.

    The key is the provider's billing row, so that a row is booked once. Raises `RefundExceedsCharge` where less was spent.
    """
    return _book(reservation, EntryKind.REFUND, spent=-amount, ends=False, key=key, reason=reason, by=by)


@transaction.atomic
def _book(
    reservation: SpendEntry, kind: EntryKind, *, spent: int, ends: bool, key: str, reason: str, by: User | None
) -> SpendEntry:
    if kind == EntryKind.CHARGE and spent < 0:
        raise ValueError("A charge is not negative.")
    if kind == EntryKind.REFUND and spent >= 0:
        raise ValueError("A refund is the amount that is given back, above zero.")
    budgets.hold_till()
    if booked := _booked(key, kind, reservation.reference):
        return booked
    held = is_held(reservation)
    if kind == EntryKind.RELEASE and not held:
        raise HoldEnded(f"The reservation for {reservation.reference} was ended before.")
    if kind == EntryKind.CHARGE and reservation.entries.filter(kind=kind).exists():
        raise HoldEnded(f"The reservation for {reservation.reference} was charged before.")
    if kind == EntryKind.REFUND and charged(reservation.reference) < -spent:
        raise RefundExceedsCharge(
            f"{shown(-spent)} can't be refunded for {reservation.reference}: "
            f"{shown(charged(reservation.reference))} was spent on it."
        )
    ends = ends and held
    entry = SpendEntry.objects.create(
        key=key,
        kind=kind,
        project_id=reservation.project_id,
        user_id=reservation.user_id,
        reference=reservation.reference,
        endpoint=reservation.endpoint,
        reserved_delta=-reservation.reserved_delta if ends else 0,
        spent_delta=spent,
        reservation=reservation,
        ends=reservation if ends else None,
        reason=reason[:MAX_REASON],
        created_by=by,
        created_at=clock.now(),
    )
    lines = [
        SpendLine(entry=entry, budget_period_id=period_id, reserved_delta=entry.reserved_delta, spent_delta=spent)
        for period_id in reservation.lines.order_by("budget_period_id").values_list("budget_period_id", flat=True)
    ]
    SpendLine.objects.bulk_create(lines)
    for line in lines:
        budgets.add_to_period(line.budget_period_id, reserved=line.reserved_delta, spent=line.spent_delta)
    transaction.on_commit(partial(_log, entry))
    return entry


def _log(entry: SpendEntry) -> None:
    log.info(
        "booked",
        generation=str(entry.reference),
        kind=str(entry.kind),
        reserved_usd=str(to_dollars(entry.reserved_delta)),
        spent_usd=str(to_dollars(entry.spent_delta)),
    )


def _booked(key: str, kind: EntryKind, reference: uuid.UUID) -> SpendEntry | None:
    entry = SpendEntry.objects.filter(key=key).first()
    if entry and (entry.kind, entry.reference) != (kind, reference):
        raise ValueError(f"The key “{key}” stands for another booking: {entry}.")
    return entry


def is_held(reservation: SpendEntry) -> bool:
    return not SpendEntry.objects.filter(ends=reservation).exists()


def reservation_of(reference: uuid.UUID) -> SpendEntry | None:
    """The reservation made for `reference` (a generation is reserved once, ever)."""
    return SpendEntry.objects.filter(reference=reference, kind=EntryKind.RESERVE).first()


def reservations_of(references: Iterable[uuid.UUID]) -> QuerySet[SpendEntry]:
    rows: QuerySet[SpendEntry] = SpendEntry.objects.filter(reference__in=list(references), kind=EntryKind.RESERVE)
    return rows


def charged(reference: uuid.UUID) -> int:
    """What `reference` has cost by the ledger, in micro-dollars."""
    return sum(SpendEntry.objects.filter(reference=reference).values_list("spent_delta", flat=True))
