"""What a file says of itself never breaks the row that tells of it, nor a list that holds the row."""

import uuid
from decimal import Decimal
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from generations.models import Generation, Video
from generations.storage import storing
from generations.storage.video import Unprobeable
from projects.models import Project
from tests.generations.storage.test_video import RED, make_video, with_numbers
from tests.projects.api.client import API, client_of

pytestmark = pytest.mark.both_databases

ABSURD = [
    {(b"mdhd", 12): 200_000_000},
    {(b"mdhd", 12): 2**32 - 1},
    {(b"mdhd", 12): 1},
    {(b"mdhd", 12): 0},
    {(b"mdhd", 16): 0, (b"mvhd", 16): 0},
    {(b"mdhd", 16): 2**32 - 1, (b"mvhd", 16): 2**32 - 1, (b"tkhd", 20): 2**32 - 1, (b"elst", 8): 2**32 - 1},
    {(b"tkhd", 76): 2**32 - 1, (b"tkhd", 80): 2**32 - 1},
    {(b"avc1", 24): 2**32 - 1},
    {(b"stts", 4): 1, (b"stts", 8): 1, (b"stts", 12): 0},
    {(b"stts", 12): 2**32 - 1},
    {(b"stsz", 8): 2**32 - 1},
]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_video(tmp_path_factory.mktemp("clip") / "clip.mp4", [RED] * 24, sound=True).read_bytes()


@pytest.fixture
def generation(project: Project, studio_owner: User) -> Generation:
    return Generation.objects.create(
        project=project,
        requested_by=studio_owner,
        endpoint="kwaivgi/kling-video-o3-4k/image-to-video",
        status="completed",
    )


def saved(generation: Generation, path: Path) -> Video:
    """The row as the studio stores it, or as an owner takes it although it can't be read."""
    video = Video(generation=generation, file=f"{uuid.uuid4()}.mp4", bytes=path.stat().st_size, sha256="0" * 64)
    try:
        storing._probe(video, path)
    except Unprobeable as error:
        video.probe_error = error.message
    video.save()
    return video


def is_listed(video: Video, client: Client, owner: User) -> bool:
    """On the admin's page and in the API, with whatever number it has."""
    listed = client.get(reverse("admin:generations_video_changelist"))
    page = client.get(reverse("admin:generations_video_change", args=[video.pk]))
    row = client_of(owner).get(f"{API}/generations/{video.generation_id}/")
    return (listed.status_code, page.status_code, row.status_code) == (200, 200, 200) and [
        each["id"] for each in row.json()["videos"]
    ] == [str(video.pk)]


@pytest.mark.parametrize("numbers", ABSURD, ids=range(len(ABSURD)))
def test_absurd_numbers_are_stored_as_none_and_every_list_holds_the_row(
    numbers: dict[tuple[bytes, int], int],
    clip: bytes,
    tmp_path: Path,
    generation: Generation,
    owner_client: Client,
    studio_owner: User,
) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(with_numbers(clip, numbers))

    video = saved(generation, path)

    video.refresh_from_db()
    assert video.fps is None or 0 < video.fps <= 1_000
    assert video.duration is None or 0 < video.duration <= 86_400
    assert bool(video.probe_error or video.probe_note) >= (video.fps is None or video.duration is None)
    assert is_listed(video, owner_client, studio_owner)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=12))
@example(changes=[(0.0, 0)])
def test_any_change_of_a_header_gives_a_row_that_can_be_read(
    changes: list[tuple[float, int]], clip: bytes, tmp_path: Path, generation: Generation
) -> None:
    start = clip.index(b"moov")
    changed = bytearray(clip)
    for at, value in changes:
        changed[start + int(at * (len(clip) - start))] = value
    path = tmp_path / "video.mp4"
    path.write_bytes(changed)

    with transaction.atomic():
        video = saved(generation, path)
        video.refresh_from_db()
        transaction.set_rollback(True)

    assert (video.width is None) == bool(video.probe_error)
    assert video.fps is None or 0 < video.fps <= 1_000
    assert video.duration is None or 0 < video.duration <= 86_400


@pytest.mark.parametrize("number", [Decimal("1e9"), -1])
@pytest.mark.parametrize("column", ["fps", "duration", "width", "height"])
def test_neither_database_takes_a_number_that_it_could_not_give_back(
    generation: Generation, column: str, number: Decimal
) -> None:
    video = Video.objects.create(generation=generation, file="a.mp4", bytes=1, sha256="0" * 64)
    number = number * 10 if column in ("width", "height") else number

    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE generations_video SET {column} = {number:f}")

    assert list(Video.objects.values_list(column, flat=True)) == [None]
    assert video == Video.objects.get()
