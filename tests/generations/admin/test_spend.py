import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from generations.models import Status
from projects.models import Enforcement, Period, Project, Role
from tests import factories
from tests.generations.reports import books

pytestmark = pytest.mark.django_db

SPEND = reverse("spend")
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def now() -> Any:
    with time_machine.travel(datetime(2026, 3, 21, 9, tzinfo=UTC), tick=False):
        yield


def words(response: Any) -> str:
    """The text of the page, without tags and in one line."""
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def test_tiles_add_up_and_say_which_budget(editor_client: Client, project: Project, editor: User) -> None:
    with time_machine.travel(datetime(2026, 3, 10, 12, tzinfo=UTC), tick=False):
        books.paid(project, editor, NOON, 14_000_000)
        books.reserved(books.generation(project, editor, NOON, status=Status.UNCONFIRMED, completed_at=None))
        factories.budget(project, 100_000_000, period=Period.MONTH)

    shown = words(editor_client.get(SPEND, {"project": project.pk}))

    assert "Limit $100.00 Coffee, per month" in shown
    assert "Spent $14.00 in this period" in shown
    assert "Held $2.10 for what is on its way" in shown
    assert "Unconfirmed $2.10 the part of what is held" in shown
    assert "Free $83.90 until 1 April 2026" in shown
    assert "about $30 by 31 March 2026, of $100.00" in shown
    assert "Forecast: $14.00 spent and $2.10 held in this period, and about $14 for the 10 days left" in shown


def test_forecast_above_the_limit_says_when_it_is_reached(
    editor_client: Client, project: Project, editor: User
) -> None:
    with time_machine.travel(NOON, tick=False):
        books.paid(project, editor, NOON, 14_000_000)
        factories.budget(project, 20_000_000, period=Period.MONTH)

    response = editor_client.get(SPEND, {"project": project.pk})

    assert "used up on 26 March 2026 at this pace, of $20.00" in words(response)
    assert "$27" not in words(response)


def test_a_soft_budget_is_heading_past_its_limit(editor_client: Client, project: Project, editor: User) -> None:
    with time_machine.travel(NOON, tick=False):
        books.paid(project, editor, NOON, 14_000_000)
        factories.budget(project, 20_000_000, period=Period.MONTH, enforcement=Enforcement.SOFT)

    response = editor_client.get(SPEND, {"project": project.pk})

    assert '<span class="studio-bad">about $28 by 31 March 2026, of $20.00</span>' in response.content.decode()
    assert "At this pace the limit is reached on 26 March 2026." in words(response)


def test_on_the_first_day_there_is_no_forecast(editor_client: Client, project: Project, editor: User) -> None:
    factories.budget(project, 20_000_000, period=Period.MONTH)
    books.paid(project, editor, datetime(2026, 3, 21, 8, tzinfo=UTC), 3_780_000)

    shown = words(editor_client.get(SPEND, {"project": project.pk}))

    assert "Forecast: Too early to tell" in shown
    assert "by 31 March" not in shown


def test_figures_of_the_range(editor_client: Client, project: Project, editor: User) -> None:
    charge = books.paid(project, editor, NOON, 2_345_678)
    books.refunded(charge, 345_678, at=NOON + timedelta(hours=1))
    books.paid(project, editor, NOON, 1_000_000, status=Status.FAILED)

    shown = words(editor_client.get(SPEND, {"project": project.pk}))

    assert "Net spend, 1–21 March 2026 $3.00" in shown
    assert "Charged $3.35 $0.35 refunded, $0.00 adjusted" in shown
    assert "Finished videos 1 5 seconds of video" in shown
    assert "Cost per finished video $3.00" in shown
    assert "Wasted $1.00 $1.00 on failed ones, $0.00 on ignored results" in shown
    assert "Kling Video O3 4K: image to video 2 $3.35 -$0.35 – $3.00" in shown
    assert "By member CSV · XLSX Member Paid Charged Refunded Adjusted Net eddie 2" in shown


def test_chart_has_a_bar_a_day_in_exact_amounts(editor_client: Client, project: Project, editor: User) -> None:
    books.paid(project, editor, NOON, 2_345_678)

    page = editor_client.get(SPEND, {"project": project.pk, "from": "2026-03-09", "to": "2026-03-11"})

    assert page.context["chart"].startswith('{"labels": ["9 Mar", "10 Mar", "11 Mar"], "datasets": [')
    assert '"data": ["0.00", "2.345678", "0.00"]' in page.context["chart"]


