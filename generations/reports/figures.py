"""Where a project's money stands."""

from dataclasses import dataclass

from django.db.models import Sum

from generations.models import Generation, Status
from projects import budgets
from projects.models import Budget, Enforcement, Project


@dataclass(frozen=True)
class ProjectSpend:
    """Micro-dollars. `reserved` is all that is held, `unconfirmed` the part of it whose outcome nobody knows.

    `limit` and `free` are those of the tightest hard budget that binds the project; None where none does.
    """

    limit: int | None
    spent: int
    reserved: int
    unconfirmed: int
    free: int | None
    figures: list[budgets.Figures]


def project_spend(project: Project) -> ProjectSpend:
    """The project's totals since it began, and every budget that binds all of its members."""
    figures = budgets.figures(budgets.of_project(project))
    totals = budgets.project_totals(project.pk)
    hard = [each for each in figures if each.budget.enforcement == Enforcement.HARD]
    tightest = min(hard, key=lambda each: each.free, default=None)
    return ProjectSpend(
        limit=tightest.limit if tightest else None,
        spent=totals["spent"],
        reserved=totals["reserved"],
        unconfirmed=unconfirmed(project),
        free=tightest.free if tightest else None,
        figures=figures,
    )


def unconfirmed(project: Project | None = None) -> int:
    """What is held for requests whose outcome nobody knows, in one project or in all."""
    rows = Generation.objects.filter(status=Status.UNCONFIRMED)
    if project is not None:
        rows = rows.filter(project=project)
    held: int = rows.aggregate(held=Sum("quote", default=0))["held"]
    return held


def member_budgets(project: Project) -> list[budgets.Figures]:
    return budgets.figures(Budget.objects.active().filter(project=project, user__isnull=False))
