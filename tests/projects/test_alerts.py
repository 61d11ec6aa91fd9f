"""What concerns people's money is told once, to whom it concerns, however many look at once."""

from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from projects import alerts
from projects.models import Alert, AlertKind, Budget, Enforcement, Notification, Period, Project, Role
from projects.money import budgets, spend
from tests import factories
from tests.projects.money.test_spend_concurrency import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

pytestmark = pytest.mark.django_db

DOLLAR = 1_000_000
# In the middle of a month and of a week.
NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)


def charge(project: Project, dollars: int, user: User | None = None) -> None:
    held = factories.reservation(project, user, dollars * DOLLAR)
    spend.charge(held, amount=dollars * DOLLAR, key=f"charge:{held.reference}")


def told(user: User) -> list[str]:
    """The titles in somebody's bell, oldest first."""
    return [row.alert.title for row in Notification.objects.filter(user=user).order_by("alert__created_at", "pk")]


def refusal(project: Project, user: User, dollars: int = 100) -> spend.SpendRefused:
    with pytest.raises(spend.SpendRefused) as refused:
        factories.reservation(project, user, dollars * DOLLAR)
    return refused.value


@pytest.fixture
def owner(project: Project) -> User:
    return factories.member(project, Role.OWNER, username="otto")


@pytest.fixture
def ten_dollars(project: Project) -> Budget:
    return factories.budget(project, 10 * DOLLAR)


# --- Thresholds -------------------------------------------------------------------------------------------------------


def test_threshold_is_told_once_with_what_is_spent_and_held(project: Project, owner: User, ten_dollars: Budget) -> None:
    charge(project, 4)
    alerts.check_budgets()
    assert told(owner) == []

    charge(project, 1)
    factories.reservation(project, amount=DOLLAR)
    alerts.check_budgets()
    alerts.check_budgets()

    assert told(owner) == ["Coffee: 50% of the budget in total is spent"]
    alert = Alert.objects.get()
    assert alert.text == "$5.00 of $10.00 is spent, and $1.00 more is held."
    assert alert.path == f"/admin/projects/budget/{ten_dollars.pk}/change/"


def test_thresholds_passed_at_once_are_told_as_the_highest_and_never_again(
    project: Project, owner: User, ten_dollars: Budget
) -> None:
    charge(project, 9)

    alerts.check_budgets()
    alerts.check_budgets()

    assert told(owner) == ["Coffee: 80% of the budget in total is spent"]
    assert sorted(Alert.objects.values_list("threshold", flat=True)) == [50, 80]


def test_the_next_threshold_is_told_when_it_is_passed(project: Project, owner: User, ten_dollars: Budget) -> None:
    charge(project, 8)
    alerts.check_budgets()
    charge(project, 2)
    alerts.check_budgets()

    assert told(owner) == [
        "Coffee: 80% of the budget in total is spent",
        "Coffee: 100% of the budget in total is spent",
    ]


def test_neither_a_raised_limit_nor_a_lower_one_tells_again(
    project: Project, owner: User, studio_owner: User, ten_dollars: Budget
) -> None:
    charge(project, 8)
    alerts.check_budgets()

    for limit in (40, 10, 16, 10):
        budgets.change_limit(ten_dollars, limit=limit * DOLLAR, by=studio_owner)
        alerts.check_budgets()

    assert told(owner) == ["Coffee: 80% of the budget in total is spent"]


def test_a_top_up_counts_as_limit_and_tells_nothing_again(
    project: Project, owner: User, studio_owner: User, ten_dollars: Budget
) -> None:
    ends_at = timezone.now() + timedelta(days=1)
    budgets.top_up(ten_dollars, amount=10 * DOLLAR, ends_at=ends_at, reason="Launch week", by=studio_owner)
    charge(project, 9)
    alerts.check_budgets()
    assert told(owner) == []

    charge(project, 1)
    alerts.check_budgets()

    assert Alert.objects.get().text == "$10.00 of $20.00 is spent."


def test_a_threshold_added_below_what_was_told_is_no_news(
    project: Project, owner: User, studio_owner: User, ten_dollars: Budget
) -> None:
    charge(project, 9)
    alerts.check_budgets()

    budgets.change_thresholds(ten_dollars, thresholds=[50, 60, 80], by=studio_owner)
    alerts.check_budgets()
    budgets.change_thresholds(ten_dollars, thresholds=[85], by=studio_owner)
    alerts.check_budgets()

    assert told(owner) == [
        "Coffee: 80% of the budget in total is spent",
        "Coffee: 85% of the budget in total is spent",
    ]


def test_a_budget_without_thresholds_tells_nothing(project: Project, owner: User, studio_owner: User) -> None:
    quiet = factories.budget(project, 10 * DOLLAR, thresholds=[], period=Period.MONTH)
    charge(project, 10)

    alerts.check_budgets()

    assert quiet.thresholds == []
    assert told(owner) == []


