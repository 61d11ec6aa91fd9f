from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generations import models
from generations.models import Generation, PausedProject, Status
from projects.models import Project, Role
from tests import factories
from tests.projects.api.client import API, client_of, errors

GENERATIONS = f"{API}/generations/"


def address(project: Project, what: str = "") -> str:
    return f"{API}/projects/{project.pk}/{what}"


@pytest.fixture
def manager(project: Project) -> APIClient:
    return client_of(factories.member(project, Role.OWNER, username="otto"))


def test_a_project_is_paused_and_resumed_and_says_so(manager: APIClient, api: APIClient, project: Project) -> None:
    assert api.get(address(project)).json()["pause"] is None

    paused = manager.post(address(project, "pause/"), {"reason": "The brief is being changed."})

    assert paused.status_code == 200
    pause = paused.json()["pause"]
    assert pause == {
        "paused_at": pause["paused_at"],
        "reason": "The brief is being changed.",
        "paused_by": "otto",
        "by_studio_owner": False,
    }
    assert api.get(address(project)).json()["pause"] == pause
    assert [row["pause"] for row in api.get(f"{API}/projects/").json()["results"]] == [pause]

    resumed = manager.post(address(project, "resume/"), {})

    assert (resumed.status_code, resumed.json()["pause"]) == (200, None)


def test_a_repeated_pause_with_the_same_key_is_one(manager: APIClient, project: Project) -> None:
    body, key = {"reason": "Stop."}, {"Idempotency-Key": "pause-1"}

    first = manager.post(address(project, "pause/"), body, headers=key)
    second = manager.post(address(project, "pause/"), body, headers=key)

    assert (first.status_code, second.status_code, second["Idempotency-Replayed"]) == (200, 200, "true")


def test_a_pause_without_a_reason_is_refused(manager: APIClient, project: Project) -> None:
    answer = manager.post(address(project, "pause/"), {})

    assert (answer.status_code, [each[:2] for each in errors(answer)]) == (400, [("required", "reason")])
    assert not PausedProject.objects.exists()


def test_who_may_not_is_told_and_who_sees_nothing_gets_404(
    api: APIClient, manager: APIClient, project: Project
) -> None:
    stranger = client_of(factories.member(factories.ProjectFactory(), Role.OWNER))
    for what in ("pause/", "resume/"):
        assert api.post(address(project, what), {"reason": "No."}).status_code == 403
        assert stranger.post(address(project, what), {"reason": "No."}).status_code == 404


def test_a_pause_of_the_studio_is_not_the_projects_to_lift(
    owner_api: APIClient, manager: APIClient, project: Project
) -> None:
    owner_api.post(address(project, "pause/"), {"reason": "The invoice is open."})

    assert manager.post(address(project, "resume/"), {}).status_code == 403
    again = manager.post(address(project, "pause/"), {"reason": "Mine."})
    assert errors(again) == [("wrong_status", None, "Coffee is paused already, by olive: The invoice is open.")]
    assert manager.get(address(project)).json()["pause"]["by_studio_owner"] is True
    assert owner_api.post(address(project, "resume/"), {}).json()["pause"] is None


# --- Priority ---------------------------------------------------------------------------------------------------------


def test_a_generation_has_the_priority_that_it_was_given(api: APIClient, body: dict[str, Any]) -> None:
    assert api.post(GENERATIONS, body).json()["priority"] == "normal"
    made = api.post(GENERATIONS, {**body, "prompt": "Quick", "priority": "high"}).json()

    assert made["priority"] == "high"
    assert Generation.objects.get(pk=made["id"]).priority == 1


@pytest.mark.parametrize("wrong", ["urgent", 1, "", None])
def test_a_priority_is_one_of_three_words(wrong: Any, api: APIClient, body: dict[str, Any]) -> None:
    answer = api.post(GENERATIONS, {**body, "priority": wrong})

    assert (answer.status_code, [attr for _, attr, _ in errors(answer)]) == (400, ["priority"])


@pytest.mark.parametrize("status", [Status.DRAFT, Status.AWAITING_APPROVAL, Status.QUEUED])
def test_a_priority_is_changed_while_it_counts(
    status: Status, api: APIClient, body: dict[str, Any], editor: User
) -> None:
    pk = api.post(GENERATIONS, body).json()["id"]
    Generation.objects.filter(pk=pk).update(status=status)

    changed = api.patch(f"{GENERATIONS}{pk}/", {"priority": "low"})

    assert (changed.status_code, changed.json()["priority"], changed.json()["status"]) == (200, "low", status)


def test_what_is_submitted_keeps_its_priority(api: APIClient, body: dict[str, Any]) -> None:
    pk = api.post(GENERATIONS, body).json()["id"]
    Generation.objects.filter(pk=pk).update(status=Status.PROCESSING)

    answer = api.patch(f"{GENERATIONS}{pk}/", {"priority": "high"})

    assert answer.status_code == 409
    assert errors(answer) == [
        ("wrong_status", None, "It is processing already; a priority only counts for what was not submitted yet.")
    ]


def test_inputs_and_priority_change_together_or_not_at_all(api: APIClient, body: dict[str, Any]) -> None:
    pk = api.post(GENERATIONS, body).json()["id"]
    assert api.patch(f"{GENERATIONS}{pk}/", {"duration": 99, "priority": "high"}).status_code == 400
    assert Generation.objects.get(pk=pk).priority == models.Priority.NORMAL

    changed = api.patch(f"{GENERATIONS}{pk}/", {"duration": 3, "priority": "high"}).json()

    assert (changed["duration"], changed["priority"]) == (3, "high")
    Generation.objects.filter(pk=pk).update(status=Status.QUEUED)
    assert api.patch(f"{GENERATIONS}{pk}/", {"duration": 5, "priority": "low"}).status_code == 409
    assert Generation.objects.get(pk=pk).priority == models.Priority.HIGH
