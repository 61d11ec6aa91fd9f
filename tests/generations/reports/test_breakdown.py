import zoneinfo
from datetime import UTC, date, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError

from generations import reports
from generations.models import Status
from generations.reports import By, Days
from projects.models import Project, Role, Studio
from tests import factories
from tests.generations.reports import books
from tests.pipeline import ENDPOINT

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
MARCH = Days(date(2026, 3, 1), date(2026, 3, 31))


def nets(rows: list[reports.Row]) -> dict[str, int]:
    return {row.key: row.amounts.net for row in rows if row.amounts != reports.Amounts()}


def test_refund_lowers_the_net_and_never_inflates_it(project: Project, editor: User) -> None:
    charge = books.paid(project, editor, NOON)
    books.refunded(charge, 2_100_000, at=NOON + timedelta(hours=5))

    totals = reports.report(reports.of_project(project), MARCH).totals

    assert (totals.charged, totals.refunded, totals.adjusted, totals.net) == (2_100_000, 2_100_000, 0, 0)
    assert totals.charges == 1


def test_adjustment_counts_with_its_sign(project: Project, editor: User) -> None:
    charge = books.paid(project, editor, NOON)
    books.adjusted(charge, -500_000, at=NOON + timedelta(hours=1))
    books.adjusted(charge, 1, at=NOON + timedelta(hours=2))

    totals = reports.report(reports.of_project(project), MARCH).totals

    assert (totals.charged, totals.adjusted, totals.net) == (2_100_000, -499_999, 1_600_001)


def test_what_is_only_reserved_is_not_spent(project: Project, editor: User) -> None:
    books.reserved(books.generation(project, editor, NOON, status=Status.QUEUED, completed_at=None))
    scope = reports.of_project(project)

    assert reports.report(scope, MARCH).totals == reports.Amounts()
    standing = reports.standing(scope)
    assert (standing.spent, standing.reserved) == (0, 2_100_000)


def test_what_is_unconfirmed_is_a_part_of_what_is_reserved(project: Project, editor: User) -> None:
    books.reserved(books.generation(project, editor, NOON, status=Status.UNCONFIRMED, completed_at=None))
    books.reserved(books.generation(project, editor, NOON, status=Status.QUEUED, completed_at=None))

    standing = reports.project_spend(project)

    assert (standing.reserved, standing.unconfirmed) == (4_200_000, 2_100_000)


def test_last_day_is_included_and_the_next_is_not(project: Project, editor: User) -> None:
    ends_at = datetime(2026, 4, 1, tzinfo=UTC)
    books.paid(project, editor, ends_at - timedelta(microseconds=1), 1)
    books.paid(project, editor, ends_at, 10)
    books.paid(project, editor, datetime(2026, 3, 1, tzinfo=UTC), 100)

    assert reports.report(reports.of_project(project), MARCH).totals.net == 101


def test_days_without_spending_are_zero_and_in_order(project: Project, editor: User) -> None:
    books.paid(project, editor, NOON, 5)

    rows = reports.breakdown(reports.of_project(project), MARCH, By.DAY)

    assert [row.key for row in rows] == [f"2026-03-{day:02}" for day in range(1, 32)]
    assert nets(rows) == {"2026-03-10": 5}


