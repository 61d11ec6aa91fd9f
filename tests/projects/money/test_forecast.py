import zoneinfo
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.utils import timezone

from projects.models import Budget, Enforcement, Period, Project, Role
from projects.money import budgets, spend
from projects.money.budgets import Figures
from projects.money.forecast import extrapolate, forecast
from tests import factories

NOW = datetime(2026, 3, 21, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def figures(*, ends_at: datetime | None, spent: int = 0, reserved: int = 0, limit: int = 100_000_000) -> Figures:
    return Figures(Budget(limit=limit), datetime(2026, 3, 1, tzinfo=UTC), ends_at, spent=spent, reserved=reserved)


def test_forecast_is_spent_and_held_and_the_pace_for_the_time_left() -> None:
    seen = figures(ends_at=NOW + 10 * DAY, spent=30_000_000, reserved=4_200_000)

    expected = extrapolate(seen, net=14_000_000, span=14 * DAY, now=NOW)

    assert (expected.amount, expected.daily, expected.ends_at) == (44_200_000, 1_000_000, NOW + 10 * DAY)
    assert expected.method == (
        "$30.00 spent and $4.20 held in this period, and about $10 for the 10 days left "
        "(the mean net spend of the last 14 days is about $1 a day)."
    )
    assert expected.lasts_until == NOW + timedelta(days=65, hours=19, minutes=12)


def test_parts_of_a_day_count() -> None:
    seen = figures(ends_at=NOW + DAY / 2)

    expected = extrapolate(seen, net=14_000_000, span=14 * DAY, now=NOW)

    assert expected.amount == 500_000
    assert "less than $1 for the 12 hours left" in expected.method


def test_odd_amounts_are_rounded_up_to_a_whole_micro_dollar() -> None:
    assert extrapolate(figures(ends_at=NOW + DAY), net=1, span=3 * DAY, now=NOW).amount == 1


def test_more_refunds_than_charges_lower_nothing() -> None:
    expected = extrapolate(figures(ends_at=NOW + DAY, spent=5), net=-7, span=14 * DAY, now=NOW)

    assert (expected.amount, expected.daily, expected.lasts_until) == (5, 0, None)


def test_total_budget_has_no_end_so_nothing_is_added() -> None:
    expected = extrapolate(figures(ends_at=None, spent=5, reserved=6), net=14_000_000, span=14 * DAY, now=NOW)

    assert (expected.amount, expected.ends_at) == (11, None)
    assert "this budget has no end, so nothing is added" in expected.method


def test_spent_limit_lasts_until_now() -> None:
    seen = figures(ends_at=NOW + DAY, spent=10, limit=10)

    assert extrapolate(seen, net=1, span=DAY, now=NOW).lasts_until == NOW


def test_a_hard_budget_comes_to_its_limit_at_most_and_says_when() -> None:
    seen = figures(ends_at=NOW + 10 * DAY, spent=20_000_000, limit=30_000_000)

    expected = extrapolate(seen, net=70_000_000, span=14 * DAY, now=NOW)

    assert (expected.amount, expected.used_up_at) == (30_000_000, NOW + 2 * DAY)
    assert expected.method == (
        "$20.00 spent and $0.00 held in this period; the mean net spend of the last 14 days is about $5 a day, "
        "which is more than the limit has for the 10 days left."
    )


def test_a_soft_budget_may_come_to_more_than_its_limit() -> None:
    seen = figures(ends_at=NOW + 10 * DAY, spent=20_000_000, limit=30_000_000)
    seen.budget.enforcement = Enforcement.SOFT

    expected = extrapolate(seen, net=70_000_000, span=14 * DAY, now=NOW)

    assert (expected.amount, expected.used_up_at) == (70_000_000, None)


def test_what_lasts_ten_years_has_no_date() -> None:
    assert extrapolate(figures(ends_at=None), net=1, span=DAY, now=NOW).lasts_until is None


def charge(project: Project, user: User, amount: int) -> Any:
    reservation = factories.reservation(project, user, amount)
    return spend.charge(reservation, amount=amount, key=f"charge:{reservation.reference}")


def of(project: Project | None = None, user: User | None = None) -> Any:
    [seen] = budgets.figures(Budget.objects.filter(project=project, user=user))
    return forecast(seen, now=datetime.now(UTC))


@pytest.mark.django_db
@pytest.mark.both_databases
def test_forecast_looks_back_14_days_across_periods(project: Project, editor: User) -> None:
    with time_machine.travel(datetime(2026, 2, 1, tzinfo=UTC), tick=False):
        factories.budget(project, 100_000_000, period=Period.MONTH)
        charge(project, editor, 50_000_000)  # too long ago to tell the pace
    with time_machine.travel(datetime(2026, 2, 25, tzinfo=UTC), tick=False):
        charge(project, editor, 6_000_000)
    with time_machine.travel(datetime(2026, 2, 26, tzinfo=UTC), tick=False):
        charge(project, editor, 1_000_000)
    with time_machine.travel(datetime(2026, 3, 4, tzinfo=UTC), tick=False):
        charge(project, editor, 7_000_000)
        factories.reservation(project, editor, 2_100_000)

        expected = of(project)

    assert expected.daily == 1_000_000
    assert expected.amount == 7_000_000 + 2_100_000 + 28 * 1_000_000


@pytest.mark.django_db
def test_young_project_is_measured_since_its_first_booking(project: Project, editor: User) -> None:
    factories.budget(project, 100_000_000, period=Period.MONTH)
    for day, amount in ((2, 2_000_000), (3, 1_000_000), (4, 1_000_000)):
        with time_machine.travel(datetime(2026, 3, day, tzinfo=UTC), tick=False):
            charge(project, editor, amount)
    with time_machine.travel(datetime(2026, 3, 6, tzinfo=UTC), tick=False):
        expected = of(project)

    assert expected.daily == 1_000_000
    assert "the last 4 days" in expected.method


@pytest.mark.django_db
@pytest.mark.both_databases
def test_there_is_no_forecast_before_three_days_with_spend(project: Project, editor: User) -> None:
    factories.budget(project, 100_000_000, period=Period.MONTH)
    with time_machine.travel(datetime(2026, 3, 26, 22, tzinfo=UTC), tick=False) as clock:
        assert of(project).amount is None
        for _ in range(2):
            charge(project, editor, 4_000_000)
            charge(project, editor, 4_000_000)
            early = of(project)
            assert (early.amount, early.daily, early.lasts_until) == (None, None, None)
            assert early.method.startswith("Too early to tell")
            clock.shift(timedelta(hours=25))
        charge(project, editor, 4_000_000)
        assert of(project).amount is not None


@pytest.mark.django_db
def test_a_quarter_of_the_period_since_the_first_booking_tells_a_pace_too(project: Project, editor: User) -> None:
    factories.budget(project, 100_000_000, period=Period.DAY)
    with time_machine.travel(datetime(2026, 3, 30, 12, tzinfo=UTC), tick=False) as clock:
        charge(project, editor, 4_000_000)
        clock.shift(timedelta(hours=5, minutes=59))
        assert of(project).amount is None
        clock.shift(timedelta(minutes=1))
        assert of(project).amount == 5_000_000


@pytest.mark.django_db
def test_refund_lowers_the_forecast(project: Project, editor: User) -> None:
    factories.budget(project, 100_000_000, period=Period.MONTH)
    with time_machine.travel(datetime(2026, 3, 30, tzinfo=UTC), tick=False) as clock:
        clock.shift(-8 * DAY)
        entry = charge(project, editor, 4_000_000)
        clock.shift(8 * DAY)
        spend.adjust(entry.reservation, amount=-4_000_000, key="back", reason="Taken back.")
        expected = of(project)

    assert (expected.amount, expected.daily) == (0, 0)


@pytest.mark.django_db
def test_each_budget_counts_its_own_people_and_projects(project: Project, editor: User) -> None:
    other = factories.ProjectFactory(name="Tea")
    ada = factories.member(project, Role.EDITOR, username="ada")
    for scope, user in ((None, None), (project, None), (other, None), (project, ada)):
        factories.budget(scope, 100_000_000, user=user, period=Period.MONTH)
    now = timezone.now()
    with time_machine.travel(now - 10 * DAY, tick=False):
        charge(project, editor, 10 * 100_000)
        charge(project, ada, 10 * 2_000_000)
        charge(other, other.created_by, 10 * 3_000_000)

    with time_machine.travel(now, tick=False):
        dailies = [
            of(scope, user).daily for scope, user in ((None, None), (project, None), (other, None), (project, ada))
        ]

    assert dailies == [5_100_000, 2_100_000, 3_000_000, 2_000_000]


@pytest.mark.django_db
def test_period_ends_at_local_midnight_after_the_clocks_went_forward(editor: User) -> None:
    zone = zoneinfo.ZoneInfo("America/Los_Angeles")
    project = factories.ProjectFactory(name="Pacific", time_zone=str(zone))
    with time_machine.travel(
        datetime(2026, 3, 8, 9, tzinfo=UTC), tick=False
    ) as clock:  # 01:00, and the day has 23 hours
        factories.budget(project, 100_000_000, period=Period.DAY)
        clock.shift(-7 * HOUR)
        charge(project, project.created_by, 24_000_000)
        clock.shift(7 * HOUR)
        expected = of(project)

    assert expected.ends_at == datetime(2026, 3, 9, tzinfo=zone)
    assert expected.amount == 22_000_000
