from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.utils import timezone

from projects.models import Budget, Enforcement, Period, Project, Role, TopUp
from projects.money import budgets, spend
from tests import factories

pytestmark = pytest.mark.django_db

DOLLAR = 1_000_000
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
INSTANT = timedelta(microseconds=1)


@pytest.fixture
def clock() -> Any:
    with time_machine.travel(NOON, tick=False) as clock:
        yield clock


@pytest.fixture
def budget(clock: time_machine.Traveller, project: Project) -> Budget:
    return factories.budget(project, 2 * DOLLAR, period=Period.MONTH)


def top_up(budget: Budget, **fields: Any) -> TopUp:
    values = {"amount": DOLLAR, "ends_at": NOON + 2 * HOUR, "reason": "The fair", "by": budget.created_by} | fields
    return budgets.top_up(budget, **values)


def limit() -> tuple[int, int, int]:
    [figures] = budgets.figures(Budget.objects.all())
    return figures.limit, figures.base_limit, figures.topped_up


# --- In force ---------------------------------------------------------------------------------------------------------


def test_top_up_raises_the_limit_at_once_and_ends_at_its_very_moment(
    clock: time_machine.Traveller, project: Project, budget: Budget
) -> None:
    factories.reservation(project, amount=2 * DOLLAR)
    with pytest.raises(spend.OverBudget):
        factories.reservation(project, amount=1)
    made = top_up(budget)
    assert limit() == (3 * DOLLAR, 2 * DOLLAR, DOLLAR)

    clock.move_to(made.ends_at - INSTANT)
    factories.reservation(project, amount=DOLLAR - 1)
    clock.move_to(made.ends_at)
    with pytest.raises(spend.OverBudget) as refused:
        factories.reservation(project, amount=1)
    assert refused.value.free == -DOLLAR + 1
    assert limit() == (2 * DOLLAR, 2 * DOLLAR, 0)


def test_top_up_that_starts_later_starts_at_its_very_moment(
    clock: time_machine.Traveller, project: Project, budget: Budget
) -> None:
    starts_at = NOON + HOUR
    top_up(budget, starts_at=starts_at)

    clock.move_to(starts_at - INSTANT)
    with pytest.raises(spend.OverBudget):
        factories.reservation(project, amount=2 * DOLLAR + 1)
    clock.move_to(starts_at)
    factories.reservation(project, amount=3 * DOLLAR)


