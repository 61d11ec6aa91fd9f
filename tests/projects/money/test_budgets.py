import zoneinfo
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection
from django.db.models import Sum
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from projects.models import Budget, BudgetPeriod, Enforcement, Period, Project, Role, SpendLine, Studio
from projects.money import budgets, spend
from tests import factories
from tests.pipeline import project_totals

pytestmark = pytest.mark.django_db

DOLLAR = 1_000_000


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def balances(period: BudgetPeriod) -> tuple[int, int]:
    """`spent` and `reserved` as stored; fails unless they are the sums of the lines."""
    period.refresh_from_db()
    sums = SpendLine.objects.filter(budget_period=period).aggregate(
        spent=Sum("spent_delta", default=0), reserved=Sum("reserved_delta", default=0)
    )
    assert (period.spent, period.reserved) == (sums["spent"], sums["reserved"])
    return period.spent, period.reserved


def create_month(project: Project | None, *, by: User, limit: int = DOLLAR, user: User | None = None) -> Budget:
    return budgets.create(
        project=project, user=user, period=Period.MONTH, enforcement=Enforcement.HARD, limit=limit, by=by
    )


# --- Period.bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "zone", "moment", "starts_at", "ends_at"),
    [
        (Period.DAY, "UTC", "2026-11-22 23:59", "2026-11-22 00:00", "2026-11-23 00:00"),
        (Period.WEEK, "UTC", "2026-11-22 23:59", "2026-11-16 00:00", "2026-11-23 00:00"),  # a Sunday
        (Period.WEEK, "UTC", "2026-11-23 00:00", "2026-11-23 00:00", "2026-11-30 00:00"),  # a Monday
        (Period.WEEK, "UTC", "2026-12-31 12:00", "2026-12-28 00:00", "2027-01-04 00:00"),
        (Period.MONTH, "UTC", "2026-12-31 23:59", "2026-12-01 00:00", "2027-01-01 00:00"),
        (Period.MONTH, "UTC", "2028-02-29 12:00", "2028-02-01 00:00", "2028-03-01 00:00"),  # a leap year
        (Period.MONTH, "UTC", "2100-02-28 12:00", "2100-02-01 00:00", "2100-03-01 00:00"),  # none
        (Period.QUARTER, "UTC", "2026-03-31 23:59", "2026-01-01 00:00", "2026-04-01 00:00"),
        (Period.QUARTER, "UTC", "2026-04-01 00:00", "2026-04-01 00:00", "2026-07-01 00:00"),
        (Period.QUARTER, "UTC", "2026-09-30 12:00", "2026-07-01 00:00", "2026-10-01 00:00"),
        (Period.QUARTER, "UTC", "2026-12-31 23:59", "2026-10-01 00:00", "2027-01-01 00:00"),
        (Period.YEAR, "UTC", "2028-02-29 12:00", "2028-01-01 00:00", "2029-01-01 00:00"),
        # Los Angeles: clocks go forward on 8 March 2026 and back on 1 November 2026, at 02:00.
        (Period.DAY, "America/Los_Angeles", "2026-03-08 20:00", "2026-03-08 08:00", "2026-03-09 07:00"),
        (Period.DAY, "America/Los_Angeles", "2026-11-01 20:00", "2026-11-01 07:00", "2026-11-02 08:00"),
        (Period.MONTH, "America/Los_Angeles", "2026-03-15 00:00", "2026-03-01 08:00", "2026-04-01 07:00"),
        (Period.MONTH, "America/Los_Angeles", "2026-11-01 07:00", "2026-11-01 07:00", "2026-12-01 08:00"),
        (Period.MONTH, "America/Los_Angeles", "2026-11-01 06:59", "2026-10-01 07:00", "2026-11-01 07:00"),
        (Period.WEEK, "America/Los_Angeles", "2026-11-02 07:59", "2026-10-26 07:00", "2026-11-02 08:00"),
        (Period.YEAR, "America/Los_Angeles", "2027-01-01 07:59", "2026-01-01 08:00", "2027-01-01 08:00"),
        # Kolkata: half an hour off, no daylight saving.
        (Period.DAY, "Asia/Kolkata", "2026-11-22 18:29", "2026-11-21 18:30", "2026-11-22 18:30"),
        (Period.DAY, "Asia/Kolkata", "2026-11-22 18:30", "2026-11-22 18:30", "2026-11-23 18:30"),
        (Period.MONTH, "Asia/Kolkata", "2026-11-30 18:30", "2026-11-30 18:30", "2026-12-31 18:30"),
        (Period.QUARTER, "Asia/Kolkata", "2026-12-31 18:29", "2026-09-30 18:30", "2026-12-31 18:30"),
        # Cairo: on 24 April 2026 there is no midnight (00:00 is 01:00). Havana: 00:30 came twice on 3 November 2024;
        # a day that is over, as its government moves the clocks at short notice, and systems know different rules of the future.
        (Period.DAY, "Africa/Cairo", "2026-04-24 12:00", "2026-04-23 22:00", "2026-04-24 21:00"),
        (Period.DAY, "America/Havana", "2024-11-03 05:30", "2024-11-03 04:00", "2024-11-04 05:00"),
    ],
)
def test_bounds_are_local_midnights(period: Period, zone: str, moment: str, starts_at: str, ends_at: str) -> None:
    assert period.bounds(utc(moment), zoneinfo.ZoneInfo(zone)) == (utc(starts_at), utc(ends_at))


