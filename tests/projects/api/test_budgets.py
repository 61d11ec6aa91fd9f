from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from projects.models import Budget, BudgetPeriod, Project, Role, SpendEntry, Studio, TopUp
from projects.money import spend
from tests import factories
from tests.projects.api.client import API, client_of, errors

NO_MONEY = "Give US dollars as text in quotation marks, digits with at most six decimals: “5.10”."


def test_budget_is_made_and_its_figures_told(owner_api: APIClient, project: Project) -> None:
    response = owner_api.post(
        f"{API}/projects/{project.pk}/budgets/", {"period": "total", "limit": "10.50", "enforcement": "hard"}
    )

    assert response.status_code == 201
    row = response.json()
    assert (row["limit"], row["spent"], row["reserved"], row["free"]) == ("10.50", "0.00", "0.00", "10.50")
    assert (row["scope"], row["title"], row["user"], row["period"], row["ends_at"]) == (
        "project",
        "Coffee",
        None,
        "total",
        None,
    )
    assert Budget.objects.get().limit == 10_500_000


def test_budgets_list_project_and_members_ones_with_few_queries(
    owner_api: APIClient, project: Project, editor: User
) -> None:
    factories.budget(project, 10_000_000)
    address = f"{API}/projects/{project.pk}/budgets/"
    with CaptureQueriesContext(connection) as one:
        owner_api.get(address)
    for _ in range(30):
        factories.budget(project, 5_000_000, user=factories.member(project))
    factories.budget(None, 99_000_000)
    factories.reservation(project, editor)

    with CaptureQueriesContext(connection) as many:
        rows = owner_api.get(address).json()["results"]

    assert len(many) == len(one)
    assert len(rows) == 31
    [whole] = [row for row in rows if row["user"] is None]
    assert (whole["reserved"], whole["free"]) == ("2.10", "7.90")


def test_members_see_the_project_s_budgets_and_their_own_and_owners_everybody_s(
    api: APIClient, project: Project, editor: User
) -> None:
    other = factories.member(project, Role.EDITOR)
    factories.budget(project, 10_000_000)
    factories.budget(project, 5_000_000, user=editor)
    theirs = factories.budget(project, 5_000_000, user=other)
    address = f"{API}/projects/{project.pk}/budgets/"
    owner = client_of(factories.member(project, Role.OWNER))

    assert {row["user"] for row in api.get(address).json()["results"]} == {None, editor.username}
    assert {row["user"] for row in owner.get(address).json()["results"]} == {None, editor.username, other.username}
    assert api.patch(f"{address}{theirs.pk}/", {"limit": "1.00"}).status_code == 404
    assert api.get(f"{address}{theirs.pk}/top-ups/").status_code == 404
    assert owner.get(f"{address}{theirs.pk}/top-ups/").status_code == 200


@pytest.mark.parametrize(
    ("limit", "detail"),
    [
        ("-1", "At least $0."),
        ("abc", NO_MONEY),
        ("NaN", NO_MONEY),
        ("1e400", NO_MONEY),
        ("0.0000001", NO_MONEY),
        ("10000000000", NO_MONEY),
        (None, "This field may not be null."),
        ([], NO_MONEY),
        (True, NO_MONEY),
    ],
)
def test_budget_with_a_bad_limit_is_refused(owner_api: APIClient, project: Project, limit: object, detail: str) -> None:
    response = owner_api.post(f"{API}/projects/{project.pk}/budgets/", {"period": "total", "limit": limit})

    assert response.status_code == 400
    assert [error[1:] for error in errors(response)] == [("limit", detail)]
    assert not Budget.objects.exists()


def test_budget_of_a_kind_that_exists_is_refused(owner_api: APIClient, project: Project) -> None:
    factories.budget(project, 10_000_000)

    response = owner_api.post(f"{API}/projects/{project.pk}/budgets/", {"period": "total", "limit": "5"})

    assert response.status_code == 409
    assert errors(response) == [
        ("conflict", None, "The project has a budget of this kind already: change its limit instead.")
    ]


def test_budget_limit_is_changed_and_the_budget_archived(owner_api: APIClient, project: Project) -> None:
    budget = factories.budget(project, 10_000_000)
    address = f"{API}/projects/{project.pk}/budgets/{budget.pk}/"

    assert owner_api.patch(address, {"limit": "3"}).json()["free"] == "3.00"
    assert owner_api.delete(address).status_code == 204
    assert owner_api.patch(address, {"limit": "4"}).status_code == 404
    budget.refresh_from_db()
    assert (budget.limit, budget.archived_at is None) == (3_000_000, False)


def test_budget_of_the_project_is_not_its_owners_to_set_but_a_members_is(project: Project, editor: User) -> None:
    owner = client_of(factories.member(project, Role.OWNER, username="otto"))
    address = f"{API}/projects/{project.pk}/budgets/"

    refused = owner.post(address, {"period": "total", "limit": "5"})
    own = owner.post(address, {"period": "total", "limit": "5", "user": "otto"})
    members = owner.post(address, {"period": "total", "limit": "5", "user": "eddie"})

    assert (refused.status_code, own.status_code, members.status_code) == (403, 403, 201)
    assert errors(refused)[0][2] == (
        "Studio owners set the budgets of the studio and of projects, and a project's owners those of its other members. "
        "Studio owners are: olive."
    )
    assert (members.json()["scope"], members.json()["title"]) == ("member", "eddie in Coffee")
    assert Budget.objects.get().user == editor


