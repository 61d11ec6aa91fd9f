"""What generations would cost, before anybody orders them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User

from generations.catalog.endpoint import InvalidInputs
from generations.models import Generation
from generations.services import prices, queueing
from generations.services.approvals import needs_approval
from generations.services.inputs import AtHand, check, check_again, inputs_of
from generations.services.prices import Price, Prices
from projects import permissions
from projects.models import Budget, Enforcement, Project
from projects.money import budgets


@dataclass(frozen=True)
class Quote:
    """What a generation would cost, in micro-dollars, and what it has to fit.

    `amount` would be reserved: the higher of `catalogue` and `live`, which is None where the provider is not asked.
    """

    price: Price
    figures: list[budgets.Figures]
    existing: list[Generation]
    needs_approval: bool

    @property
    def amount(self) -> int:
        return self.price.amount

    @property
    def catalogue(self) -> int:
        return self.price.catalogue

    @property
    def live(self) -> int | None:
        return self.price.live

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
    rows = list(generations)
    at_hand = AtHand.named_in(map(inputs_of, rows))
    return prices.ask_for_inputs(check_again(each, at_hand) for each in rows)


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
        price=cost,
        figures=_figures(project, by),
        existing=queueing.existing(project, checked.digest),
        needs_approval=needs_approval(project, cost.amount),
    )


def price_each(generations: Iterable[Generation], told: Prices) -> dict[UUID, Price | InvalidInputs]:
    """By generation: what making it now would cost, or why its inputs can't be sent any more. A few queries, however many there are."""
    rows = list(generations)
    at_hand = AtHand.named_in(map(inputs_of, rows))
    costs: dict[UUID, Price | InvalidInputs] = {}
    for generation in rows:
        try:
            checked = check_again(generation, at_hand)
        except InvalidInputs as error:
            costs[generation.pk] = error
        else:
            costs[generation.pk] = prices.of_inputs(checked.endpoint, checked.valid, checked.digest, told)
    return costs


def _figures(project: Project, by: User) -> list[budgets.Figures]:
    """The budgets that a spending by `by` has to fit; none when the project itself has no budget."""
    matching = budgets.figures(Budget.objects.matching(project.pk, by.pk))
    return matching if budgets.has_own(each.budget for each in matching) else []
