"""The issue's list of bad input, and what hostile clients send: each gets a clear error, and nothing is paid or made."""

import json
import re
import socket
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from generations import provider
from generations.models import Element, Generation
from projects.models import Period, Project, Role, SpendEntry
from tests import factories
from tests.generations.conftest import ENDPOINT
from tests.pipeline import submit_next
from tests.projects.api.client import API, client_of, errors
from tests.sandbox import SandboxControl

ADDRESS = f"{API}/generations/"
TAKES = "This model takes: image, prompt, end_image, duration, sound, shot_type, multi_prompt, element_list."
LONE_SURROGATE = "\ud800"

pytestmark = pytest.mark.usefixtures("budget")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            {"image": None},
            [("image", "image is required. The picture that the video starts from.")],
            id="no image",
        ),
        pytest.param(
            {"multi_prompt": [{"prompt": "A cup", "duration": 5}]},
            [
                (
                    "prompt",
                    "Both prompt and multi_prompt were given; this model takes one of them. Leave one out.",
                )
            ],
            id="both prompt and shots",
        ),
        *(
            pytest.param(
                {"duration": value},
                [("duration", f"{shown} is not a duration this model makes: whole seconds from 3 to 15.")],
                id=f"duration {value}",
            )
            for value, shown in [
                (2, "2"),
                (16, "16"),
                (5.5, "5.5"),
                ("abc", "“abc”"),
                (10**400, "A number of more than 15 digits"),
            ]
        ),
        pytest.param(
            {
                "prompt": None,
                "duration": 8,
                "multi_prompt": [{"prompt": "A cup", "duration": 3}, {"prompt": "Steam", "duration": 4}],
            },
            [("multi_prompt", "The shots last 7 s together, the video 8 s: make them the same.")],
            id="shots of 7 for 8 seconds",
        ),
        pytest.param({"cfg_scale": 0.5}, [("cfg_scale", f"There is no parameter “cfg_scale”. {TAKES}")], id="unknown"),
        pytest.param({"prompt": "a\0b"}, None, id="NUL"),
        pytest.param({"prompt": f"a{LONE_SURROGATE}b"}, None, id="surrogate"),
        pytest.param({"image": f"a{LONE_SURROGATE}b"}, None, id="surrogate in an id"),
        pytest.param({f"a{LONE_SURROGATE}b": 1}, None, id="surrogate in a name"),
        pytest.param({"element_list": [f"{LONE_SURROGATE}"]}, None, id="surrogate in a list"),
        pytest.param({"element_list": [["x"], {}, 10**30]}, None, id="no ids"),
        pytest.param({"image": {"id": 1}}, None, id="an object as image"),
        pytest.param({"project": "coffee"}, [("project", "Must be a valid UUID.")], id="no UUID"),
        pytest.param({"project": None}, [("project", "This field may not be null.")], id="no project"),
        pytest.param(
            {"queue": "perhaps"}, [("queue", "Give true or false, without quotation marks.")], id="no boolean"
        ),
        pytest.param({"endpoint": ["x"]}, [("endpoint", "Not a valid string.")], id="a list as endpoint"),
        pytest.param(
            {"endpoint": "kling-9"},
            [("endpoint", f"There is no endpoint “kling-9”. Known endpoints: {ENDPOINT}.")],
            id="unknown endpoint",
        ),
    ],
)
def test_bad_input_is_refused_by_name(
    api: APIClient,
    body: dict[str, Any],
    nothing_happened: Callable[[], None],
    change: dict[str, Any],
    expected: list[tuple[str, str]] | None,
) -> None:
    content = json.dumps({**body, "queue": True, **change})
    response = api.post(ADDRESS, content, content_type="application/json")

    assert (response.status_code, response.json()["type"]) == (400, "validation_error")
    if expected is not None:
        assert [error[1:] for error in errors(response)] == expected
    nothing_happened()


def test_all_that_is_wrong_is_told_at_once(api: APIClient, body: dict[str, Any]) -> None:
    response = api.post(ADDRESS, {**body, "image": None, "duration": 2, "sound": "loud"})

    assert [error[1] for error in errors(response)] == ["image", "duration", "sound"]