def test_bounds_of_a_total_have_no_end() -> None:
    assert Period.TOTAL.bounds(utc("2026-11-22 12:00"), zoneinfo.ZoneInfo("Asia/Kolkata")) == (utc("2020-01-01"), None)


@settings(deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    period=st.sampled_from([period for period in Period if period != Period.TOTAL]),
    moment=st.integers(0, 15 * 366 * 86400).map(lambda seconds: utc("2025-01-01") + timedelta(seconds=seconds)),
    zone=st.timezones(),
)
def test_bounds_tile_the_time_line(period: Period, moment: datetime, zone: zoneinfo.ZoneInfo) -> None:
    starts_at, ends_at = period.bounds(moment, zone)

    assert ends_at is not None
    assert starts_at <= moment < ends_at
    assert period.bounds(starts_at, zone) == (starts_at, ends_at)
    assert period.bounds(ends_at, zone)[0] == ends_at
    assert period.bounds(starts_at - timedelta(microseconds=1), zone)[1] == starts_at


# --- Who may set ------------------------------------------------------------------------------------------------------

DENIED = (
    "Studio owners set the budgets of the studio and of projects, and a project's owners those of its other members. "
    "Studio owners are: olive."
)


def test_create_is_for_studio_owners_and_for_owners_about_other_members(project: Project, editor: User) -> None:
    owner = factories.member(project, Role.OWNER)

    def create(project: Project | None, user: User | None) -> Budget:
        return budgets.create(
            project=project, user=user, period=Period.MONTH, enforcement=Enforcement.HARD, limit=DOLLAR, by=owner
        )

    for scope in (
        (None, None),
        (project, None),
        (project, owner),
        (factories.ProjectFactory(created_by=owner), editor),
    ):
        with pytest.raises(PermissionDenied) as denied:
            create(*scope)
        assert str(denied.value) == DENIED
    assert create(project, editor).created_by == owner
    assert Budget.objects.count() == 1


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR, Role.APPROVER])
def test_change_and_archive_are_denied_to_members(project: Project, editor: User, role: Role) -> None:
    member, budget = factories.member(project, role), factories.budget(project, DOLLAR, user=editor)

    for attempt in (
        lambda: budgets.change_limit(budget, limit=2 * DOLLAR, by=member),
        lambda: budgets.archive(budget, by=member),
    ):
        with pytest.raises(PermissionDenied) as denied:
            attempt()
        assert str(denied.value) == DENIED
    budget.refresh_from_db()
    assert (budget.limit, budget.archived_at) == (DOLLAR, None)