@pytest.mark.parametrize(
    ("zone", "moment", "day"),
    [
        # Clocks go forward at 10:00 UTC on 8 March, so that local midnight moves from 08:00 to 07:00 UTC.
        ("America/Los_Angeles", datetime(2026, 3, 8, 7, 59, 59, tzinfo=UTC), "2026-03-07"),
        ("America/Los_Angeles", datetime(2026, 3, 8, 8, tzinfo=UTC), "2026-03-08"),
        ("America/Los_Angeles", datetime(2026, 3, 9, 6, 59, 59, tzinfo=UTC), "2026-03-08"),
        ("America/Los_Angeles", datetime(2026, 3, 9, 7, tzinfo=UTC), "2026-03-09"),
        # They go back at 01:00 UTC on 25 October: a day of 25 hours.
        ("Europe/Berlin", datetime(2026, 10, 24, 22, tzinfo=UTC), "2026-10-25"),
        ("Europe/Berlin", datetime(2026, 10, 25, 22, 59, 59, tzinfo=UTC), "2026-10-25"),
        ("Europe/Berlin", datetime(2026, 10, 25, 23, tzinfo=UTC), "2026-10-26"),
        ("Asia/Kolkata", datetime(2026, 3, 9, 18, 29, 59, tzinfo=UTC), "2026-03-09"),
        ("Asia/Kolkata", datetime(2026, 3, 9, 18, 30, tzinfo=UTC), "2026-03-10"),
    ],
)
def test_days_are_those_of_the_projects_zone(
    project: Project, editor: User, zone: str, moment: datetime, day: str
) -> None:
    project.time_zone = zone
    project.save()
    books.paid(project, editor, moment, 7)
    scope = reports.of_project(project)
    the_day = date.fromisoformat(day)

    assert nets(reports.breakdown(scope, Days(date(2026, 3, 1), date(2026, 10, 31)), By.DAY)) == {day: 7}
    assert reports.report(scope, Days(the_day, the_day)).totals.net == 7
    for other in (the_day - timedelta(days=1), the_day + timedelta(days=1)):
        assert reports.report(scope, Days(other, other)).totals.net == 0


def test_member_is_who_it_was_spent_for(project: Project, editor: User) -> None:
    ada = factories.member(project, Role.EDITOR, username="ada")
    books.paid(project, editor, NOON, 3)
    books.paid(project, ada, NOON, 4)
    books.paid(project, ada, NOON, 4)

    rows = reports.breakdown(reports.of_project(project), MARCH, By.MEMBER)

    assert [(row.key, row.amounts.net, row.amounts.charges) for row in rows] == [("ada", 8, 2), ("eddie", 3, 1)]


def test_endpoint_has_its_title_and_an_unknown_one_its_id(project: Project, editor: User) -> None:
    books.paid(project, editor, NOON, 3)
    books.paid(project, editor, NOON, 2, endpoint="someone/gone")

    rows = reports.breakdown(reports.of_project(project), MARCH, By.ENDPOINT)

    assert [(row.key, row.label) for row in rows] == [
        (ENDPOINT, "Kling Video O3 4K: image to video"),
        ("someone/gone", "someone/gone"),
    ]


def test_tags_are_the_generations_own_else_those_of_its_picture(project: Project, editor: User) -> None:
    image = factories.source_image(project)
    image.tags = ["winter", "cups"]
    image.save()
    books.paid(project, editor, NOON, 1, image=image)
    books.paid(project, editor, NOON, 10, image=image, tags=["launch", "launch"])
    books.paid(project, editor, NOON, 100)

    rows = reports.breakdown(reports.of_project(project), MARCH, By.TAG)

    assert [(row.key, row.label, row.amounts.net) for row in rows] == [
        ("", "Untagged", 100),
        ("launch", "launch", 10),
        ("cups", "cups", 1),
        ("winter", "winter", 1),
    ]


def test_status_is_what_became_of_the_generation(project: Project, editor: User) -> None:
    books.paid(project, editor, NOON, 5)
    books.paid(project, editor, NOON, 3, status=Status.FAILED)

    rows = reports.breakdown(reports.of_project(project), MARCH, By.STATUS)

    assert [(row.key, row.label, row.amounts.net) for row in rows] == [
        ("completed", "Completed", 5),
        ("failed", "Failed", 3),
    ]


def test_wasted_is_what_failed_and_was_billed_and_what_nobody_wanted(project: Project, editor: User) -> None:
    books.paid(project, editor, NOON, 3, status=Status.FAILED)
    books.paid(project, editor, NOON, 50, status=Status.FAILED, result_ignored_at=NOON)
    books.paid(project, editor, NOON, 200, result_ignored_at=NOON)
    books.paid(project, editor, NOON, 1000)

    report = reports.report(reports.of_project(project), MARCH)

    assert (report.failed, report.ignored, report.wasted) == (53, 200, 253)


def test_failed_one_that_was_refunded_is_not_wasted(project: Project, editor: User) -> None:
    charge = books.paid(project, editor, NOON, status=Status.FAILED)
    books.refunded(charge, 2_100_000, at=NOON + timedelta(hours=5))

    assert reports.report(reports.of_project(project), MARCH).wasted == 0


