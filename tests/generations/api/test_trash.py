"""The trash over the API: videos and pictures go, come back, and are gone."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from generations import lifecycle
from generations.models import Generation, Video
from generations.storage import retention
from projects.models import Project, Role, SourceImage
from tests import factories
from tests.pipeline import poll_to_end
from tests.projects.api.client import API, client_of, ids
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db
VIDEOS = f"{API}/videos/"


@pytest.fixture
def video(processing: Generation, wavespeed: SandboxControl) -> Video:
    poll_to_end(processing)
    lifecycle.store(processing.pk)
    return Video.objects.get()


def emptied() -> int:
    Video.objects.update(trashed_at=timezone.now() - timedelta(days=31))
    return retention.empty()


def test_video_goes_to_the_trash_and_comes_back(api: APIClient, video: Video) -> None:
    assert ids(api.get(VIDEOS)) == [str(video.pk)]

    assert api.delete(f"{VIDEOS}{video.pk}/").status_code == 204

    assert ids(api.get(VIDEOS)) == []
    assert ids(api.get(VIDEOS, {"trashed": "true"})) == [str(video.pk)]
    restored = api.post(f"{VIDEOS}{video.pk}/restore/")
    assert (restored.status_code, restored.json()["trashed_at"]) == (200, None)
    assert ids(api.get(VIDEOS)) == [str(video.pk)]


def test_deleted_video_says_so_and_keeps_its_row(api: APIClient, video: Video) -> None:
    api.delete(f"{VIDEOS}{video.pk}/")
    assert emptied() == 1

    row = api.get(f"{VIDEOS}{video.pk}/").json()
    assert (row["url"], row["poster_url"], row["sha256"]) == (None, None, video.sha256)
    assert row["purged_at"]
    for answer in (api.get(f"{VIDEOS}{video.pk}/download/"), api.post(f"{VIDEOS}{video.pk}/restore/")):
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["code"]) == (410, "deleted")
    generation = api.get(f"{API}/generations/{video.generation_id}/").json()
    assert (generation["status"], generation["charged"]) == ("completed", "2.10")


def test_viewers_and_strangers_throw_nothing_away(video: Video, project: Project) -> None:
    viewer = client_of(factories.member(project, Role.VIEWER))
    stranger = client_of(factories.member(factories.ProjectFactory(), Role.OWNER))

    assert viewer.delete(f"{VIDEOS}{video.pk}/").status_code == 403
    assert stranger.delete(f"{VIDEOS}{video.pk}/").status_code == 404
    assert ids(stranger.get(VIDEOS)) == []
    video.refresh_from_db()
    assert video.trashed_at is None


@pytest.mark.parametrize("days", [0, -1, "x", 40_000])
def test_bad_retention_is_refused(owner_api: APIClient, project: Project, days: Any) -> None:
    answer = owner_api.patch(f"{API}/projects/{project.pk}/", {"retention_days": days})

    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["attr"]) == (400, "retention_days")


def test_retention_is_set_and_unset(owner_api: APIClient, project: Project) -> None:
    for days in (90, None):
        answer = owner_api.patch(f"{API}/projects/{project.pk}/", {"retention_days": days})
        assert (answer.status_code, answer.json()["retention_days"]) == (200, days)


def test_picture_goes_to_the_trash_and_comes_back(api: APIClient, project: Project, image: SourceImage) -> None:
    address = f"{API}/source-images/{image.pk}/"

    trashed = api.post(f"{address}trash/").json()
    assert trashed["trashed_at"]
    assert ids(api.get(f"{API}/source-images/")) == []

    restored = api.post(f"{address}restore/").json()
    assert (restored["trashed_at"], restored["archived_at"]) == (None, None)
    assert ids(api.get(f"{API}/source-images/")) == [str(image.pk)]


def test_deleted_picture_says_how_it_comes_back(api: APIClient, image: SourceImage) -> None:
    address = f"{API}/source-images/{image.pk}/"
    api.post(f"{address}trash/")
    SourceImage.objects.update(trashed_at=timezone.now() - timedelta(days=31))
    retention.empty()

    answer = api.post(f"{address}restore/")

    assert answer.status_code == 410
    assert "Upload the same picture again" in answer.json()["errors"][0]["detail"]
    row = api.get(address).json()
    assert (row["url"], row["original_url"], row["thumbnail_url"]) == (None, None, None)