def test_a_limit_of_nothing_is_passed_only_by_spending(
    project: Project, owner: User, studio_owner: User, ten_dollars: Budget
) -> None:
    budgets.change_limit(ten_dollars, limit=0, by=studio_owner)
    alerts.check_budgets()
    assert told(owner) == []

    budgets.change_limit(ten_dollars, limit=10 * DOLLAR, by=studio_owner)
    charge(project, 1)
    budgets.change_limit(ten_dollars, limit=0, by=studio_owner)
    alerts.check_budgets()

    assert told(owner) == ["Coffee: 100% of the budget in total is spent"]


def test_a_new_period_arms_the_thresholds_again(project: Project, owner: User, studio_owner: User) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        budget = factories.budget(project, 10 * DOLLAR, period=Period.DAY)
        charge(project, 9)
        alerts.check_budgets()
        clock.move_to(NOW + timedelta(days=1))
        alerts.check_budgets()
        charge(project, 9)
        alerts.check_budgets()

    actual = Alert.objects.filter(kind=AlertKind.BUDGET_ACTUAL, threshold=80).order_by("created_at")
    assert [alert.budget_period.starts_at.day for alert in actual] == [18, 19]
    assert [alert.budget_period.budget for alert in actual] == [budget, budget]
    assert told(owner).count("Coffee: 80% of the budget per day is spent") == 2


def test_a_forecast_is_told_once_with_its_method_and_counts_what_is_held(project: Project, owner: User) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        factories.budget(project, 100 * DOLLAR, period=Period.MONTH)
        for amount in (4, 3):
            charge(project, amount)
            alerts.check_budgets()
            clock.shift(timedelta(days=1))
        assert told(owner) == [], "an hour of work is no pace"
        charge(project, 3)
        factories.reservation(project, amount=5 * DOLLAR)
        alerts.check_budgets()
        alerts.check_budgets()

    # $5 a day for the ten days and a half that are left of November, and $15 spent and held.
    assert told(owner) == ["Coffee: the budget per month is heading past 50%"]
    alert = Alert.objects.get(kind=AlertKind.BUDGET_FORECAST, threshold=50)
    assert alert.text.startswith(
        "At this pace it comes to about $68 of $100.00 until 1 December 2026: $10.00 spent and $5.00 held"
    )
    assert "the mean net spend of the last 2 days is about $5 a day" in alert.text


def test_a_hard_budget_that_will_not_last_is_told_with_the_day(project: Project, owner: User) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        factories.budget(project, 100 * DOLLAR, period=Period.MONTH)
        for _ in range(3):
            charge(project, 12)
            clock.shift(timedelta(days=1))
        alerts.check_budgets()

    assert told(owner) == ["Coffee: at this pace the budget per month is used up on 26 November 2026"]
    alert = Alert.objects.get(kind=AlertKind.BUDGET_FORECAST, threshold=100)
    assert alert.text.startswith(
        "At this pace $100.00 is used up on 26 November 2026, and nothing more passes until 1 December 2026: $36.00 spent"
    )


def test_what_is_spent_already_is_not_forecast_too(project: Project, owner: User) -> None:
    with time_machine.travel(NOW, tick=False):
        factories.budget(project, 10 * DOLLAR, period=Period.MONTH)
        charge(project, 10)
        alerts.check_budgets()

    assert told(owner) == ["Coffee: 100% of the budget per month is spent"]


def test_the_end_is_the_local_one_of_the_project(project: Project, owner: User) -> None:
    Project.objects.filter(pk=project.pk).update(time_zone="America/Los_Angeles")
    project.refresh_from_db()
    with time_machine.travel(NOW, tick=False):
        factories.budget(project, 10 * DOLLAR, period=Period.WEEK)
        charge(project, 10)
        alerts.check_budgets()

    assert Alert.objects.filter(threshold=100).get().text == "$10.00 of $10.00 is spent until 23 November 2026."


def test_looking_takes_the_same_number_of_queries_for_2_and_for_20_budgets_of_which_all_was_told(
    project: Project, django_assert_num_queries: object
) -> None:
    def projects(count: int) -> None:
        for _ in range(count):
            other = factories.ProjectFactory(created_by=project.created_by)
            factories.budget(other, 10 * DOLLAR)
            charge(other, 10)
        alerts.check_budgets()

    projects(2)
    with django_assert_num_queries(5):
        alerts.check_budgets()
    projects(18)
    with django_assert_num_queries(5):
        alerts.check_budgets()


# --- To whom ----------------------------------------------------------------------------------------------------------


def test_owners_approvers_and_studio_owners_hear_of_a_projects_budget(
    project: Project, owner: User, studio_owner: User, editor: User, ten_dollars: Budget
) -> None:
    approver = factories.member(project, Role.APPROVER)
    factories.member(project, Role.VIEWER)
    gone = factories.member(project, Role.OWNER, is_active=False)
    left = factories.member(project, Role.OWNER)
    project.memberships.filter(user=left).update(is_active=False)
    elsewhere = factories.member(factories.ProjectFactory(created_by=studio_owner), Role.OWNER)
    charge(project, 10)

    alerts.check_budgets()

    assert set(Notification.objects.values_list("user", flat=True)) == {owner.pk, approver.pk, studio_owner.pk}
    assert not {gone.pk, left.pk, elsewhere.pk, editor.pk} & set(Notification.objects.values_list("user", flat=True))


