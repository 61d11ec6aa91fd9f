"""What generations would cost, before anybody orders them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User

from generations.models import Generation
from generations.services import prices, queueing
from generations.services.approvals import needs_approval
from generations.services.inputs import check, inputs_of
from generations.services.prices import Price, Prices
from projects import permissions
from projects.models import Budget, Enforcement, Project
from projects.money import budgets


@dataclass(frozen=True)
class Quote:
    """What one or several generations would cost, in micro-dollars, and what they have to fit.

    `amount` would be reserved: of each one the higher of `catalogue` and `live`, which is None where the provider is not asked.
    """

    prices: list[Price]
    figures: list[budgets.Figures]
    existing: list[Generation]
    needs_approval: bool

    @property
    def amount(self) -> int:
        return sum(price.amount for price in self.prices)

    @property
    def catalogue(self) -> int:
        return sum(price.catalogue for price in self.prices)

    @property
    def live(self) -> int | None:
        told = [price.live for price in self.prices if price.live is not None]
        return sum(told) if told else None

    @property
    def fits(self) -> bool:
        return bool(self.figures) and all(
            each.free >= self.amount for each in self.figures if each.budget.enforcement == Enforcement.HARD
        )


def ask_prices(generations: Iterable[Generation]) -> Prices:
    """What the provider asks for these drafts, for who queues them inside a transaction of their own. Raises `PriceUnknown`."""
    return prices.ask_for_drafts(generations)


def ask_retry_prices(generations: Iterable[Generation]) -> Prices:
    """The same for retries of what has ended. Raises `InvalidInputs` too: what they were made of may be archived."""
    return prices.ask_for_inputs(
        check(generation.project, generation.endpoint, inputs_of(generation)) for generation in generations
    )


def ask_price(project: Project, *, endpoint: str, inputs: Mapping[str, Any]) -> Prices:
    """The same for what is no draft yet."""
    return prices.ask_for_inputs([check(project, endpoint, inputs)])


def quote(project: Project, *, endpoint: str, inputs: Mapping[str, Any], by: User, told: Prices | None = None) -> Quote:
    """The price of what is not even a draft yet, with the budgets that it would have to fit.

    Without `told` the provider is asked. Raises `InvalidInputs`, `PriceUnknown`, `PermissionDenied`.
    """
    permissions.require(by, "view", project)
    checked = check(project, endpoint, inputs)
    told = prices.ask_for_inputs([checked]) if told is None else told
    cost = prices.of_inputs(endpoint, inputs, checked.digest, told)
    return Quote(
        prices=[cost],
        figures=_figures(project, by),
        existing=queueing.existing(project, checked.digest),
        needs_approval=needs_approval(project, cost.amount),
    )


def quote_many(generations: Sequence[Generation], *, by: User, told: Prices | None = None) -> Quote:
    """The price of several drafts of one project together. Raises `PriceUnknown`, `PermissionDenied`."""
    project = generations[0].project
    permissions.require(by, "view", project)
    told = ask_prices(generations) if told is None else told
    each = [prices.of_draft(generation, inputs_of(generation), told) for generation in generations]
    return Quote(
        prices=each,
        figures=_figures(project, by),
        existing=[found for generation in generations for found in queueing.duplicates(generation)],
        needs_approval=needs_approval(project, sum(cost.amount for cost in each)),
    )


def _figures(project: Project, by: User) -> list[budgets.Figures]:
    """The budgets that a spending by `by` has to fit; none when the project itself has no budget."""
    matching = budgets.figures(Budget.objects.matching(project.pk, by.pk))
    return matching if any(each.budget.project_id and not each.budget.user_id for each in matching) else []
