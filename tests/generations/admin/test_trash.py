"""The trash in the admin: out of sight, back, and what is left of what was deleted."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from generations.models import Generation, Status, Video
from generations.services import trash
from generations.storage import retention
from projects.models import Project, Role, SourceImage
from tests import factories
from tests.generations.services.test_trash import stored_video

VIDEOS = reverse("admin:generations_video_changelist")
PICTURES = reverse("admin:projects_sourceimage_changelist")


@pytest.fixture
def video(draft: Generation) -> Video:
    Generation.objects.filter(pk=draft.pk).update(status=Status.COMPLETED)
    return stored_video(draft)


def page(video: Video) -> str:
    return reverse("admin:generations_video_change", args=[video.pk])


def shown(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return str(answer.content.decode())


def told(answer: Any) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


def test_a_video_goes_to_the_trash_and_comes_back(editor_client: Client, video: Video) -> None:
    done = editor_client.post(reverse("admin:generations_video_trash", args=[video.pk]), {"sure": "1"}, follow=True)

    assert told(done) == ["In the trash. Its files are deleted in 30 days, unless somebody brings it back."]
    assert "In the trash, by eddie" in done.content.decode()
    assert str(video.generation) not in shown(editor_client, VIDEOS)
    assert str(video.generation) in shown(editor_client, f"{VIDEOS}?trash=in")

    done = editor_client.post(reverse("admin:generations_video_restore", args=[video.pk]), follow=True)
    assert told(done) == ["Back from the trash."]
    assert str(video.generation) in shown(editor_client, VIDEOS)


def test_the_trash_asks_first(editor_client: Client, video: Video) -> None:
    asked = [
        editor_client.post(reverse("admin:generations_video_trash", args=[video.pk])),
        editor_client.post(VIDEOS, {"action": "move_to_trash", "_selected_action": [video.pk]}),
    ]

    assert [answer.status_code for answer in asked] == [200, 200]
    assert all('name="sure"' in answer.content.decode() for answer in asked)
    video.refresh_from_db()
    assert video.trashed_at is None


def test_what_is_left_of_a_deleted_video_is_shown(editor_client: Client, video: Video, editor: User) -> None:
    trash.trash(video, by=editor)
    Video.objects.update(trashed_at=timezone.now() - timedelta(days=31))
    retention.empty()

    for url in (page(video), reverse("admin:generations_generation_change", args=[video.generation_id])):
        text = shown(editor_client, url)
        assert "Its files were deleted on" in text
        assert "<video" not in text
        assert "Download" not in text
    assert str(video.generation) in shown(editor_client, f"{VIDEOS}?trash=deleted")
    assert shown(editor_client, reverse("admin:index"))


def test_several_at_once_and_what_is_refused_is_told(project: Project, video: Video) -> None:
    viewer = Client()
    viewer.force_login(factories.member(project, Role.VIEWER, username="vera"))

    done = viewer.post(VIDEOS, {"action": "move_to_trash", "_selected_action": [video.pk], "sure": "1"}, follow=True)

    assert told(done) == [
        "This takes the role “Editor” or higher in Coffee; an owner of the project can give it to you."
    ]
    assert not Video.objects.filter(trashed_at__isnull=False).exists()


def test_several_at_once_go_and_come_back(editor_client: Client, video: Video) -> None:
    done = editor_client.post(
        VIDEOS, {"action": "move_to_trash", "_selected_action": [video.pk], "sure": "1"}, follow=True
    )
    assert told(done) == ["1 video moved to the trash."]

    done = editor_client.post(
        f"{VIDEOS}?trash=in", {"action": "bring_back", "_selected_action": [video.pk], "sure": "1"}, follow=True
    )
    assert told(done) == ["1 video brought back."]


def test_a_picture_goes_comes_back_and_is_deleted(editor_client: Client, project: Project, editor: User) -> None:
    image = factories.source_image(project, editor)
    url = reverse("admin:projects_sourceimage_change", args=[image.pk])

    done = editor_client.post(reverse("admin:projects_sourceimage_trash", args=[image.pk]), {"sure": "1"}, follow=True)
    assert told(done) == [f"{image} is in the trash. Videos made of it stay; its own files are deleted in 30 days."]
    assert "In the trash since" in done.content.decode()
    done = editor_client.post(reverse("admin:projects_sourceimage_restore", args=[image.pk]), follow=True)
    assert told(done) == [f"{image} is back."]

    editor_client.post(PICTURES, {"action": "move_to_trash", "_selected_action": [image.pk], "sure": "1"})
    SourceImage.objects.update(trashed_at=timezone.now() - timedelta(days=31))
    assert retention.empty() == 1
    text = shown(editor_client, url)
    assert "Its files were deleted on" in text
    assert "Bring back" not in text
    assert shown(editor_client, f"{PICTURES}?trash=deleted&archived=all").count("studio-thumb-empty") == 1


def test_a_generation_of_a_deleted_picture_still_shows(editor_client: Client, draft: Generation, editor: User) -> None:
    SourceImage.objects.update(trashed_at=timezone.now() - timedelta(days=31))
    Generation.objects.update(status=Status.CANCELLED)
    retention.empty()

    assert shown(editor_client, reverse("admin:generations_generation_change", args=[draft.pk]))
    assert shown(editor_client, reverse("admin:generations_generation_changelist"))
    assert shown(editor_client, reverse("admin:index"))
