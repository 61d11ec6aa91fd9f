"""What came in place of a video, for people: its owner may take it as it is; what a video lacks of what was ordered is said."""

import html
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from generations import lifecycle
from generations.models import Generation, Status, Video
from generations.services import decisions
from generations.services.refusals import WrongStatus
from generations.storage import shortcomings
from projects.models import Project, Role
from tests import factories
from tests.pipeline import ENDPOINT, poll_to_end
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db

PAGE = b"<html>maintenance</html>"


@pytest.fixture
def refused(processing: Generation, wavespeed: SandboxControl) -> Generation:
    """Made and paid, and a page comes in place of its video."""
    poll_to_end(processing)
    wavespeed.arm("download_page", times=None)
    assert lifecycle.store(processing.pk) is None
    processing.refresh_from_db()
    return processing


def client_of(user: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def test_the_api_says_what_came_and_an_owner_takes_it(
    refused: Generation, studio_owner: User, wavespeed: SandboxControl
) -> None:
    client = client_of(studio_owner)
    told = client.get(f"/api/v1/generations/{refused.pk}/").json()
    (came,) = told["refused_outputs"]
    assert (told["status"], told["videos"]) == ("storing", [])
    assert (came["bytes"], came["content_type"], came["beginning"], came["times"]) == (
        24,
        "text/html",
        PAGE.decode(),
        1,
    )

    taken = client.post(f"/api/v1/generations/{refused.pk}/take-as-it-is/", {"reason": "It will do."}, format="json")

    assert (taken.status_code, taken.json()["status"]) == (200, "completed")
    (video,) = taken.json()["videos"]
    assert video["probe_error"].startswith("What came is no video that can be read")
    assert [each["code"] for each in video["shortcomings"]] == ["unreadable"]
    with refused.videos.get().file.open("rb") as file:
        assert file.read() == PAGE
    event = refused.events.last()
    assert (event.by, event.reason) == (studio_owner, "Decided by an owner: taken as it is. It will do.")
    assert lifecycle.store(refused.pk) is None
    assert wavespeed.posts()["count"] == 1


def test_only_owners_take_it_and_only_with_a_reason(refused: Generation, project: Project, studio_owner: User) -> None:
    with pytest.raises(PermissionDenied):
        decisions.take_as_it_is(refused, by=factories.member(project, Role.APPROVER), reason="It will do.")
    answer = client_of(studio_owner).post(f"/api/v1/generations/{refused.pk}/take-as-it-is/", {}, format="json")

    assert answer.status_code == 400
    refused.refresh_from_db()
    assert refused.status == Status.STORING


def test_the_page_shows_what_came_and_offers_owners_to_take_it(refused: Generation, owner_client: Client) -> None:
    page = reverse("admin:generations_generation_change", args=[refused.pk])
    shown = owner_client.get(page).content.decode()
    assert "What came in place of a video" in shown
    assert "&lt;html&gt;maintenance&lt;/html&gt;" in shown

    done = owner_client.post(
        reverse("admin:generations_generation_take_as_it_is", args=[refused.pk]),
        {"reason": "It will do."},
        follow=True,
    )

    assert "Taken as it is: it is completed" in done.content.decode()
    refused.refresh_from_db()
    assert refused.status == Status.COMPLETED


def test_where_nothing_came_there_is_nothing_to_take(
    processing: Generation, wavespeed: SandboxControl, studio_owner: User
) -> None:
    poll_to_end(processing)
    wavespeed.arm("download_500", times=None)
    assert lifecycle.store(processing.pk) is None

    with pytest.raises(WrongStatus, match="nothing to take"):
        decisions.take_as_it_is(processing, by=studio_owner, reason="It will do.")


def test_a_worker_that_is_at_it_when_an_owner_takes_it_changes_nothing(
    refused: Generation, wavespeed: SandboxControl, studio_owner: User
) -> None:
    """Its download ends after the decision."""
    wavespeed.disarm()
    token = Generation.objects.lease(refused.pk, 60)
    decisions.take_as_it_is(refused, by=studio_owner, reason="It will do.")

    assert not Generation.objects.renew(refused.pk, token, 60)
    assert refused.videos.get().probe_error
    folder = f"projects/{refused.project_id}/videos/{refused.pk}"
    assert default_storage.listdir(folder)[1] == [Path(refused.videos.get().file.name).name]


# --- Shortcomings -----------------------------------------------------------------------------------------------------


FULL = {"width": 3840, "height": 2160, "duration": Decimal("5.041"), "has_audio": True}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"duration": Decimal("4.958")}, []),
        ({"duration": Decimal("4.5")}, ["It lasts 4.5 s, and 5 s were ordered."]),
        ({"duration": None}, []),
        ({"width": 2160, "height": 3840}, []),
        ({"width": 2160, "height": 2160}, []),
        ({"width": 3824, "height": 1536}, []),
        (
            {"width": 1920, "height": 1080},
            ["Its picture has 1920 × 1080 pixels, and the model makes 3840 × 2160."],
        ),
        ({"has_audio": False}, ["It has no sound, and sound was ordered."]),
        ({"probe_error": "Damaged."}, ["It can’t be read as a video."]),
    ],
)
def test_what_a_video_lacks_is_said(changes: dict[str, object], said: list[str]) -> None:
    ordered = Generation(endpoint=ENDPOINT, duration=5, sound=True)

    assert [each.text for each in shortcomings.of(Video(generation=ordered, **{**FULL, **changes}))] == said


def test_sound_that_nobody_ordered_is_missed_by_nobody() -> None:
    video = Video(generation=Generation(endpoint=ENDPOINT, duration=5), **{**FULL, "has_audio": False})

    assert shortcomings.of(video) == []


def test_a_video_that_is_shorter_and_smaller_says_so_on_its_page_and_in_the_api(
    processing: Generation, wavespeed: SandboxControl, owner_client: Client, studio_owner: User
) -> None:
    poll_to_end(processing)
    lifecycle.store(processing.pk)
    Video.objects.update(duration=Decimal("1.5"), width=1280, height=720)

    told = client_of(studio_owner).get(f"/api/v1/generations/{processing.pk}/").json()["videos"][0]["shortcomings"]
    page = owner_client.get(reverse("admin:generations_generation_change", args=[processing.pk])).content.decode()

    assert {each["code"] for each in told} == {"shorter", "smaller"}
    assert told
    for each in told:
        assert each["message"] in html.unescape(page)
