"""The report at 400 and at 100,000 ledger entries: as many queries, the ledger read by an index, exports in bounded memory."""

import re
import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from generations import reports
from generations.models import Generation, Status
from generations.reports import By, Days, Scope
from generations.reports.breakdown import SPENDING
from projects.models import EntryKind, Project, SpendEntry
from tests import factories
from tests.generations.reports import books
from tests.pipeline import ENDPOINT

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

START = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = Days(date(2026, 1, 1), date(2026, 12, 31))
MARCH = Days(date(2026, 3, 1), date(2026, 3, 31))
MINUTES_OF_A_YEAR = 365 * 24 * 60


@pytest.fixture(autouse=True)
def now() -> Iterator[None]:
    """In the year of the entries: a forecast asks more where it has three days of the last fourteen to tell from."""
    with time_machine.travel(datetime(2026, 7, 1, 12, tzinfo=UTC)):
        yield


def fill(project: Project, user: User, entries: int) -> None:
    """As many ledger entries, a reservation and a charge each, over the year."""
    count = entries // 2
    times = [START + timedelta(minutes=number * MINUTES_OF_A_YEAR // count) for number in range(count)]
    made = [
        Generation(
            project=project,
            requested_by=user,
            endpoint=ENDPOINT,
            quote=books.QUOTE,
            status=Status.FAILED if number % 10 == 0 else Status.COMPLETED,
            tags=[f"tag {number % 7}"],
            submitted_at=at,
            completed_at=at,
            created_at=at,
        )
        for number, at in enumerate(times)
    ]
    Generation.objects.bulk_create(made, batch_size=2000)
    common = {"project": project, "user": user, "endpoint": ENDPOINT}
    held = [
        SpendEntry(
            key=f"reserve:{each.pk}",
            kind=EntryKind.RESERVE,
            reference=each.pk,
            reserved_delta=books.QUOTE,
            created_at=each.created_at,
            **common,
        )
        for each in made
    ]
    SpendEntry.objects.bulk_create(held, batch_size=2000)
    SpendEntry.objects.bulk_create(
        (
            SpendEntry(
                key=f"charge:{uuid.uuid4()}",
                kind=EntryKind.CHARGE,
                reference=each.reference,
                reserved_delta=-books.QUOTE,
                spent_delta=books.QUOTE,
                reservation=each,
                ends=each,
                created_at=each.created_at,
                **common,
            )
            for each in held
        ),
        batch_size=2000,
    )


def whole_report(scope: Scope, days: Days) -> dict[str, Any]:
    standing = reports.standing(scope)
    return {
        "standing": standing,
        "forecasts": reports.forecasts(standing),
        "report": reports.report(scope, days),
        "rows": {by: reports.breakdown(scope, days, by) for by in By},
    }


def queries_of(scope: Scope, days: Days) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        whole_report(scope, days)
    return [query["sql"] for query in captured]


def plan(scope: Scope, days: Days) -> str:
    """How the database reads the ledger for the report of these days."""
    entries = days.narrow(scope.entries(), scope.zone).filter(kind__in=SPENDING)
    return str(entries.order_by().values_list("endpoint", "spent_delta").explain())


def assert_ledger_is_read_by(index: str, explained: str) -> None:
    assert re.search(index, explained)
    assert "Seq Scan on projects_spendentry" not in explained
    assert "SCAN projects_spendentry" not in explained.replace("SCAN projects_spendentry USING INDEX", "")


@pytest.mark.slow
def test_report_asks_as_often_at_100_000_entries_and_reads_by_an_index(project: Project, studio_owner: User) -> None:
    small = factories.ProjectFactory(name="Small")
    for each in (project, small):
        factories.budget(each, 1_000_000_000_000)
    fill(small, studio_owner, 400)
    few = len(queries_of(reports.of_project(small), YEAR))
    few_across = len(queries_of(reports.of_person(studio_owner), YEAR))

    fill(project, studio_owner, 100_000)
    analyse()
    scope = reports.of_project(project)

    assert len(queries_of(scope, YEAR)) == few
    assert len(queries_of(reports.of_person(studio_owner), YEAR)) == few_across
    totals = reports.report(scope, YEAR).totals
    assert (totals.charges, totals.net) == (50_000, 50_000 * books.QUOTE)
    # Nearly all entries are the project's, so that PostgreSQL may as well take those of the days.
    assert_ledger_is_read_by("spend_by_(project_and_)?time", plan(scope, MARCH))
    assert_ledger_is_read_by("spend_by_project_and_time|spendentry_project_id", plan(reports.of_project(small), YEAR))
    assert_ledger_is_read_by("spend_by_time", plan(reports.of_person(studio_owner), MARCH))


def analyse() -> None:
    """What PostgreSQL's autovacuum does by itself after a while."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


@pytest.mark.slow
def test_exports_take_no_more_memory_for_five_times_the_entries(project: Project, studio_owner: User) -> None:
    fill(project, studio_owner, 20_000)
    scope = reports.of_project(project)

    fifth, fifth_peak = read(scope, Days(date(2026, 1, 1), date(2026, 3, 14)))
    whole, whole_peak = read(scope, YEAR)

    assert (fifth, whole) == (4_000 + 2_000 + 2, 20_000 + 10_000 + 2)
    assert whole_peak < 1.3 * fifth_peak


def read(scope: Scope, days: Days) -> tuple[int, int]:
    """How many lines the CSV of the ledger and the one of FOCUS have, and the most bytes that were held while they were read."""
    tracemalloc.start()
    tables = reports.entries_table(scope, days), reports.focus_table(scope, days)
    count = sum(1 for table in tables for _ in reports.csv_lines(table))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return count, peak


def test_report_asks_as_often_at_1_000_entries(project: Project, studio_owner: User) -> None:
    factories.budget(project, 1_000_000_000_000)
    fill(project, studio_owner, 400)
    few = len(queries_of(reports.of_project(project), YEAR))

    other = factories.ProjectFactory(name="Large")
    factories.budget(other, 1_000_000_000_000)
    fill(other, studio_owner, 1000)

    assert len(queries_of(reports.of_project(other), YEAR)) == few