def test_image_of_another_project_is_refused(
    api: APIClient, body: dict[str, Any], nothing_happened: Callable[[], None]
) -> None:
    foreign = factories.source_image(factories.ProjectFactory())

    response = api.post(ADDRESS, {**body, "queue": True, "image": str(foreign.pk)})

    assert response.status_code == 400
    assert errors(response) == [
        (
            "not_found_here",
            "image",
            f"There is no picture “{foreign.pk}” in Coffee. Upload it to this project first, and give its id.",
        )
    ]
    nothing_happened()


def test_element_twice_is_refused(
    api: APIClient, project: Project, editor: User, body: dict[str, Any], nothing_happened: Callable[[], None]
) -> None:
    element = Element.objects.create(project=project, name="Cup", element_id="306", created_by=editor)

    response = api.post(ADDRESS, {**body, "queue": True, "element_list": [str(element.pk), str(element.pk).upper()]})

    assert (response.status_code, [error[1] for error in errors(response)]) == (400, ["element_list"])
    nothing_happened()


def test_budget_that_is_too_small_tells_what_is_needed_and_free(
    api: APIClient, body: dict[str, Any], project: Project, nothing_happened: Callable[[], None]
) -> None:
    budget = project.budgets.get()
    budget.limit = 1_400_000
    budget.save()

    response = api.post(ADDRESS, {**body, "queue": True})

    assert response.status_code == 402
    assert response.json() == {
        "type": "client_error",
        "errors": [
            {
                "code": "over_budget",
                "detail": "Not enough budget: this needs $2.10, $1.40 is free "
                "(Coffee budget, in total, hard, limit $1.40).",
                "attr": None,
                "needed": "2.10",
                "free": "1.40",
                "budget": str(budget.pk),
                "resets_at": None,
            }
        ],
    }
    nothing_happened()


def test_budget_that_turns_tells_when_as_all_times_are_told(
    api: APIClient, body: dict[str, Any], project: Project, studio_owner: User
) -> None:
    factories.budget(project, 1_400_000, period=Period.MONTH)

    [refusal] = api.post(ADDRESS, {**body, "queue": True}).json()["errors"]

    assert re.fullmatch(r"\d{4}-\d\d-01T00:00:00Z", refusal["resets_at"])


def test_project_without_budget_tells_who_can_set_one(
    api: APIClient, body: dict[str, Any], project: Project, nothing_happened: Callable[[], None]
) -> None:
    project.budgets.update(archived_at=project.created_at)

    response = api.post(ADDRESS, {**body, "queue": True})

    assert response.status_code == 402
    assert errors(response) == [
        (
            "no_budget",
            None,
            "Coffee has no budget, so nothing can be spent in it. A studio owner can set one: olive.",
        )
    ]
    nothing_happened()


def test_project_without_membership_is_not_found(body: dict[str, Any], nothing_happened: Callable[[], None]) -> None:
    stranger = client_of(factories.UserFactory())

    for address in (ADDRESS, f"{ADDRESS}quote/"):
        response = stranger.post(address, body)
        assert response.status_code == 404
        assert errors(response) == [("not_found", None, "There is nothing here, or nothing that you may see.")]
    nothing_happened()


def test_viewer_may_not_generate(project: Project, body: dict[str, Any], nothing_happened: Callable[[], None]) -> None:
    viewer = client_of(factories.member(project, Role.VIEWER))

    response = viewer.post(ADDRESS, {**body, "queue": True})

    assert response.status_code == 403
    assert errors(response)[0][2] == (
        "This takes the role “Editor” or higher in Coffee; an owner of the project can give it to you."
    )
    nothing_happened()


def test_archived_project_makes_nothing_new(
    api: APIClient, project: Project, body: dict[str, Any], nothing_happened: Callable[[], None]
) -> None:
    project.archived_at = project.created_at
    project.save()

    response = api.post(ADDRESS, {**body, "queue": True})

    assert response.status_code == 409
    assert errors(response) == [("archived", None, "Coffee is archived: nothing new can be made in it.")]
    nothing_happened()


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        b"[1]",
        b'"text"',
        b"5",
        b"null",
        b'{"project": NaN}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 20_000,
        b'{"duration": ' + b"9" * 10_000 + b"}",
    ],
)
def test_body_that_is_no_object_is_a_bad_request(
    api: APIClient, nothing_happened: Callable[[], None], content: bytes
) -> None:
    for path in ("generations/", "generations/quote/", "elements/", "source-images/"):
        response = api.generic("POST", f"{API}/{path}", content, content_type="application/json")
        assert response.status_code == 400
        assert set(response.json()) == {"type", "errors"}
    nothing_happened()


