"""Random histories of money, compared after each step with a model that knows no database, no periods and no lines."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from projects.models import Budget, BudgetPeriod, Enforcement, Period, Project, Role, SpendEntry, TopUp
from projects.money import budgets, spend
from tests import factories
from tests.histories import histories, some_and_all
from tests.pipeline import project_totals

# So small that limits are met often; what they count doesn't matter.
AMOUNTS = st.integers(0, 6)
LIMITS = st.integers(0, 15)
# Two hours before November ends in Los Angeles; the clocks went back in that month.
BEGIN = datetime(2026, 12, 1, 6, tzinfo=UTC)


@dataclass
class Spending:
    """What the model knows of one reservation and of all that came after it."""

    entry: SpendEntry
    project: Project
    user: User
    at: datetime
    number: int
    amount: int
    held: bool = True
    charged: bool = False
    spent: int = 0

    @property
    def reserved(self) -> int:
        return self.amount if self.held else 0


@dataclass
class Limit:
    """What the model knows of one budget: which spendings it counts, and how much they may be."""

    budget: Budget
    project: Project | None
    user: User | None
    period: Period
    hard: bool
    limit: int
    zone: str
    archived: int | None = None  # the number of the first spending that it no longer counts
    top_ups: list[TopUp] = field(default_factory=list)

    def now(self) -> int:
        """The limit that is in force."""
        lasting = [each for each in self.top_ups if each.starts_at <= timezone.now() < each.ends_at]
        return self.limit + sum(each.amount for each in lasting)

    @property
    def kind(self) -> tuple[object, ...]:
        return (self.project, self.user, self.period, self.hard)

    def calendar(self, moment: datetime) -> tuple[int, ...]:
        """Equal for two moments in the same period, by the calendar on the wall."""
        day = moment.astimezone(ZoneInfo(self.zone)).date()
        return {
            Period.TOTAL: (),
            Period.DAY: (day.toordinal(),),
            Period.WEEK: day.isocalendar()[:2],
            Period.MONTH: (day.year, day.month),
            Period.QUARTER: (day.year, (day.month + 2) // 3),
            Period.YEAR: (day.year,),
        }[self.period]

    def concerns(self, project: Project, user: User) -> bool:
        return self.project in (None, project) and self.user in (None, user)

    def counts(self, spending: Spending, moment: datetime) -> bool:
        return (
            self.concerns(spending.project, spending.user)
            and (self.archived is None or spending.number < self.archived)
            and self.calendar(spending.at) == self.calendar(moment)
        )


@dataclass
class Team:
    owner: User
    projects: list[Project]
    users: list[User]
    clock: time_machine.Traveller
    numbers: "count[int]" = field(default_factory=count)


class Till(RuleBasedStateMachine):
    spendings = Bundle("spendings")
    limits = Bundle("limits")

    def __init__(self, team: Team) -> None:
        super().__init__()
        self.team = team
        self.made: list[Spending] = []
        self.set: list[Limit] = []
        self.again: list[tuple[Callable[[], SpendEntry], SpendEntry]] = []
        team.clock.move_to(BEGIN)
        self.savepoint = transaction.savepoint()

    def teardown(self) -> None:
        transaction.savepoint_rollback(self.savepoint)

    # --- What people and workers do ---

    @initialize(
        target=limits, period=st.sampled_from(Period), limit=st.integers(5, 15), topped_up=st.sampled_from([0, 0, 9])
    )
    def create_first_budget(self, period: Period, limit: int, topped_up: int) -> Limit | None:
        """Without one for the project, little would happen."""
        first = self.create_budget(0, None, period, Enforcement.HARD, limit)
        if first and topped_up:
            self.top_up(first, topped_up, 0, 24)
        return first

    @rule(
        target=limits,
        project=st.sampled_from([0, 0, 1, None]),
        user=st.sampled_from([None, None, 0, 1]),
        period=st.sampled_from(Period),
        enforcement=st.sampled_from([Enforcement.HARD, Enforcement.HARD, Enforcement.SOFT]),
        limit=LIMITS,
    )
    def create_budget(
        self, project: int | None, user: int | None, period: Period, enforcement: Enforcement, limit: int
    ) -> Limit | None:
        scope = None if project is None else self.team.projects[project]
        member = None if user is None or scope is None else self.team.users[user]
        create = partial(
            budgets.create, project=scope, user=member, period=period, enforcement=enforcement, by=self.team.owner
        )
        kind = (scope, member, period, enforcement == Enforcement.HARD)
        if existing := next((each for each in self.active() if each.kind == kind), None):
            with pytest.raises(ValidationError, match="has a budget of this kind already"):
                create(limit=limit)
            return existing
        made = Limit(create(limit=limit), *kind, limit=limit, zone=scope.time_zone if scope else "UTC")
        self.set.append(made)
        return made

    @rule(limit=limits, value=LIMITS)
    def change_limit(self, limit: Limit, value: int) -> None:
        if limit.archived is not None:
            with pytest.raises(ValidationError, match="is archived"):
                budgets.change_limit(limit.budget, limit=value, by=self.team.owner)
            return
        budgets.change_limit(limit.budget, limit=value, by=self.team.owner)
        limit.limit = value

    @rule(
        limit=limits,
        amount=st.integers(1, 6),
        after=st.sampled_from([0, 0, 2, 24]),
        hours=st.sampled_from([1, 24, 800]),
    )
    def top_up(self, limit: Limit, amount: int, after: int, hours: int) -> None:
        starts_at = timezone.now() + timedelta(hours=after)
        add = partial(
            budgets.top_up,
            limit.budget,
            amount=amount,
            starts_at=starts_at,
            ends_at=starts_at + timedelta(hours=hours),
            reason="rush",
            by=self.team.owner,
        )
        if limit.archived is not None:
            with pytest.raises(ValidationError, match="is archived"):
                add()
            return
        limit.top_ups.append(add())

    @rule(limit=limits)
    def end_top_up(self, limit: Limit) -> None:
        for each in limit.top_ups:
            if each.ends_at > timezone.now():
                budgets.end_top_up(each, by=self.team.owner)

    @rule(limit=consumes(limits))
    def archive(self, limit: Limit) -> None:
        budgets.archive(limit.budget, by=self.team.owner)
        if limit.archived is None:
            limit.archived = next(self.team.numbers)

    @rule(
        target=spendings,
        project=st.sampled_from([0, 0, 0, 1]),
        user=st.sampled_from([0, 1]),
        amounts=st.lists(AMOUNTS, min_size=1, max_size=3),
    )
    def reserve(self, project: int, user: int, amounts: list[int]) -> Spending | None:
        """As many as are asked for, until one is refused; the last that was admitted can be charged by other rules."""
        made = None
        for amount in amounts:
            made = self.reserve_one(self.team.projects[project], self.team.users[user], amount) or made
        return made or (self.made[-1] if self.made else None)

    def reserve_one(self, project: Project, user: User, amount: int) -> Spending | None:
        reference, key = uuid.uuid4(), f"reserve {next(self.team.numbers)}"
        book = partial(
            spend.reserve,
            project=project,
            user=user,
            reference=reference,
            endpoint="endpoint",
            amount=amount,
            key=key,
            by=None,
        )
        matching = [limit for limit in self.active() if limit.concerns(project, user)]
        if not any(limit.project and not limit.user for limit in matching):
            with pytest.raises(spend.NoBudget):
                book()
            return None
        refusing = [limit for limit in matching if limit.hard and self.used(limit) + amount > limit.now()]
        if refusing:
            with pytest.raises(spend.OverBudget) as refused:
                book()
            free = {limit.budget: limit.now() - self.used(limit) for limit in refusing}
            assert refused.value.free == free[refused.value.budget] == min(free.values())
            return None
        spending = Spending(book(), project, user, timezone.now(), next(self.team.numbers), amount)
        self.made.append(spending)
        self.again.append((book, spending.entry))
        return spending

    @rule(spending=spendings, more=st.integers(-3, 3))
    def charge(self, spending: Spending | None, more: int) -> None:
        """Less than was reserved, as much, or more; also late, after a release."""
        if spending is None:
            return
        amount = max(0, spending.amount + more)
        book = partial(spend.charge, spending.entry, amount=amount, key=f"charge {next(self.team.numbers)}")
        if spending.charged:
            with pytest.raises(spend.HoldEnded):
                book()
            return
        self.again.append((book, book()))
        spending.held, spending.charged = False, True
        spending.spent += amount

    @rule(spending=spendings)
    def release(self, spending: Spending | None) -> None:
        if spending is None:
            return
        book = partial(spend.release, spending.entry, key=f"release {next(self.team.numbers)}")
        if not spending.held:
            with pytest.raises(spend.HoldEnded):
                book()
            return
        self.again.append((book, book()))
        spending.held = False

    @rule(spending=spendings, amount=st.integers(-3, 3))
    def adjust(self, spending: Spending | None, amount: int) -> None:
        if spending is None:
            return
        key = f"adjust {next(self.team.numbers)}"
        book = partial(spend.adjust, spending.entry, amount=amount, key=key, reason="bill")
        self.again.append((book, book()))
        spending.spent += amount

    @rule(which=st.integers(0), more=st.sampled_from([-2, -1, 0, 0, 1]))
    def refund(self, which: int, more: int) -> None:
        """Hours or months later, and never more than was spent; the hold of a failure stays ended."""
        if not self.made:
            return
        spent = [spending for spending in self.made if spending.spent > 0] or self.made
        spending = spent[which % len(spent)]
        amount = max(1, spending.spent + more)
        key = f"refund {next(self.team.numbers)}"
        book = partial(spend.refund, spending.entry, amount=amount, key=key, reason="bill")
        if amount > spending.spent:
            with pytest.raises(spend.RefundExceedsCharge):
                book()
            return
        self.again.append((book, book()))
        spending.spent -= amount

    @rule(which=st.integers(0))
    def repeat(self, which: int) -> None:
        """The same key again: the same entry, and nothing moves."""
        if self.again:
            book, entry = self.again[which % len(self.again)]
            assert book() == entry

    @rule(hours=st.sampled_from([1, 2, 5, 24, 24 * 6, 24 * 31, 24 * 100]))
    def pass_time(self, hours: int) -> None:
        self.team.clock.move_to(timezone.now() + timedelta(hours=hours))

    # --- What the model expects ---

    def active(self) -> list[Limit]:
        return [limit for limit in self.set if limit.archived is None]

    def used(self, limit: Limit) -> int:
        return sum(self.expected(limit, timezone.now()))

    def expected(self, limit: Limit, moment: datetime) -> tuple[int, int]:
        counted = [spending for spending in self.made if limit.counts(spending, moment)]
        return sum(spending.spent for spending in counted), sum(spending.reserved for spending in counted)

    @invariant()
    def lines_are_balances_and_both_are_the_model(self) -> None:
        by_budget = {limit.budget.pk: limit for limit in self.set}
        periods = BudgetPeriod.objects.annotate(
            line_spent=Sum("lines__spent_delta", default=0), line_reserved=Sum("lines__reserved_delta", default=0)
        )
        for period in periods:
            stored = (period.spent, period.reserved)
            assert stored == (period.line_spent, period.line_reserved)
            assert stored == self.expected(by_budget[period.budget_id], period.starts_at)

    @invariant()
    def figures_are_those_of_now(self) -> None:
        limits = {limit.budget.pk: limit for limit in self.active()}
        for figures in budgets.figures(Budget.objects.active()):
            limit = limits.pop(figures.budget.pk)
            assert (figures.spent, figures.reserved) == self.expected(limit, timezone.now())
            assert figures.free == limit.now() - figures.spent - figures.reserved
            assert figures.starts_at <= timezone.now()
            assert figures.ends_at is None or timezone.now() < figures.ends_at
        assert limits == {}

    @invariant()
    def holds_end_once(self) -> None:
        ended = list(SpendEntry.objects.exclude(ends=None).values_list("ends_id", flat=True))
        assert sorted(ended) == sorted(spending.entry.pk for spending in self.made if not spending.held)

    @invariant()
    def totals_are_the_sum_of_the_entries(self) -> None:
        for project in self.team.projects:
            mine = [spending for spending in self.made if spending.project == project]
            assert project_totals(project.pk) == {
                "spent": sum(spending.spent for spending in mine),
                "reserved": sum(spending.reserved for spending in mine),
            }


@some_and_all
def test_money_does_what_the_model_says(project: Project, studio_owner: User, share: float) -> None:
    project.time_zone = "America/Los_Angeles"
    project.save()
    other = factories.ProjectFactory(time_zone="Asia/Kolkata", created_by=studio_owner)
    users = [factories.member(project, Role.EDITOR), factories.member(project, Role.OWNER)]
    with time_machine.travel(BEGIN, tick=False) as clock:
        team = Team(studio_owner, [project, other], users, clock)
        run_state_machine_as_test(
            lambda: Till(team),
            settings=histories(30, steps=30, share=share),
        )
