"""Brings one file from the provider: a broken download goes on where it broke, or from its start where that can't be."""

import hashlib
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import IO

import structlog

from projects import fetch
from projects.fetch import Download, FetchFailed, Pace

log = structlog.get_logger(__name__)

SECONDS = 1800.0
# Tries in a row that brought nothing new.
TRIES = 4
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0
PASSING = frozenset({"connection", "timeout", "truncated", "bad_range"})
PASSING_STATUS = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


@dataclass(frozen=True)
class Downloaded:
    """What came: its length in bytes, its SHA-256, and how its server called it and what it packed it in (“” if unsaid)."""

    bytes: int
    sha256: str
    content_type: str
    encoding: str


def download(
    url: str,
    local: IO[bytes],
    *,
    max_bytes: int,
    pace: Pace | None,
    received: Callable[[int], None],
    allow_loopback: bool,
) -> Downloaded:
    """Writes the file at `url` to `local`, which is empty.

    Asks the same URL again, with growing pauses, while that may help; then raises the `FetchError` of the last try, or `OSError` of the
    disk. `received` is called all the time, with the bytes that are here.
    """
    partial = Partial(local)
    ends = time.monotonic() + SECONDS
    progress = Progress(pace)
    stuck = 0
    while True:
        furthest = partial.furthest
        try:
            _go_on(url, partial, max_bytes, ends, received, pace, allow_loopback)
            return Downloaded(partial.length, partial.digest.hexdigest(), partial.content_type, partial.encoding)
        except FetchFailed as error:
            stuck = 0 if partial.furthest > furthest else stuck + 1
            if not _may_pass(error, stuck) or stuck == TRIES or time.monotonic() > ends:
                raise
            progress.check(partial.furthest)
            log.info("download_broken", reason=str(error), received=partial.length, stuck=stuck)
            if _is_of_no_use(error) or not partial.validator:
                partial.restart()
        received(partial.length)
        time.sleep(min(LONGEST_WAIT, FIRST_WAIT * 2**stuck) * random.uniform(0.5, 1.0))


def _go_on(
    url: str,
    partial: "Partial",
    max_bytes: int,
    ends: float,
    received: Callable[[int], None],
    pace: Pace | None,
    allow_loopback: bool,
) -> None:
    with fetch.stream(
        url,
        max_bytes=max_bytes,
        deadline=max(1.0, ends - time.monotonic()),
        allow_loopback=allow_loopback,
        start=partial.length,
        if_range=partial.validator or None,
        pace=pace,
    ) as answer:
        partial.go_on(answer)
        for chunk in answer:
            partial.write(chunk)
            received(partial.length)
    partial.local.flush()


def _may_pass(error: FetchFailed, stuck: int) -> bool:
    """Whether the same URL may give the file a moment later: not when it is dead, refused, too large or sends us in circles.

    A server that was waited for in vain is not waited for again at once: others wait for this worker.
    """
    if error.code == "http_status":
        return error.status in PASSING_STATUS or (error.status or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR
    return error.code in PASSING and not (error.code == "timeout" and stuck)


def _is_of_no_use(error: FetchFailed) -> bool:
    """Whether what is here can't be the beginning of what the server has."""
    return error.code == "bad_range" or error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


class Progress:
    """Looks at the pace of a download across its tries: a server that ends each answer after a byte is as slow as one that drips."""

    def __init__(self, pace: Pace | None) -> None:
        self.pace = pace
        self._began, self._before = time.monotonic(), 0

    def check(self, furthest: int) -> None:
        if self.pace is None or time.monotonic() - self._began < self.pace.seconds:
            return
        if furthest - self._before < self.pace.bytes:
            least = f"less than {self.pace.bytes:,} bytes came in {self.pace.seconds:g} seconds"
            raise FetchFailed("slow", f"The file comes too slowly, in pieces: {least}.")
        self._began, self._before = time.monotonic(), furthest


class Partial:
    """As much of a file as is here, and what its server calls that version of it."""

    def __init__(self, local: IO[bytes]) -> None:
        self.local = local
        self.furthest = 0
        self.restart()

    def restart(self) -> None:
        self.local.seek(0)
        self.local.truncate()
        self.length = 0
        self.digest = hashlib.sha256()
        self.validator = ""
        self.total: int | None = None

    def go_on(self, answer: Download) -> None:
        """Takes the rest only of the very file that it began with; a whole answer begins it anew."""
        validator = _validator(answer.headers)
        total = None if answer.content_length is None else answer.start + answer.content_length
        if not answer.start:
            self.restart()
        elif (validator, total) != (self.validator, self.total):
            raise FetchFailed("bad_range", "The file changed while it was downloaded.", status=answer.status)
        self.validator, self.total = validator, total
        self.content_type, self.encoding = answer.content_type, answer.encoding

    def write(self, chunk: bytes) -> None:
        self.local.write(chunk)
        self.digest.update(chunk)
        self.length += len(chunk)
        self.furthest = max(self.furthest, self.length)


def _validator(headers: Mapping[str, str]) -> str:
    """What `If-Range` may hold (RFC 9110, 13.1.5): a strong ETag, or else the date; without one, the rest may be of another file."""
    tag = headers.get("etag", "").strip()
    if tag.startswith('"'):
        return tag
    return headers.get("last-modified", "").strip()