def test_owner_does_not_touch_the_budget_that_binds_them(project: Project) -> None:
    owner = factories.member(project, Role.OWNER)
    own, of_project = factories.budget(project, DOLLAR, user=owner), factories.budget(project, DOLLAR)

    for budget in (own, of_project):
        with pytest.raises(PermissionDenied):
            budgets.change_limit(budget, limit=2 * DOLLAR, by=owner)
        with pytest.raises(PermissionDenied):
            budgets.archive(budget, by=owner)


def test_superuser_who_is_switched_off_sets_nothing(project: Project) -> None:
    gone = factories.UserFactory(is_superuser=True, is_active=False)

    with pytest.raises(PermissionDenied):
        create_month(project, by=gone)


# --- Setting budgets --------------------------------------------------------------------------------------------------


def test_create_refuses_a_second_one_of_its_kind(project: Project, editor: User, studio_owner: User) -> None:
    scopes: list[tuple[Project | None, User | None, str]] = [
        (None, None, "The studio has a budget of this kind already: change its limit instead."),
        (project, None, "The project has a budget of this kind already: change its limit instead."),
        (project, editor, "This member has a budget of this kind already: change its limit instead."),
    ]
    for scope, user, message in scopes:
        first = create_month(scope, user=user, by=studio_owner)
        with pytest.raises(ValidationError) as invalid:
            create_month(scope, user=user, by=studio_owner)
        assert invalid.value.messages == [message]
        budgets.archive(first, by=studio_owner)
        create_month(scope, user=user, by=studio_owner)
    assert Budget.objects.active().count() == 3


def test_limit_below_zero_is_refused(project: Project, studio_owner: User) -> None:
    with pytest.raises(ValidationError) as invalid:
        create_month(project, by=studio_owner, limit=-1)
    assert invalid.value.message_dict == {"limit": ["A limit is zero or more dollars."]}

    budget = create_month(project, by=studio_owner, limit=0)
    with pytest.raises(ValidationError) as invalid:
        budgets.change_limit(budget, limit=-1, by=studio_owner)
    assert invalid.value.message_dict == {"limit": ["A limit is zero or more dollars."]}
    budget.refresh_from_db()
    assert budget.limit == 0


def test_budget_of_a_member_needs_the_project(editor: User, studio_owner: User) -> None:
    with pytest.raises(ValidationError) as invalid:
        create_month(None, user=editor, by=studio_owner)
    assert invalid.value.message_dict == {"project": ["A member's budget is one in a project: name the project."]}


def test_change_limit_works_on_the_row_as_it_is_now(project: Project, studio_owner: User) -> None:
    budget = factories.budget(project, 5 * DOLLAR)
    stale = Budget.objects.get(pk=budget.pk)
    budgets.archive(budget, by=studio_owner)
    archived_at = budget.archived_at

    with pytest.raises(ValidationError) as invalid:
        budgets.change_limit(stale, limit=9 * DOLLAR, by=studio_owner)
    assert invalid.value.messages == ["This budget is archived: make a new one instead."]
    budgets.archive(stale, by=studio_owner)
    assert Budget.objects.get(pk=budget.pk).archived_at == archived_at
    assert Budget.objects.get(pk=budget.pk).limit == 5 * DOLLAR


def test_change_of_a_limit_stays_in_the_history(project: Project, studio_owner: User) -> None:
    budget = factories.budget(project, 5 * DOLLAR)
    budgets.change_limit(budget, limit=9 * DOLLAR, by=studio_owner)

    assert list(budget.history.order_by("history_id").values_list("limit", flat=True)) == [5 * DOLLAR, 9 * DOLLAR]


