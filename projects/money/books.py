"""Checks the books against themselves: a balance is the sum of its lines, and lines say what their entries say."""

from typing import Any

from django.db import transaction
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from projects.models import BudgetPeriod, SpendEntry, SpendLine
from projects.money import budgets


def wrong_balances() -> QuerySet[Any]:
    """`BudgetPeriod`s whose balances are not the sums of their lines, which stand beside them: `lines_spent`, `lines_reserved`."""
    lines = SpendLine.objects.filter(budget_period=OuterRef("pk")).order_by().values("budget_period")
    sums = {
        f"lines_{name}": Coalesce(Subquery(lines.annotate(total=Sum(f"{name}_delta")).values("total")), 0)
        for name in ("spent", "reserved")
    }
    right = Q(spent=F("lines_spent"), reserved=F("lines_reserved"))
    return BudgetPeriod.objects.annotate(**sums).exclude(right).select_related("budget__project", "budget__user")


@transaction.atomic
def repair_balances() -> int:
    """Sets wrong balances to the sums of their lines, which are the truth; how many there were."""
    budgets.hold_till()
    wrong = list(wrong_balances())
    for period in wrong:
        BudgetPeriod.objects.filter(pk=period.pk).update(spent=period.lines_spent, reserved=period.lines_reserved)
    return len(wrong)


def wrong_lines() -> QuerySet[SpendLine]:
    """Lines that say another amount than their entry."""
    right = Q(spent_delta=F("entry__spent_delta"), reserved_delta=F("entry__reserved_delta"))
    return SpendLine.objects.exclude(right).select_related("entry", "budget_period__budget")


def entries_with_wrong_lines() -> QuerySet[Any]:
    """`SpendEntry`s that have no line, or not one in each period of their reservation: `own` and `due` say how many."""
    count = {
        name: Coalesce(Subquery(lines.order_by().values("entry").annotate(n=Count("pk")).values("n")), 0)
        for name, lines in (
            ("own", SpendLine.objects.filter(entry=OuterRef("pk"))),
            ("due", SpendLine.objects.filter(entry=Coalesce(OuterRef("reservation"), OuterRef("pk")))),
        )
    }
    return SpendEntry.objects.annotate(**count).filter(Q(own=0) | ~Q(own=F("due")))
