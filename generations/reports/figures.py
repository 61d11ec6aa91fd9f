"""Where the money stands now: limit, spent, reserved, unconfirmed, free."""

from dataclasses import dataclass

from django.db.models import QuerySet, Sum

from generations.models import Status
from generations.reports.scope import Scope, of_project
from projects import clock
from projects.models import Budget, Enforcement, Project
from projects.money import budgets
from projects.money.forecast import Forecast, forecast


@dataclass(frozen=True)
class Standing:
    """Micro-dollars. `reserved` is all that is held, `unconfirmed` the part of it whose outcome nobody knows.

    `limit` and `free` are those of the tightest hard budget that binds everybody; None where none does.
    """

    limit: int | None
    spent: int
    reserved: int
    unconfirmed: int
    free: int | None
    figures: list[budgets.Figures]
    tightest: budgets.Figures | None


def project_spend(project: Project) -> Standing:
    return standing(of_project(project))


def standing(scope: Scope) -> Standing:
    """The totals since the beginning, and every budget that binds everybody in the scope."""
    figures = budgets.figures(_budgets(scope))
    totals = scope.entries().aggregate(spent=Sum("spent_delta", default=0), reserved=Sum("reserved_delta", default=0))
    hard = [each for each in figures if each.budget.enforcement == Enforcement.HARD]
    tightest = min(hard, key=lambda each: each.free, default=None)
    return Standing(
        limit=tightest.limit if tightest else None,
        spent=totals["spent"],
        reserved=totals["reserved"],
        unconfirmed=unconfirmed(scope),
        free=tightest.free if tightest else None,
        figures=figures,
        tightest=tightest,
    )


def forecasts(standing: Standing) -> list[Forecast]:
    """One for each budget that binds everybody."""
    now = clock.now()
    return [forecast(figures, now=now) for figures in standing.figures]


def _budgets(scope: Scope) -> QuerySet[Budget]:
    """Who sees only some of the projects sees no budget over all of what they see."""
    if scope.project is not None:
        return budgets.of_project(scope.project)
    return Budget.objects.active().filter(project=None) if scope.is_studio else Budget.objects.none()


def unconfirmed(scope: Scope) -> int:
    """What is held for requests whose outcome nobody knows."""
    rows = scope.generations().filter(status=Status.UNCONFIRMED)
    held: int = rows.aggregate(held=Sum("quote", default=0))["held"]
    return held


def member_budgets(project: Project) -> list[budgets.Figures]:
    return budgets.figures(Budget.objects.active().filter(project=project, user__isnull=False))
