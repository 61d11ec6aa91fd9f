"""Money under many threads, each on a connection of its own, on whichever database the tests run."""

import contextlib
import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Sum

from projects.models import Budget, BudgetPeriod, Enforcement, Period, Project, SpendEntry, Studio
from projects.money import budgets, spend
from tests import factories
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("one_test_at_a_time"),
]

DOLLAR = 1_000_000
PRICE = 2_100_000
T = TypeVar("T")


def outcomes(results: Sequence[object]) -> Counter[str]:
    return Counter(type(result).__name__ for result in results)


def check_the_books() -> None:
    """Every balance is the sum of its lines, and of the entries whose reservation fell into that period and scope."""
    for period in BudgetPeriod.objects.select_related("budget"):
        stored = {"spent": period.spent, "reserved": period.reserved}
        spent, reserved = Sum("spent_delta", default=0), Sum("reserved_delta", default=0)
        assert period.lines.aggregate(spent=spent, reserved=reserved) == stored
        if period.budget.archived_at is None and period.budget.period == Period.TOTAL:
            entries = SpendEntry.objects.all()
            if period.budget.project:
                entries = entries.filter(project=period.budget.project)
            if period.budget.user:
                entries = entries.filter(user=period.budget.user)
            assert entries.aggregate(spent=spent, reserved=reserved) == stored


def test_hard_budget_lets_exactly_as_many_pass_as_it_pays_for(project: Project) -> None:
    budget = factories.budget(project, 21 * DOLLAR)

    results = at_once([partial(factories.reservation, project)] * 64)

    assert outcomes(results) == {"SpendEntry": 10, "OverBudget": 54}
    assert SpendEntry.objects.count() == 10
    assert list(budget.periods.values_list("reserved", "spent")) == [(21 * DOLLAR, 0)]
    check_the_books()


def test_several_budgets_never_half_reserve_at_once(project: Project, editor: User) -> None:
    factories.budget(project, 30 * PRICE)
    factories.budget(None, 7 * PRICE)
    factories.budget(project, 5 * PRICE, user=editor)

    results = at_once([partial(factories.reservation, project, user) for user in [editor, None] * 16])

    assert outcomes(results) == {"SpendEntry": 7, "OverBudget": 25}
    assert set(BudgetPeriod.objects.filter(budget__user=None).values_list("reserved", flat=True)) == {7 * PRICE}
    assert SpendEntry.objects.filter(user=editor).count() <= 5
    check_the_books()


def test_same_key_reserves_once(project: Project, editor: User) -> None:
    budget = factories.budget(project, 21 * DOLLAR)
    reserve = partial(
        spend.reserve,
        project=project,
        user=editor,
        reference=uuid.uuid4(),
        endpoint="endpoint",
        amount=PRICE,
        key="queue",
        by=None,
    )

    results = at_once([reserve] * 20)

    assert results == [SpendEntry.objects.get()] * 20
    assert list(budget.periods.values_list("reserved", flat=True)) == [PRICE]
    check_the_books()


def test_hold_is_ended_once(project: Project) -> None:
    budget = factories.budget(project, 21 * DOLLAR)
    held = factories.reservation(project)

    charges = [partial(spend.charge, held, amount=PRICE, key=f"charge {n}") for n in range(8)]
    releases = [partial(spend.release, held, key=f"release {n}") for n in range(8)]
    results = at_once(charges + releases)

    # A charge after the release is a late success, so there may be one of each; never two.
    assert SpendEntry.objects.filter(ends=held).count() == 1
    assert SpendEntry.objects.filter(kind="charge").count() == 1
    assert outcomes(results)["HoldEnded"] == 16 - SpendEntry.objects.exclude(pk=held.pk).count()
    assert list(budget.periods.values_list("spent", "reserved")) == [(PRICE, 0)]
    check_the_books()


