"""What is thrown away can be brought back for 30 days; then its files go, never its row, and never what is still owed."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from generations.models import Generation, Status, UnassignedPrediction, Video
from generations.services import drafts, orders, refusals, trash
from generations.services.inputs import inputs_of
from generations.services.refusals import WrongStatus
from generations.storage import retention
from projects import source_images
from projects.images import ImageRefused
from projects.models import Project, Role, SourceImage
from tests import factories
from tests.pipeline import ENDPOINT

pytestmark = pytest.mark.django_db


def stored_video(generation: Generation | None, **fields: object) -> Video:
    number = Video.objects.count()
    return Video.objects.create(
        generation=generation,
        position=fields.pop("position", 0),
        file=default_storage.save(f"videos/{number}.mp4", ContentFile(b"video")),
        poster=default_storage.save(f"videos/{number}.jpg", ContentFile(b"poster")),
        bytes=5,
        sha256="0" * 64,
        **fields,
    )


@pytest.fixture
def completed(draft: Generation) -> Generation:
    Generation.objects.filter(pk=draft.pk).update(status=Status.COMPLETED)
    draft.refresh_from_db()
    return draft


@pytest.fixture
def video(completed: Generation) -> Video:
    return stored_video(completed)


def after(**time: float) -> time_machine.travel:
    return time_machine.travel(timezone.now() + timedelta(**time), tick=False)


def exists(*names: str) -> list[bool]:
    return [default_storage.exists(name) for name in names]


def test_a_video_in_the_trash_comes_back_whole(video: Video, editor: User) -> None:
    trash.trash(video, by=editor)
    with after(days=29):
        assert retention.empty() == 0
        trash.restore(video, by=editor)
    with after(days=60):
        assert retention.empty() == 0

    assert (video.trashed_at, video.trashed_by) == (None, None)
    assert exists(video.file.name, video.poster.name) == [True, True]


def test_after_30_days_its_files_are_deleted_and_its_row_stays(video: Video, editor: User) -> None:
    names = video.file.name, video.poster.name
    trash.trash(video, by=editor)

    with after(days=30, minutes=1):
        assert retention.empty() == 1
        assert retention.empty() == 0
        with pytest.raises(trash.Deleted, match="can't be brought back"):
            trash.restore(video, by=editor)

    video.refresh_from_db()
    assert exists(*names) == [False, False]
    assert (video.bytes, video.sha256, bool(video.file)) == (5, "0" * 64, False)
    assert video.purged_at


def test_a_viewer_throws_nothing_away(video: Video, project: Project) -> None:
    viewer = factories.member(project, Role.VIEWER)
    with pytest.raises(PermissionDenied):
        trash.trash(video, by=viewer)
    video.refresh_from_db()
    assert video.trashed_at is None


def test_retention_trashes_what_is_older_and_counts_anew_for_what_was_brought_back(
    video: Video, project: Project, editor: User
) -> None:
    other = stored_video(drafts.create(video.generation.project, endpoint=ENDPOINT, inputs=inputs(video), by=editor))
    Video.objects.filter(pk=video.pk).update(created_at=timezone.now() - timedelta(days=11))
    Project.objects.filter(pk=project.pk).update(retention_days=10)

    assert retention.apply_retention() == 1
    video.refresh_from_db()
    other.refresh_from_db()
    assert (video.trashed_at is not None, video.trashed_by, other.trashed_at) == (True, None, None)

    trash.restore(video, by=editor)
    assert retention.apply_retention() == 0
    with after(days=10, minutes=1):
        assert retention.apply_retention() == 2


def inputs(video: Video) -> dict[str, object]:
    assert video.generation
    return inputs_of(video.generation)


def test_without_retention_videos_are_kept_for_good(video: Video) -> None:
    with after(days=4000):
        assert (retention.apply_retention(), retention.empty()) == (0, 0)


def test_what_may_belong_to_an_unconfirmed_generation_is_not_thrown_away(
    draft: Generation, studio_owner: User, editor: User
) -> None:
    Generation.objects.filter(pk=draft.pk).update(status=Status.UNCONFIRMED)
    found = UnassignedPrediction.objects.create(prediction_id="a" * 32, found_by="list")
    found.candidate_for.add(draft)
    video = stored_video(None, unassigned=found)

    with pytest.raises(WrongStatus, match="decide that first"):
        trash.trash(video, by=studio_owner)
    with pytest.raises(PermissionDenied):
        trash.trash(video, by=editor)

    Generation.objects.filter(pk=draft.pk).update(status=Status.FAILED)
    trash.trash(video, by=studio_owner)
    Generation.objects.filter(pk=draft.pk).update(status=Status.UNCONFIRMED)
    with after(days=31):
        assert retention.empty() == 0
        Generation.objects.filter(pk=draft.pk).update(status=Status.FAILED)
        assert retention.empty() == 1


@pytest.mark.parametrize("status", [Status.DRAFT, Status.QUEUED, Status.SUBMITTING, Status.UNCONFIRMED])
def test_a_picture_that_something_unfinished_needs_keeps_its_files(
    draft: Generation, editor: User, status: Status
) -> None:
    image = draft.image
    assert image
    source_images.trash(image, by=editor)
    Generation.objects.filter(pk=draft.pk).update(status=status)

    with after(days=31):
        assert retention.empty() == 0
        assert exists(image.file.name) == [True]
        Generation.objects.filter(pk=draft.pk).update(status=Status.COMPLETED)
        assert retention.empty() == 1
    assert exists(image.file.name, image.thumbnail.name, image.original.name) == [False, False, False]


def test_a_picture_in_the_trash_makes_nothing_new_and_comes_back(draft: Generation, editor: User) -> None:
    image = draft.image
    assert image
    source_images.trash(image, by=editor)
    with pytest.raises(refusals.Archived):
        orders.queue(draft, by=editor)

    source_images.restore(image, by=editor)
    assert orders.queue(draft, by=editor).status == Status.QUEUED


def test_a_deleted_picture_comes_back_by_its_upload_and_what_was_made_of_it_stays(
    project: Project, editor: User
) -> None:
    content = factories.jpeg(640, 400)
    image, _ = source_images.add(project, ContentFile(content), filename="cup.jpg", by=editor)
    source_images.trash(image, by=editor)
    with after(days=31):
        retention.empty()
        image.refresh_from_db()
        with pytest.raises(ImageRefused, match="Upload the same picture again"):
            source_images.restore(image, by=editor)

        again, is_new = source_images.add(project, ContentFile(content), filename="cup.jpg", by=editor)

    assert (again.pk, is_new, SourceImage.objects.count()) == (image.pk, True, 1)
    assert (again.trashed_at, again.purged_at, again.archived_at) == (None, None, None)
    assert exists(again.file.name, again.thumbnail.name, again.original.name) == [True, True, True]


def test_a_picture_whose_file_is_lost_comes_back_by_its_upload(project: Project, editor: User) -> None:
    content = factories.jpeg(640, 410)
    image, _ = source_images.add(project, ContentFile(content), filename="cup.jpg", by=editor)
    default_storage.delete(image.file.name)

    again, is_new = source_images.add(project, ContentFile(content), filename="cup.jpg", by=editor)

    assert (again.pk, is_new, SourceImage.objects.count()) == (image.pk, True, 1)
    assert exists(again.file.name) == [True]


def test_a_file_that_the_storage_keeps_does_not_stop_the_others(
    video: Video, editor: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    trash.trash(video, by=editor)
    Video.objects.filter(pk=video.pk).update(file="../outside.mp4")
    with after(days=31):
        assert retention.empty() == 1
    video.refresh_from_db()
    assert video.purged_at
