"""Who may not is told so before their body is looked at: a program that asks what it may is not misled by a 400."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generations.models import Generation
from projects.models import Project, Role
from tests import factories
from tests.projects.api.client import API, client_of, errors

NONSENSE = {"no such field": True}
OF_PROJECT = ("budgets", "members", "pause", "resume")
ACTIONS = (
    *("assign", "not-made", "take-output", "no-video", "take-as-it-is", "approve", "reject"),
    *("queue", "retry", "cancel", "ignore-result", "want-result"),
)


@pytest.fixture
def viewer_api(project: Project) -> APIClient:
    return client_of(factories.member(project, Role.VIEWER, username="vera"))


@pytest.mark.parametrize("body", [{}, NONSENSE])
def test_viewer_is_refused_for_their_role_whatever_they_send(
    viewer_api: APIClient, project: Project, draft: Generation, editor: User, body: dict[str, Any]
) -> None:
    budget, membership = project.budgets.get(), editor.memberships.get()
    of_project = f"{API}/projects/{project.pk}"

    answers = [viewer_api.post(f"{of_project}/{name}/", body) for name in OF_PROJECT]
    answers += [viewer_api.post(f"{API}/generations/{draft.pk}/{action}/", body) for action in ACTIONS]
    answers += [
        viewer_api.post(f"{of_project}/budgets/{budget.pk}/top-ups/", body),
        viewer_api.post(f"{API}/budgets/", body),
        viewer_api.patch(f"{of_project}/budgets/{budget.pk}/", body),
        viewer_api.patch(f"{of_project}/members/{membership.pk}/", body),
        viewer_api.patch(f"{of_project}/", body),
        viewer_api.patch(f"{API}/generations/{draft.pk}/", body),
    ]

    assert [(answer.request["PATH_INFO"], answer.status_code) for answer in answers if answer.status_code != 403] == []


def test_what_is_not_seen_is_not_there_whatever_is_sent(project: Project, draft: Generation) -> None:
    outsider = client_of(User.objects.create_user("oscar"))

    answers = [outsider.post(f"{API}/projects/{project.pk}/{name}/", NONSENSE) for name in OF_PROJECT]
    answers += [outsider.post(f"{API}/generations/{draft.pk}/{action}/", NONSENSE) for action in ACTIONS]

    assert {answer.status_code for answer in answers} == {404}


def test_who_is_in_no_project_learns_no_names(studio_owner: User) -> None:
    outsider = client_of(User.objects.create_user("oscar"))

    for address in ("projects", "budgets"):
        response = outsider.post(f"{API}/{address}/", {})
        assert response.status_code == 403
        [(_, _, detail)] = errors(response)
        assert studio_owner.username not in detail


def test_quote_takes_the_body_of_a_new_generation(api: APIClient, body: dict[str, Any]) -> None:
    whole = {**body, "tags": ["launch"], "priority": "high", "queue": True, "confirm": True}

    quote = api.post(f"{API}/generations/quote/", whole)

    assert (quote.status_code, quote.json()["amount"]) == (200, "2.10")
    assert not Generation.objects.exists()
    assert api.post(f"{API}/generations/", {**whole, "queue": False}).status_code == 201