@pytest.mark.django_db(transaction=True)
def test_till_is_held_in_a_transaction_only() -> None:
    with pytest.raises(RuntimeError, match=r"^Money moves inside a transaction only\.$"):
        budgets.hold_till()


# --- Periods ----------------------------------------------------------------------------------------------------------


def test_open_period_is_made_once(project: Project) -> None:
    budget = factories.budget(project, DOLLAR, period=Period.MONTH)
    now = utc("2027-01-15 12:00")

    first = budgets.open_period(budget, now)
    assert budgets.open_period(budget, now + timedelta(days=16)) == first
    following = budgets.open_period(budget, utc("2027-02-01 00:00"))
    assert (following.starts_at, following.ends_at) == (utc("2027-02-01 00:00"), utc("2027-03-01 00:00"))
    assert budget.periods.count() == 3


def test_a_clock_that_was_ahead_changes_no_present_period(project: Project) -> None:
    budget = factories.budget(project, DOLLAR, period=Period.MONTH)
    present = budgets.open_period(budget, utc("2027-01-15 12:00"))
    ahead = budgets.open_period(budget, utc("2027-02-24 12:00"))

    assert budgets.open_period(budget, utc("2027-01-15 12:01")) == present
    assert budgets.open_period(budget, utc("2027-02-01 00:00")) == ahead


@pytest.mark.parametrize("days", [1, 40])
def test_a_moment_of_a_clock_that_is_ahead_gives_nobody_the_next_limit(project: Project, days: int) -> None:
    start = utc("2027-01-15 12:00")
    with time_machine.travel(start, tick=False) as clock:
        factories.budget(project, 2 * DOLLAR, period=Period.DAY)
        factories.reservation(project, amount=DOLLAR)
        clock.move_to(start + timedelta(days=days))
        factories.reservation(project, amount=2 * DOLLAR)
        clock.move_to(start + timedelta(minutes=1))
        factories.reservation(project, amount=DOLLAR)
        with pytest.raises(spend.OverBudget):
            factories.reservation(project, amount=1)
        [told] = budgets.figures(Budget.objects.all())
        assert (told.starts_at, told.ends_at, told.free) == (utc("2027-01-15 00:00"), utc("2027-01-16 00:00"), 0)
        clock.move_to(start + timedelta(days=days, minutes=1))
        with pytest.raises(spend.OverBudget):
            factories.reservation(project, amount=1)


def test_a_budget_that_was_made_by_a_clock_ahead_counts_today(project: Project) -> None:
    with time_machine.travel(utc("2027-03-01 12:00"), tick=False) as clock:
        factories.budget(project, 2 * DOLLAR, period=Period.DAY)
        factories.reservation(project, amount=2 * DOLLAR)
        clock.move_to(utc("2027-01-15 12:00"))
        factories.reservation(project, amount=2 * DOLLAR)
        with pytest.raises(spend.OverBudget):
            factories.reservation(project, amount=1)


def test_the_time_before_a_period_that_a_clock_ahead_has_opened_joins_it(project: Project) -> None:
    """The zone was changed meanwhile, so that the periods don't fit: there is no limit for the gap between them."""
    budget = factories.budget(project, DOLLAR, period=Period.DAY)
    budgets.open_period(budget, utc("2027-01-15 12:00"))
    ahead = budgets.open_period(budget, utc("2027-01-17 12:00"))
    Project.objects.update(time_zone="Etc/GMT-12")

    present = budgets.open_period(Budget.objects.get(), utc("2027-01-16 13:00"))

    assert (present, present.starts_at, present.ends_at) == (ahead, utc("2027-01-16 12:00"), utc("2027-01-18 00:00"))


