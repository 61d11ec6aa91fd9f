"""The sandbox's clock: the machine's time plus an offset that tests move and that outlives a restart."""

import time
from datetime import UTC, datetime

from wavespeed_sandbox.book import Book


class Clock:
    def __init__(self, book: Book) -> None:
        self._book = book
        self._offset = float(book.setting("clock_offset", "0"))

    @property
    def offset(self) -> float:
        return self._offset

    def now(self) -> float:
        """Unix seconds, to the microsecond: what is written as text reads back as the same instant."""
        return round(time.time() + self._offset, 6)

    def advance(self, seconds: float) -> float:
        self._offset += seconds
        self._book.set_setting("clock_offset", repr(self._offset))
        return self.now()


def rfc3339(timestamp: float) -> str:
    """The instant with nanoseconds, as the provider writes it: `2026-01-31T12:00:00.123456000Z`."""
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z"


def timestamp(text: str) -> float:
    """The unix seconds of an RFC 3339 text; raises ValueError."""
    instant = datetime.fromisoformat(text)
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()
