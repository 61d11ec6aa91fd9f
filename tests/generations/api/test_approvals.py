"""Approvals and prices as a program meets them."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from rest_framework.test import APIClient

from generations.models import Approval, Generation, ProviderCall, Status
from generations.services import orders
from projects.models import Alert, AlertKind, Project, Role
from projects.money import budgets
from tests import factories
from tests.pipeline import project_totals
from tests.projects.api.client import API, client_of, errors, ids
from tests.sandbox import SandboxControl

GENERATIONS = f"{API}/generations/"
APPROVALS = f"{API}/approvals/"
PRICE = 2_100_000


@pytest.fixture
def project(project: Project) -> Project:
    """What costs more than $2 needs an approver."""
    project.approval_above = 2_000_000
    project.save()
    factories.budget(project, 10_000_000)
    return project


@pytest.fixture
def anna_api(project: Project) -> APIClient:
    return client_of(factories.member(project, Role.APPROVER, username="anna"))


@pytest.fixture
def asked(api: APIClient, body: dict[str, Any]) -> dict[str, Any]:
    response = api.post(GENERATIONS, {**body, "queue": True})
    assert response.status_code == 202
    return dict(response.json())


def held(project: Project) -> int:
    return project_totals(project.pk)["reserved"]


# --- Asking -----------------------------------------------------------------------------------------------------------


def test_what_costs_more_is_accepted_and_waits(asked: dict[str, Any], project: Project) -> None:
    approval = Approval.objects.get()
    assert (asked["status"], asked["quote"]) == ("awaiting_approval", "2.10")
    assert asked["approval"] == {
        "id": str(approval.pk),
        "decision": "waiting",
        "amount": "2.10",
        "expires_at": approval.expires_at.isoformat().replace("+00:00", "Z"),
        "comment": "",
        "budget_error": "",
    }
    assert held(project) == 0


def test_a_draft_waits_when_it_is_queued(api: APIClient, body: dict[str, Any]) -> None:
    draft = api.post(GENERATIONS, body).json()

    response = api.post(f"{GENERATIONS}{draft['id']}/queue/", {})

    assert (draft["approval"], response.status_code) == (None, 202)
    assert response.json()["status"] == "awaiting_approval"


def test_a_quote_says_it_first(api: APIClient, body: dict[str, Any], project: Project) -> None:
    quote = api.post(f"{GENERATIONS}quote/", body).json()

    figures = {name: quote[name] for name in ("amount", "catalogue_price", "live_price", "needs_approval", "fits")}
    assert figures == {
        "amount": "2.10",
        "catalogue_price": "2.10",
        "live_price": None,
        "needs_approval": True,
        "fits": True,
    }


def test_one_key_asks_once(api: APIClient, body: dict[str, Any]) -> None:
    answers = [
        api.post(GENERATIONS, {**body, "queue": True}, headers={"Idempotency-Key": "asked-once"}) for _ in range(3)
    ]

    assert len({answer.json()["id"] for answer in answers}) == 1
    assert Approval.objects.count() == 1


# --- Deciding ---------------------------------------------------------------------------------------------------------


def test_an_approver_lists_and_approves(
    asked: dict[str, Any], anna_api: APIClient, api: APIClient, project: Project
) -> None:
    [row] = anna_api.get(APPROVALS, {"for_me": "true", "project": str(project.pk), "decision": "waiting"}).json()[
        "results"
    ]
    response = anna_api.post(f"{APPROVALS}{row['id']}/approve/", {"comment": "Go"})

    assert (row["requested_by"], row["amount"], row["currency"]) == ("eddie", "2.10", "USD")
    assert row["generations"] == [
        {"id": asked["id"], "status": "awaiting_approval", "url": f"http://testserver{GENERATIONS}{asked['id']}/"}
    ]
    assert response.status_code == 202
    assert (response.json()["decision"], response.json()["decided_by"], response.json()["comment"]) == (
        "approved",
        "anna",
        "Go",
    )
    assert [each["status"] for each in response.json()["generations"]] == ["queued"]
    assert held(project) == PRICE
    assert ids(api.get(APPROVALS, {"decision": "waiting"})) == []
    assert api.get(f"{APPROVALS}{row['id']}/").json() | {"warnings": []} == response.json()


def test_by_the_generation_too(asked: dict[str, Any], anna_api: APIClient, project: Project) -> None:
    response = anna_api.post(f"{GENERATIONS}{asked['id']}/approve/", {})
    again = anna_api.post(f"{GENERATIONS}{asked['id']}/approve/", {})

    assert (response.status_code, response.json()["status"]) == (202, "queued")
    assert (again.status_code, errors(again)) == (
        409,
        [("wrong_status", None, "It waits for no approval: it is queued.")],
    )
    assert held(project) == PRICE


def test_one_key_approves_once(asked: dict[str, Any], anna_api: APIClient, project: Project) -> None:
    url = f"{GENERATIONS}{asked['id']}/approve/"
    first, second = (anna_api.post(url, {}, headers={"Idempotency-Key": "approved-once"}) for _ in range(2))

    assert (first.status_code, second.status_code, first.json()) == (202, 202, second.json())
    assert second.headers["Idempotency-Replayed"] == "true"
    assert held(project) == PRICE


def test_rejecting_takes_a_comment(asked: dict[str, Any], anna_api: APIClient, project: Project) -> None:
    url = f"{GENERATIONS}{asked['id']}/reject/"
    refused = [anna_api.post(url, fields) for fields in ({}, {"comment": "  "}, {"comment": "x" * 501})]
    response = anna_api.post(url, {"comment": "Too long"})

    assert [errors(each)[0][:2] for each in refused] == [
        ("required", "comment"),
        ("blank", "comment"),
        ("max_length", "comment"),
    ]
    assert response.status_code == 200
    assert (response.json()["status"], response.json()["approval"]["decision"]) == ("draft", "rejected")
    assert response.json()["approval"]["comment"] == "Too long"
    assert held(project) == 0


def test_who_asked_may_not_approve(asked: dict[str, Any], api: APIClient) -> None:
    response = api.post(f"{GENERATIONS}{asked['id']}/approve/", {})

    assert response.status_code == 403
    assert errors(response)[0][2].startswith("This takes the role “Approver” or higher in Coffee")


def test_a_stranger_finds_no_request(asked: dict[str, Any], project: Project) -> None:
    stranger = client_of(factories.member(factories.ProjectFactory(), Role.OWNER))
    approval = Approval.objects.get()

    assert ids(stranger.get(APPROVALS)) == []
    for url in (f"{APPROVALS}{approval.pk}/", f"{GENERATIONS}{asked['id']}/"):
        assert stranger.get(url).status_code == 404
        assert stranger.post(f"{url}approve/", {}).status_code == 404
    assert held(project) == 0


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "does-not-fit"}])
def test_what_does_not_fit_goes_on_waiting_and_shows_why(
    headers: dict[str, str], asked: dict[str, Any], anna_api: APIClient, project: Project
) -> None:
    budgets.change_limit(budgets.of_project(project).get(), limit=1_000_000, by=project.created_by)

    response = anna_api.post(f"{GENERATIONS}{asked['id']}/approve/", {}, headers=headers)

    assert (response.status_code, errors(response)[0][0]) == (402, "over_budget")
    row = anna_api.get(f"{GENERATIONS}{asked['id']}/").json()
    assert (row["status"], row["approval"]["decision"]) == ("awaiting_approval", "waiting")
    assert row["approval"]["budget_error"] == errors(response)[0][2]
    assert Alert.objects.get(kind=AlertKind.REFUSED).count == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "no-budget-for-it"}])
@pytest.mark.parametrize("route", ["create", "queue", "retry"])
def test_a_refusal_is_told_once_after_everything_is_rolled_back(
    route: str, headers: dict[str, str], api: APIClient, body: dict[str, Any], project: Project, editor: User
) -> None:
    Project.objects.filter(pk=project.pk).update(approval_above=None)
    budgets.change_limit(budgets.of_project(project).get(), limit=1_000_000, by=project.created_by)
    if route == "create":
        response = api.post(GENERATIONS, {**body, "queue": True}, headers=headers)
    else:
        draft = api.post(GENERATIONS, body).json()
        if route == "retry":
            orders.cancel(Generation.objects.get(), by=editor)
        response = api.post(f"{GENERATIONS}{draft['id']}/{route}/", {}, headers=headers)

    assert (response.status_code, errors(response)[0][0]) == (402, "over_budget")
    assert Generation.objects.count() == (0 if route == "create" else 1)
    assert Alert.objects.get(kind=AlertKind.REFUSED).count == 1


# --- The provider's prices --------------------------------------------------------------------------------------------


@pytest.fixture
def live(wavespeed: SandboxControl, settings: object, project: Project) -> SandboxControl:
    settings.WAVESPEED_LIVE_PRICES = True
    Project.objects.filter(pk=project.pk).update(approval_above=None)
    wavespeed.arm("quote_price", times=None, price=2.52)
    return wavespeed


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "at-todays-price"}])
def test_the_higher_price_is_quoted_and_reserved(
    headers: dict[str, str],
    live: SandboxControl,
    api: APIClient,
    body: dict[str, Any],
    project: Project,
    editor: User,
) -> None:
    quote = api.post(f"{GENERATIONS}quote/", body).json()
    made = api.post(GENERATIONS, {**body, "queue": True}, headers=headers).json()
    draft = api.post(GENERATIONS, {**body, "prompt": "Another"}).json()
    queued = api.post(f"{GENERATIONS}{draft['id']}/queue/", {}, headers={k: f"{v}-2" for k, v in headers.items()})
    orders.cancel(Generation.objects.get(pk=draft["id"]), by=editor)
    retried = api.post(f"{GENERATIONS}{draft['id']}/retry/", {}, headers={k: f"{v}-3" for k, v in headers.items()})

    assert (quote["amount"], quote["catalogue_price"], quote["live_price"]) == ("2.52", "2.10", "2.52")
    assert [each["quote"] for each in (made, queued.json(), retried.json())] == ["2.52"] * 3
    assert held(project) == 2 * 2_520_000


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "no-price-known"}])
def test_without_the_providers_price_nothing_is_made_and_the_key_is_free_again(
    headers: dict[str, str],
    live: SandboxControl,
    api: APIClient,
    body: dict[str, Any],
    nothing_happened: Callable[[], None],
) -> None:
    live.arm("free_500", times=None, route="price")

    response = api.post(GENERATIONS, {**body, "queue": True}, headers=headers)

    assert (response.status_code, errors(response)[0][0]) == (503, "price_unknown")
    nothing_happened()
    live.disarm()
    assert api.post(GENERATIONS, {**body, "queue": True}, headers=headers).status_code == 202


@pytest.fixture
def opened() -> Iterator[list[BaseDatabaseWrapper]]:
    """The connections to the database that are made during a test, by all threads."""
    made: list[BaseDatabaseWrapper] = []

    def note(connection: BaseDatabaseWrapper, **_: object) -> None:
        made.append(connection)

    connection_created.connect(note)
    yield made
    connection_created.disconnect(note)


@pytest.mark.django_db(transaction=True)
def test_asking_for_prices_leaves_no_connection_to_the_database_open(
    live: SandboxControl, api: APIClient, body: dict[str, Any], opened: list[BaseDatabaseWrapper]
) -> None:
    """How the provider's calls end is noted, by each thread on a connection of its own."""
    assert api.post(f"{GENERATIONS}quote/", body).status_code == 200

    assert ProviderCall.objects.get(route="/model/price").good_at
    others = [each for each in opened if each is not connections["default"]]
    assert [each.connection for each in others] == [None]


# --- The rule ---------------------------------------------------------------------------------------------------------


def test_owners_of_the_project_set_the_amount(project: Project, api: APIClient) -> None:
    url = f"{API}/projects/{project.pk}/"
    owner = client_of(factories.member(project, Role.OWNER))

    shown = [owner.patch(url, {"approval_above": value}).json()["approval_above"] for value in ("12.5", None, "0")]

    assert shown == ["12.50", None, "0.00"]
    assert api.patch(url, {"approval_above": None}).status_code == 403
    assert errors(owner.patch(url, {"approval_above": "-1"}))[0][:2] == ("min_value", "approval_above")
    project.refresh_from_db()
    assert project.approval_above == 0


def test_cancelling_one_withdraws_its_request(asked: dict[str, Any], api: APIClient) -> None:
    response = api.post(f"{GENERATIONS}{asked['id']}/cancel/", {})

    assert response.json()["status"] == Status.CANCELLED
    assert response.json()["approval"]["decision"] == "withdrawn"
