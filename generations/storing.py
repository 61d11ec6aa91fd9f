"""Takes a finished video from the provider into our storage: streamed, measured, probed, with a poster; nothing of it in the database."""

import hashlib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import structlog
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage

from generations import video as video_file
from generations.models import Generation, Video
from projects import fetch

log = structlog.get_logger(__name__)

# A 15-second 4K video is some 100 MB.
MAX_VIDEO_BYTES = 4_000_000_000
DOWNLOAD_SECONDS = 1800.0
RENEW_SECONDS = 15.0


class StoreFailed(Exception):
    """The outputs are not stored, and nothing of the attempt is left; `expired` says that the URL is dead."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def fetch_and_store(
    generation: Generation, *, attempt: uuid.UUID, renew: Callable[[], None], allow_loopback: bool
) -> list[Video]:
    """The generation's outputs as stored but unsaved videos, under names that carry `attempt`. Raises `StoreFailed`.

    `renew` is called every few seconds and raises `StoreFailed` when the row is somebody else's by now.
    """
    videos: list[Video] = []
    try:
        for position, url in enumerate(generation.outputs):
            videos.append(
                _store_one(generation, position, url, attempt=attempt, renew=renew, allow_loopback=allow_loopback)
            )
    except StoreFailed:
        _delete_what_can_be(videos)
        raise
    return videos


def delete_files(videos: list[Video]) -> None:
    """Deletes the objects of an attempt that lost; never those of another attempt, as its token is in their names."""
    for each in videos:
        for name in filter(None, (each.file.name, each.poster.name)):
            default_storage.delete(name)


def _delete_what_can_be(videos: list[Video]) -> None:
    try:
        delete_files(videos)
    except Exception:
        # The storage that refused the file may refuse this too; an object without a row is found by its name.
        log.exception("not_deleted", files=[each.file.name for each in videos])


def _store_one(
    generation: Generation,
    position: int,
    url: str,
    *,
    attempt: uuid.UUID,
    renew: Callable[[], None],
    allow_loopback: bool,
) -> Video:
    folder = f"projects/{generation.project_id}/videos/{generation.pk}"
    stored = Video(generation=generation, position=position)
    with tempfile.NamedTemporaryFile(suffix=".mp4") as local:
        stored.bytes, stored.sha256 = _download(url, local, renew=renew, allow_loopback=allow_loopback)
        renew()
        poster = _probe(stored, Path(local.name))
        try:
            stored.file.name = f"{folder}/{position}-{attempt.hex}.mp4"
            stored.file.name = default_storage.save(stored.file.name, _Renewing(local, renew))
            if poster:
                stored.poster.name = default_storage.save(f"{folder}/{position}-{attempt.hex}.jpg", ContentFile(poster))
            size = default_storage.size(stored.file.name)
            if size != stored.bytes:
                raise StoreFailed("storage", f"The storage has {size:,} bytes of {stored.bytes:,}.")
        except StoreFailed:
            _delete_what_can_be([stored])
            raise
        except Exception as error:
            # Storages raise what their vendor's library raises: full, refused, unreachable. Whatever it is, the video is still owed.
            log.exception("storage_failed", generation=str(generation.pk))
            _delete_what_can_be([stored])
            raise StoreFailed("storage", f"The storage did not take the video ({type(error).__name__}).") from error
    return stored


def _download(url: str, local: IO[bytes], *, renew: Callable[[], None], allow_loopback: bool) -> tuple[int, str]:
    """Streams `url` into `local`; its length in bytes and its SHA-256."""
    digest = hashlib.sha256()
    length = 0
    renewed = time.monotonic()
    try:
        with fetch.stream(
            url, max_bytes=MAX_VIDEO_BYTES, deadline=DOWNLOAD_SECONDS, allow_loopback=allow_loopback
        ) as download:
            for chunk in download:
                local.write(chunk)
                digest.update(chunk)
                length += len(chunk)
                if time.monotonic() - renewed > RENEW_SECONDS:
                    renew()
                    renewed = time.monotonic()
    except fetch.FetchError as error:
        raise StoreFailed(error.code, error.message) from error
    except OSError as error:
        raise StoreFailed("disk", f"This machine's disk did not take the download ({error.strerror}).") from error
    local.flush()
    if not length:
        raise StoreFailed("truncated", "The provider sent an empty file.")
    return length, digest.hexdigest()


def _probe(stored: Video, path: Path) -> bytes | None:
    """Fills in what the file tells of itself; the poster, if one can be made. What can't be probed is kept and marked."""
    try:
        probe = video_file.probe(path)
        stored.width, stored.height = probe.width, probe.height
        stored.duration, stored.fps = probe.duration, probe.fps
        stored.codec, stored.has_audio = probe.codec, probe.has_audio
        return video_file.poster(path)
    except video_file.Unprobeable as error:
        stored.probe_error = str(error)[:300]
        return None


class _Renewing(File):
    """A file that renews the lease while a storage reads it, as an upload may take long."""

    def __init__(self, file: IO[bytes], renew: Callable[[], None]) -> None:
        super().__init__(file)
        self._source = file
        self._renew = renew
        self._renewed = time.monotonic()

    def read(self, *args: int) -> bytes:
        if time.monotonic() - self._renewed > RENEW_SECONDS:
            self._renew()
            self._renewed = time.monotonic()
        return self._source.read(*args)

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        self.seek(0)
        while data := self.read(chunk_size or self.DEFAULT_CHUNK_SIZE):
            yield data
