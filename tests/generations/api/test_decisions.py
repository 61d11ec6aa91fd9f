"""Decisions about what is unconfirmed, over the API."""

import pytest
from rest_framework.test import APIClient

from generations.models import Generation, Status, UnassignedPrediction
from projects.models import Project, Role
from tests import factories
from tests.pipeline import booked
from tests.projects.api.client import API, client_of


@pytest.fixture
def owner_of_it(project: Project) -> APIClient:
    return client_of(factories.member(project, Role.OWNER))


def address(generation: Generation, action: str) -> str:
    return f"{API}/generations/{generation.pk}/{action}/"


def test_candidates_tell_owners_what_is_known_of_them(
    owner_of_it: APIClient, api: APIClient, unconfirmed: Generation, candidate: UnassignedPrediction
) -> None:
    answer = owner_of_it.get(address(unconfirmed, "candidates"))
    # One may be another project's.
    assert api.get(address(unconfirmed, "candidates")).status_code == 403

    (row,) = answer.json()["results"]
    assert (row["id"], row["prediction_id"], row["model"]) == (str(candidate.pk), "c" * 32, unconfirmed.endpoint)
    assert (row["status"], row["found_in"], len(row["videos"])) == ("completed", "list", 1)


def test_an_owner_assigns_one(owner_of_it: APIClient, unconfirmed: Generation, candidate: UnassignedPrediction) -> None:
    fields = {"candidate": str(candidate.pk), "reason": "I know the picture"}
    answer = owner_of_it.post(address(unconfirmed, "assign"), fields)

    assert (answer.status_code, answer.json()["status"]) == (200, "processing")
    assert answer.json()["prediction_id"] == candidate.prediction_id


def test_an_owner_settles_it_as_not_made_once(owner_of_it: APIClient, unconfirmed: Generation) -> None:
    answer = owner_of_it.post(address(unconfirmed, "not-made"), {"reason": "The provider lists nothing"})

    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert answer.json()["error"]["code"] == "not_made"
    assert booked(unconfirmed) == [("reserve", 2_100_000, 0), ("release", -2_100_000, 0)]
    again = owner_of_it.post(address(unconfirmed, "not-made"), {"reason": "Once more"})
    assert (again.status_code, again.json()["errors"][0]["code"]) == (409, "wrong_status")


def test_too_soon_is_a_conflict_that_says_when(owner_of_it: APIClient, queued: Generation, settings: object) -> None:
    settings.UNCONFIRMED_MINUTES = 15
    Generation.objects.update(status=Status.UNCONFIRMED, submitted_at=queued.created_at)

    answer = owner_of_it.post(address(queued, "not-made"), {"reason": "I can't wait"})

    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["code"]) == (409, "too_soon")
    assert "until then it is looked for" in error["detail"]


@pytest.mark.parametrize(
    ("fields", "attr"),
    [
        ({"reason": "Because"}, "candidate"),
        ({"candidate": "0" * 32, "reason": "Because"}, "candidate"),
        ({"candidate": "x", "reason": "Because"}, "candidate"),
        ({"candidate": "0" * 32}, "reason"),
        ({"candidate": "0" * 32, "reason": "x" * 401}, "reason"),
    ],
)
def test_bad_decision_is_refused(
    owner_of_it: APIClient, unconfirmed: Generation, fields: dict[str, str], attr: str
) -> None:
    answer = owner_of_it.post(address(unconfirmed, "assign"), fields)

    assert answer.status_code == 400
    assert attr in {error["attr"] for error in answer.json()["errors"]}


def test_an_editor_decides_nothing_and_a_stranger_sees_nothing(
    api: APIClient, unconfirmed: Generation, candidate: UnassignedPrediction
) -> None:
    stranger = client_of(factories.member(factories.ProjectFactory(), Role.OWNER))
    for client, status in ((api, 403), (stranger, 404)):
        for action, fields in (("assign", {"candidate": str(candidate.pk)}), ("not-made", {})):
            assert client.post(address(unconfirmed, action), {**fields, "reason": "Because"}).status_code == status
    assert stranger.get(address(unconfirmed, "candidates")).status_code == 404
    unconfirmed.refresh_from_db()
    assert unconfirmed.status == Status.UNCONFIRMED


def test_not_made_takes_what_was_really_read(owner_of_it: APIClient, unconfirmed: Generation) -> None:
    unconfirmed.looks.filter(source="bill").update(read_at=None, error="The call was not answered: HTTP 500.")

    answer = owner_of_it.post(address(unconfirmed, "not-made"), {"reason": "I guess"})

    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["code"]) == (409, "not_read")
    looks = owner_of_it.get(f"{API}/generations/{unconfirmed.pk}/").json()["looks"]
    assert [(each["source"], each["read_at"] is not None, each["error"]) for each in looks] == [
        ("list", True, ""),
        ("bill", False, "The call was not answered: HTTP 500."),
    ]
