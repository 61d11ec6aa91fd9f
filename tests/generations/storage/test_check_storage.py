"""`manage.py check_storage`: what the database says is stored is compared with what is, and put back where that can be done."""

import hashlib
import json
import os
import shutil
import uuid
from datetime import timedelta
from io import StringIO
from pathlib import Path

import dramatiq
import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.utils import timezone

from generations import dispatch
from generations.models import Generation, Lane, PauseCause, Status, UnassignedPrediction, Video
from generations.services import decisions
from generations.storage import check
from projects.models import Alert, AlertKind, Notification, Project, SourceImage
from tests import factories
from tests.generations.storage.test_storing import CLIP
from tests.pipeline import ENDPOINT, file_sha256, run_to_end
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db

GOOD = "Everything is as it should be."


@pytest.fixture(autouse=True)
def storage(settings: object, tmp_path: Path) -> Path:
    """A storage of its own, which holds nothing yet."""
    default = {**settings.STORAGES["default"], "OPTIONS": {"location": str(tmp_path / "media")}}
    settings.STORAGES = {**settings.STORAGES, "default": default}
    return tmp_path / "media"


def checked(*arguments: str) -> tuple[str, str, int]:
    """What the command prints, why it fails, and its exit code."""
    out = StringIO()
    try:
        call_command("check_storage", *arguments, stdout=out)
    except CommandError as error:
        return out.getvalue().strip(), str(error), error.returncode
    return out.getvalue().strip(), "", 0


def generation(project: Project, status: Status = Status.COMPLETED) -> Generation:
    return Generation.objects.create(
        project=project,
        requested_by=project.created_by,
        endpoint=ENDPOINT,
        prompt="Steam",
        inputs_digest="x",
        status=status,
    )


def stored_video(owner: Generation | UnassignedPrediction, folder: str = "") -> Video:
    if isinstance(owner, Generation):
        owned = {"generation": owner}
        folder = folder or f"projects/{owner.project_id}/videos/{owner.pk}"
    else:
        owned, folder = {"unassigned": owner}, folder or f"unassigned/{owner.pk}"
    name = f"{folder}/0-{uuid.uuid4().hex}"
    return Video.objects.create(
        file=default_storage.save(f"{name}.mp4", ContentFile(CLIP)),
        poster=default_storage.save(f"{name}.jpg", ContentFile(factories.jpeg())),
        bytes=len(CLIP),
        sha256=hashlib.sha256(CLIP).hexdigest(),
        **owned,
    )


def age(name: str, days: float = 2) -> str:
    path = default_storage.path(name)
    then = (timezone.now() - timedelta(days=days)).timestamp()
    os.utime(path, (then, then))
    return name


def leftover(name: str, days: float = 2, content: bytes = CLIP) -> str:
    return age(default_storage.save(name, ContentFile(content)), days)


def overwrite(name: str, content: bytes) -> None:
    Path(default_storage.path(name)).write_bytes(content)


def note_original(image: SourceImage) -> None:
    """The factory's checksums are made up."""
    content = Path(default_storage.path(image.original.name)).read_bytes()
    SourceImage.objects.filter(pk=image.pk).update(sha256=hashlib.sha256(content).hexdigest())


# --- What it finds ----------------------------------------------------------------------------------------------------


def test_what_is_in_order_is_told_in_one_line(project: Project) -> None:
    stored_video(generation(project))
    factories.source_image(project)

    report, error, code = checked()

    assert (report.startswith("Checked 1 video and 1 picture, 0.0 MB."), error, code) == (True, "", 0)
    assert report.endswith(GOOD)


def test_an_empty_studio_is_in_order(db: None) -> None:
    assert checked() == (f"Checked 0 videos and 0 pictures, 0.0 MB. {GOOD}", "", 0)


def test_a_video_without_its_file_is_found(project: Project) -> None:
    video = stored_video(generation(project))
    default_storage.delete(video.file.name)

    report, error, code = checked()

    line = f"missing: Video of Steam in Coffee: The storage has no such file. [{video.file.name}]"
    assert report.splitlines()[0] == line
    assert (error, code) == ("Found 1 video without its file. With --repair, what can be mended is.", 1)


