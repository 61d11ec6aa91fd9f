"""Moves money: reserve, charge, release, adjust. The only code that writes the ledger; a key is booked once.

All amounts are micro-dollars. A hard budget is checked when money is reserved; what was reserved is later charged or
released in the budget periods of the reservation, whatever budgets there are by then. A key that comes again gives the
entry that exists, with the first amount; one that stands for another booking raises `ValueError`.
"""

import uuid
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from projects import budgets, permissions
from projects.models import Budget, BudgetPeriod, Enforcement, EntryKind, Project, SpendEntry, SpendLine
from projects.money import shown

# As many characters as the column takes; the text may be the provider's.
MAX_REASON = 300


class SpendRefused(Exception):
    """The money was not reserved, and nothing changed. The text is for people."""


class NoBudget(SpendRefused):
    """The project has no budget."""

    def __init__(self, project: Project) -> None:
        super().__init__(
            f"{project} has no budget, so nothing can be spent in it. "
            f"A studio owner can set one: {permissions.names_of_studio_owners()}."
        )


class OverBudget(SpendRefused):
    """A hard budget refuses: `needed` is more than its `free`, which is below zero after a limit was lowered."""

    def __init__(self, needed: int, budget: Budget, period: BudgetPeriod) -> None:
        self.needed = needed
        self.free = budget.limit - period.spent - period.reserved
        self.budget = budget
        self.resets_at = period.ends_at
        until = f" until {_day(period.ends_at, budget)}" if period.ends_at else ""
        # Rounded apart, so that the two never read the same.
        need, free = shown(needed, ROUND_CEILING), shown(max(self.free, 0), ROUND_FLOOR)
        super().__init__(
            f"Not enough budget: this needs {need}, {free} is free{until} ({budget}, limit {shown(budget.limit)})."
        )


class HoldEnded(Exception):
    """The reservation was charged or released before; what was charged is corrected by an adjustment."""


def _day(moment: datetime, budget: Budget) -> str:
    local = moment.astimezone(budget.time_zone())
    return f"{local.day} {local:%B %Y}"


@transaction.atomic
def reserve(
    *, project: Project, user: User, reference: uuid.UUID, endpoint: str, amount: int, key: str, by: User | None
) -> SpendEntry:
    """Holds `amount` in every budget that matches; the same key again gives the entry that exists.

    Raises `NoBudget` or `OverBudget`, and then nothing is held.
    """
    if amount < 0:
        raise ValueError("A reservation is not negative.")
    budgets.hold_till()
    if booked := _booked(key, EntryKind.RESERVE, reference):
        return booked
    if reservation_of(reference):
        raise ValueError(f"Money for {reference} was reserved before, under another key.")
    matching = list(Budget.objects.matching(project.pk, user.pk).select_for_update())
    if not any(budget.project_id and not budget.user_id for budget in matching):
        raise NoBudget(project)
    now = timezone.now()
    periods = {budget: budgets.open_period(budget, now) for budget in matching}
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
    for budget, period in periods.items():
        limit = budget.limit if budget.enforcement == Enforcement.HARD else None
        if not budgets.add_to_period(period.pk, reserved=amount, spent=0, limit=limit):
            raise OverBudget(amount, budget, period)
    SpendLine.objects.bulk_create(
        SpendLine(entry=entry, budget_period=period, reserved_delta=amount, spent_delta=0)
        for period in periods.values()
    )
    return entry


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


@transaction.atomic
def _book(
    reservation: SpendEntry, kind: EntryKind, *, spent: int, ends: bool, key: str, reason: str, by: User | None
) -> SpendEntry:
    if kind == EntryKind.CHARGE and spent < 0:
        raise ValueError("A charge is not negative.")
    budgets.hold_till()
    if booked := _booked(key, kind, reservation.reference):
        return booked
    held = is_held(reservation)
    if kind == EntryKind.RELEASE and not held:
        raise HoldEnded(f"The reservation for {reservation.reference} was ended before.")
    if kind == EntryKind.CHARGE and reservation.entries.filter(kind=kind).exists():
        raise HoldEnded(f"The reservation for {reservation.reference} was charged before.")
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
    )
    lines = [
        SpendLine(entry=entry, budget_period_id=period_id, reserved_delta=entry.reserved_delta, spent_delta=spent)
        for period_id in reservation.lines.order_by("budget_period_id").values_list("budget_period_id", flat=True)
    ]
    SpendLine.objects.bulk_create(lines)
    for line in lines:
        budgets.add_to_period(line.budget_period_id, reserved=line.reserved_delta, spent=line.spent_delta)
    return entry


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


def charged(reference: uuid.UUID) -> int:
    """What `reference` has cost by the ledger, in micro-dollars."""
    return sum(SpendEntry.objects.filter(reference=reference).values_list("spent_delta", flat=True))
