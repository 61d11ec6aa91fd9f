"""Takes a finished video from the provider into our storage: streamed, measured, probed, with a poster, and read back; nothing of it
in the database. What is no video that can be read is refused, with what came instead."""

import errno
import hashlib
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import structlog
from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage

from generations import catalog
from generations.catalog import parameters
from generations.models import Video
from generations.storage import temporary
from generations.storage import video as video_file
from generations.storage.download import Downloaded, download
from generations.wavespeed.redaction import Redactor
from projects import fetch
from projects.fetch import FetchError, FetchFailed

log = structlog.get_logger(__name__)

MEGABYTE = 1_000_000
# 4K at 80 Mbit/s, twice what was seen: what room is kept for.
BYTES_PER_SECOND = 10 * MEGABYTE
READ_BYTES = 256 * 1024
RENEW_SECONDS = 15.0
BEGINNING = 80
# What the studio's own machines are to blame for, and what a row that waits for them says as its `error_code`.
OUR_FAULTS = {"storage": "storage_refused", "disk": "disk_full"}
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
# How pictures begin: a cover beside a video is no video.
PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")
PICTURE_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"mif1"})


@dataclass(frozen=True)
class Came:
    """What a server sent in place of a video. `beginning` is text for people."""

    bytes: int
    sha256: str
    content_type: str
    beginning: str
    is_picture: bool
    extension: str

    def __str__(self) -> str:
        kind = f" of {self.content_type}" if self.content_type else ""
        begin = f", which begin with “{self.beginning}”" if self.beginning else ""
        return f"{self.bytes:,} bytes{kind}{begin}"


class StoreFailed(Exception):
    """The output is not stored, and nothing of the attempt is left.

    `code` is that of a `FetchError` (`expired`: the URL is dead), or damaged, lease_lost, unexpected, or one of `OUR_FAULTS`. `came`
    is what came instead, where it came whole.
    """

    def __init__(self, code: str, message: str, came: Came | None = None) -> None:
        self.code = code
        self.came = came
        super().__init__(message)


def addresses(outputs: list[str]) -> list[str]:
    """The outputs, each once, in the provider's order: a video's position is its place among them."""
    return list(dict.fromkeys(outputs))


def usual_bytes(seconds: int) -> int:
    """What a video of so many seconds is reckoned to need, generously."""
    return seconds * BYTES_PER_SECOND


def most_bytes(seconds: int) -> int:
    """What no video of so many seconds passes: what is longer never ends, or is another thing."""
    return (seconds + 5) * settings.STORE_MOST_MEGABYTES_PER_SECOND * MEGABYTE


def pace() -> fetch.Pace | None:
    """What is slower holds a worker from others, and would hardly be here before the provider drops it."""
    least = settings.STORE_LEAST_KILOBYTES_PER_SECOND * 1000 * settings.STORE_SLOW_SECONDS
    return fetch.Pace(int(least), settings.STORE_SLOW_SECONDS) if least else None


def longest_seconds() -> int:
    """Of the longest video that the catalogue makes."""
    durations = (
        parameter.seconds[-1]
        for endpoint in catalog.ENDPOINTS.values()
        for parameter in endpoint.parameters
        if isinstance(parameter, parameters.Duration)
    )
    return max(durations, default=0)


def fetch_and_store(
    url: str,
    *,
    position: int = 0,
    seconds: int,
    folder: str,
    attempt: uuid.UUID,
    renew: Callable[[], None],
    allow_loopback: bool,
    keep: Callable[[Came, IO[bytes]], None] | None = None,
) -> Video:
    """One output as a stored but unsaved video that belongs to nobody yet, in `folder` under a name that carries `attempt`.

    It is in the storage as it came, read back byte by byte. Raises `StoreFailed`; before that, `keep` is given what came and is no
    video that can be read. `renew` is called every few seconds and raises `StoreFailed` when the row is somebody else's by now.
    `seconds` are those that the video should last.
    """
    video = Video(position=position)
    try:
        with temporary.folder() as folder_of_attempt:
            _Attempt(video, seconds, folder_of_attempt, Alive(renew), allow_loopback, keep).run(
                url, f"{folder}/{position}-{attempt.hex}"
            )
    except FetchError as error:
        delete_what_can_be([video])
        raise StoreFailed(error.code, error.message) from error
    except OSError as error:
        delete_what_can_be([video])
        raise StoreFailed("disk", f"The disk of a worker did not take the download: {explained(error)}.") from error
    except BaseException:
        delete_what_can_be([video])
        raise
    return video


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