def test_when_nothing_at_all_is_there_it_asks_whether_it_is_the_right_storage(project: Project, storage: Path) -> None:
    for _ in range(2):
        stored_video(generation(project))
    shutil.rmtree(storage)

    report, error, code = checked()

    assert "is this the right storage (STORAGE_URL), and is its disk mounted?" in report
    assert (error.startswith("Found 2 videos without their files."), code) == (True, 1)


def test_a_wrong_size_is_found_always_and_a_wrong_checksum_by_reading_everything(project: Project) -> None:
    short, flipped = stored_video(generation(project)), stored_video(generation(project))
    overwrite(short.file.name, CLIP[:-1])
    overwrite(flipped.file.name, CLIP[:-1] + b"!")

    assert [(found.kind, found.file) for found in check.check().findings] == [("size", short.file.name)]
    assert [(found.kind, found.file) for found in check.check(checksums=True).findings] == [
        ("size", short.file.name),
        ("checksum", flipped.file.name),
    ]


def test_a_missing_poster_is_found_but_not_of_what_can_not_be_read(project: Project) -> None:
    without, never_had, unreadable = (stored_video(generation(project)) for _ in range(3))
    default_storage.delete(without.poster.name)
    for video in (never_had, unreadable):
        default_storage.delete(video.poster.name)
    Video.objects.filter(pk__in=[never_had.pk, unreadable.pk]).update(poster="")
    Video.objects.filter(pk=unreadable.pk).update(probe_error="This is not a video.")

    found = check.check().findings

    assert [(each.kind, each.file, each.why) for each in found] == [
        ("poster", without.poster.name, "The storage has no such file."),
        ("poster", never_had.file.name, "None could be made when it was stored."),
        ("unreadable", unreadable.file.name, "This is not a video."),
    ]


PAGE = b"<html>maintenance</html>"


@pytest.fixture
def wrongly_stored(queued: Generation, wavespeed: SandboxControl) -> Video:
    """As an earlier version of the studio did it: a page in the video's place."""
    run_to_end(queued)
    video = queued.videos.get()
    overwrite(video.file.name, PAGE)
    default_storage.delete(video.poster.name)
    Video.objects.filter(pk=video.pk).update(
        bytes=len(PAGE), sha256=hashlib.sha256(PAGE).hexdigest(), poster="", width=None, height=None, duration=None
    )
    return Video.objects.get(pk=video.pk)


@pytest.mark.parametrize(("probe_error", "arguments"), [("This is not a video.", ()), ("", ("--checksums",))])
def test_what_is_stored_in_place_of_a_video_is_found_and_fetched_again(
    probe_error: str, arguments: tuple[str, ...], wrongly_stored: Video, wavespeed: SandboxControl
) -> None:
    Video.objects.filter(pk=wrongly_stored.pk).update(probe_error=probe_error)

    assert of_videos(*arguments) == [("unreadable", "")]
    assert of_videos(*arguments, "--repair") == [
        (
            "unreadable",
            "Fetched again from the provider, whose file is another one by now: its new size and checksum were noted.",
        )
    ]

    video = Video.objects.get(pk=wrongly_stored.pk)
    assert (video.probe_error, bool(video.poster)) == ("", True)
    assert file_sha256(video.generation) == video.sha256 == wavespeed.predictions()[0]["output_sha256"]
    assert of_videos(*arguments) == []


def of_videos(*arguments: str) -> list[tuple[str, str]]:
    """What is found of videos, and what was done; the pictures of these tests have made-up checksums."""
    found = json.loads(checked(*arguments, "--json")[0])["findings"]
    return [(each["kind"], each["done"]) for each in found if each["kind"] != "picture"]


def test_what_still_comes_as_a_page_stays_and_is_told(wrongly_stored: Video, wavespeed: SandboxControl) -> None:
    Video.objects.filter(pk=wrongly_stored.pk).update(probe_error="This is not a video.")
    wavespeed.arm("download_page", times=None)

    told, why, code = checked("--repair")

    assert (code, why) == (1, "Could not be repaired: 1 video that can't be read.")
    assert "What came is no video that can be read: 24 bytes of text/html" in told
    assert Video.objects.get(pk=wrongly_stored.pk).file.name == wrongly_stored.file.name