@pytest.mark.both_databases
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one machine, and its clock is the only one")
def test_periods_go_by_the_databases_clock(project: Project, settings: object) -> None:
    settings.MONEY_CLOCK = "projects.clock.of_database"
    real = timezone.now()
    budget = factories.budget(project, 2 * DOLLAR, period=Period.MONTH)
    with time_machine.travel(real + timedelta(days=40)):
        entry = factories.reservation(project, amount=2 * DOLLAR)
        with pytest.raises(spend.OverBudget):
            factories.reservation(project, amount=1)

    assert abs(entry.created_at - real) < timedelta(minutes=1)
    assert budget.periods.count() == 1


@pytest.mark.parametrize(
    ("period", "old", "new", "moment", "starts_at", "ends_at"),
    [
        # West: eight hours of November are left in Los Angeles; they join December.
        (Period.MONTH, "UTC", "America/Los_Angeles", "2026-12-01 03:00", "2026-12-01 00:00", "2027-01-01 08:00"),
        (Period.MONTH, "UTC", "America/Los_Angeles", "2026-12-05 03:00", "2026-12-01 08:00", "2027-01-01 08:00"),
        # East: December began there before November ended here.
        (Period.MONTH, "UTC", "Asia/Kolkata", "2026-12-01 03:00", "2026-12-01 00:00", "2026-12-31 18:30"),
        (Period.DAY, "UTC", "America/Los_Angeles", "2026-11-23 03:00", "2026-11-23 00:00", "2026-11-24 08:00"),
        # Of a day whatever is left joins the next one.
        (Period.DAY, "UTC", "Asia/Kolkata", "2026-11-23 03:00", "2026-11-23 00:00", "2026-11-24 18:30"),
        (Period.DAY, "UTC", "Asia/Kolkata", "2026-11-24 19:00", "2026-11-24 18:30", "2026-11-25 18:30"),
        (Period.WEEK, "UTC", "America/Los_Angeles", "2026-11-23 03:00", "2026-11-23 00:00", "2026-11-30 08:00"),
        (Period.WEEK, "UTC", "Asia/Kolkata", "2026-11-23 03:00", "2026-11-23 00:00", "2026-11-29 18:30"),
        (Period.TOTAL, "UTC", "Asia/Kolkata", "2026-12-01 03:00", "2020-01-01 00:00", None),
    ],
)
def test_changed_zone_applies_from_the_next_period(
    project: Project, period: Period, old: str, new: str, moment: str, starts_at: str, ends_at: str | None
) -> None:
    project.time_zone = old
    project.save()
    with time_machine.travel(utc("2026-11-22 12:00"), tick=False):
        budget = factories.budget(project, 10 * DOLLAR, period=period)
    present = budget.periods.get()
    project.time_zone = new
    project.save()
    budget = Budget.objects.get()

    if present.ends_at:
        assert budgets.open_period(budget, present.ends_at - timedelta(seconds=1)) == present
    with time_machine.travel(utc(moment), tick=False):
        told = budgets.figures(Budget.objects.all())[0]
        opened = budgets.open_period(budget, utc(moment))
    expected = (utc(starts_at), utc(ends_at) if ends_at else None)
    assert (opened.starts_at, opened.ends_at) == expected
    assert (told.starts_at, told.ends_at) == expected


def test_moving_the_zone_to_and_fro_buys_no_further_limit(project: Project) -> None:
    """Twelve months in which the zone jumps over half the globe at each turn have twelve or thirteen month periods."""
    with time_machine.travel(utc("2026-01-15 12:00"), tick=False):
        factories.budget(project, DOLLAR, period=Period.MONTH)
    for hour in range(0, 365 * 24, 23):
        project.time_zone = ("Pacific/Kiritimati", "Pacific/Pago_Pago")[hour % 2]
        project.save()
        budgets.open_period(Budget.objects.get(), utc("2026-01-15 12:00") + timedelta(hours=hour))

    periods = list(BudgetPeriod.objects.order_by("starts_at"))
    assert 12 <= len(periods) <= 13
    assert all(before.ends_at == after.starts_at for before, after in pairwise(periods))