def test_cost_per_finished_video_counts_waste(project: Project, editor: User) -> None:
    books.paid(project, editor, NOON, 2_000_000)
    books.paid(project, editor, NOON, 2_000_000)
    books.paid(project, editor, NOON, 1_000_001, status=Status.FAILED)

    report = reports.report(reports.of_project(project), MARCH)

    assert (report.videos, report.seconds, report.per_video) == (2, 10, 2_500_000)


def test_without_a_finished_video_there_is_no_cost_per_video(project: Project) -> None:
    assert reports.report(reports.of_project(project), MARCH).per_video is None


def test_across_projects_somebody_gets_what_they_may_see(project: Project, editor: User, studio_owner: User) -> None:
    other = factories.ProjectFactory(name="Tea")
    hidden = factories.ProjectFactory(name="Milk")
    other.memberships.create(user=editor, role=Role.VIEWER)
    for each, amount in ((project, 1), (other, 20), (hidden, 300)):
        books.paid(each, studio_owner, NOON, amount)

    def seen_by(person: User) -> dict[str, int]:
        rows = reports.breakdown(reports.of_person(person), MARCH, By.PROJECT)
        return {row.label: row.amounts.net for row in rows}

    assert seen_by(editor) == {"Tea": 20, "Coffee": 1}
    assert seen_by(studio_owner) == {"Milk": 300, "Tea": 20, "Coffee": 1}
    assert seen_by(factories.UserFactory()) == {}
    assert reports.standing(reports.of_person(editor)).spent == 21


def test_across_projects_days_are_the_studios(editor: User, project: Project) -> None:
    Studio.objects.update_or_create(pk=1, defaults={"time_zone": "Asia/Kolkata"})
    books.paid(project, editor, datetime(2026, 3, 9, 18, 30, tzinfo=UTC), 7)

    rows = reports.breakdown(reports.of_person(editor), MARCH, By.DAY)

    assert nets(rows) == {"2026-03-10": 7}


@pytest.mark.parametrize(
    ("first", "last", "name", "sentence"),
    [
        ("2026-03-02", "2026-03-01", "to", "The range ends on 2026-03-01, before it begins on 2026-03-02."),
        ("0001-01-01", "2026-03-01", "from", "Take a day from 2020-01-01 to 2099-12-31; 0001-01-01 is none."),
        ("2026-03-01", "9999-12-31", "to", "Take a day from 2020-01-01 to 2099-12-31; 9999-12-31 is none."),
        ("2020-01-01", "2090-01-01", "to", "The range has more than 3660 days: take a shorter one."),
    ],
)
def test_range_that_is_none_is_refused(first: str, last: str, name: str, sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Days(date.fromisoformat(first), date.fromisoformat(last))

    assert refused.value.message_dict == {name: [sentence]}


def test_what_is_left_out_of_a_range_is_the_month_up_to_today() -> None:
    today = date(2026, 3, 10)

    assert reports.days(None, None, today=today) == Days(date(2026, 3, 1), today)
    assert reports.days(date(2026, 2, 5), None, today=today) == Days(date(2026, 2, 5), today)
    assert reports.days(None, date(2026, 2, 5), today=today) == Days(date(2026, 2, 1), date(2026, 2, 5))


def test_presets() -> None:
    today = date(2026, 3, 10)

    assert reports.this_month(today) == Days(date(2026, 3, 1), today)
    assert reports.last_month(today) == Days(date(2026, 2, 1), date(2026, 2, 28))
    assert reports.last_30_days(today) == Days(date(2026, 2, 9), today)
    assert len(list(reports.last_30_days(today))) == 30


def test_bounds_are_local_midnights() -> None:
    day = Days(date(2026, 3, 8), date(2026, 3, 8))

    starts_at, ends_at = day.bounds(zoneinfo.ZoneInfo("America/Los_Angeles"))

    assert (starts_at, ends_at) == (datetime(2026, 3, 8, 8, tzinfo=UTC), datetime(2026, 3, 9, 7, tzinfo=UTC))