def test_what_an_owner_took_as_it_is_is_in_order(wrongly_stored: Video, studio_owner: User) -> None:
    Video.objects.filter(pk=wrongly_stored.pk).update(probe_error="This is not a video.")
    assert wrongly_stored.generation

    decisions.take_as_it_is(wrongly_stored.generation, by=studio_owner, reason="We need nothing better.")

    assert of_videos("--checksums") == []
    assert (
        wrongly_stored.generation.events.last().reason == "Decided by an owner: taken as it is. We need nothing better."
    )


def test_pictures_are_looked_at_too(project: Project) -> None:
    image = factories.source_image(project)
    default_storage.delete(image.thumbnail.name)
    overwrite(image.file.name, b"short")

    (found,) = check.check().findings

    assert (found.kind, found.what) == ("picture", f"Picture “{image}”")
    assert found.why == f"The picture has 5 bytes of {image.bytes:,}, its thumbnail is missing."


def test_a_changed_original_is_found_by_its_checksum(project: Project) -> None:
    image = factories.source_image(project)
    note_original(image)
    assert check.check(checksums=True).findings == []

    overwrite(image.original.name, b"something else")

    (found,) = check.check(checksums=True).findings
    assert found.why == "The original has other bytes than were uploaded."


def test_what_was_deleted_on_purpose_is_in_order(project: Project) -> None:
    video, image = stored_video(generation(project)), factories.source_image(project)
    for name in (video.file.name, video.poster.name, image.file.name, image.original.name, image.thumbnail.name):
        default_storage.delete(name)
    Video.objects.update(purged_at=timezone.now(), file="", poster="")
    SourceImage.objects.update(purged_at=timezone.now(), file="", original="", thumbnail="")

    assert check.check().findings == []


def test_what_is_in_the_trash_has_to_be_there(project: Project) -> None:
    video = stored_video(generation(project))
    Video.objects.update(trashed_at=timezone.now())
    default_storage.delete(video.file.name)

    assert [found.kind for found in check.check().findings] == ["missing"]


def test_videos_that_belong_to_nobody_yet_and_those_that_were_assigned_are_looked_at(project: Project) -> None:
    nobodys = stored_video(UnassignedPrediction.objects.create(prediction_id="a" * 32, found_by="list"))
    assigned = stored_video(generation(project), folder=f"unassigned/{uuid.uuid4()}")
    assert check.check().findings == []

    for video in (nobodys, assigned):
        default_storage.delete(video.file.name)

    assert {found.file for found in check.check().findings} == {nobodys.file.name, assigned.file.name}


def test_one_project_alone_is_looked_at_by_name_or_id(project: Project) -> None:
    other = factories.ProjectFactory(name="Tea")
    video = stored_video(generation(other))
    default_storage.delete(video.file.name)

    assert checked("--project", "Coffee")[2] == 0
    assert checked("--project", "Tea")[2] == 1
    assert checked("--project", str(other.pk))[2] == 1
    assert checked("--project", "Cocoa") == ("", "There is no project “Cocoa”.", 1)


def test_the_report_comes_as_json(project: Project) -> None:
    video = stored_video(generation(project))
    default_storage.delete(video.file.name)

    report = json.loads(checked("--json")[0])

    assert (report["videos"], report["pictures"], report["open"], report["kept"]) == (1, 0, 1, 0)
    assert report["findings"] == [
        {
            "kind": "missing",
            "file": video.file.name,
            "what": "Video of Steam",
            "why": "The storage has no such file.",
            "project": "Coffee",
            "generation": str(video.generation_id),
            "done": "",
            "is_repaired": False,
            "is_kept": False,
        }
    ]


def test_a_storage_that_can_not_be_read_says_nothing_of_the_files(project: Project, storage: Path) -> None:
    stored_video(generation(project))
    shutil.rmtree(storage / "projects")
    (storage / "projects").mkdir()
    (storage / "projects" / str(project.pk)).mkdir()
    (storage / "projects" / str(project.pk) / "videos").symlink_to("videos")  # a circle

    report, error, code = checked()

    assert (report, error, code) == ("", "The storage could not be read: OSError.", 2)


@pytest.mark.parametrize("number", [1, 20])
def test_it_asks_the_database_no_more_for_many_videos_than_for_one(
    number: int, project: Project, django_assert_max_num_queries: object
) -> None:
    for _ in range(number):
        stored_video(generation(project))
        factories.source_image(project)

    with django_assert_max_num_queries(8):
        check.check()


# --- What it deletes, and what it never deletes -----------------------------------------------------------------------