def test_body_that_is_too_large_is_not_read(api: APIClient, nothing_happened: Callable[[], None]) -> None:
    response = api.generic("POST", ADDRESS, b'"' + b"x" * 3_000_000 + b'"', content_type="application/json")

    assert response.status_code == 413
    assert errors(response) == [("too_large", None, "The body of this request is too large: at most 2.5 MB.")]
    nothing_happened()


def test_list_as_body_of_a_patch_or_an_action_is_a_bad_request(api: APIClient, draft: Generation) -> None:
    assert api.patch(f"{ADDRESS}{draft.pk}/", []).status_code == 400
    for action in ("queue", "cancel", "retry", "ignore-result"):
        assert api.post(f"{ADDRESS}{draft.pk}/{action}/", [1]).status_code == 400
        response = api.post(f"{ADDRESS}{draft.pk}/{action}/", {"force": True})
        assert [error[1] for error in errors(response)] == ["force"]
    draft.refresh_from_db()
    assert draft.status == "draft"


def test_patch_takes_parameters_only(api: APIClient, draft: Generation) -> None:
    response = api.patch(f"{ADDRESS}{draft.pk}/", {"project": str(uuid.uuid4())})

    assert response.status_code == 400
    assert errors(response) == [("unknown_field", "project", f"There is no parameter “project”. {TAKES}")]


def test_dead_provider_leaves_it_queued_and_its_money_held(
    api: APIClient, body: dict[str, Any], wavespeed: SandboxControl, settings: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        settings.WAVESPEED_BASE_URL = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    provider.client.cache_clear()
    ordered = api.post(ADDRESS, {**body, "queue": True})
    submit_next()

    response = api.get(f"{ADDRESS}{ordered.json()['id']}/")

    assert ordered.status_code == 202
    assert (response.json()["status"], response.json()["error"]) == ("queued", None)
    assert wavespeed.posts()["count"] == 0
    assert SpendEntry.objects.get().reserved_delta == 2_100_000


@pytest.mark.parametrize(
    "path",
    [
        "generations/1/",
        f"generations/{uuid.UUID(int=0)}/",
        "generations/%00/",
        "projects/x/spend/",
        "projects/00000000-0000-0000-0000-000000000000/members/999999999999999999999999999999/",
        "nothing/",
        f"generations/?page={10**30}",
    ],
)
def test_what_is_nowhere_is_not_found_in_the_same_shape(api: APIClient, path: str) -> None:
    response = api.get(f"{API}/{path}")

    assert response.status_code in {404, 405}
    assert set(response.json()) == {"type", "errors"}


@pytest.mark.parametrize(
    "query",
    ["project=%00", "endpoint=%00", "ordering=%00", "page=%00", "status=%00", "created_after=0000-99", "page=-1"],
)
def test_bad_query_is_no_server_error(api: APIClient, query: str) -> None:
    assert api.get(f"{ADDRESS}?{query}").status_code in {200, 400, 404}


def test_member_number_beyond_the_column_is_not_found(owner_api: APIClient, project: Project) -> None:
    response = owner_api.patch(f"{API}/projects/{project.pk}/members/{10**40}/", {"role": "viewer"})

    assert response.status_code == 404


@pytest.mark.both_databases
@pytest.mark.parametrize("moment", ["0158-03-11T21:04:00.49-17:02", "2026-11-22T10:00:00+15:59"])
def test_moments_far_away_are_compared_in_utc(api: APIClient, project: Project, moment: str) -> None:
    assert api.get(ADDRESS, {"created_after": moment}).status_code == 200


def test_a_moment_that_no_calendar_has_is_refused(api: APIClient, project: Project) -> None:
    response = api.get(ADDRESS, {"created_before": "0001-01-01T00:00:00+12:00"})

    assert (response.status_code, [error[1] for error in errors(response)]) == (400, ["created_before"])