def test_studio_budget_turns_in_the_zone_of_the_studio(project: Project) -> None:
    factories.budget(project, DOLLAR)
    Studio.objects.update(time_zone="Asia/Kolkata")
    with time_machine.travel(utc("2026-11-22 18:30"), tick=False):
        budget = factories.budget(None, DOLLAR, period=Period.DAY)

    period = budget.periods.get()
    assert (period.starts_at, period.ends_at) == (utc("2026-11-22 18:30"), utc("2026-11-23 18:30"))


@pytest.mark.parametrize(
    ("zone", "last", "first"),
    [
        ("America/Los_Angeles", "2026-11-01 06:59:59.999999", "2026-11-01 07:00"),
        ("America/Los_Angeles", "2026-04-01 06:59:59.999999", "2026-04-01 07:00"),
        ("Asia/Kolkata", "2026-10-31 18:29:59.999999", "2026-10-31 18:30"),
    ],
)
def test_month_budget_turns_at_local_midnight(project: Project, zone: str, last: str, first: str) -> None:
    project.time_zone = zone
    project.save()
    with time_machine.travel(utc(last), tick=False):
        budget = factories.budget(project, 2 * DOLLAR, period=Period.MONTH)
        factories.reservation(project, amount=2 * DOLLAR)
        with pytest.raises(spend.OverBudget):
            factories.reservation(project, amount=1)
    with time_machine.travel(utc(first), tick=False):
        assert budgets.figures(Budget.objects.all())[0].free == 2 * DOLLAR
        factories.reservation(project, amount=2 * DOLLAR)

    after, before = budget.periods.all()
    assert before.ends_at == after.starts_at == utc(first)
    assert balances(before) == balances(after) == (0, 2 * DOLLAR)


@pytest.mark.parametrize(
    ("zone", "period", "first", "following"),
    [
        # The clocks of Los Angeles go forward on 8 March 2026, so that the day has 23 hours, and back on 1 November.
        ("America/Los_Angeles", Period.DAY, "2026-03-08 08:00", "2026-03-09 07:00"),
        ("America/Los_Angeles", Period.DAY, "2026-11-01 07:00", "2026-11-02 08:00"),
        ("America/Los_Angeles", Period.WEEK, "2026-03-02 08:00", "2026-03-09 07:00"),
        ("America/Los_Angeles", Period.MONTH, "2026-03-01 08:00", "2026-04-01 07:00"),
        ("America/Los_Angeles", Period.MONTH, "2026-11-01 07:00", "2026-12-01 08:00"),
        ("America/Los_Angeles", Period.QUARTER, "2026-10-01 07:00", "2027-01-01 08:00"),
        ("Asia/Kolkata", Period.DAY, "2026-03-07 18:30", "2026-03-08 18:30"),
        ("Asia/Kolkata", Period.MONTH, "2026-02-28 18:30", "2026-03-31 18:30"),
        ("Asia/Kolkata", Period.MONTH, "2026-10-31 18:30", "2026-11-30 18:30"),
    ],
)
def test_budget_lasts_from_local_midnight_to_local_midnight_over_changes_of_the_clock(
    project: Project, zone: str, period: Period, first: str, following: str
) -> None:
    project.time_zone = zone
    project.save()
    instant = timedelta(microseconds=1)
    with time_machine.travel(utc(first) - instant, tick=False):
        budget = factories.budget(project, DOLLAR, period=period)
        factories.reservation(project, amount=DOLLAR)
    for moment in (utc(first), utc(following)):
        with time_machine.travel(moment, tick=False):
            factories.reservation(project, amount=DOLLAR)
        with time_machine.travel(moment + instant, tick=False), pytest.raises(spend.OverBudget):
            factories.reservation(project, amount=1)
    with time_machine.travel(utc(following) - instant, tick=False):
        assert budget.bounds(None, utc(following) - instant) == (utc(first), utc(following))

    assert [balances(each) for each in budget.periods.all()] == [(0, DOLLAR)] * 3