def test_what_a_killed_worker_left_is_deleted_when_it_is_old(project: Project) -> None:
    video = stored_video(generation(project))
    folder = video.file.name.rpartition("/")[0]
    old = [
        leftover(f"{folder}/0-{uuid.uuid4().hex}.mp4"),
        leftover(f"projects/{project.pk}/source-images/{uuid.uuid4()}/picture.jpg"),
        leftover(f"checks/{uuid.uuid4()}.txt"),
    ]
    young = leftover(f"{folder}/0-{uuid.uuid4().hex}.mp4", days=0.9)

    report, error, code = checked()
    assert {found.file for found in check.check().findings} == set(old)
    assert (error, code) == ("Found 3 files that belong to nothing. With --repair, what can be mended is.", 1)
    assert all(default_storage.exists(name) for name in old)

    report, error, code = checked("--repair")
    assert (report.count("(Deleted.)"), error, code) == (3, "", 0)
    assert not any(default_storage.exists(name) for name in old)
    assert all(default_storage.exists(name) for name in (young, video.file.name, video.poster.name))
    assert checked()[2] == 0


@pytest.mark.parametrize("status", [each for each in Status if each != Status.COMPLETED])
def test_a_file_of_what_may_still_be_owed_is_kept(status: Status, project: Project) -> None:
    """That of a cancelled one too: it was never submitted, unless a later database, before a backup was restored, did so."""
    unfinished = generation(project, status)
    name = leftover(f"projects/{project.pk}/videos/{unfinished.pk}/0-{uuid.uuid4().hex}.mp4")

    report, error, code = checked("--repair")

    assert default_storage.exists(name)
    kept = f"Kept: its generation is {unfinished.get_status_display().lower()}, and this may be what was paid for."
    assert kept in report
    assert report.endswith(f" {GOOD} 1 file that belongs to nothing is kept: docs/operations.md says why.")
    assert (error, code) == ("", 0)


def test_a_file_that_is_older_than_the_request_of_its_generation_is_kept(project: Project) -> None:
    """A draft of a restored database, whose video a later database has made and stored, is made once more."""
    made_again = generation(project, Status.COMPLETED)
    name = leftover(f"projects/{project.pk}/videos/{made_again.pk}/0-{uuid.uuid4().hex}.mp4", days=3)
    Generation.objects.filter(pk=made_again.pk).update(submitted_at=timezone.now() - timedelta(days=2))

    (found,) = (each for each in check.check(repair=True).findings if each.file == name)

    assert (found.is_kept, default_storage.exists(name)) == (True, True)
    assert found.done.startswith("Kept: it is older than its generation's request")


def test_the_file_of_a_prediction_that_a_cancelled_generation_has_is_kept(project: Project) -> None:
    row = UnassignedPrediction.objects.create(
        prediction_id="a" * 32, found_by="list", assigned_to=generation(project, Status.CANCELLED)
    )
    name = leftover(f"unassigned/{row.pk}/0-{uuid.uuid4().hex}.mp4")

    (found,) = check.check(repair=True).findings

    assert (found.is_kept, default_storage.exists(name)) == (True, True)


def test_files_of_what_the_database_does_not_know_are_kept(project: Project) -> None:
    """An earlier database, from a backup, does not know the videos that were made since."""
    names = [
        leftover(f"projects/{project.pk}/videos/{uuid.uuid4()}/0-{uuid.uuid4().hex}.mp4"),
        leftover(f"projects/{uuid.uuid4()}/videos/{uuid.uuid4()}/0-{uuid.uuid4().hex}.mp4"),
        leftover(f"projects/{uuid.uuid4()}/source-images/{uuid.uuid4()}/original.jpg"),
        leftover(f"unassigned/{uuid.uuid4()}/0-{uuid.uuid4().hex}.mp4"),
    ]

    findings = check.check(repair=True).findings

    assert {found.file for found in findings} == set(names)
    assert all(found.done.startswith("Kept: this database does not know its ") for found in findings)
    assert all(default_storage.exists(name) for name in names)


def test_while_a_restored_database_is_compared_nothing_is_deleted(project: Project) -> None:
    name = leftover(f"projects/{project.pk}/source-images/{uuid.uuid4()}/picture.jpg")
    Lane.objects.update_or_create(
        pk=Lane.WAVESPEED, defaults={"paused_at": timezone.now(), "paused_cause": PauseCause.RESTORED}
    )

    for repair in (False, True):
        (found,) = check.check(repair=repair).findings

    assert (found.is_repaired, found.is_kept, default_storage.exists(name)) == (False, True, True)
    assert found.done == "Kept: the database was restored from a backup, and may not know what it belongs to."


