"""Store, against the sandbox over real HTTP: a paid video comes home, whatever the download and our own storage do."""

import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone

from generations import alerts, lifecycle, provider
from generations.models import Generation, Status
from generations.storage import room
from projects.models import Alert, AlertKind, Notification
from tests.generations.storage.storages import Forgetful
from tests.pipeline import file_sha256, history, money, poll_to_end, until
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db

FILE_STORAGE = "kling_studio.media.SignedFileSystemStorage"


@pytest.fixture
def storing(processing: Generation) -> Generation:
    """Made by the provider, not yet here."""
    poll_to_end(processing)
    assert processing.status == Status.STORING
    return processing


def files_of(generation: Generation) -> list[str]:
    try:
        return default_storage.listdir(f"projects/{generation.project_id}/videos/{generation.pk}")[1]
    except (FileNotFoundError, NotADirectoryError):
        return []


def use_storage(settings: object, backend: str, location: Path) -> None:
    default = {"BACKEND": backend, "OPTIONS": {"location": str(location)}}
    settings.STORAGES = {**settings.STORAGES, "default": default}


def store_again(generation: Generation) -> Status | None:
    """When its time has come."""
    generation.refresh_from_db()
    assert generation.next_action_at
    with time_machine.travel(generation.next_action_at):
        return lifecycle.store(generation.pk)


def assert_stored(generation: Generation, wavespeed: SandboxControl) -> None:
    made = wavespeed.predictions()[0]
    generation.refresh_from_db()
    video = generation.videos.get()
    assert (generation.status, generation.error_code, generation.error_message) == (Status.COMPLETED, "", "")
    assert file_sha256(generation) == video.sha256 == made["output_sha256"]
    assert set(files_of(generation)) == {Path(name).name for name in (video.file.name, video.poster.name)}
    assert wavespeed.posts()["count"] == 1


