"""Videos on an object storage: multipart without the file in memory, nothing left of what was aborted, and what it lost is found."""

import hashlib
import os
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import boto3
import pytest
import requests
import time_machine
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.utils import timezone

from generations import lifecycle
from generations.models import Generation, Status, Video
from generations.storage import check, inventory, naming, room
from generations.storage.storing import StoreFailed
from kling_studio import object_storage
from projects.models import Alert, AlertKind, Project
from tests.generations.conftest import budget, control, draft, make_sandbox, processing, queued, sandbox, wavespeed
from tests.generations.storage.test_check_storage import stored_video
from tests.generations.storage.test_storing import Server, padded, serve, stored
from tests.pipeline import file_sha256, poll_to_end
from tests.sandbox import SandboxControl

__all__ = ["budget", "control", "draft", "make_sandbox", "processing", "queued", "sandbox", "serve", "wavespeed"]

pytestmark = [pytest.mark.services, pytest.mark.django_db]

# What boto3 sends in one piece, and the size of a part beyond it.
PART = 8 * 1024 * 1024


@pytest.fixture
def s3() -> Iterator[Any]:
    client = boto3.client(
        "s3",
        endpoint_url=os.environ["TEST_S3_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    yield client
    client.close()


@pytest.fixture
def bucket(settings: object, s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of the bucket that the studio is told of; nobody has made it yet."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    name = f"store-{uuid.uuid4().hex[:12]}"
    url = f"s3://{name}/studio?endpoint_url={os.environ['TEST_S3_ENDPOINT_URL']}&region_name=us-east-1"
    settings.STORAGES = {**settings.STORAGES, "default": object_storage.entry(url, url_seconds=60)}
    yield name
    default_storage.bucket.meta.client.close()
    if name in [each["Name"] for each in s3.list_buckets()["Buckets"]]:
        for item in objects(s3, name):
            s3.delete_object(Bucket=name, Key=item["Key"])
        s3.delete_bucket(Bucket=name)


@pytest.fixture
def made_bucket(bucket: str, s3: Any) -> str:
    s3.create_bucket(Bucket=bucket)
    return bucket


def objects(s3: Any, bucket: str) -> list[dict[str, Any]]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item for page in pages for item in page.get("Contents", [])]


def uploads(s3: Any, bucket: str) -> list[dict[str, Any]]:
    return list(s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


# --- Storing ----------------------------------------------------------------------------------------------------------


def test_a_large_file_goes_up_in_parts_and_is_never_in_memory(
    made_bucket: str, s3: Any, serve: Callable[..., Server]
) -> None:
    large = padded(48_000_000)
    server = serve(content=large)
    default_storage.exists("so that boto3 is loaded before it is measured")
    tracemalloc.start()

    video = stored(server.url, folder="videos")

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (video.bytes, video.sha256) == (len(large), hashlib.sha256(large).hexdigest())
    (poster, file) = sorted(objects(s3, made_bucket), key=lambda each: int(each["Size"]))
    assert (poster["Key"], file["Key"]) == (f"studio/{video.poster.name}", f"studio/{video.file.name}")
    assert file["Size"] == len(large)
    assert file["ETag"].strip('"').endswith(f"-{-(-len(large) // PART)}")
    assert uploads(s3, made_bucket) == []
    assert peak < 4 * PART < len(large)


def test_an_upload_that_is_aborted_leaves_nothing(
    made_bucket: str, s3: Any, serve: Callable[..., Server], settings: object
) -> None:
    """Another worker takes over while the second part is on its way."""
    server = serve(content=padded(48_000_000))
    settings.STORE_LEASE_SECONDS = 0.0  # renewed at each piece
    seen: list[int] = []

    def renew() -> None:
        if begun := uploads(s3, made_bucket):
            seen.append(len(begun))
        if len(seen) == 2:
            raise StoreFailed("lease_lost", "Another worker took over.")

    with pytest.raises(StoreFailed, match="Another worker"):
        stored(server.url, folder="videos", renew=renew)

    assert seen == [1, 1]
    assert (objects(s3, made_bucket), uploads(s3, made_bucket)) == ([], [])


def test_a_bucket_that_refuses_leaves_it_storing_until_it_takes_it(
    processing: Generation, wavespeed: SandboxControl, bucket: str, s3: Any
) -> None:
    poll_to_end(processing)

    assert lifecycle.store(processing.pk) is None

    processing.refresh_from_db()
    assert (processing.status, processing.error_code) == (Status.STORING, "storage_refused")
    assert processing.error_message == "The studio's storage did not take the video: it answered NoSuchBucket."
    assert room.shortage().startswith("The studio's own storage does not take what was made (1 finished video")
    assert Alert.objects.filter(kind=AlertKind.STORAGE).count() == 1
    s3.create_bucket(Bucket=bucket)
    assert lifecycle.store(processing.pk) == Status.COMPLETED
    assert file_sha256(processing) == wavespeed.predictions()[0]["output_sha256"]
    assert (room.shortage(), wavespeed.posts()["count"]) == ("", 1)


# --- check_storage ----------------------------------------------------------------------------------------------------


@pytest.fixture
def completed(draft: Generation) -> Generation:
    Generation.objects.filter(pk=draft.pk).update(status=Status.COMPLETED)
    draft.refresh_from_db()
    return draft


def test_more_than_a_thousand_files_are_listed(made_bucket: str, s3: Any, db: None) -> None:
    for number in range(1_001):
        s3.put_object(Bucket=made_bucket, Key=f"studio/projects/{number}", Body=b"")

    assert len(inventory.files_under("projects")) == 1_001

    keys = [{"Key": item["Key"]} for item in objects(s3, made_bucket)]
    for some in (keys[:1_000], keys[1_000:]):
        s3.delete_objects(Bucket=made_bucket, Delete={"Objects": some})


def test_what_belongs_to_nothing_is_deleted(made_bucket: str, s3: Any, completed: Generation) -> None:
    video = stored_video(completed)
    folder = video.file.name.rpartition("/")[0]
    for number in range(3):
        s3.put_object(Bucket=made_bucket, Key=f"studio/{folder}/0-{number:032x}.mp4", Body=b"x")
    s3.put_object(Bucket=made_bucket, Key="elsewhere/holiday.mp4", Body=b"x")

    assert check.check().findings == []
    with time_machine.travel(timezone.now() + timedelta(days=2)):
        report = check.check(repair=True)

    assert (len(report.findings), report.open) == (3, [])
    kept = {item["Key"] for item in objects(s3, made_bucket)}
    assert len(kept) == 6
    assert {f"studio/{video.file.name}", f"studio/{video.poster.name}", "elsewhere/holiday.mp4"} < kept


def test_missing_files_sizes_and_checksums_are_found(made_bucket: str, s3: Any, completed: Generation) -> None:
    video = stored_video(completed)
    key = f"studio/{video.file.name}"

    assert check.check().findings == []
    s3.put_object(Bucket=made_bucket, Key=key, Body=b"x" * video.bytes)
    assert [found.kind for found in check.check().findings] == []
    assert "checksum" in [found.kind for found in check.check(checksums=True).findings]
    s3.put_object(Bucket=made_bucket, Key=key, Body=b"x")
    assert [found.kind for found in check.check().findings] == ["size"]
    s3.delete_object(Bucket=made_bucket, Key=key)
    assert [found.kind for found in check.check().findings] == ["missing"]


def test_uploads_that_never_ended_are_found_and_aborted(made_bucket: str, s3: Any, db: None) -> None:
    key = f"studio/projects/{uuid.uuid4()}/videos/{uuid.uuid4()}/0-{uuid.uuid4().hex}.mp4"
    begun = s3.create_multipart_upload(Bucket=made_bucket, Key=key)
    s3.upload_part(Bucket=made_bucket, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=b"x" * 100)
    others = s3.create_multipart_upload(Bucket=made_bucket, Key="elsewhere/holiday.mp4")
    two_days = timedelta(days=2)

    with time_machine.travel(timezone.now() + two_days):
        (found,) = check.check(repair=True).findings

    assert (found.kind, found.file, found.is_repaired) == ("upload", key.removeprefix("studio/"), True)
    assert [each["UploadId"] for each in uploads(s3, made_bucket)] == [others["UploadId"]]


def test_a_bucket_that_can_not_be_read_is_told_and_nothing_else(bucket: str, studio_owner: User) -> None:
    with pytest.raises(CommandError, match=r"The storage could not be read: it answered NoSuchBucket\.") as failed:
        call_command("check_storage")

    assert failed.value.returncode == 2
    assert check.nightly() is None
    assert Alert.objects.get(kind=AlertKind.CHECK_FAILED).title == "Stored files could not be checked"


def test_listing_knows_no_more_than_the_studios_own_folder(made_bucket: str, s3: Any) -> None:
    s3.put_object(Bucket=made_bucket, Key="studio/projects/a/b/c.mp4", Body=b"12345")
    s3.put_object(Bucket=made_bucket, Key="studio/projects-of-others/d.mp4", Body=b"1")

    (name,) = inventory.files_under("projects")

    assert (name, inventory.size(name), inventory.size("projects/none")) == ("projects/a/b/c.mp4", 5, None)
    assert inventory.folders_in("projects") == ["a"]


def test_a_download_from_s3_is_an_attachment_with_its_own_name(
    made_bucket: str, s3: Any, completed: Generation
) -> None:
    stored_video(completed)
    Project.objects.filter(pk=completed.project_id).update(name="Frühling 2026")
    video = Video.objects.select_related("generation__project", "generation__image").get(generation=completed)

    answer = requests.get(naming.download_url(video), timeout=10)

    assert (answer.status_code, len(answer.content)) == (200, video.bytes)
    name = quote(naming.download_name(video))
    assert name.startswith("fr%C3%BChling-2026_Picture-")
    assert answer.headers["Content-Disposition"] == f"attachment; filename*=utf-8''{name}"
