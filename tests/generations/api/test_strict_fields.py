"""What only looks like an amount, a switch or a number of days changes nothing."""

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from generations.models import Generation
from projects.models import Budget, Project
from projects.models.budget import default_thresholds
from tests import factories
from tests.projects.api.client import API, errors

MONEY = "Give US dollars as text in quotation marks, digits with at most six decimals: “5.10”."
NO_MONEY: list[Any] = [
    "",
    "  ",
    5,
    5.1,
    0,
    True,
    False,
    [],
    {},
    " 7 ",
    "+7",
    "7.",
    ".5",
    "1e3",
    "1_000",
    "1,000",
    "$5",
    "٣",
    "NaN",
    "Infinity",
    "7\n",
    "0.0000001",
    "10000000000",
]


def sent(client: APIClient, method: str, path: str, body: dict[str, Any]) -> Any:
    return client.generic(method, path, json.dumps(body), content_type="application/json")


@pytest.mark.parametrize("value", NO_MONEY)
def test_approval_limit_is_changed_by_an_amount_or_null_alone(
    owner_api: APIClient, project: Project, value: Any
) -> None:
    Project.objects.filter(pk=project.pk).update(approval_above=2_000_000)

    response = sent(owner_api, "PATCH", f"{API}/projects/{project.pk}/", {"approval_above": value})

    assert (response.status_code, errors(response)) == (400, [("invalid", "approval_above", MONEY)])
    assert Project.objects.get(pk=project.pk).approval_above == 2_000_000


def test_null_is_how_to_have_no_approval_limit(owner_api: APIClient, project: Project) -> None:
    Project.objects.filter(pk=project.pk).update(approval_above=2_000_000)

    response = owner_api.patch(f"{API}/projects/{project.pk}/", {"approval_above": None})

    assert (response.status_code, response.json()["approval_above"]) == (200, None)


@pytest.mark.parametrize("value", [*NO_MONEY, None])
def test_limit_of_a_budget_takes_amounts_alone(owner_api: APIClient, project: Project, value: Any) -> None:
    budget = factories.budget(project, 10_000_000)
    of_project = f"{API}/projects/{project.pk}/budgets/"

    changed = sent(owner_api, "PATCH", f"{of_project}{budget.pk}/", {"limit": value})
    made = sent(owner_api, "POST", f"{API}/budgets/", {"period": "total", "limit": value})
    topped_up = sent(
        owner_api,
        "POST",
        f"{of_project}{budget.pk}/top-ups/",
        {"amount": value, "reason": "The fair", "ends_at": "2099-01-01T00:00:00Z"},
    )

    assert [response.status_code for response in (changed, made, topped_up)] == [400, 400, 400]
    assert Budget.objects.get().limit == 10_000_000
    assert not budget.top_ups.exists()


@pytest.mark.parametrize("value", ["", "30", " 30", 30.0, True, [], 0, -1, 10**20, "null"])
def test_days_of_retention_are_a_number_or_null(owner_api: APIClient, project: Project, value: Any) -> None:
    response = sent(owner_api, "PATCH", f"{API}/projects/{project.pk}/", {"retention_days": value})

    assert (response.status_code, [error[1] for error in errors(response)]) == (400, ["retention_days"])
    assert Project.objects.get(pk=project.pk).retention_days is None


@pytest.mark.parametrize("value", [["80"], [80.0], [True], "80", [""]])
def test_thresholds_are_numbers(owner_api: APIClient, project: Project, value: Any) -> None:
    budget = factories.budget(project, 10_000_000)

    response = sent(owner_api, "PATCH", f"{API}/projects/{project.pk}/budgets/{budget.pk}/", {"thresholds": value})

    assert response.status_code == 400
    budget.refresh_from_db()
    assert budget.thresholds == default_thresholds()


@pytest.mark.parametrize("value", ["yes", "true", "on", "t", "1", 1, 0, "no", "", "null", None, [], {}])
@pytest.mark.parametrize("switch", ["queue", "confirm"])
def test_switches_that_pay_are_true_or_false(
    api: APIClient, body: dict[str, Any], nothing_happened: Any, switch: str, value: Any
) -> None:
    response = sent(api, "POST", f"{API}/generations/", {**body, switch: value})

    assert (response.status_code, [error[1] for error in errors(response)]) == (400, [switch])
    nothing_happened()


@pytest.mark.parametrize("action", ["queue", "retry", "approve"])
@pytest.mark.parametrize("value", ["yes", 1, "true", None])
def test_confirm_is_true_or_false_wherever_it_is_taken(
    owner_api: APIClient, draft: Generation, action: str, value: Any
) -> None:
    response = sent(owner_api, "POST", f"{API}/generations/{draft.pk}/{action}/", {"confirm": value})

    assert (response.status_code, [error[1] for error in errors(response)]) in [(400, ["confirm"]), (409, [None])]
    draft.refresh_from_db()
    assert draft.status == "draft"