# --- Downloads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [
        ("download_truncated", {}),
        ("download_reset", {}),
        ("download_wrong_length", {"extra": 1000}),
        ("download_500", {}),
    ],
)
def test_a_broken_download_is_mended_at_once(
    fault: str, parameters: dict[str, int], storing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm(fault, **parameters)

    assert lifecycle.store(storing.pk) == Status.COMPLETED

    assert_stored(storing, wavespeed)
    assert wavespeed.faults()[0]["taken"] == 1


def test_a_download_that_breaks_again_and_again_goes_on_each_time(
    storing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("download_truncated", times=6)

    assert lifecycle.store(storing.pk) == Status.COMPLETED

    assert_stored(storing, wavespeed)
    assert wavespeed.faults()[0]["taken"] == 6


def test_a_broken_download_begins_anew_where_the_server_knows_no_ranges(
    storing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("download_truncated")
    wavespeed.arm("download_no_range", times=None)

    assert lifecycle.store(storing.pk) == Status.COMPLETED
    assert_stored(storing, wavespeed)


def test_a_file_that_changed_between_two_tries_begins_anew(storing: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("download_truncated")
    wavespeed.arm("download_changed")

    assert lifecycle.store(storing.pk) == Status.COMPLETED
    assert_stored(storing, wavespeed)


@pytest.mark.parametrize("fault", ["download_500", "download_wrong_length"])
def test_a_server_that_never_gives_it_is_asked_again_later(
    fault: str, storing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm(fault, times=None)

    assert lifecycle.store(storing.pk) is None

    storing.refresh_from_db()
    assert (storing.status, storing.error_code, storing.lease_token) == (Status.STORING, "not_stored", None)
    assert files_of(storing) == []
    wavespeed.disarm()
    assert store_again(storing) == Status.COMPLETED
    assert_stored(storing, wavespeed)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_dead_url_is_replaced_by_that_of_a_fresh_result(
    status: int, storing: Generation, wavespeed: SandboxControl
) -> None:
    dead = storing.outputs
    wavespeed.arm("download_expired", status=status)

    assert lifecycle.store(storing.pk) is None

    storing.refresh_from_db()
    assert (storing.status, storing.error_code) == (Status.STORING, "not_stored")
    assert storing.outputs != dead
    assert store_again(storing) == Status.COMPLETED
    assert_stored(storing, wavespeed)


@pytest.mark.parametrize(
    ("fault", "parameters"), [("download_corrupt", {}), ("download_wrong_length", {"extra": -5000})]
)
def test_a_damaged_file_is_fetched_again_before_it_is_believed(
    fault: str, parameters: dict[str, int], storing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm(fault, times=2, **parameters)

    assert lifecycle.store(storing.pk) is None
    storing.refresh_from_db()
    assert (storing.status, storing.error_code) == (Status.STORING, "damaged")
    assert storing.error_message.startswith("What came is no video that can be read: ")
    assert not storing.videos.exists()

    assert store_again(storing) is None
    assert store_again(storing) == Status.COMPLETED
    assert_stored(storing, wavespeed)


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [
        ("download_page", {}),
        ("download_page", {"body": '{"error": "try again"}', "content_type": "application/json"}),
        ("download_page", {"body": ""}),
        ("download_page", {"status": 204, "body": ""}),
        ("download_cut", {}),
        ("download_half", {}),
        ("download_half", {"fraction": 0.99}),
    ],
)
def test_nothing_but_the_video_completes_it_however_often_something_else_comes(
    fault: str, parameters: dict[str, object], storing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm(fault, times=5, **parameters)

    assert [store_again(storing) for _ in range(5)] == [None] * 5
    assert not storing.videos.exists()
    assert len(files_of(storing)) <= 1
    assert store_again(storing) == Status.COMPLETED
    assert_stored(storing, wavespeed)


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [
        ("download_encoding", {"encoding": "aws-chunked"}),
        ("download_encoding", {"encoding": "aws-chunked", "packed": True}),
        ("download_encoding", {"encoding": "br"}),
        ("download_encoding", {"encoding": "gzip"}),
        ("download_encoding", {"encoding": "gzip", "packed": True}),
        ("download_encoding", {"encoding": "deflate", "packed": True}),
        ("download_status", {"status": 203}),
        ("download_status", {"status": 206}),
        ("result_odd_address", {"how": "spaced"}),
        ("result_odd_address", {"how": "without_scheme"}),
    ],
)
def test_good_bytes_are_taken_whatever_is_said_of_them(
    fault: str, parameters: dict[str, object], processing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm(fault, times=None, **parameters)
    poll_to_end(processing)

    assert lifecycle.store(processing.pk) == Status.COMPLETED

    assert_stored(processing, wavespeed)


def test_owners_hear_once_after_minutes_what_came_instead(
    storing: Generation, wavespeed: SandboxControl, studio_owner: User
) -> None:
    wavespeed.arm("download_page", times=None)
    began = timezone.now()

    for _ in range(5):
        store_again(storing)
    assert not Alert.objects.exists()
    while (tried := Generation.objects.get(pk=storing.pk).next_action_at) < began + timedelta(hours=1):
        store_again(storing)

    alert = Alert.objects.get()
    assert alert.kind == AlertKind.NEEDS_LOOK
    assert alert.created_at < began + timedelta(minutes=6)
    assert "24 bytes of text/html, which begin with “<html>maintenance</html>”" in alert.text
    storing.refresh_from_db()
    assert storing.needs_look_why in alert.text
    assert tried - timezone.now() > timedelta(minutes=30)
    evidence = storing.refused_outputs.get()
    assert (evidence.bytes, evidence.content_type, evidence.times > 5) == (24, "text/html", True)
    with evidence.file.open("rb") as file:
        assert file.read() == b"<html>maintenance</html>"
    assert files_of(storing) == [Path(evidence.file.name).name]


def test_what_is_never_readable_fails_on_the_eighth_day_and_follows_the_bill(
    storing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("download_page", times=None)
    assert lifecycle.store(storing.pk) is None

    with time_machine.travel(storing.submitted_at + timedelta(days=8, hours=1)):
        assert lifecycle.store(storing.pk) == Status.FAILED

    storing.refresh_from_db()
    assert (storing.error_code, storing.settle_at is not None) == ("never_readable", True)
    assert "<html>maintenance</html>" in storing.error_message
    assert not storing.videos.exists()
    (deduct,) = wavespeed.bill()["rows"]
    refund = {"prediction_id": storing.prediction_id, "billing_type": "refund", "price": deduct["price"]}
    wavespeed.doctor(add=[refund])
    lifecycle.settle(storing.pk)
    assert money(storing) == (0, 0)


# --- Several outputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [True, False])
def test_a_cover_beside_the_video_is_left_out_without_further_tries(
    before: bool, processing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("result_beside", times=None, what="cover", before=before)
    poll_to_end(processing)

    assert lifecycle.store(processing.pk) == Status.COMPLETED

    assert_stored(processing, wavespeed)


def test_the_same_address_twice_is_one_video(processing: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("result_beside", times=None, what="twin")
    poll_to_end(processing)

    assert lifecycle.store(processing.pk) == Status.COMPLETED

    assert_stored(processing, wavespeed)


@pytest.mark.parametrize("before", [True, False])
def test_a_good_output_is_stored_at_once_and_kept_while_a_bad_one_is_tried(
    before: bool, processing: Generation, wavespeed: SandboxControl, studio_owner: User
) -> None:
    wavespeed.arm("result_beside", times=None, what="page", before=before)
    poll_to_end(processing)

    assert [store_again(processing) for _ in range(4)] == [None] * 4

    video = processing.videos.get()
    assert file_sha256(processing) == video.sha256 == wavespeed.predictions()[0]["output_sha256"]
    processing.refresh_from_db()
    bad = 1 if before else 2
    assert processing.error_message.startswith(f"Output {bad} of 2: What came is no video that can be read: ")
    with time_machine.travel(processing.submitted_at + timedelta(days=8, hours=1)):
        assert lifecycle.store(processing.pk) == Status.COMPLETED
    assert processing.events.last().reason.startswith("Stored and checked, but for 1 of 2 outputs: ")
    assert set(files_of(processing)) == {Path(name).name for name in (video.file.name, video.poster.name)}


REFUSING = {
    "sqlite": (
        "CREATE TRIGGER no_video BEFORE INSERT ON generations_video BEGIN SELECT RAISE(ABORT, 'no such row'); END",
        "DROP TRIGGER no_video",
    ),
    "postgresql": (
        "CREATE FUNCTION no_video() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no such row'; END $$;"
        "CREATE TRIGGER no_video BEFORE INSERT ON generations_video EXECUTE FUNCTION no_video()",
        "DROP TRIGGER no_video ON generations_video; DROP FUNCTION no_video",
    ),
}


@pytest.mark.both_databases
def test_a_database_that_refuses_the_video_leaves_no_file_and_says_so(
    storing: Generation, wavespeed: SandboxControl
) -> None:
    refuse, take_again = REFUSING[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(refuse)

    assert [store_again(storing) for _ in range(3)] == [None] * 3

    storing.refresh_from_db()
    assert (storing.status, storing.attempts, files_of(storing)) == (Status.STORING, 3, [])
    assert storing.error_message.startswith("It could not be stored, for an unexpected reason: ")
    assert storing.refused_outputs.get().times == 3
    with connection.cursor() as cursor:
        cursor.execute(take_again)
    assert store_again(storing) == Status.COMPLETED
    assert_stored(storing, wavespeed)


def test_a_picture_alone_is_no_video(storing: Generation, wavespeed: SandboxControl) -> None:
    cover = storing.outputs[0].partition("output.mp4")[0] + "cover.jpg"
    Generation.objects.filter(pk=storing.pk).update(outputs=[cover])

    assert lifecycle.store(storing.pk) is None
    assert store_again(storing) == Status.COMPLETED  # by the fresh result
    assert_stored(storing, wavespeed)


def test_an_output_that_never_ends_is_that_one_s_trouble(
    storing: Generation, wavespeed: SandboxControl, settings: object
) -> None:
    settings.STORE_MOST_MEGABYTES_PER_SECOND = 1
    wavespeed.arm("download_endless", times=3)

    assert [store_again(storing) for _ in range(3)] == [None] * 3

    storing.refresh_from_db()
    assert storing.error_message == "The file at 127.0.0.1 is over the limit of 10,000,000 bytes."
    assert room.shortage() == ""
    assert store_again(storing) == Status.COMPLETED
    assert_stored(storing, wavespeed)


def test_what_the_provider_dropped_for_good_fails_on_the_eighth_day_and_not_before(
    storing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.advance(8 * 86_400)
    assert lifecycle.store(storing.pk) is None
    storing.refresh_from_db()
    assert storing.status == Status.STORING

    with time_machine.travel(timezone.now() + timedelta(days=8, hours=1)):
        assert lifecycle.store(storing.pk) == Status.FAILED
    storing.refresh_from_db()
    assert storing.error_code == "result_expired"
    assert history(storing)[-2:] == ["storing", "failed"]


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_who_lost_the_lease_deletes_only_its_own_files(storing: Generation, wavespeed: SandboxControl) -> None:
    size = wavespeed.predictions()[0]["output_bytes"]
    wavespeed.arm("download_slow", bytes_per_second=size // 2)
    slow_result: list[Status | None] = []

    def store_slowly() -> None:
        slow_result.append(lifecycle.store(storing.pk))
        connection.close()

    slow = threading.Thread(target=store_slowly)
    slow.start()
    until(lambda: wavespeed.faults()[0]["taken"] == 1)
    # The slow worker seems dead: its lease ends, and another one takes over.
    Generation.objects.filter(pk=storing.pk).update(lease_until=timezone.now())
    assert lifecycle.store(storing.pk) == Status.COMPLETED
    slow.join()

    assert slow_result == [None]
    assert_stored(storing, wavespeed)


# --- Our own storage --------------------------------------------------------------------------------------------------


def assert_held_and_told(storing: Generation, owner: User, reason: str) -> None:
    """In `storing`, with a sentence; nothing is submitted meanwhile, and the owners hear of it once."""
    storing.refresh_from_db()
    assert (storing.status, storing.error_code, storing.lease_token) == (Status.STORING, "storage_refused", None)
    assert storing.error_message == reason
    assert storing.next_action_at < timezone.now() + timedelta(seconds=80)
    assert files_of(storing) == []
    assert room.shortage() == (
        "The studio's own storage does not take what was made (1 finished video waiting for it): "
        "nothing more is submitted until it does. See the generations that are storing."
    )
    alert = Alert.objects.get(kind=AlertKind.STORAGE)
    assert (alert.title, alert.text.startswith(reason)) == ("Finished videos can't be stored", True)
    assert [notification.user for notification in Notification.objects.filter(alert=alert)] == [owner]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_leaves_it_storing_until_there_is_room(
    storing: Generation, wavespeed: SandboxControl, studio_owner: User, small_disk: Path, settings: object
) -> None:
    use_storage(settings, FILE_STORAGE, small_disk)

    for _ in range(2):
        assert store_again(storing) is None

    assert_held_and_told(storing, studio_owner, "The studio's storage did not take the video: it is full.")
    assert [each for each in small_disk.rglob("*") if each.is_file()] == []
    subprocess.run(["mount", "-o", "remount,size=50m", str(small_disk)], check=True)
    assert store_again(storing) == Status.COMPLETED
    assert_stored(storing, wavespeed)


def test_a_folder_that_can_not_be_written_leaves_it_storing_until_it_can(
    storing: Generation, wavespeed: SandboxControl, studio_owner: User
) -> None:
    blocker = default_storage.path(f"projects/{storing.project_id}/videos")
    with open(blocker, "w"):  # a file where the folder should be
        assert lifecycle.store(storing.pk) is None

    assert_held_and_told(storing, studio_owner, "The studio's storage did not take the video: NotADirectoryError.")
    default_storage.delete(f"projects/{storing.project_id}/videos")
    assert store_again(storing) == Status.COMPLETED
    assert_stored(storing, wavespeed)


@pytest.mark.parametrize(
    ("damage", "told"), [("flip", "as many bytes, but other ones"), ("cut", "{less} of {all} bytes")]
)
def test_a_storage_that_keeps_something_else_is_found_out_before_it_counts_as_stored(
    damage: str,
    told: str,
    storing: Generation,
    wavespeed: SandboxControl,
    studio_owner: User,
    tmp_path: Path,
    settings: object,
) -> None:
    size = wavespeed.predictions()[0]["output_bytes"]
    use_storage(settings, "tests.generations.storage.storages.Forgetful", tmp_path)
    Forgetful.damage, Forgetful.times = damage, 1

    assert lifecycle.store(storing.pk) is None

    reason = "The studio's storage gave back something else than it was given: "
    told = told.format(less=f"{size - 1:,}", all=f"{size:,}")
    assert_held_and_told(storing, studio_owner, f"{reason}{told}.")
    assert store_again(storing) == Status.COMPLETED
    assert_stored(storing, wavespeed)


# --- Alerts -----------------------------------------------------------------------------------------------------------


def test_owners_hear_once_a_day_of_what_the_provider_will_soon_drop(storing: Generation, studio_owner: User) -> None:
    alerts.check_expiring()
    assert not Alert.objects.exists()

    for days, count in [(6, 1), (6, 1), (7, 2)]:
        with time_machine.travel(timezone.now() + timedelta(days=days, minutes=5)):
            alerts.check_expiring()
        assert Alert.objects.filter(kind=AlertKind.STORAGE).count() == count

    alert = Alert.objects.earliest("created_at")
    assert alert.title == "1 paid video will be lost within a day, unless stored"
    assert alert.links == [
        ["“Steam rises from the cup” in Coffee", f"/admin/generations/generation/{storing.pk}/change/"]
    ]
    assert [notification.user for notification in Notification.objects.filter(alert=alert)] == [studio_owner]


def test_owners_hear_of_what_the_provider_gives_no_result_of(
    processing: Generation, studio_owner: User, settings: object
) -> None:
    settings.WAVESPEED_BASE_URL = "http://127.0.0.1:9"
    provider.client.cache_clear()

    for days, count in [(5.9, 0), (6.1, 1), (8.1, 2), (9.1, 3)]:
        with time_machine.travel(timezone.now() + timedelta(days=days)):
            assert lifecycle.poll(processing.pk) is None
            alerts.check_expiring()
        assert Alert.objects.filter(kind=AlertKind.STORAGE).count() == count

    first, *_, last = Alert.objects.order_by("created_at")
    assert first.title == "1 paid video will be lost within a day, unless stored"
    assert "The provider gives no result" in first.text
    assert first.links == [
        ["“Steam rises from the cup” in Coffee", f"/admin/generations/generation/{processing.pk}/change/"]
    ]
    assert last.title == "1 paid video may be lost: the provider’s 7 days are over"


def test_owners_hear_of_a_late_success_that_may_expire(processing: Generation, studio_owner: User) -> None:
    """It was told as failed, and is asked for again."""
    Generation.objects.filter(pk=processing.pk).update(status=Status.FAILED)
    with time_machine.travel(timezone.now() + timedelta(days=6, minutes=5)):
        alerts.check_expiring()
        assert Alert.objects.count() == 1
        Alert.objects.all().delete()
        Generation.objects.filter(pk=processing.pk).update(next_action_at=None)
        alerts.check_expiring()
    assert not Alert.objects.exists()
