"""From two hundred people who press “Queue” at once to the last cent of the provider's bill."""

from collections import Counter
from functools import partial
from itertools import chain

import pytest
from django.contrib.auth.models import User

from generations import lifecycle
from generations.models import Generation, Status
from generations.services import orders
from generations.services.drafts import create
from projects.models import BudgetPeriod, EntryKind, Project, SpendEntry, SpendLine
from projects.money import shown
from projects.money.spend import OverBudget
from tests import factories
from tests.pipeline import ENDPOINT, poll_to_end, project_totals, submit_next
from tests.sandbox import SandboxControl
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("one_test_at_a_time"),
]

PRICE = 2_100_000
ASKED = 200
PAID = 37
# PostgreSQL takes 100 connections by default, so that not all of them come at the very same instant.
AT_ONCE = 40


def drafts(project: Project, by: User, count: int) -> list[Generation]:
    """Different videos, so that none is held up as a duplicate."""
    inputs = {"image": str(factories.source_image(project, by).pk), "duration": 5}
    return [
        create(project, endpoint=ENDPOINT, inputs={**inputs, "prompt": f"Take {number}"}, by=by)
        for number in range(count)
    ]


def queue_in_turn(generations: list[Generation], by: User) -> list[str]:
    """The status of each that was queued, and the refusal of each that was not."""
    told = []
    for generation in generations:
        try:
            told.append(orders.queue(generation, by=by).status)
        except OverBudget as refusal:
            told.append(str(refusal))
    return told


def check_the_books() -> None:
    """The project's period is the sum of its lines and of the ledger."""
    period = BudgetPeriod.objects.get()
    lines = SpendLine.objects.values_list("reserved_delta", "spent_delta")
    entries = SpendEntry.objects.values_list("reserved_delta", "spent_delta")
    for rows in (lines, entries):
        assert (period.reserved, period.spent) == (sum(held for held, _ in rows), sum(spent for _, spent in rows))


def run_the_pipeline(count: int) -> None:
    for _ in range(count):
        submit_next()
    assert lifecycle.admit() is None
    for generation in Generation.objects.filter(status=Status.PROCESSING):
        poll_to_end(generation)
        assert lifecycle.store(generation.pk) == Status.COMPLETED
        lifecycle.settle(generation.pk)


def test_two_hundred_at_once_buy_the_thirty_seven_that_the_budget_pays(
    project: Project, editor: User, wavespeed: SandboxControl
) -> None:
    budget = factories.budget(project, PAID * PRICE)
    asked = drafts(project, editor, ASKED)
    shares = [asked[first::AT_ONCE] for first in range(AT_ONCE)]

    told = at_once([partial(queue_in_turn, share, editor) for share in shares])

    assert [each for each in told if isinstance(each, Exception)] == []
    refusal = f"Not enough budget: this needs $2.10, $0.00 is free ({budget}, limit {shown(PAID * PRICE)})."
    assert Counter(chain.from_iterable(told)) == {"queued": PAID, refusal: ASKED - PAID}
    assert Counter(Generation.objects.values_list("status", flat=True)) == {"queued": PAID, "draft": ASKED - PAID}
    assert project_totals(project.pk) == {"spent": 0, "reserved": PAID * PRICE}
    check_the_books()

    run_the_pipeline(PAID)

    assert project_totals(project.pk) == {"spent": PAID * PRICE, "reserved": 0}
    assert Counter(SpendEntry.objects.values_list("kind", flat=True)) == {
        EntryKind.RESERVE: PAID,
        EntryKind.CHARGE: PAID,
    }
    check_the_books()
    bill = wavespeed.bill()
    assert wavespeed.posts()["count"] == len(bill["rows"]) == PAID
    assert bill["total_micros"] == PAID * PRICE
    completed = Generation.objects.filter(status=Status.COMPLETED, settle_at=None)
    assert {row["prediction_id"]: (row["billing_type"], row["price_micros"]) for row in bill["rows"]} == {
        generation.prediction_id: ("deduct", generation.charged) for generation in completed
    }