class Turnstile:
    """Counts reservations, so that a change can be made in the midst of them."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.passed = threading.Semaphore(0)

    def reserve(self) -> SpendEntry:
        try:
            return factories.reservation(self.project)
        finally:
            self.passed.release()

    def after(self, count: int, change: Callable[[], T]) -> T:
        for _ in range(count):
            self.passed.acquire()
        return change()


@pytest.mark.parametrize("after", [0, 5, 30])
def test_lowered_limit_is_wholly_before_or_after_each_reservation(
    project: Project, studio_owner: User, after: int
) -> None:
    """64 fit into the old limit and 20 into the new one: whoever comes after the change meets the new one."""
    budget, turnstile = factories.budget(project, 64 * PRICE), Turnstile(project)
    lower = partial(budgets.change_limit, Budget.objects.get(), limit=20 * PRICE, by=studio_owner)

    changed, *results = at_once([partial(turnstile.after, after, lower), *[turnstile.reserve] * 64])

    assert changed is None
    lowered_at = budget.history.get(limit=20 * PRICE).history_date
    before = SpendEntry.objects.filter(created_at__lt=lowered_at).count()
    passed = max(before, 20)
    assert outcomes(results) == Counter(SpendEntry=passed, OverBudget=64 - passed)
    refusals = [result for result in results if isinstance(result, spend.OverBudget)]
    assert {refusal.budget.limit for refusal in refusals} <= {20 * PRICE}
    assert before >= min(after, 64)
    check_the_books()


@pytest.mark.parametrize("after", [0, 5, 30])
@pytest.mark.parametrize("studio_wide", [True, False])
def test_new_budget_is_wholly_before_or_after_each_reservation(
    project: Project, studio_owner: User, after: int, studio_wide: bool
) -> None:
    factories.budget(project, 64 * PRICE)
    turnstile = Turnstile(project)
    create = partial(
        budgets.create,
        project=None if studio_wide else project,
        user=None,
        period=Period.YEAR,
        enforcement=Enforcement.HARD,
        limit=20 * PRICE,
        by=studio_owner,
    )

    created, *results = at_once([partial(turnstile.after, after, create), *[turnstile.reserve] * 64])

    assert isinstance(created, Budget)
    before = SpendEntry.objects.filter(created_at__lt=created.created_at).count()
    passed = max(before, 20)
    assert outcomes(results) == Counter(SpendEntry=passed, OverBudget=64 - passed)
    assert created.periods.get().reserved == passed * PRICE
    assert before >= min(after, 64)
    check_the_books()


def test_new_budgets_miss_no_charge_and_no_release(project: Project, studio_owner: User, editor: User) -> None:
    first = factories.budget(project, 100 * PRICE)
    held = [factories.reservation(project, user) for user in [editor, None] * 20]
    create = partial(budgets.create, enforcement=Enforcement.SOFT, period=Period.TOTAL, limit=DOLLAR, by=studio_owner)

    jobs: list[Callable[[], object]] = [
        *(partial(spend.charge, entry, amount=DOLLAR, key=f"charge {entry.pk}") for entry in held[:16]),
        *(partial(spend.release, entry, key=f"release {entry.pk}") for entry in held[16:32]),
        *(partial(spend.adjust, entry, amount=-5, key=f"adjust {entry.pk}", reason="bill") for entry in held[8:16]),
        partial(create, project=project, user=None),
        partial(create, project=project, user=editor),
        partial(create, project=None, user=None),
    ]
    random.Random(2).shuffle(jobs)
    results = at_once(jobs)

    assert outcomes(results) == {"SpendEntry": 40, "Budget": 3}
    expected = (16 * DOLLAR - 8 * 5, 8 * PRICE)
    assert list(first.periods.values_list("spent", "reserved")) == [expected]
    wide = BudgetPeriod.objects.filter(budget__user=None).values_list("spent", "reserved")
    assert list(wide) == [expected] * 3
    check_the_books()


def test_period_is_opened_once(project: Project) -> None:
    with time_machine.travel("2026-11-30T12:00Z", tick=False):
        budget = factories.budget(project, 10 * PRICE, period=Period.MONTH)
        for _ in range(10):
            factories.reservation(project)
    with time_machine.travel("2026-12-01T00:00Z", tick=False):
        results = at_once([partial(factories.reservation, project)] * 50)

    assert outcomes(results) == {"SpendEntry": 10, "OverBudget": 40}
    assert list(budget.periods.values_list("reserved", flat=True)) == [10 * PRICE, 10 * PRICE]
    check_the_books()


def test_first_ones_ever_make_one_till() -> None:
    Studio.objects.all().delete()

    @transaction.atomic
    def hold() -> str:
        budgets.hold_till()
        return "held"

    assert at_once([hold] * 20) == ["held"] * 20
    assert Studio.objects.count() == 1


def test_operations_of_all_kinds_never_deadlock(project: Project, studio_owner: User, editor: User) -> None:
    """Twelve threads do what people and workers do, in orders that differ; nothing but a refusal comes back."""
    other = factories.ProjectFactory(created_by=studio_owner)
    for scope, user in ((None, None), (project, None), (other, None), (project, editor)):
        factories.budget(scope, 90 * PRICE, user=user)

    def work(seed: int) -> int:
        """Thirty operations; how many were refused."""
        dice, refused, mine = random.Random(seed), 0, []
        operations: list[Callable[[], object]] = [
            lambda: mine.append(factories.reservation(dice.choice([project, other]), dice.choice([editor, None]))),
            lambda: mine.extend(reserve_many(dice)),
            lambda: spend.charge(dice.choice(mine), amount=PRICE, key=f"charge {uuid.uuid4()}"),
            lambda: spend.release(dice.choice(mine), key=f"release {uuid.uuid4()}"),
            lambda: spend.adjust(dice.choice(mine), amount=-1, key=f"adjust {uuid.uuid4()}", reason="bill"),
            lambda: budgets.change_limit(
                dice.choice(list(Budget.objects.active())), limit=dice.randint(60, 90) * PRICE, by=studio_owner
            ),
            lambda: factories.budget(dice.choice([project, other, None]), 50 * PRICE, period=Period.DAY),
            lambda: budgets.archive(Budget.objects.filter(period=Period.DAY).latest("created_at"), by=studio_owner),
            lambda: budgets.figures(Budget.objects.active()),
        ]
        for operation in dice.choices(operations, weights=[6, 2, 3, 3, 2, 1, 1, 1, 2], k=30):
            try:
                operation()
            except (spend.SpendRefused, spend.HoldEnded, ValidationError, IndexError, Budget.DoesNotExist):
                refused += 1
        return refused

    @transaction.atomic
    def reserve_many(dice: random.Random) -> list[SpendEntry]:
        projects = [project, other, project]
        dice.shuffle(projects)
        entries = []
        for each in projects:
            with contextlib.suppress(spend.OverBudget):
                entries.append(factories.reservation(each, editor))
        return entries

    results = at_once([partial(work, seed) for seed in range(12)])

    assert [result for result in results if isinstance(result, Exception)] == []
    assert SpendEntry.objects.count() > 100
    for entry in SpendEntry.objects.filter(kind="reserve"):
        assert SpendEntry.objects.filter(reservation=entry, kind="charge").count() <= 1
    check_the_books()
