"""Takes a finished video from the provider into our storage: streamed, measured, probed, with a poster, and read back; nothing of it
in the database."""

import errno
import hashlib
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO

import structlog
from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage

from generations import video as video_file
from generations.downloading import download
from generations.models import Video
from projects.fetch import FetchError

log = structlog.get_logger(__name__)

# A 15-second 4K video is some 100 MB.
MAX_VIDEO_BYTES = 4_000_000_000
READ_BYTES = 256 * 1024
RENEW_SECONDS = 15.0
# What the studio's own machines are to blame for, and what a row that waits for them says as its `error_code`.
OUR_FAULTS = {"storage": "storage_refused", "disk": "disk_full"}
# What came damaged again after so many tries is what the provider made: it was paid, so it is kept and marked.
TRIES_OF_DAMAGED = 3
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class StoreFailed(Exception):
    """The outputs are not stored, and nothing of the attempt is left.

    `code` is that of a `FetchError` (`expired`: the URL is dead), or truncated, damaged, lease_lost, or one of `OUR_FAULTS`.
    """

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


def fetch_and_store(
    outputs: Sequence[str],
    *,
    folder: str,
    attempt: uuid.UUID,
    renew: Callable[[], None],
    allow_loopback: bool,
    keep_damaged: bool = True,
) -> list[Video]:
    """The outputs as stored but unsaved videos that belong to nobody yet, in `folder` under names that carry `attempt`.

    Each is in the storage as it came, read back byte by byte. Raises `StoreFailed`. `renew` is called every few seconds and raises
    `StoreFailed` when the row is somebody else's by now. What is no video that can be read is refused, or kept and marked.
    """
    alive = Alive(renew)
    videos: list[Video] = []
    try:
        for position, url in enumerate(outputs):
            video = Video(position=position)
            videos.append(video)
            _store_one(
                video,
                url,
                name=f"{folder}/{position}-{attempt.hex}",
                alive=alive,
                allow_loopback=allow_loopback,
                keep_damaged=keep_damaged,
            )
    except BaseException:
        delete_what_can_be(videos)
        raise
    return videos


def delete_files(videos: list[Video]) -> None:
    """Deletes the objects of an attempt that lost; never those of another attempt, as its token is in their names."""
    for each in videos:
        for name in filter(None, (each.file.name, each.poster.name)):
            default_storage.delete(name)


def delete_what_can_be(videos: list[Video]) -> None:
    """As `delete_files`, for what matters less than what comes after it."""
    for each in videos:
        try:
            delete_files([each])
        except Exception as error:
            # The storage that refused the file may refuse this too; `check_storage` finds an object without a row.
            log.warning("not_deleted", file=each.file.name, reason=explained(error))


class Alive:
    """Renews a lease every few seconds, however often it is called; only in its own thread, as a lease is a database connection's."""

    def __init__(self, renew: Callable[[], None]) -> None:
        self._renew = renew
        self._every = min(RENEW_SECONDS, settings.STORE_LEASE_SECONDS / 4)
        self._thread = threading.get_ident()
        self._renewed = time.monotonic()

    def __call__(self) -> None:
        if time.monotonic() - self._renewed >= self._every and threading.get_ident() == self._thread:
            self._renew()
            self._renewed = time.monotonic()


def _store_one(stored: Video, url: str, *, name: str, alive: Alive, allow_loopback: bool, keep_damaged: bool) -> None:
    try:
        with tempfile.NamedTemporaryFile(suffix=".mp4") as local:
            stored.bytes, stored.sha256 = download(
                url, local, max_bytes=MAX_VIDEO_BYTES, alive=alive, allow_loopback=allow_loopback
            )
            if not stored.bytes:
                raise StoreFailed("truncated", "The provider sent an empty file.")
            poster, extension = _probe(stored, Path(local.name))
            if stored.probe_error and not keep_damaged:
                raise StoreFailed("damaged", f"The provider sent a damaged file: {stored.probe_error}")
            _put(stored, local, poster, name=name, extension=extension, alive=alive)
    except FetchError as error:
        raise StoreFailed(error.code, error.message) from error
    except OSError as error:
        raise StoreFailed("disk", f"The disk of a worker did not take the download: {explained(error)}.") from error