# --- A budget that is created later -----------------------------------------------------------------------------------


def test_new_budget_opens_with_what_was_booked_since_its_period_began(project: Project, editor: User) -> None:
    factories.budget(project, 100 * DOLLAR)
    elsewhere = factories.ProjectFactory()
    factories.budget(elsewhere, 100 * DOLLAR)
    with time_machine.travel("2026-10-31T23:59Z", tick=False):
        earlier = factories.reservation(project, editor, amount=1 * DOLLAR)
    with time_machine.travel("2026-11-02T12:00Z", tick=False):
        spend.charge(earlier, amount=1 * DOLLAR, key="october's, charged in november")
        held = factories.reservation(project, editor, amount=2 * DOLLAR)
        charged = factories.reservation(project, amount=4 * DOLLAR)
        spend.charge(charged, amount=5 * DOLLAR, key="charge")
        spend.adjust(charged, amount=-3 * DOLLAR, key="adjust", reason="bill")
        released = factories.reservation(project, editor, amount=8 * DOLLAR)
        spend.release(released, key="release")
        factories.reservation(elsewhere, editor, amount=16 * DOLLAR)

        month = {"period": Period.MONTH}
        of_project = factories.budget(project, DOLLAR, **month).periods.get()
        of_member = factories.budget(project, DOLLAR, user=editor, **month).periods.get()
        of_studio = factories.budget(None, DOLLAR, **month).periods.get()
        total = factories.budget(None, DOLLAR, period=Period.TOTAL).periods.get()
        assert balances(of_project) == (2 * DOLLAR, 2 * DOLLAR)
        assert balances(of_member) == (0, 2 * DOLLAR)
        assert balances(of_studio) == (2 * DOLLAR, 18 * DOLLAR)
        assert balances(total) == (3 * DOLLAR, 18 * DOLLAR)

        spend.charge(held, amount=3 * DOLLAR, key="later charge")
        spend.charge(released, amount=7 * DOLLAR, key="late success")
        spend.adjust(earlier, amount=1 * DOLLAR, key="later adjust", reason="bill")
    assert balances(of_project) == (12 * DOLLAR, 0)
    assert balances(of_member) == (10 * DOLLAR, 0)
    assert balances(of_studio) == (12 * DOLLAR, 16 * DOLLAR)
    assert balances(total) == (14 * DOLLAR, 16 * DOLLAR)


def test_new_budget_counts_from_the_very_start_of_its_period(project: Project) -> None:
    factories.budget(project, 100 * DOLLAR)
    with time_machine.travel("2026-10-31T23:59:59.999999Z", tick=False):
        factories.reservation(project, amount=1 * DOLLAR)
    with time_machine.travel("2026-11-01T00:00Z", tick=False):
        factories.reservation(project, amount=2 * DOLLAR)
        spend.charge(factories.reservation(project, amount=4 * DOLLAR), amount=4 * DOLLAR, key="charge")
        month = factories.budget(project, DOLLAR, period=Period.MONTH)

    assert balances(month.periods.get()) == (4 * DOLLAR, 2 * DOLLAR)


def test_new_budget_below_what_was_booked_lets_nothing_pass(project: Project) -> None:
    factories.budget(project, 100 * DOLLAR)
    held = factories.reservation(project, amount=5 * DOLLAR)
    factories.budget(project, 3 * DOLLAR, period=Period.YEAR)

    with pytest.raises(spend.OverBudget) as refused:
        factories.reservation(project, amount=1)
    assert refused.value.free == -2 * DOLLAR
    spend.charge(held, amount=2 * DOLLAR, key="charge")
    factories.reservation(project, amount=1 * DOLLAR)