class _Attempt:
    """One try to bring one output home; `here` is a folder for it alone."""

    def __init__(
        self,
        stored: Video,
        seconds: int,
        here: Path,
        alive: Alive,
        allow_loopback: bool,
        keep: Callable[[Came, IO[bytes]], None] | None,
    ) -> None:
        self.stored, self.here, self.alive = stored, here, alive
        self.usual, self.most = usual_bytes(seconds), most_bytes(seconds)
        self.allow_loopback = allow_loopback
        self.keep = keep

    def run(self, url: str, name: str) -> None:
        with (self.here / "came").open("w+b") as came, (self.here / "unpacked").open("w+b") as unpacked:
            downloaded = self._download(url, came)
            self.stored.bytes, self.stored.sha256 = downloaded.bytes, downloaded.sha256
            local = came
            try:
                if fetch.unpack(came, downloaded.encoding, unpacked, max_bytes=self.most):
                    local = unpacked
                    self.stored.bytes, self.stored.sha256 = _measured_here(unpacked)
                poster, extension = _probe(self.stored, Path(local.name))
            except (FetchFailed, video_file.Unprobeable) as error:
                why = f"{error.message} {fetch.not_unpacked(downloaded.encoding)}".rstrip()
                raise self._refused(local, downloaded.content_type, why) from error
            _put(self.stored, local, poster, name=name, extension=extension, alive=self.alive)

    def _download(self, url: str, came: IO[bytes]) -> Downloaded:
        received = 0

        def note(length: int) -> None:
            nonlocal received
            received = length
            self._mind_the_disk(length)
            self.alive()

        try:
            return download(
                url, came, max_bytes=self.most, pace=pace(), received=note, allow_loopback=self.allow_loopback
            )
        except OSError as error:
            if error.errno in NO_ROOM and received > self.usual:
                raise self._too_large(received) from error
            raise

    def _mind_the_disk(self, received: int) -> None:
        """Room is kept for what a video usually needs: one that takes more may not take it from the others."""
        if received > self.usual:
            free = shutil.disk_usage(self.here).free
            if free < settings.STORAGE_ROOM_MEGABYTES * MEGABYTE:
                raise self._too_large(received)

    def _too_large(self, received: int) -> FetchFailed:
        message = f"The file is larger than any such video should be ({received:,} bytes came), and there is no room for more of it."
        return FetchFailed("too_large", message)

    def _refused(self, file: IO[bytes], content_type: str, why: str) -> StoreFailed:
        file.seek(0)
        beginning = file.read(BEGINNING)
        came = Came(
            bytes=self.stored.bytes,
            sha256=self.stored.sha256,
            content_type=Redactor().text(content_type)[:100],
            beginning=_shown(beginning),
            is_picture=_is_picture(beginning),
            extension="mp4" if beginning[4:8] == b"ftyp" else "bin",
        )
        if self.keep and came.bytes:
            self.keep(came, file)
        what = str(came) if came.bytes else "an empty file"
        return StoreFailed("damaged", f"What came is no video that can be read: {what}. {why}", came)


def _probe(stored: Video, path: Path) -> tuple[bytes, str]:
    """Fills in what the file tells of itself; the poster, and what the file's name ends in. `Unprobeable` unless it is whole."""
    probe, poster = video_file.probe(path), video_file.poster(path)
    stored.width, stored.height = probe.width, probe.height
    stored.duration, stored.fps = probe.duration, probe.fps
    stored.codec, stored.has_audio = probe.codec, probe.has_audio
    stored.probe_note = probe.note
    return poster, probe.extension


def _shown(beginning: bytes) -> str:
    """The first bytes as text, or as hexadecimal digits where they are none."""
    text = beginning.decode("utf-8", "replace")
    if text.count("\ufffd") > 1 or "\0" in text:
        return beginning[:16].hex(" ")
    return " ".join(Redactor().text("".join(each if each.isprintable() else " " for each in text)).split())


def _is_picture(beginning: bytes) -> bool:
    return (
        beginning.startswith(PICTURES)
        or (beginning[:4], beginning[8:12]) == (b"RIFF", b"WEBP")
        or (beginning[4:8] == b"ftyp" and beginning[8:12] in PICTURE_BRANDS)
    )


def _measured_here(file: IO[bytes]) -> tuple[int, str]:
    """The length and SHA-256 of a file on this machine."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
    return file.tell(), digest.hexdigest()


# --- The storage ------------------------------------------------------------------------------------------------------


def _put(stored: Video, local: IO[bytes], poster: bytes, *, name: str, extension: str, alive: Alive) -> None:
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
