"""Budgets whose time zone is moved about, by a clock that jumps ahead and back: no limit is to be had twice."""

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from projects.models import Budget, BudgetPeriod, Period, Project
from projects.money import budgets, spend
from tests import factories
from tests.histories import histories, some_and_all

LIMIT = 4
# From the first to the last midnight of a date, and some between; the clocks of three go forward and back.
ZONES = [
    "Etc/GMT+12",
    "Pacific/Pago_Pago",
    "America/Los_Angeles",
    "UTC",
    "Europe/Berlin",
    "Asia/Kolkata",
    "Pacific/Auckland",
    "Pacific/Kiritimati",
]
FIRST, LAST = ZoneInfo("Etc/GMT+12"), ZoneInfo("Pacific/Kiritimati")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ZONES_DIFFER = 26 * HOUR
# A day on which the clocks go forward; of a week and a month a move to the east takes at most as much as zones differ.
SHORTEST = {
    Period.DAY: 23 * HOUR,
    Period.WEEK: 7 * DAY - HOUR - ZONES_DIFFER,
    Period.MONTH: 28 * DAY - HOUR - ZONES_DIFFER,
}
# The clocks of Berlin and Los Angeles change in these weeks.
BEGIN = datetime(2026, 10, 20, 6, tzinfo=UTC)


class Calendars(RuleBasedStateMachine):
    """A project with a hard budget for each kind of period."""

    def __init__(self, projects: dict[Period, Project], clock: time_machine.Traveller) -> None:
        super().__init__()
        self.projects, self.clock = projects, clock
        self.spent: dict[Period, list[tuple[datetime, int]]] = {period: [] for period in projects}
        self.savepoint = transaction.savepoint()
        clock.move_to(BEGIN)

    def teardown(self) -> None:
        transaction.savepoint_rollback(self.savepoint)

    @initialize(zone=st.sampled_from(ZONES))
    def begin(self, zone: str) -> None:
        self.move_zone(zone)
        for period, project in self.projects.items():
            factories.budget(project, LIMIT, period=period)

    @rule(zone=st.sampled_from(ZONES))
    def move_zone(self, zone: str) -> None:
        Project.objects.update(time_zone=zone)
        for project in self.projects.values():
            project.refresh_from_db()

    @rule(hours=st.sampled_from([1, 3, 6, 11, 13, 20, 24, 30, 24 * 6, 24 * 20]))
    def pass_time(self, hours: int) -> None:
        self.clock.move_to(timezone.now() + hours * HOUR)

    @rule()
    def pass_to_the_turn(self) -> None:
        """To the moment at which a present day ends: there the most is to be had."""
        [figures] = budgets.figures(Budget.objects.filter(period=Period.DAY))
        assert figures.ends_at
        self.clock.move_to(max(figures.ends_at, timezone.now()))

    @rule(amount=st.sampled_from([1, 3, LIMIT, LIMIT]))
    def spend(self, amount: int) -> None:
        for period, project in self.projects.items():
            try:
                factories.reservation(project, amount=amount)
            except spend.OverBudget:
                continue
            self.spent[period].append((timezone.now(), amount))

    @rule(zone=st.sampled_from(ZONES))
    def move_zone_at_the_turn(self, zone: str) -> None:
        """As somebody does who wants one more."""
        self.pass_to_the_turn()
        self.move_zone(zone)
        self.spend(LIMIT)

    @invariant()
    def a_window_as_long_as_a_period_has_two_limits_at_most(self) -> None:
        for period, spendings in self.spent.items():
            ordered = sorted(spendings)
            for begin, _ in ordered:
                within = [amount for at, amount in ordered if begin <= at < begin + SHORTEST[period]]
                assert sum(within) <= 2 * LIMIT

    @invariant()
    def all_of_it_is_what_the_calendar_allows(self) -> None:
        """One limit for each day, week and month that has been, somewhere on earth."""
        for period, spendings in self.spent.items():
            if spendings:
                first, last = min(spendings)[0], max(spendings)[0]
                assert sum(amount for _, amount in spendings) <= LIMIT * _touched(period, first, last)

    @invariant()
    def periods_neither_overlap_nor_shrink(self) -> None:
        for period, project in self.projects.items():
            rows = list(BudgetPeriod.objects.filter(budget__project=project).order_by("starts_at"))
            assert all(before.ends_at <= after.starts_at for before, after in itertools.pairwise(rows))
            assert all(row.ends_at - row.starts_at >= SHORTEST[period] for row in rows)
            assert all(row.reserved <= LIMIT for row in rows)


class Clocks(Calendars):
    """The same, while the clock jumps ahead and back."""

    @rule(hours=st.sampled_from([1, 25, 24 * 8, 24 * 40]))
    def jump_back(self, hours: int) -> None:
        self.clock.move_to(timezone.now() - hours * HOUR)


def _touched(period: Period, first: datetime, last: datetime) -> int:
    """How many periods of the calendar lie between the two, seen from where each is the least and the most advanced."""
    count, moment = 1, period.bounds(first, FIRST)[1]
    end = period.bounds(last, LAST)[0]
    while moment and moment.astimezone(FIRST).date() <= end.astimezone(LAST).date():
        count, moment = count + 1, period.bounds(moment, FIRST)[1]
    return count


@pytest.mark.django_db
@some_and_all
@pytest.mark.parametrize("machine", [Calendars, Clocks])
def test_no_change_of_zone_or_clock_buys_a_limit(machine: type[Calendars], share: float) -> None:
    projects = {period: factories.ProjectFactory(name=period.label) for period in SHORTEST}
    with time_machine.travel(BEGIN, tick=False) as clock:
        run_state_machine_as_test(lambda: machine(projects, clock), settings=histories(20, steps=30, share=share))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("west", "east"),
    [
        ("Pacific/Pago_Pago", "Pacific/Kiritimati"),
        pytest.param("UTC", "Etc/GMT-12", marks=pytest.mark.slow),
        pytest.param("UTC", "Asia/Kolkata", marks=pytest.mark.slow),
    ],
)
def test_fourteen_days_of_moving_the_zone_have_fourteen_limits(project: Project, west: str, east: str) -> None:
    """Somebody tries at every hour, and moves the zone before."""
    with time_machine.travel(BEGIN, tick=False) as clock:
        factories.budget(project, 2, period=Period.DAY)
        passed = []
        for hour in range(14 * 24):
            clock.move_to(BEGIN + hour * HOUR)
            for zone in (east, west):
                Project.objects.update(time_zone=zone)
                project.refresh_from_db()
                try:
                    factories.reservation(project, amount=2)
                except spend.OverBudget:
                    continue
                passed.append(timezone.now())

    assert 7 <= len(passed) <= 15
    assert all(later - sooner >= 13 * HOUR for sooner, later in itertools.pairwise(passed[:2]))
    assert all(later - sooner >= DAY for sooner, later in itertools.pairwise(passed[1:]))