def test_what_is_none_of_the_studios_names_is_left_alone(project: Project) -> None:
    names = [
        leftover("other/holiday.mp4"),
        leftover(f"projects/{project.pk}/notes.txt"),
        leftover("projects/readme.txt"),
        leftover("studio/admitted/7"),
    ]

    assert check.check(repair=True).findings == []
    assert all(default_storage.exists(name) for name in names)


@pytest.mark.parametrize(("stored", "is_kept"), [(True, False), (False, True)])
def test_a_leftover_of_what_belongs_to_nobody_yet_goes_when_it_is_stored(stored: bool, is_kept: bool, db: None) -> None:
    row = UnassignedPrediction.objects.create(
        prediction_id="a" * 32, found_by="list", stored_at=timezone.now() if stored else None
    )
    if stored:
        stored_video(row)
    name = leftover(f"unassigned/{row.pk}/0-{uuid.uuid4().hex}.mp4")

    check.check(repair=True)

    assert default_storage.exists(name) is is_kept


# --- What it puts back ------------------------------------------------------------------------------------------------


@pytest.fixture
def completed(queued: Generation, wavespeed: SandboxControl) -> Generation:
    run_to_end(queued)
    assert queued.status == Status.COMPLETED
    note_original(queued.image)
    return queued


def assert_in_order(generation: Generation, wavespeed: SandboxControl) -> None:
    assert file_sha256(generation) == wavespeed.predictions()[0]["output_sha256"]
    video = generation.videos.get()
    folder = f"projects/{generation.project_id}/videos/{generation.pk}"
    assert set(default_storage.listdir(folder)[1]) == {Path(name).name for name in (video.file.name, video.poster.name)}
    assert wavespeed.posts()["count"] == 1
    assert of_videos("--checksums") == []


@pytest.mark.parametrize("loss", ["missing", "size", "checksum"])
def test_a_video_is_fetched_again_while_the_provider_has_it(
    loss: str, completed: Generation, wavespeed: SandboxControl
) -> None:
    video = completed.videos.get()
    if loss == "missing":
        default_storage.delete(video.file.name)
    else:
        content = Path(default_storage.path(video.file.name)).read_bytes()
        overwrite(video.file.name, content[:-1] + (b"" if loss == "size" else bytes([content[-1] ^ 1])))

    report, error, code = checked("--checksums", "--repair")

    assert report.splitlines()[0].startswith(f"{loss}: Video of Steam rises from the cup in Coffee: The storage has ")
    assert "(Fetched again from the provider, the same to the last byte.)" in report
    assert (error, code) == ("", 0)
    assert_in_order(completed, wavespeed)


def test_a_video_that_the_provider_dropped_is_told_as_lost(completed: Generation, wavespeed: SandboxControl) -> None:
    default_storage.delete(completed.videos.get().file.name)
    wavespeed.advance(8 * 86_400)

    report, error, code = checked("--repair")

    assert "The provider gives no result for it (any more)" in report
    assert (error, code) == ("Could not be repaired: 1 video without its file.", 1)
    assert completed.videos.get().purged_at is None


def test_a_copy_in_the_storage_is_taken_before_the_provider_is_asked(
    completed: Generation, wavespeed: SandboxControl
) -> None:
    """A worker was killed between storing its copy and the row; then the other one's got lost."""
    Generation.objects.filter(pk=completed.pk).update(submitted_at=timezone.now() - timedelta(days=3))
    video = completed.videos.get()
    folder = video.file.name.rpartition("/")[0]
    content = Path(default_storage.path(video.file.name)).read_bytes()
    other = leftover(f"{folder}/0-{uuid.uuid4().hex}.mp4", content=b"\0" * len(content))
    copy = leftover(f"{folder}/0-{uuid.uuid4().hex}.mp4", content=content)
    default_storage.delete(video.file.name)
    wavespeed.advance(8 * 86_400)

    report, error, code = checked("--repair")

    assert "(A copy of it was in the storage; that is its file now.)" in report
    assert (error, code, completed.videos.get().file.name) == ("", 0, copy)
    assert not default_storage.exists(other)
    assert_in_order(completed, wavespeed)