def test_refusal_says_how_much_of_the_limit_is_topped_up(project: Project, budget: Budget) -> None:
    top_up(budget)
    top_up(budget, amount=DOLLAR // 2)

    with pytest.raises(spend.OverBudget) as refused:
        factories.reservation(project, amount=4 * DOLLAR)
    assert str(refused.value) == (
        "Not enough budget: this needs $4.00, $3.50 is free until 1 December 2026 "
        "(Coffee budget, per month, hard, limit $3.50, $1.50 of it topped up)."
    )
    assert (refused.value.limit, refused.value.free) == (3_500_000, 3_500_000)


def test_top_up_lasts_over_the_turn_of_a_period(
    clock: time_machine.Traveller, project: Project, budget: Budget
) -> None:
    top_up(budget, ends_at=datetime(2026, 12, 5, tzinfo=UTC))
    factories.reservation(project, amount=3 * DOLLAR)

    clock.move_to(datetime(2026, 12, 1, tzinfo=UTC))
    assert limit() == (3 * DOLLAR, 2 * DOLLAR, DOLLAR)
    factories.reservation(project, amount=3 * DOLLAR)


def test_top_up_of_one_budget_leaves_the_others(project: Project, budget: Budget) -> None:
    factories.budget(project, 2 * DOLLAR, period=Period.DAY)
    top_up(budget)

    with pytest.raises(spend.OverBudget, match=r"per day, hard, limit \$2.00"):
        factories.reservation(project, amount=3 * DOLLAR)


def test_charge_lands_after_its_top_up_has_ended(
    clock: time_machine.Traveller, project: Project, budget: Budget
) -> None:
    made = top_up(budget)
    held = factories.reservation(project, amount=3 * DOLLAR)
    clock.move_to(made.ends_at)

    spend.charge(held, amount=3 * DOLLAR, key="charge")

    [figures] = budgets.figures(Budget.objects.all())
    assert (figures.spent, figures.free) == (3 * DOLLAR, -DOLLAR)


# --- Ended sooner -----------------------------------------------------------------------------------------------------


def test_top_up_ends_sooner_and_what_it_let_through_goes_on(
    clock: time_machine.Traveller, project: Project, budget: Budget, studio_owner: User
) -> None:
    made = top_up(budget)
    held = factories.reservation(project, amount=3 * DOLLAR)
    clock.move_to(NOON + HOUR)
    budgets.end_top_up(made, by=studio_owner)

    assert (made.ends_at, limit()) == (NOON + HOUR, (2 * DOLLAR, 2 * DOLLAR, 0))
    assert spend.is_held(held)
    with pytest.raises(ValidationError) as invalid:
        budgets.end_top_up(made, by=studio_owner)
    assert invalid.value.messages == ["This top-up has ended already."]
    assert [past.ends_at for past in made.history.order_by("history_id")] == [NOON + 2 * HOUR, NOON + HOUR]


def test_top_up_that_has_not_begun_never_begins(
    clock: time_machine.Traveller, budget: Budget, studio_owner: User
) -> None:
    made = top_up(budget, starts_at=NOON + HOUR)
    budgets.end_top_up(made, by=studio_owner)

    clock.move_to(NOON + HOUR)
    assert limit() == (2 * DOLLAR, 2 * DOLLAR, 0)


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"amount": 0}, {"amount": ["A top-up is more than zero dollars; to take money away, lower the limit."]}),
        ({"amount": -1}, {"amount": ["A top-up is more than zero dollars; to take money away, lower the limit."]}),
        ({"reason": " \n"}, {"reason": ["Say why: whoever reads the books later will want to know."]}),
        ({"reason": "x" * 301}, {"reason": ["A reason has at most 300 characters; this one has 301."]}),
        ({"ends_at": NOON}, {"ends_at": ["A top-up ends in the future: give a later end."]}),
        ({"starts_at": NOON - INSTANT}, {"starts_at": ["A top-up starts now or later, not in the past."]}),
        ({"starts_at": NOON + 2 * HOUR}, {"ends_at": ["A top-up ends after it starts: give a later end."]}),
        (
            {"amount": 0, "reason": ""},
            {
                "amount": ["A top-up is more than zero dollars; to take money away, lower the limit."],
                "reason": ["Say why: whoever reads the books later will want to know."],
            },
        ),
    ],
)
def test_top_up_that_makes_no_sense_is_refused(
    budget: Budget, fields: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    with pytest.raises(ValidationError) as invalid:
        top_up(budget, **fields)
    assert invalid.value.message_dict == errors
    assert not TopUp.objects.exists()


def test_top_up_of_an_archived_budget_is_refused(budget: Budget, studio_owner: User) -> None:
    stale = Budget.objects.get()
    budgets.archive(budget, by=studio_owner)

    with pytest.raises(ValidationError) as invalid:
        top_up(stale)
    assert invalid.value.messages == ["This budget is archived: make a new one instead."]


@pytest.mark.parametrize("role", Role)
def test_top_up_is_for_who_may_change_the_limit(project: Project, budget: Budget, role: Role) -> None:
    person = factories.member(project, role)
    own, other = (factories.budget(project, DOLLAR, user=user) for user in (person, factories.member(project)))
    made = top_up(budget)

    for attempt in (lambda: top_up(budget, by=person), lambda: top_up(own, by=person)):
        with pytest.raises(PermissionDenied, match=r"Studio owners are: olive\.$"):
            attempt()
    with pytest.raises(PermissionDenied):
        budgets.end_top_up(made, by=person)
    if role == Role.OWNER:
        assert top_up(other, by=person).created_by == person
    else:
        with pytest.raises(PermissionDenied):
            top_up(other, by=person)
    made.refresh_from_db()
    assert made.ends_at == NOON + 2 * HOUR


# --- Thresholds -------------------------------------------------------------------------------------------------------


def test_thresholds_are_kept_in_order(budget: Budget, studio_owner: User) -> None:
    assert budget.thresholds == [50, 80, 100]
    budgets.change_thresholds(budget, thresholds=[120, 5], by=studio_owner)
    none = budgets.create(
        project=None,
        user=None,
        period=Period.DAY,
        enforcement=Enforcement.SOFT,
        limit=0,
        thresholds=[],
        by=studio_owner,
    )

    budget.refresh_from_db()
    assert (budget.thresholds, none.thresholds) == ([5, 120], [])


@pytest.mark.parametrize("thresholds", [[0], [201], [-1], [50, 50], [True], [50.5], ["50"], [None], [[]]])
def test_thresholds_that_make_no_sense_are_refused(budget: Budget, studio_owner: User, thresholds: list[Any]) -> None:
    with pytest.raises(ValidationError) as invalid:
        budgets.change_thresholds(budget, thresholds=thresholds, by=studio_owner)
    assert invalid.value.message_dict == {
        "thresholds": ["Thresholds are different whole percents from 1 to 200, such as 50, 80, 100."]
    }
    budget.refresh_from_db()
    assert budget.thresholds == [50, 80, 100]


# --- Soft budgets warn ------------------------------------------------------------------------------------------------


def test_soft_budgets_that_a_reservation_passed_are_told(project: Project, budget: Budget) -> None:
    soft = factories.budget(project, DOLLAR, enforcement=Enforcement.SOFT)
    factories.budget(None, 5 * DOLLAR, enforcement=Enforcement.SOFT)

    within = factories.reservation(project, amount=DOLLAR)
    assert spend.soft_budgets_passed([within]) == []
    beyond = factories.reservation(project, amount=DOLLAR // 2)
    assert [(each.budget, each.limit, each.free) for each in spend.soft_budgets_passed([beyond])] == [
        (soft, DOLLAR, -DOLLAR // 2)
    ]
    top_up(soft)
    assert spend.soft_budgets_passed([beyond]) == []


def test_figures_of_now_count_top_ups_of_now(budget: Budget) -> None:
    top_up(budget)
    top_up(budget, starts_at=NOON + HOUR, amount=5 * DOLLAR)

    assert budgets.topped_up([budget], timezone.now())[budget.pk] == DOLLAR
    assert budgets.topped_up([budget], NOON + HOUR)[budget.pk] == 6 * DOLLAR
    assert budgets.topped_up([budget], NOON + 2 * HOUR)[budget.pk] == 0
