import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from projects import spend
from projects.models import Budget, Project, Role, SpendEntry
from tests import factories
from tests.projects.api.client import API, client_of, errors


def test_budget_is_made_and_its_figures_told(owner_api: APIClient, project: Project) -> None:
    response = owner_api.post(
        f"{API}/projects/{project.pk}/budgets/", {"period": "total", "limit": "10.50", "enforcement": "hard"}
    )

    assert response.status_code == 201
    row = response.json()
    assert (row["limit"], row["spent"], row["reserved"], row["free"]) == ("10.50", "0.00", "0.00", "10.50")
    assert (row["scope"], row["user"], row["period"], row["ends_at"]) == ("Coffee", None, "total", None)
    assert Budget.objects.get().limit == 10_500_000


def test_budgets_list_project_and_members_ones_with_few_queries(api: APIClient, project: Project, editor: User) -> None:
    factories.budget(project, 10_000_000)
    address = f"{API}/projects/{project.pk}/budgets/"
    with CaptureQueriesContext(connection) as one:
        api.get(address)
    for _ in range(30):
        factories.budget(project, 5_000_000, user=factories.member(project))
    factories.budget(None, 99_000_000)
    factories.reservation(project, editor)

    with CaptureQueriesContext(connection) as many:
        rows = api.get(address).json()["results"]

    assert len(many) == len(one)
    assert len(rows) == 31
    [whole] = [row for row in rows if row["user"] is None]
    assert (whole["reserved"], whole["free"]) == ("2.10", "7.90")


@pytest.mark.parametrize(
    ("limit", "detail"),
    [
        ("-1", "Ensure this value is greater than or equal to 0."),
        ("abc", "A valid number is required."),
        ("NaN", "A valid number is required."),
        ("1e400", "Ensure that there are no more than 15 digits in total."),
        ("0.0000001", "Ensure that there are no more than 6 decimal places."),
        ("10000000000", "Ensure that there are no more than 9 digits before the decimal point."),
        (None, "This field may not be null."),
        ([], "A valid number is required."),
        (True, "A valid number is required."),
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

    assert response.status_code == 400
    assert [error[1:] for error in errors(response)] == [
        ("non_field_errors", "The project has a budget of this kind already: change its limit instead.")
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
    assert members.json()["scope"] == "eddie in Coffee"
    assert Budget.objects.get().user == editor


def test_budget_of_somebody_who_is_no_member_is_refused(owner_api: APIClient, project: Project) -> None:
    factories.UserFactory(username="stranger")

    response = owner_api.post(
        f"{API}/projects/{project.pk}/budgets/", {"period": "total", "limit": "5", "user": "stranger"}
    )

    assert response.status_code == 400
    assert errors(response) == [("invalid", "user", "There is no member “stranger” in Coffee.")]


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