def test_a_poster_is_made_anew(completed: Generation, wavespeed: SandboxControl) -> None:
    default_storage.delete(completed.videos.get().poster.name)

    report, error, code = checked("--repair")

    assert "(Made anew from the video.)" in report
    assert (error, code) == ("", 0)
    with completed.videos.get().poster.open("rb") as poster:
        assert poster.read(3) == b"\xff\xd8\xff"
    assert_in_order(completed, wavespeed)


def test_a_provider_that_can_not_be_reached_leaves_it_to_the_next_time(project: Project, settings: object) -> None:
    video = stored_video(generation(project))
    Generation.objects.update(prediction_id="a" * 32)
    default_storage.delete(video.file.name)

    (found,) = check.check(repair=True).findings

    assert (found.is_repaired, found.done.startswith("The provider gives no result for it")) == (False, True)


def test_a_picture_is_made_anew_from_its_original(project: Project) -> None:
    image = factories.source_image(project)
    default_storage.delete(image.thumbnail.name)
    overwrite(image.file.name, b"short")

    (found,) = check.check(repair=True).findings

    assert (found.is_repaired, found.done) == (True, "Made anew from the original.")
    image.refresh_from_db()
    assert image.file.size == image.bytes
    assert default_storage.exists(image.thumbnail.name)
    assert check.check().findings == []


def test_a_picture_without_an_original_gets_its_thumbnail_back(project: Project) -> None:
    image = factories.source_image(project)
    for file in (image.original, image.thumbnail):
        default_storage.delete(file.name)

    (found,) = check.check(repair=True).findings
    assert (found.is_repaired, found.done) == (False, "Its original is gone; what the provider is sent is there.")
    (left,) = check.check().findings
    assert left.why == "The original is missing."


def test_a_picture_that_is_gone_altogether_has_to_be_uploaded_again(project: Project) -> None:
    image = factories.source_image(project)
    for file in (image.file, image.original, image.thumbnail):
        default_storage.delete(file.name)

    (found,) = check.check(repair=True).findings

    assert (found.is_repaired, found.done) == (False, "Its original is gone too: it has to be uploaded again.")


# --- Every night ------------------------------------------------------------------------------------------------------


def test_it_is_asked_for_once_a_night(project: Project, broker: dramatiq.Broker) -> None:
    Generation.objects.filter(pk=generation(project).pk).update(submitted_at=timezone.now())

    for _ in range(3):
        dispatch.reconcile_tonight()

    sent = [dramatiq.Message.decode(data).actor_name for data in broker.queues["default"].queue]
    assert sent == ["reconcile", "check_storage"]


def test_studio_owners_hear_of_what_is_wrong_once_a_day(project: Project, studio_owner: User) -> None:
    check.nightly()
    assert not Alert.objects.exists()
    video = stored_video(generation(project))
    default_storage.delete(video.file.name)

    for _ in range(2):
        check.nightly()

    alert = Alert.objects.get(kind=AlertKind.CHECK_FAILED)
    assert alert.title == "Stored files are not in order"
    assert alert.text.startswith("The nightly check found: 1 video without its file. ")
    assert [each.user for each in Notification.objects.filter(alert=alert)] == [studio_owner]


def test_files_that_are_kept_are_told_of_once_and_not_every_night(project: Project, studio_owner: User) -> None:
    leftover(f"projects/{project.pk}/videos/{uuid.uuid4()}/0-{uuid.uuid4().hex}.mp4")

    for days in range(3):
        with time_machine.travel(timezone.now() + timedelta(days=days)):
            check.nightly()

    alert = Alert.objects.get(kind=AlertKind.CHECK_FAILED)
    assert alert.title == "Stored files that may have been paid for are kept"
    assert alert.text.startswith("The nightly check found 1 file that belongs to nothing here. ")
    assert [each.user for each in Notification.objects.filter(alert=alert)] == [studio_owner]

    with time_machine.travel(timezone.now() + timedelta(days=3)):
        for _ in range(2):
            leftover(f"unassigned/{uuid.uuid4()}/0-{uuid.uuid4().hex}.mp4")
        check.nightly()

    assert "found 3 files that belong to nothing here. " in Alert.objects.latest("created_at").text
    assert Alert.objects.count() == 2