def _probe(stored: Video, path: Path) -> tuple[bytes | None, str]:
    """Fills in what the file tells of itself; the poster, if one can be made, and what the file's name ends in."""
    extension = video_file.MP4.extension
    try:
        probe = video_file.probe(path)
        extension = probe.extension
        stored.width, stored.height = probe.width, probe.height
        stored.duration, stored.fps = probe.duration, probe.fps
        stored.codec, stored.has_audio = probe.codec, probe.has_audio
        stored.probe_note = probe.note
        return video_file.poster(path), extension
    except video_file.Unprobeable as error:
        stored.probe_error = str(error)[:300]
        return None, extension


# --- The storage ------------------------------------------------------------------------------------------------------


def _put(stored: Video, local: IO[bytes], poster: bytes | None, *, name: str, extension: str, alive: Alive) -> None:
    """Saves under names that are set before, so that a failure half-way leaves nothing that can't be deleted."""
    try:
        stored.file.name = f"{name}.{extension}"
        stored.file.name = default_storage.save(stored.file.name, _Read(local, alive))
        _check_arrived(stored, alive)
        if poster:
            stored.poster.name = f"{name}.jpg"
            stored.poster.name = default_storage.save(stored.poster.name, ContentFile(poster))
        alive()
    except StoreFailed:
        raise
    except Exception as error:
        # Storages raise what their vendor's library raises: full, refused, unreachable. Whatever it is, the video is still owed.
        log.exception("storage_failed", file=stored.file.name)
        raise StoreFailed("storage", f"The studio's storage did not take the video: {explained(error)}.") from error


def _check_arrived(stored: Video, alive: Alive) -> None:
    length, sha256 = measured(stored.file.name or "", alive)
    if (length, sha256) != (stored.bytes, stored.sha256):
        told = f"{length:,} of {stored.bytes:,} bytes" if length != stored.bytes else "as many bytes, but other ones"
        raise StoreFailed("storage", f"The studio's storage gave back something else than it was given: {told}.")


def measured(name: str, alive: Callable[[], None]) -> tuple[int, str]:
    """The length and SHA-256 of a stored file, read in pieces; `FileNotFoundError` where there is none."""
    digest = hashlib.sha256()
    length = 0
    for chunk in chunks(name):
        digest.update(chunk)
        length += len(chunk)
        alive()
    return length, digest.hexdigest()


def chunks(name: str) -> Iterator[bytes]:
    """A stored file as it comes from the storage."""
    if pieces := getattr(default_storage, "pieces", None):
        yield from pieces(name, READ_BYTES)
        return
    with default_storage.open(name, "rb") as file:
        yield from iter(partial(file.read, READ_BYTES), b"")


def explained(error: Exception) -> str:
    """What a storage's own exception says, for people."""
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return "it is full"
    if isinstance(error, OSError) and error.errno in NO_RIGHT:
        return "the studio may not write there"
    answer = getattr(error, "response", None)
    code = answer.get("Error", {}).get("Code") if isinstance(answer, dict) else None
    return f"it answered {code}" if code else type(error).__name__


class _Read(File):
    """A file that renews the lease while a storage reads it, as an upload may take long."""

    def __init__(self, file: IO[bytes], alive: Alive) -> None:
        super().__init__(file)
        self._source = file
        self._alive = alive

    def read(self, *args: int) -> bytes:
        self._alive()
        return self._source.read(*args)

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        self.seek(0)
        while data := self.read(chunk_size or self.DEFAULT_CHUNK_SIZE):
            yield data
