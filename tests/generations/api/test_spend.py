import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from openpyxl import load_workbook
from rest_framework.test import APIClient

from generations.models import Status
from projects.models import Period, Project, Role
from tests import factories
from tests.generations.reports import books

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
DOWNLOADS = ["entries.csv", "entries.xlsx", "breakdown.csv", "breakdown.xlsx", "focus.csv"]


@pytest.fixture(autouse=True)
def now() -> Any:
    with time_machine.travel(datetime(2026, 3, 21, tzinfo=UTC), tick=False):
        yield


def content_of(response: Any) -> bytes:
    """Read to its end, which closes its file too."""
    assert response.status_code == 200
    return b"".join(response.streaming_content)


def test_spend_says_where_the_money_stands_went_and_is_heading(api: APIClient, project: Project, editor: User) -> None:
    budget = factories.budget(project, 100_000_000, period=Period.MONTH)
    charge = books.paid(project, editor, NOON, 14_000_001)
    books.refunded(charge, 1, at=NOON)
    books.paid(project, editor, NOON, 0, status=Status.FAILED)

    data = api.get(f"/api/v1/projects/{project.pk}/spend/").json()

    assert {name: data[name] for name in ("limit", "spent", "reserved", "unconfirmed", "free", "currency")} == {
        "limit": "100.00",
        "spent": "14.00",
        "reserved": "0.00",
        "unconfirmed": "0.00",
        "free": "100.00",
        "currency": "USD",
    }
    report = data["report"]
    rows = report.pop("rows")
    assert report == {
        "from": "2026-03-01",
        "to": "2026-03-21",
        "time_zone": "UTC",
        "totals": {"net": "14.00", "charged": "14.000001", "refunded": "0.000001", "adjusted": "0.00", "charges": 2},
        "finished_videos": 1,
        "finished_seconds": 5,
        "cost_per_finished_video": "14.00",
        "wasted": {"total": "0.00", "failed": "0.00", "ignored": "0.00"},
        "by": "day",
    }
    assert len(rows) == 21
    assert rows[9] == {"key": "2026-03-10", "label": "2026-03-10", **report["totals"]}
    [forecast] = data["forecasts"]
    assert forecast["budget"] == str(budget.pk)
    assert forecast["ends_at"] == "2026-04-01T00:00:00Z"
    assert forecast["amount"] == "14.663758"
    assert forecast["method"].startswith(
        "$0.00 spent and $0.00 held in this period, and about $15 for the 11 days left"
    )


@pytest.mark.parametrize(
    ("by", "key", "label"),
    [
        ("endpoint", "kwaivgi/kling-video-o3-4k/image-to-video", "Kling Video O3 4K: image to video"),
        ("member", "eddie", "eddie"),
        ("tag", "winter", "winter"),
        ("status", "completed", "Completed"),
    ],
)
def test_breakdown(api: APIClient, project: Project, editor: User, by: str, key: str, label: str) -> None:
    books.paid(project, editor, NOON, tags=["winter"])

    report = api.get(f"/api/v1/projects/{project.pk}/spend/", {"by": by}).json()["report"]

    amounts = {"net": "2.10", "charged": "2.10", "refunded": "0.00", "adjusted": "0.00", "charges": 1}
    assert report["rows"] == [{"key": key, "label": label, **amounts}]


def test_range_is_days_of_the_project_both_included(api: APIClient, project: Project, editor: User) -> None:
    project.time_zone = "Asia/Kolkata"
    project.save()
    books.paid(project, editor, datetime(2026, 3, 9, 18, 30, tzinfo=UTC), 1)
    books.paid(project, editor, datetime(2026, 3, 11, 18, 29, 59, tzinfo=UTC), 10)
    books.paid(project, editor, datetime(2026, 3, 11, 18, 30, tzinfo=UTC), 100)

    query = {"from": "2026-03-10", "to": "2026-03-11"}
    report = api.get(f"/api/v1/projects/{project.pk}/spend/", query).json()["report"]

    assert (report["totals"]["net"], report["time_zone"]) == ("0.000011", "Asia/Kolkata")