@pytest.mark.parametrize(
    ("first", "labels"),
    [("2025-12-08", ["8 Dec 2025", "15 Dec 2025"]), ("2024-01-31", ["Jan 2024", "Feb 2024"])],
)
def test_chart_of_a_long_range_has_weeks_or_months(
    editor_client: Client, project: Project, editor: User, first: str, labels: list[str]
) -> None:
    books.paid(project, editor, NOON)

    page = editor_client.get(SPEND, {"project": project.pk, "from": first, "to": "2026-03-21"})

    assert f'{{"labels": ["{labels[0]}", "{labels[1]}", ' in page.context["chart"]


def test_presets_and_downloads_keep_project_and_range(editor_client: Client, project: Project) -> None:
    page = editor_client.get(SPEND, {"project": project.pk, "from": "2026-02-01", "to": "2026-02-28"})
    content = page.content.decode()

    assert [(preset["title"], preset["is_shown"]) for preset in page.context["presets"]] == [
        ("This month", False),
        ("Last month", True),
        ("Last 30 days", False),
    ]
    assert f"?project={project.pk}&amp;from=2026-03-01&amp;to=2026-03-21" in content
    for name in ("entries.csv", "entries.xlsx", "focus.csv"):
        url = f"/api/v1/projects/{project.pk}/spend/{name}?from=2026-02-01&to=2026-02-28"
        assert url.replace("&", "&amp;") in content
        assert b"".join(editor_client.get(url).streaming_content)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"from": "2026-03-02", "to": "2026-03-01"}, "The range ends on 2026-03-01, before it begins on 2026-03-02."),
        ({"from": "soon"}, "Write a day as 2026-11-30."),
    ],
)
def test_bad_range_is_told_and_this_month_shown(
    editor_client: Client, project: Project, query: dict[str, str], sentence: str
) -> None:
    shown = words(editor_client.get(SPEND, {"project": project.pk, **query}))

    assert sentence in shown
    assert "Net spend, 1–21 March 2026" in shown


def test_empty_range_is_friendly(editor_client: Client, project: Project) -> None:
    shown = words(editor_client.get(SPEND, {"project": project.pk}))

    assert "Nothing was spent in these days. $0.00 since the beginning." in shown
    assert "Limit None no hard budget binds everybody here" in shown


@pytest.mark.parametrize("role", list(Role))
def test_every_member_may_read_it(client: Client, project: Project, editor: User, role: Role) -> None:
    books.paid(project, editor, NOON)
    client.force_login(factories.member(project, role, username="vera"))

    assert "Net spend, 1–21 March 2026 $2.10" in words(client.get(SPEND, {"project": project.pk}))


def test_other_projects_do_not_exist(editor_client: Client, project: Project, studio_owner: User) -> None:
    hidden = factories.ProjectFactory(name="Milk")
    books.paid(hidden, studio_owner, NOON)

    for pk in (hidden.pk, "nonsense"):
        assert editor_client.get(SPEND, {"project": pk}).status_code == 404
    shown = words(editor_client.get(SPEND))
    assert "Milk" not in shown
    assert "$2.10" not in shown


def test_studio_owner_sees_all_projects(owner_client: Client, project: Project, editor: User) -> None:
    books.paid(factories.ProjectFactory(name="Milk"), editor, NOON, 5_000_000)
    books.paid(project, editor, NOON)

    shown = words(owner_client.get(SPEND))

    assert "Net spend, 1–21 March 2026 $7.10" in shown
    assert "Project Paid Charged Refunded Adjusted Net Milk 1 $5.00 – – $5.00 Coffee 1 $2.10" in shown


def test_who_is_not_logged_in_sees_the_login(client: Client) -> None:
    response = client.get(SPEND)

    assert (response.status_code, response["Location"]) == (302, f"/admin/login/?next={SPEND}")


def test_names_are_escaped(owner_client: Client, project: Project) -> None:
    ada = factories.member(project, Role.EDITOR, username="<script>alert(1)</script>")
    books.paid(project, ada, NOON, tags=["<b>bold</b>"])

    content = owner_client.get(SPEND, {"project": project.pk}).content.decode()

    assert "<script>alert(1)" not in content
    assert "<b>bold" not in content


def test_page_asks_as_often_with_1_entry_as_with_30(
    editor_client: Client, project: Project, editor: User, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    books.paid(project, editor, NOON)
    factories.budget(project, 100_000_000)
    with django_assert_max_num_queries(100) as few:
        editor_client.get(SPEND, {"project": project.pk})

    for _ in range(30):
        books.paid(project, editor, NOON)

    with django_assert_max_num_queries(len(few)):
        editor_client.get(SPEND, {"project": project.pk})


def test_project_page_links_to_its_spend(editor_client: Client, project: Project) -> None:
    content = editor_client.get(reverse("admin:projects_project_change", args=[project.pk])).content.decode()

    assert f"{SPEND}?project={project.pk}" in content
