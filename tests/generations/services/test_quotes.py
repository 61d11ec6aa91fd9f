"""What people are told that it costs, and that no more than that is reserved, and no less than may be billed."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction

from generations.models import Generation, Status
from generations.services import approvals, orders, queueing, quotes, refusals
from generations.services.drafts import create, update
from generations.services.quotes import ask_prices, price_each
from projects.models import Alert, AlertKind, Project, Role
from projects.money.spend import NoBudget, OverBudget
from tests import factories
from tests.pipeline import ENDPOINT, booked, money, project_totals
from tests.sandbox import SandboxControl

PRICE = 2_100_000


@pytest.fixture
def inputs(project: Project, editor: User) -> dict[str, object]:
    return {"image": str(factories.source_image(project, editor).pk), "prompt": "A slow pan", "duration": 5}


@pytest.fixture
def drafts(project: Project, editor: User, inputs: dict[str, object]) -> Callable[[int], list[Generation]]:
    def make(count: int) -> list[Generation]:
        return [
            create(project, endpoint=ENDPOINT, inputs=inputs | {"prompt": f"Take {n}"}, by=editor) for n in range(count)
        ]

    return make


@pytest.fixture
def live(wavespeed: SandboxControl, settings: object) -> SandboxControl:
    """The provider is asked for its own prices."""
    settings.WAVESPEED_LIVE_PRICES = True
    return wavespeed


# --- By the catalogue -------------------------------------------------------------------------------------------------


def test_a_quote_makes_and_holds_nothing(project: Project, editor: User, inputs: dict[str, object]) -> None:
    factories.budget(project, 10_000_000)

    quote = quotes.quote(project, endpoint=ENDPOINT, inputs=inputs | {"duration": 15}, by=editor)

    assert (quote.amount, quote.catalogue, quote.live, quote.fits) == (6_300_000, 6_300_000, None, True)
    assert not Generation.objects.exists()
    assert project_totals(project.pk) == {"reserved": 0, "spent": 0}


def test_a_quote_says_that_it_takes_an_approver(project: Project, editor: User, inputs: dict[str, object]) -> None:
    project.approval_above = PRICE
    project.save()

    assert not quotes.quote(project, endpoint=ENDPOINT, inputs=inputs, by=editor).needs_approval
    assert quotes.quote(project, endpoint=ENDPOINT, inputs=inputs | {"duration": 6}, by=editor).needs_approval


def test_a_stranger_gets_no_quote(project: Project, inputs: dict[str, object]) -> None:
    stranger = factories.UserFactory()
    with pytest.raises(PermissionDenied):
        quotes.quote(project, endpoint=ENDPOINT, inputs=inputs, by=stranger)


def test_more_than_was_agreed_to_is_not_queued(
    project: Project, editor: User, drafts: Callable[[int], list[Generation]]
) -> None:
    factories.budget(project, 10_000_000)
    made = drafts(2)

    with pytest.raises(refusals.PriceChanged, match=r"it is \$4\.20 now, not \$4\.00\. Nothing was queued"):
        orders.queue_many(made, by=editor, at_most=4_000_000)

    assert set(Generation.objects.values_list("status", "quote")) == {(Status.DRAFT, None)}
    orders.queue_many(made, by=editor, at_most=2 * PRICE)
    assert money(made[0]) == (2 * PRICE, 0)


def test_what_is_edited_while_it_is_queued_is_priced_as_it_is(
    project: Project, editor: User, drafts: Callable[[int], list[Generation]], inputs: dict[str, object]
) -> None:
    """The row that is queued counts, not the object that somebody read before."""
    factories.budget(project, 10_000_000)
    [stale] = drafts(1)
    update(Generation.objects.get(pk=stale.pk), inputs=inputs | {"duration": 15}, by=editor)

    orders.queue(stale, by=editor)

    assert (stale.duration, stale.quote, booked(stale)) == (15, 6_300_000, [("reserve", 6_300_000, 0)])


# --- A refusal is told ------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_what_a_budget_refused_is_told_once_and_stays_told(
    project: Project, editor: User, drafts: Callable[[int], list[Generation]]
) -> None:
    factories.budget(project, 3 * PRICE)
    [one, *others] = drafts(4)
    orders.queue(one, by=editor)

    with pytest.raises(OverBudget):
        orders.queue_many(others, by=editor)
    Generation.objects.filter(pk=one.pk).update(status=Status.FAILED)
    one.refresh_from_db()
    orders.queue_many(others[:2], by=editor)
    with pytest.raises(OverBudget):
        orders.retry(one, by=editor)

    alert = Alert.objects.get(kind=AlertKind.REFUSED)
    assert (alert.project, alert.count) == (project, 2)
    assert alert.text.startswith("Not enough budget: this needs $2.10, $0.00 is free")


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_whoever_opened_it_tells(
    project: Project, editor: User, drafts: Callable[[int], list[Generation]]
) -> None:
    def ask() -> None:
        with queueing.refusals_told(), transaction.atomic():
            orders.queue_many(drafts(1), by=editor)

    with pytest.raises(NoBudget):
        ask()

    assert Alert.objects.get(kind=AlertKind.REFUSED).count == 1
    assert not Generation.objects.exists()


# --- By the provider --------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("says", "reserved", "why"),
    [
        (2.10, 2_100_000, "Queued for $2.10."),
        (2.52, 2_520_000, "Queued for $2.52 (the provider’s price; the catalogue says $2.10)."),
        (1.89, 2_100_000, "Queued for $2.10 (the catalogue’s price; the provider says $1.89)."),
        (2.1000004, 2_100_001, "Queued for $2.10 (the provider’s price; the catalogue says $2.10)."),
    ],
)
def test_the_higher_of_two_prices_is_reserved(
    says: float,
    reserved: int,
    why: str,
    live: SandboxControl,
    project: Project,
    editor: User,
    inputs: dict[str, object],
    drafts: Callable[[int], list[Generation]],
) -> None:
    factories.budget(project, 10_000_000)
    live.arm("quote_price", times=None, price=says)

    quote = quotes.quote(project, endpoint=ENDPOINT, inputs=inputs, by=editor)
    [queued] = orders.queue_many(drafts(1), by=editor)

    assert (quote.catalogue, quote.amount) == (PRICE, reserved)
    assert (queued.quote, queued.events.last().reason) == (reserved, why)
    assert booked(queued) == [("reserve", reserved, 0)]


@pytest.mark.django_db(transaction=True)
def test_many_are_asked_for_one_by_one_and_queued_whole(
    live: SandboxControl, project: Project, editor: User, drafts: Callable[[int], list[Generation]]
) -> None:
    factories.budget(project, 10_000_000)
    live.arm("quote_price", times=1, price=4)
    made = drafts(3)

    costs = price_each(made, ask_prices(made)).values()
    orders.queue_many(made, by=editor)

    assert sorted((cost.amount, cost.catalogue) for cost in costs) == [
        (PRICE, PRICE),
        (PRICE, PRICE),
        (4_000_000, PRICE),
    ]
    assert money(made[0]) == (6_300_000, 0)


@pytest.mark.django_db(transaction=True)
def test_the_price_is_frozen_for_the_approver(
    live: SandboxControl, project: Project, editor: User, drafts: Callable[[int], list[Generation]]
) -> None:
    factories.budget(project, 10_000_000)
    project.approval_above = 2_300_000
    project.save()
    live.arm("quote_price", times=1, price=2.5)
    [draft] = drafts(1)
    orders.queue(draft, by=editor)
    live.arm("quote_price", times=None, price=9)

    approvals.approve(approvals.approval_of(draft), by=factories.member(project, Role.APPROVER))

    assert booked(draft) == [("reserve", 2_500_000, 0)]


@pytest.mark.django_db(transaction=True)
def test_a_retry_is_priced_anew(
    live: SandboxControl, project: Project, editor: User, drafts: Callable[[int], list[Generation]]
) -> None:
    factories.budget(project, 10_000_000)
    [old] = orders.queue_many(drafts(1), by=editor)
    orders.cancel(old, by=editor)
    live.arm("quote_price", times=1, price=3)

    again = orders.retry(old, by=editor)

    assert (old.quote, again.quote) == (PRICE, 3_000_000)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", ["free_500", "free_401", "free_garbage", "free_429"])
def test_without_the_providers_price_nothing_is_queued(
    fault: str, live: SandboxControl, project: Project, editor: User, drafts: Callable[[int], list[Generation]]
) -> None:
    """It might bill more than the catalogue says, and more than is held must not be billed."""
    factories.budget(project, 10_000_000)
    [draft] = drafts(1)
    number = live.arm(fault, times=None, route="price")

    with pytest.raises(refusals.PriceUnknown, match="The provider does not tell its price now"):
        orders.queue(draft, by=editor)

    assert number
    draft.refresh_from_db()
    assert (draft.status, draft.quote, money(draft)) == (Status.DRAFT, None, (0, 0))
    live.disarm()
    assert orders.queue(draft, by=editor).status == Status.QUEUED


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("price", [-1, 5_000_000_000])
def test_a_price_that_is_none_is_refused(
    price: float, live: SandboxControl, project: Project, editor: User, drafts: Callable[[int], list[Generation]]
) -> None:
    factories.budget(project, 10_000_000)
    live.arm("quote_price", times=None, price=price)

    with pytest.raises(
        refusals.PriceUnknown,
        match=r"The provider’s price is no amount in dollars|an amount is missing or is no number",
    ):
        orders.queue(drafts(1)[0], by=editor)


@pytest.mark.django_db(transaction=True)
def test_an_edit_after_the_provider_was_asked_is_not_queued_at_the_old_price(
    live: SandboxControl,
    project: Project,
    editor: User,
    inputs: dict[str, object],
    drafts: Callable[[int], list[Generation]],
) -> None:
    factories.budget(project, 10_000_000)
    [draft] = drafts(1)
    told = ask_prices([draft])
    update(draft, inputs=inputs | {"duration": 15}, by=editor)

    with pytest.raises(refusals.Refused, match="It was changed at this very moment"):
        orders.queue(draft, by=editor, told=told)

    assert money(draft) == (0, 0)


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_provider_is_asked(
    live: SandboxControl, project: Project, editor: User, drafts: Callable[[int], list[Generation]]
) -> None:
    [draft] = drafts(1)
    with pytest.raises(RuntimeError, match="outside transactions only"), transaction.atomic():
        orders.queue(draft, by=editor)


@pytest.mark.django_db(transaction=True)
def test_the_provider_prices_the_request_as_it_would_be_sent(
    live: SandboxControl, project: Project, editor: User, inputs: dict[str, object]
) -> None:
    """The sandbox checks the inputs, and prices by the second."""
    end = str(factories.source_image(project, editor).pk)
    full = inputs | {"end_image": end, "duration": 7, "sound": True}

    quote = quotes.quote(project, endpoint=ENDPOINT, inputs=full, by=editor)
    draft = create(project, endpoint=ENDPOINT, inputs=full, by=editor)

    (of_draft,) = price_each([draft], ask_prices([draft])).values()
    assert (quote.live, of_draft.live) == (2_940_000, 2_940_000)
