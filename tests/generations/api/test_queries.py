"""What stands behind the `?` narrows the list, or is refused: it is never dropped in silence."""

import uuid
from typing import Any

import pytest
from rest_framework.test import APIClient

from generations.models import Generation, Video
from projects.models import Project
from tests import factories
from tests.generations.conftest import ENDPOINT
from tests.projects.api.client import API, client_of, errors, ids
from tests.security.routes import every_route


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("generations/?projct=x", "projct"),
        ("generations/?updated_since=2026-01-01", "updated_since"),
        ("generations/?limit=1", "limit"),
        ("generations/?format=xml", "format"),
        ("projects/?archived=true", "archived"),
        ("budgets/?ordering=limit", "ordering"),
        ("endpoints/?search=kling", "search"),
        ("tokens/?user=olive", "user"),
        ("spend/?since=2026-01-01", "since"),
        ("spend/entries.csv?by=day", "by"),
    ],
)
def test_unknown_parameter_is_refused_by_name(owner_api: APIClient, path: str, name: str) -> None:
    response = owner_api.get(f"{API}/{path}")

    assert (response.status_code, [error[:2] for error in errors(response)]) == (400, [("unknown_parameter", name)])
    assert errors(response)[0][2].startswith(f"This address has no parameter “{name}”. It takes")


@pytest.mark.django_db
def test_every_address_refuses_a_parameter_that_it_does_not_know(owner_api: APIClient, draft: Generation) -> None:
    for route in every_route():
        if not route.is_api or "<" in route.pattern:
            continue
        for method in route.methods:
            response = owner_api.generic(method, f"/{route.pattern}?projct=x", "{}", content_type="application/json")
            assert [error[:2] for error in errors(response)] == [("unknown_parameter", "projct")], route.pattern
    for path in ("", "events/", "candidates/"):
        assert owner_api.get(f"{API}/generations/{draft.pk}/{path}?projct=x").status_code == 400
    assert owner_api.post(f"{API}/generations/{draft.pk}/queue/?confirm=true").status_code == 400
    draft.refresh_from_db()
    assert draft.status == "draft"


@pytest.mark.parametrize("value", ["1", "0", "yes", "True", "FALSE", "maybe", "null"])
@pytest.mark.parametrize(
    "path", ["videos/?trashed", "source-images/?archived", "elements/?archived", "approvals/?for_me"]
)
def test_switches_of_lists_are_true_or_false(api: APIClient, path: str, value: str) -> None:
    response = api.get(f"{API}/{path}={value}")

    assert (response.status_code, errors(response)) == (
        400,
        [("invalid", path.split("?")[1], "Give true or false.")],
    )


@pytest.mark.parametrize(
    ("query", "name"),
    [
        *((f"page_size={value}", "page_size") for value in ("-1", "0", "abc", "null", "1e3", "201", "1.5")),
        *((f"page={value}", "page") for value in ("0", "-1", "abc", "last")),
        *((f"{name}=", name) for name in ("project", "status", "tag", "endpoint", "ordering", "page", "created_after")),
        ("page=1&page=2", "page"),
        (f"project={uuid.UUID(int=1)}&project={uuid.UUID(int=2)}", "project"),
    ],
)
def test_parameter_without_a_value_that_can_be_is_refused(api: APIClient, query: str, name: str) -> None:
    response = api.get(f"{API}/generations/?{query}")

    assert (response.status_code, [error[1] for error in errors(response)]) == (400, [name])


@pytest.mark.parametrize("query", ["from=", "to=", "by="])
def test_empty_days_are_refused(api: APIClient, query: str) -> None:
    assert errors(api.get(f"{API}/spend/?{query}"))[0][:2] == ("blank", query[:-1])


def test_days_that_are_none_are_told_by_the_name_that_was_sent(api: APIClient) -> None:
    assert [error[1] for error in errors(api.get(f"{API}/spend/?to=2000-01-01"))] == ["to"]
    assert [error[1] for error in errors(api.get(f"{API}/spend/?from=2000-01-01"))] == ["from"]


def test_plus_that_became_a_space_is_told(api: APIClient) -> None:
    response = api.get(f"{API}/generations/?created_after=2026-11-28T00:00:00+00:00")

    assert response.status_code == 400
    assert "write %2B" in errors(response)[0][2]
    assert api.get(f"{API}/generations/?created_after=2026-11-28T00:00:00%2B00:00").status_code == 200


def test_unknown_and_foreign_ids_are_the_same_empty_list(api: APIClient, draft: Generation) -> None:
    other = factories.ProjectFactory()
    stranger: Any = client_of(factories.member(other))
    Video.objects.create(generation=draft, bytes=1, sha256="0" * 64, file="clip.mp4")

    for name, known in (("generation", draft.pk), ("project", draft.project_id)):
        foreign = stranger.get(f"{API}/videos/?{name}={known}")
        unknown = stranger.get(f"{API}/videos/?{name}={uuid.uuid4()}")
        assert (foreign.status_code, foreign.json()) == (200, unknown.json())
        assert len(ids(api.get(f"{API}/videos/?{name}={known}"))) == 1


def test_several_statuses_may_be_asked_for(api: APIClient, draft: Generation, project: Project) -> None:
    query = (
        f"status=draft&status=queued&project={project.pk}&endpoint={ENDPOINT}&page=1&page_size=200&ordering=-duration"
    )

    assert ids(api.get(f"{API}/generations/?{query}")) == [str(draft.pk)]