def test_archived_budget_keeps_its_holds_and_the_new_one_counts_them(project: Project, studio_owner: User) -> None:
    old = factories.budget(project, 4 * DOLLAR)
    held = factories.reservation(project, amount=2 * DOLLAR)
    released = factories.reservation(project, amount=2 * DOLLAR)
    spend.release(released, key="release")
    budgets.archive(old, by=studio_owner)
    with pytest.raises(spend.NoBudget):
        factories.reservation(project, amount=1)

    new = factories.budget(project, 4 * DOLLAR)
    spend.charge(held, amount=2 * DOLLAR, key="charge")
    spend.charge(released, amount=2 * DOLLAR, key="late success")

    assert balances(old.periods.get()) == balances(new.periods.get()) == (4 * DOLLAR, 0)
    with pytest.raises(spend.OverBudget):
        factories.reservation(project, amount=1)


# --- Figures ----------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_present_period(project: Project) -> None:
    with time_machine.travel("2026-11-22T12:00Z", tick=False):
        budget = factories.budget(project, 10 * DOLLAR, period=Period.MONTH)
        factories.reservation(project, amount=2 * DOLLAR)
        spend.charge(factories.reservation(project, amount=2 * DOLLAR), amount=1 * DOLLAR, key="charge")
        [november] = budgets.figures(Budget.objects.all())
    with time_machine.travel("2026-12-01T00:00Z", tick=False):
        [december] = budgets.figures(Budget.objects.all())

    ends_at = utc("2026-12-01")
    assert november == budgets.Figures(budget, utc("2026-11-01"), ends_at, spent=1 * DOLLAR, reserved=2 * DOLLAR)
    assert (november.limit, november.free) == (10 * DOLLAR, 7 * DOLLAR)
    assert december == budgets.Figures(budget, ends_at, utc("2027-01-01"), spent=0, reserved=0)


def test_figures_take_as_many_queries_for_thirty_budgets_as_for_one(project: Project) -> None:
    def queries(count: Callable[[], object]) -> int:
        with CaptureQueriesContext(connection) as captured:
            count()
        return len(captured)

    factories.budget(project, DOLLAR)
    assert queries(lambda: budgets.figures(Budget.objects.all())) == 3
    for _ in range(29):
        factories.budget(project, DOLLAR, user=factories.member(project), period=Period.MONTH)
    assert queries(lambda: budgets.figures(Budget.objects.all())) == 3
    with time_machine.travel(datetime.now(UTC) + timedelta(days=40), tick=False):
        assert queries(lambda: budgets.figures(Budget.objects.all())) == 3


def test_of_project_are_the_budgets_that_bind_everybody(project: Project, editor: User, studio_owner: User) -> None:
    studio, own = factories.budget(None, DOLLAR), factories.budget(project, DOLLAR)
    factories.budget(project, DOLLAR, user=editor)
    factories.budget(factories.ProjectFactory(), DOLLAR)
    budgets.archive(factories.budget(project, DOLLAR, period=Period.MONTH), by=studio_owner)

    assert set(budgets.of_project(project)) == {studio, own}


def test_project_totals_do_not_depend_on_budgets(project: Project, studio_owner: User) -> None:
    assert project_totals(project.pk) == {"spent": 0, "reserved": 0}
    budget = factories.budget(project, 10 * DOLLAR)
    spend.charge(factories.reservation(project, amount=2 * DOLLAR), amount=1 * DOLLAR, key="charge")
    factories.reservation(project, amount=4 * DOLLAR)
    budgets.archive(budget, by=studio_owner)

    assert project_totals(project.pk) == {"spent": 1 * DOLLAR, "reserved": 4 * DOLLAR}


def test_period_reads_as_its_budget_and_day(project: Project) -> None:
    budget = factories.budget(project, DOLLAR)
    assert str(budget.periods.get()) == f"Coffee budget, in total, hard from {date(2020, 1, 1)}"