def test_budget_of_somebody_who_is_no_member_is_refused(owner_api: APIClient, project: Project) -> None:
    factories.UserFactory(username="stranger")

    response = owner_api.post(
        f"{API}/projects/{project.pk}/budgets/", {"period": "total", "limit": "5", "user": "stranger"}
    )

    assert response.status_code == 400
    assert errors(response) == [("not_found_here", "user", "There is no member “stranger” in Coffee.")]


def test_entries_list_the_ledger_and_can_only_be_read(api: APIClient, project: Project, editor: User) -> None:
    factories.budget(project, 10_000_000)
    reservation = factories.reservation(project, editor)
    spend.charge(reservation, amount=2_100_000, key="charge", reason="Made by the provider.")
    address = f"{API}/projects/{project.pk}/spend/entries/"

    charge, held = api.get(address).json()["results"]

    assert (held["kind"], held["reserved_delta"], held["spent_delta"]) == ("reserve", "2.10", "0.00")
    assert (charge["kind"], charge["reserved_delta"], charge["spent_delta"]) == ("charge", "-2.10", "2.10")
    assert charge["reservation"] == str(reservation.pk)
    assert charge["reference"] == str(reservation.reference)
    assert (charge["user"], charge["created_by"], charge["reason"]) == ("eddie", None, "Made by the provider.")
    for method in (api.post, api.put, api.patch, api.delete):
        assert method(address, {}).status_code == 405
    assert SpendEntry.objects.count() == 2


@pytest.mark.parametrize("rows", [1, 30])
def test_entries_list_with_few_queries(project: Project, editor: User, rows: int) -> None:
    factories.budget(project, 100_000_000)
    for _ in range(rows):
        factories.reservation(project, editor)
    client = client_of(editor)

    with CaptureQueriesContext(connection) as queries:
        assert client.get(f"{API}/projects/{project.pk}/spend/entries/").json()["count"] == rows

    # Token, its owner's tokens, group, project, count, rows.
    assert len(queries) == 6, [query["sql"] for query in queries]


# --- Top-ups ----------------------------------------------------------------------------------------------------------


def top_ups_of(budget: Budget) -> str:
    return f"{API}/projects/{budget.project_id}/budgets/{budget.pk}/top-ups/"


def test_top_up_is_made_listed_and_ended(owner_api: APIClient, api: APIClient, project: Project) -> None:
    budget = factories.budget(project, 10_000_000)
    ends_at = timezone.now() + timedelta(days=2)
    fields = {"amount": "2.50", "reason": "The fair", "ends_at": ends_at.isoformat()}

    made = owner_api.post(top_ups_of(budget), fields)

    assert made.status_code == 201
    assert (made.json()["amount"], made.json()["reason"], made.json()["created_by"]) == ("2.50", "The fair", "olive")
    assert api.get(top_ups_of(budget)).json()["results"] == [made.json()]
    [row] = api.get(f"{API}/projects/{project.pk}/budgets/").json()["results"]
    assert (row["limit"], row["base_limit"], row["topped_up"], row["free"]) == ("12.50", "10.00", "2.50", "12.50")

    assert owner_api.delete(f"{top_ups_of(budget)}{made.json()['id']}/").status_code == 204
    [row] = api.get(f"{API}/projects/{project.pk}/budgets/").json()["results"]
    assert (row["limit"], row["topped_up"]) == ("10.00", "0.00")
    again = owner_api.delete(f"{top_ups_of(budget)}{made.json()['id']}/")
    assert (again.status_code, errors(again)[0][2]) == (400, "This top-up has ended already.")


def test_top_up_is_not_for_those_that_it_binds(api: APIClient, project: Project) -> None:
    budget = factories.budget(project, 10_000_000)
    fields = {"amount": "2.50", "reason": "Please", "ends_at": (timezone.now() + timedelta(days=2)).isoformat()}

    response = api.post(top_ups_of(budget), fields)

    assert (response.status_code, TopUp.objects.count()) == (403, 0)
    assert errors(response)[0][2].endswith("Studio owners are: olive.")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"amount": "0"}, ("amount", "At least $0.000001.")),
        ({"amount": "abc"}, ("amount", NO_MONEY)),
        ({"reason": " "}, ("reason", "This field may not be blank.")),
        ({"ends_at": "2020-01-01T00:00:00Z"}, ("ends_at", "A top-up ends in the future: give a later end.")),
        ({"starts_at": "2020-01-01T00:00:00Z"}, ("starts_at", "A top-up starts now or later, not in the past.")),
        (
            {"until": "x"},
            ("until", "There is no field “until”. This takes: amount, reason, starts_at, ends_at."),
        ),
    ],
)
def test_top_up_with_bad_fields_is_refused(
    owner_api: APIClient, project: Project, fields: dict[str, str], error: tuple[str, str]
) -> None:
    budget = factories.budget(project, 10_000_000)
    good = {"amount": "1", "reason": "The fair", "ends_at": (timezone.now() + timedelta(days=2)).isoformat()}

    response = owner_api.post(top_ups_of(budget), good | fields)

    assert response.status_code == 400
    assert [told[1:] for told in errors(response)] == [error]
    assert not TopUp.objects.exists()


