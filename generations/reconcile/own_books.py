"""Whether our own books add up, with nothing of the provider's."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from django.db import transaction
from django.db.models import F, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from generations.models import Generation
from generations.reconcile.findings import Finding, Kind
from projects.models import SpendEntry
from projects.money import books, budgets


def check_own_books(apply: bool) -> list[Finding]:
    findings = [*_wrong_lines(), *_wrong_balances(), *_wrong_charges()]
    if not apply:
        return findings
    books.repair_balances()
    _repair_charges()
    return [replace(each, done="repaired") if each.kind == Kind.BALANCE else each for each in findings]


def _wrong_balances() -> Iterator[Finding]:
    for period in books.wrong_balances():
        for name in ("spent", "reserved"):
            column, lines = getattr(period, name), getattr(period, f"lines_{name}")
            if column != lines:
                why = f"Its column “{name}” is not the sum of its lines."
                yield Finding(Kind.BALANCE, str(period), column, lines, why)


def _generations_charged_wrongly() -> QuerySet[Any]:
    entries = SpendEntry.objects.filter(reference=OuterRef("pk")).order_by().values("reference")
    booked = Coalesce(Subquery(entries.annotate(total=Sum("spent_delta")).values("total")), 0)
    rows: QuerySet[Any] = Generation.objects.filter(charged__isnull=False).annotate(booked=booked)
    return rows.exclude(charged=F("booked"))


@transaction.atomic
def _repair_charges() -> None:
    """Rows first, then the till, in the order of everybody who moves money."""
    wrong = list(_generations_charged_wrongly().values_list("pk", flat=True))
    list(Generation.objects.filter(pk__in=wrong).order_by("pk").select_for_update())
    budgets.hold_till()
    _generations_charged_wrongly().filter(pk__in=wrong).update(charged=F("booked"))


def _wrong_charges() -> Iterator[Finding]:
    for pk, charged, booked in _generations_charged_wrongly().values_list("pk", "charged", "booked"):
        why = "What it shows as charged is not the sum of its entries."
        yield Finding(Kind.BALANCE, f"Generation {pk}", charged, booked, why, generation=str(pk))


def _wrong_lines() -> Iterator[Finding]:
    for line in books.wrong_lines():
        entry = line.entry
        said, due = line.spent_delta + line.reserved_delta, entry.spent_delta + entry.reserved_delta
        why = f"A line of the entry “{entry.key}” says another amount than the entry."
        yield Finding(Kind.LEDGER, str(line.budget_period), said, due, why, generation=str(entry.reference))
    for entry in books.entries_with_wrong_lines():
        amount = entry.spent_delta + entry.reserved_delta
        why = f"The entry “{entry.key}” has {entry.own} lines, its reservation {entry.due}: each has one for each budget period."
        yield Finding(Kind.LEDGER, str(entry), amount, amount, why, generation=str(entry.reference))
