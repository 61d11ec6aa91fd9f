"""What the storage holds: its files with size and time, and uploads to it that never came to their end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.core.files.storage import default_storage

from generations.storage.storing import explained, measured

log = structlog.get_logger(__name__)


class StorageUnreadable(Exception):
    """The storage could not be read, so nothing is known of it."""


@contextmanager
def reading() -> Iterator[None]:
    """Whatever the storage's library raises in the block, but for a file that is not there, is `StorageUnreadable`."""
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StorageUnreadable(f"The storage could not be read: {explained(error)}.") from error


@dataclass(frozen=True)
class StoredFile:
    name: str
    size: int
    modified_at: datetime


@dataclass(frozen=True)
class UnfinishedUpload:
    """Parts of a file that S3 keeps, and bills, until the upload is completed or aborted; no listing shows them."""

    name: str
    upload_id: str
    begun_at: datetime


def files_under(folder: str) -> dict[str, StoredFile]:
    """Every file in `folder` and below it, by name; none if there is no such folder."""
    with reading():
        listed = getattr(default_storage, "files_under", None)
        found = (StoredFile(*file) for file in listed(folder)) if listed else _walked(folder)
        return {file.name: file for file in found}


def folders_in(folder: str) -> list[str]:
    try:
        with reading():
            return list(default_storage.listdir(folder)[0])
    except FileNotFoundError:
        return []


def size(name: str) -> int | None:
    """The bytes of a file as it is now; None where there is none."""
    try:
        with reading():
            return int(default_storage.size(name))
    except FileNotFoundError:
        return None


def sha256(name: str) -> str | None:
    """The checksum of a file, every byte of it read; None where there is none."""
    try:
        with reading():
            return measured(name, _quietly)[1]
    except FileNotFoundError:
        return None


def delete(name: str) -> None:
    with reading():
        default_storage.delete(name)


def unfinished_uploads() -> list[UnfinishedUpload]:
    """Of S3 alone, where the studio's account may list them; nothing of the kind is known of other storages."""
    bucket = _s3_bucket()
    if bucket is None:
        return []
    client = bucket.meta.client
    start = _s3_key("")
    try:
        with reading():
            pages = list(client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket.name, Prefix=start))
    except StorageUnreadable as error:
        log.warning("uploads_not_listed", reason=str(error))
        return []
    return [
        UnfinishedUpload(upload["Key"].removeprefix(start), upload["UploadId"], upload["Initiated"])
        for page in pages
        for upload in page.get("Uploads", ())
    ]


def abort(upload: UnfinishedUpload) -> None:
    bucket = _s3_bucket()
    assert bucket is not None
    with reading():
        bucket.meta.client.abort_multipart_upload(
            Bucket=bucket.name, Key=_s3_key(upload.name), UploadId=upload.upload_id
        )


def _walked(folder: str) -> Iterator[StoredFile]:
    try:
        folders, files = default_storage.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    for file in files:
        name = f"{folder}/{file}"
        try:
            yield StoredFile(name, default_storage.size(name), default_storage.get_modified_time(name))
        except FileNotFoundError:
            continue  # deleted at this very moment
    for each in folders:
        yield from _walked(f"{folder}/{each}")


def _s3_bucket() -> Any:
    """boto3's bucket; Google's storage has one too, of another kind."""
    bucket = getattr(default_storage, "bucket", None)
    return bucket if hasattr(bucket, "objects") else None


def _s3_key(name: str) -> str:
    location = getattr(default_storage, "location", "").strip("/")
    return f"{location}/{name}" if location else name


def _quietly() -> None:
    """No lease to renew."""