def test_only_studio_owners_hear_of_the_studios_budget(
    project: Project, owner: User, studio_owner: User, ten_dollars: Budget
) -> None:
    budgets.change_thresholds(ten_dollars, thresholds=[], by=studio_owner)
    studio = factories.budget(None, 10 * DOLLAR)
    charge(project, 10)

    alerts.check_budgets()

    assert told(studio_owner) == ["Studio: 100% of the budget in total is spent"]
    assert told(owner) == []
    assert Alert.objects.filter(project=None).count() == 3
    assert Alert.objects.filter(budget_period__budget=studio).count() == 3


def test_a_member_hears_of_their_own_budget_and_the_studio_does_not(
    project: Project, owner: User, studio_owner: User, editor: User, ten_dollars: Budget
) -> None:
    budgets.change_thresholds(ten_dollars, thresholds=[], by=studio_owner)
    factories.budget(project, 2 * DOLLAR, user=editor)
    charge(project, 2, editor)

    alerts.check_budgets()

    title = "eddie in Coffee: 100% of the budget in total is spent"
    assert (told(editor), told(owner), told(studio_owner)) == ([title], [title], [])


def test_where_a_project_has_nobody_else_the_studio_owners_hear_of_members_budgets(
    project: Project, studio_owner: User, editor: User
) -> None:
    factories.budget(project, 100 * DOLLAR)
    factories.budget(project, 2 * DOLLAR, user=editor)
    charge(project, 2, editor)

    alerts.check_budgets()

    assert told(studio_owner) == ["eddie in Coffee: 100% of the budget in total is spent"]


# --- Refusals ---------------------------------------------------------------------------------------------------------


def test_refusals_are_one_alert_per_person_and_hour_that_counts_them(
    project: Project, owner: User, editor: User, ten_dollars: Budget
) -> None:
    with time_machine.travel(NOW, tick=False) as clock:
        for _ in range(5):
            alerts.refused(project, editor, refusal(project, editor))
        clock.move_to(NOW + timedelta(hours=1))
        alerts.refused(project, editor, refusal(project, editor))

    assert told(owner) == ["Coffee: a request of eddie was refused for want of budget"] * 2
    assert list(Alert.objects.order_by("created_at").values_list("count", flat=True)) == [5, 1]
    assert Alert.objects.first().text == (
        "Not enough budget: this needs $100.00, $10.00 is free (Coffee budget, in total, hard, limit $10.00)."
    )


def test_who_was_refused_is_not_told_again_in_the_bell(project: Project, studio_owner: User, owner: User) -> None:
    alerts.refused(project, owner, refusal(project, owner))

    assert told(owner) == []
    assert told(studio_owner) == ["Coffee: a request of otto was refused for want of budget"]
    assert Alert.objects.get().path == f"/admin/projects/project/{project.pk}/change/"


def test_a_refusal_by_the_studios_budget_reaches_who_can_raise_it(
    project: Project, studio_owner: User, owner: User, editor: User, ten_dollars: Budget
) -> None:
    studio = factories.budget(None, DOLLAR)

    alerts.refused(project, editor, refusal(project, editor, 5))

    assert (len(told(studio_owner)), told(owner)) == (1, [])
    assert Alert.objects.get().path == f"/admin/projects/budget/{studio.pk}/change/"


def test_an_archived_project_is_no_want_of_budget(project: Project, owner: User, editor: User) -> None:
    alerts.refused(project, editor, spend.ProjectArchived(project))

    assert Alert.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_an_alert_that_can_not_be_written_fails_nobody(project: Project, editor: User, owner: User) -> None:
    error = refusal(project, editor)

    with transaction.atomic():
        transaction.set_rollback(True)
        alerts.refused(project, editor, error)
    alerts.refused(project, editor, error)

    assert len(told(owner)) == 1


# --- At once ----------------------------------------------------------------------------------------------------------


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_ten_dispatchers_tell_of_a_threshold_once(project: Project, owner: User, ten_dollars: Budget) -> None:
    factories.budget(project, 100 * DOLLAR, period=Period.MONTH, enforcement=Enforcement.SOFT)
    charge(project, 9)

    assert at_once([alerts.check_budgets] * 10) == [None] * 10

    assert told(owner).count("Coffee: 80% of the budget in total is spent") == 1
    assert len(told(owner)) == len(set(told(owner)))
    assert Alert.objects.filter(kind=AlertKind.BUDGET_ACTUAL).count() == 2


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_ten_refusals_at_once_are_one_alert_that_counts_ten(
    project: Project, owner: User, editor: User, ten_dollars: Budget
) -> None:
    error = refusal(project, editor)

    assert at_once([lambda: alerts.refused(project, editor, error)] * 10) == [None] * 10

    assert len(told(owner)) == 1
    assert Alert.objects.get().count == 10
