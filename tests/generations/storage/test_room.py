"""Nothing is submitted unless what would be made has a place to go to."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from generations import lifecycle
from generations.models import Generation, Status, UnassignedPrediction
from generations.storage import room
from projects.models import Alert, AlertKind, Notification, Project
from tests.generations.storage.test_check_storage import generation

pytestmark = pytest.mark.django_db

MEGABYTE = 1_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """400 MB, on which files need no room until they are written."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture
def free(settings: object, tmp_path: Path) -> int:
    """The bytes that are free where storage and temporary files are: one disk here."""
    default = {**settings.STORAGES["default"], "OPTIONS": {"location": str(tmp_path / "not" / "yet")}}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    assert os.stat(tmp_path).st_dev == os.stat(tempfile.gettempdir()).st_dev
    return shutil.disk_usage(tmp_path).free


def test_the_longest_video_of_the_catalogue_is_reckoned_with() -> None:
    assert room.largest_video() == 15 * 10 * MEGABYTE


def test_there_is_room_when_there_is(db: None, settings: object) -> None:
    settings.STORAGE_ROOM_MEGABYTES = 0

    assert room.shortage() == ""


def test_what_must_stay_free_holds_the_lane(queued: Generation, free: int, settings: object, tmp_path: Path) -> None:
    settings.STORAGE_ROOM_MEGABYTES = free // MEGABYTE + 1_000

    told = room.shortage()

    assert told.startswith(f"The disk of the storage at {tmp_path} has ")
    assert " are needed for 1 video on their way: nothing is submitted until there is room." in told
    assert lifecycle.admit() is None
    settings.STORAGE_ROOM_MEGABYTES = 0
    assert lifecycle.admit() is not None


def test_storage_and_temporary_files_on_one_disk_need_room_twice(project: Project, free: int, settings: object) -> None:
    """One that is on its way and the one that would be submitted; the margin leaves room for what others write meanwhile."""
    generation(project, Status.PROCESSING)
    needed = 2 * 2 * room.largest_video()

    settings.STORAGE_ROOM_MEGABYTES = (free - needed) // MEGABYTE - 5_000
    assert room.shortage() == ""
    settings.STORAGE_ROOM_MEGABYTES = (free - needed) // MEGABYTE + 5_000
    assert "2 videos on their way" in room.shortage()


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        (Status.DRAFT, False),
        (Status.QUEUED, False),
        (Status.SUBMITTING, True),
        (Status.PROCESSING, True),
        (Status.UNCONFIRMED, True),
        (Status.STORING, True),
        (Status.COMPLETED, False),
        (Status.FAILED, False),
    ],
)
def test_what_may_still_bring_a_video_is_reckoned_with(
    status: Status, counts: bool, project: Project, free: int, settings: object
) -> None:
    settings.STORAGE_ROOM_MEGABYTES = free // MEGABYTE + 1_000
    generation(project, status)

    assert ("2 videos" in room.shortage()) is counts


def test_what_is_uploaded_for_a_submit_is_reckoned_with_and_what_nobody_asked_for_is_not(
    project: Project, free: int, settings: object
) -> None:
    settings.STORAGE_ROOM_MEGABYTES = free // MEGABYTE + 1_000
    leased = generation(project, Status.QUEUED)
    Generation.objects.filter(pk=leased.pk).update(lease_until=timezone.now() + timedelta(minutes=1))
    UnassignedPrediction.objects.create(prediction_id="a" * 32, found_by="list")
    UnassignedPrediction.objects.create(prediction_id="b" * 32, found_by="list", next_action_at=None)

    assert "2 videos" in room.shortage()


def test_a_small_disk_for_the_storage_holds_the_lane(queued: Generation, small_disk: Path, settings: object) -> None:
    default = {**settings.STORAGES["default"], "OPTIONS": {"location": str(small_disk / "media")}}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    settings.STORAGE_ROOM_MEGABYTES = 200
    assert room.shortage() == ""

    with (small_disk / "holiday.mp4").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100 * MEGABYTE)

    assert room.shortage() == (
        f"The disk of the storage at {small_disk} has {(400 * 1024**2 - 100 * MEGABYTE) // MEGABYTE} MB free, and 350 MB are needed "
        "for 1 video on their way: nothing is submitted until there is room. "
        "Delete what nobody needs, or give the studio a larger disk."
    )
    assert lifecycle.admit() is None
    (small_disk / "holiday.mp4").unlink()
    assert lifecycle.admit() is not None


def test_a_small_disk_for_temporary_files_holds_the_lane(
    db: None, small_disk: Path, settings: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(small_disk))
    settings.STORAGE_ROOM_MEGABYTES = 300

    assert room.shortage().startswith(f"The disk for temporary files (TMPDIR) at {small_disk} has 419 MB free")


@pytest.mark.parametrize(
    ("code", "is_held"), [("storage_refused", True), ("disk_full", True), ("not_stored", False), ("", False)]
)
def test_a_storage_that_does_not_take_what_was_made_holds_the_lane(
    code: str, is_held: bool, queued: Generation, project: Project
) -> None:
    Generation.objects.filter(pk=generation(project, Status.STORING).pk).update(error_code=code)

    assert (lifecycle.admit() is None) is is_held


def test_owners_hear_of_it_once_a_day_when_something_waits(
    queued: Generation, free: int, studio_owner: User, settings: object
) -> None:
    room.tell_of_shortage()
    assert not Alert.objects.exists()
    settings.STORAGE_ROOM_MEGABYTES = free // MEGABYTE + 1_000

    for _ in range(2):
        room.tell_of_shortage()

    alert = Alert.objects.get(kind=AlertKind.STORAGE)
    assert alert.title == "Nothing is submitted: there is no room for videos"
    assert alert.text == room.shortage()
    assert [each.user for each in Notification.objects.filter(alert=alert)] == [studio_owner]


def test_nobody_is_told_while_nothing_waits(db: None, free: int, settings: object) -> None:
    settings.STORAGE_ROOM_MEGABYTES = free // MEGABYTE + 1_000

    room.tell_of_shortage()

    assert not Alert.objects.exists()


def test_it_asks_the_database_once(project: Project, django_assert_num_queries: object) -> None:
    generation(project, Status.PROCESSING)

    with django_assert_num_queries(1):
        room.shortage()