@pytest.mark.parametrize(
    ("query", "attr", "detail"),
    [
        ({"from": "2026-03-02", "to": "2026-03-01"}, "to", "The range ends on 2026-03-01, before it begins on 2026-03-02."),
        ({"from": "0001-01-01"}, "from", "Take a day from 2020-01-01 to 2099-12-31; 0001-01-01 is none."),
        ({"to": "soon"}, "to", "Date has wrong format. Use one of these formats instead: YYYY-MM-DD."),
        ({"by": "mood"}, "by", '"mood" is not a valid choice.'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["", *DOWNLOADS])
def test_bad_query_is_refused_with_a_sentence(
    api: APIClient, project: Project, name: str, query: dict[str, str], attr: str, detail: str
) -> None:
    if "by" in query and name.startswith(("entries", "focus")):
        detail = "This address has no parameter “by”. It takes: from, to."

    response = api.get(f"/api/v1/projects/{project.pk}/spend/{name}", query)

    assert response.status_code == 400
    [error] = response.json()["errors"]
    assert (error["attr"], error["detail"]) == (attr, detail)


@pytest.mark.parametrize("name", ["", *DOWNLOADS])
def test_strangers_see_nothing(api: APIClient, client: Any, name: str) -> None:
    hidden = factories.ProjectFactory(name="Milk")

    assert api.get(f"/api/v1/projects/{hidden.pk}/spend/{name}").status_code == 404
    assert client.get(f"/api/v1/projects/{hidden.pk}/spend/{name}").status_code == 401
    assert client.get(f"/api/v1/spend/{name}").status_code == 401


def test_across_projects_each_sees_their_own(
    api: APIClient, owner_api: APIClient, project: Project, editor: User
) -> None:
    hidden = factories.ProjectFactory(name="Milk")
    factories.budget(None, 50_000_000, period=Period.MONTH)
    books.paid(project, editor, NOON, 1_000_000)
    books.paid(hidden, editor, NOON, 2_000_000)

    def seen_by(api: APIClient) -> tuple[Any, ...]:
        data = api.get("/api/v1/spend/", {"by": "project"}).json()
        rows = [(row["label"], row["net"]) for row in data["report"]["rows"]]
        return data["limit"], data["spent"], len(data["forecasts"]), data["since"], rows

    assert seen_by(api) == (None, "1.00", 0, None, [("Coffee", "1.00")])
    assert seen_by(owner_api) == ("50.00", "3.00", 1, None, [("Milk", "2.00"), ("Coffee", "1.00")])


def test_entries_as_csv(api: APIClient, project: Project, editor: User) -> None:
    books.paid(project, editor, NOON)

    response = api.get(f"/api/v1/projects/{project.pk}/spend/entries.csv", headers={"accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(content_of(response).decode("utf-8-sig"), newline="")))

    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"] == ('attachment; filename="coffee-ledger-2026-03-01-to-2026-03-21.csv"')
    assert [(row["kind"], row["spent_usd"], row["held_usd"]) for row in rows] == [
        ("reserve", "0.00", "2.10"),
        ("charge", "2.10", "-2.10"),
    ]


def test_entries_as_xlsx(api: APIClient, project: Project, editor: User) -> None:
    books.paid(project, editor, NOON)

    response = api.get(f"/api/v1/projects/{project.pk}/spend/entries.xlsx")
    [sheet] = load_workbook(io.BytesIO(content_of(response))).worksheets

    assert response["Content-Disposition"] == 'attachment; filename="coffee-ledger-2026-03-01-to-2026-03-21.xlsx"'
    assert [row[3].value for row in sheet] == ["kind", "reserve", "charge"]


def test_breakdown_as_csv_and_xlsx(api: APIClient, project: Project, editor: User) -> None:
    books.paid(project, editor, NOON)
    url = f"/api/v1/projects/{project.pk}/spend/breakdown"

    text = content_of(api.get(f"{url}.csv", {"by": "member"})).decode("utf-8-sig")
    [sheet] = load_workbook(io.BytesIO(content_of(api.get(f"{url}.xlsx", {"by": "member"})))).worksheets

    assert text.splitlines()[1] == "eddie,eddie,2.10,2.10,0.00,0.00,1"
    assert [cell.value for cell in sheet[2]] == ["eddie", "eddie", 2.1, 2.1, 0, 0, 1]


def test_focus_has_no_byte_order_mark(api: APIClient, owner_api: APIClient, project: Project, editor: User) -> None:
    books.paid(project, editor, NOON)

    one = content_of(api.get(f"/api/v1/projects/{project.pk}/spend/focus.csv"))
    across = content_of(owner_api.get("/api/v1/spend/focus.csv"))

    assert one.startswith(b"BilledCost,BillingAccountId,")
    assert one == across
    assert len(one.splitlines()) == 2


def test_viewer_may_read_it_all(project: Project, editor: User, api: APIClient) -> None:
    viewer = factories.member(project, Role.VIEWER, username="vera")
    api.force_authenticate(viewer)

    assert api.get(f"/api/v1/projects/{project.pk}/spend/").status_code == 200
    for name in DOWNLOADS:
        assert content_of(api.get(f"/api/v1/projects/{project.pk}/spend/{name}"))


def test_as_many_queries_with_1_entry_as_with_30(
    api: APIClient, project: Project, editor: User, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    factories.budget(project, 100_000_000)
    books.paid(project, editor, NOON)
    url = f"/api/v1/projects/{project.pk}/spend/"
    with django_assert_max_num_queries(100) as few:
        api.get(url)

    for _ in range(30):
        books.paid(project, editor, NOON)

    with django_assert_max_num_queries(len(few)):
        api.get(url)