def test_top_ups_of_another_project_do_not_exist(api: APIClient, owner_api: APIClient, project: Project) -> None:
    elsewhere = factories.budget(factories.ProjectFactory(), 10_000_000)

    assert api.get(top_ups_of(elsewhere)).status_code == 404
    address = f"{API}/projects/{project.pk}/budgets/{elsewhere.pk}/top-ups/"
    assert owner_api.get(address).status_code == 404


# --- Thresholds and the studio's budgets ------------------------------------------------------------------------------


def test_thresholds_are_set_and_changed(owner_api: APIClient, project: Project) -> None:
    address = f"{API}/projects/{project.pk}/budgets/"
    made = owner_api.post(address, {"period": "month", "limit": "10", "thresholds": [90, 30]}).json()
    assert (made["thresholds"], made["limit"]) == ([30, 90], "10.00")

    changed = owner_api.patch(f"{address}{made['id']}/", {"thresholds": [75], "limit": "20"}).json()
    assert (changed["thresholds"], changed["limit"]) == ([75], "20.00")
    refused = owner_api.patch(f"{address}{made['id']}/", {"thresholds": [75, 75], "limit": "30"})
    assert (refused.status_code, errors(refused)[0][1]) == (400, "thresholds")
    budget = Budget.objects.get()
    assert (budget.thresholds, budget.limit) == ([75], 20_000_000)


def test_studio_budget_is_set_topped_up_and_archived_by_studio_owners(owner_api: APIClient, project: Project) -> None:
    made = owner_api.post(f"{API}/budgets/", {"period": "month", "limit": "10"})
    assert (made.status_code, made.json()["scope"], made.json()["project"]) == (201, "studio", None)
    address = f"{API}/budgets/{made.json()['id']}/"
    factories.budget(project, 5_000_000)

    fields = {"amount": "1", "reason": "The fair", "ends_at": (timezone.now() + timedelta(days=2)).isoformat()}
    top_up = owner_api.post(f"{address}top-ups/", fields).json()
    assert owner_api.patch(address, {"limit": "3"}).json()["limit"] == "4.00"
    assert [row["id"] for row in owner_api.get(f"{API}/budgets/").json()["results"]] == [made.json()["id"]]
    assert owner_api.delete(f"{address}top-ups/{top_up['id']}/").status_code == 204
    assert owner_api.delete(address).status_code == 204
    assert owner_api.get(f"{API}/budgets/").json()["results"] == []


def test_studio_budgets_are_seen_by_whom_they_bind_and_set_by_studio_owners(api: APIClient) -> None:
    budget = factories.budget(None, 10_000_000)
    stranger = client_of(factories.UserFactory())
    fields = {"amount": "1", "reason": "Please", "ends_at": (timezone.now() + timedelta(days=2)).isoformat()}

    assert [row["free"] for row in api.get(f"{API}/budgets/").json()["results"]] == ["10.00"]
    assert api.get(f"{API}/budgets/{budget.pk}/top-ups/").json()["results"] == []
    assert stranger.get(f"{API}/budgets/").json()["results"] == []
    assert stranger.get(f"{API}/budgets/{budget.pk}/top-ups/").status_code == 404
    refused = [
        api.post(f"{API}/budgets/", {"period": "month", "limit": "10"}),
        api.patch(f"{API}/budgets/{budget.pk}/", {"limit": "99"}),
        api.delete(f"{API}/budgets/{budget.pk}/"),
        api.post(f"{API}/budgets/{budget.pk}/top-ups/", fields),
    ]
    assert [answer.status_code for answer in refused] == [403] * 4
    assert {errors(answer)[0][2].split(". ")[1] for answer in refused} == {
        f"Studio owners are: olive, {budget.created_by.username}."
    }
    budget.refresh_from_db()
    assert (budget.limit, budget.archived_at, budget.top_ups.count()) == (10_000_000, None, 0)


def test_studio_budget_is_set_and_shown_before_money_ever_moved(owner_api: APIClient, project: Project) -> None:
    Studio.objects.all().delete()
    assert owner_api.get(f"{API}/budgets/").json()["results"] == []
    made = owner_api.post(f"{API}/budgets/", {"period": "month", "limit": "10"}).json()

    Studio.objects.all().delete()
    BudgetPeriod.objects.all().delete()
    [row] = owner_api.get(f"{API}/budgets/").json()["results"]
    assert (row["id"], row["free"], row["starts_at"]) == (made["id"], "10.00", made["starts_at"])
