"""The outputs of one result, each for itself: what can be read is stored at once and kept, and what one does is that one's trouble."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import IO

import structlog
from django.db import Error

from generations import provider
from generations.models import Video
from generations.storage.storing import OUR_FAULTS, Came, StoreFailed, delete_what_can_be, fetch_and_store

log = structlog.get_logger(__name__)

# An attempt begins no further output after so long: with the longest download it stays within what an actor may take.
SECONDS = 1500.0
# These say nothing of what the provider has; all else is its answer.
SILENCE = frozenset({"connection", "timeout", "http_status", "unexpected"})

Keep = Callable[[int, Came, IO[bytes]], None]


@dataclass
class Collected:
    """What became of the outputs that were missing: their positions, and why. `is_lost`: somebody else has the row by now."""

    videos: list[Video] = field(default_factory=list)
    failures: dict[int, StoreFailed] = field(default_factory=dict)
    is_lost: bool = False

    def without_covers(self, *, outputs: int, known: set[int]) -> set[int]:
        """The positions of pictures beside what may be a video, which are no failures any more; none where all outputs are pictures."""
        found = {position for position, error in self.failures.items() if error.came and error.came.is_picture}
        covers = found | known
        if len(covers) == outputs:
            return set()
        self.failures = {position: error for position, error in self.failures.items() if position not in covers}
        return covers

    def trouble(self, outputs: int) -> StoreFailed | None:
        """What to tell of: our own fault, as it holds up everything, else the first output's."""
        failures = sorted(self.failures.items(), key=lambda each: (each[1].code not in OUR_FAULTS, each[0]))
        if not failures:
            return None
        position, error = failures[0]
        text = str(error) if outputs == 1 else f"Output {position + 1} of {outputs}: {error}"
        return StoreFailed(error.code, text, error.came)


def collect(
    urls: Mapping[int, str],
    *,
    seconds: int,
    folder: str,
    attempt: uuid.UUID,
    renew: Callable[[], None],
    save: Callable[[Video], bool],
    keep: Keep | None = None,
) -> Collected:
    """Fetches the outputs by position; `save` makes a row of each that is stored, and is False when the row is somebody else's by now."""
    collected = Collected()
    ends = time.monotonic() + SECONDS
    for position, url in urls.items():
        if time.monotonic() > ends:
            break
        try:
            video = fetch_and_store(
                url,
                position=position,
                seconds=seconds,
                folder=folder,
                attempt=attempt,
                renew=renew,
                allow_loopback=provider.is_loopback(),
                keep=partial(keep, position) if keep else None,
            )
            _saved(video, save)
        except StoreFailed as error:
            if error.code == "lease_lost":
                collected.is_lost = True
                break
            collected.failures[position] = error
            if error.code in OUR_FAULTS:
                break
        except Exception as error:
            # Whatever a file makes a library do, it is this output's trouble, and is told.
            log.exception("output_not_stored", position=position)
            told = StoreFailed(
                "unexpected", f"It could not be stored, for an unexpected reason: {type(error).__name__}."
            )
            collected.failures[position] = told
        else:
            collected.videos.append(video)
    return collected


def _saved(video: Video, save: Callable[[Video], bool]) -> None:
    """A file without its row is deleted again, whatever kept the row away.

    A connection or a worker may end after the commit and before its answer: then the row is there, and its file is never deleted.
    """
    try:
        is_saved = save(video)
    except BaseException:
        if not _may_have_row(video):
            delete_what_can_be([video])
        raise
    if not is_saved:
        delete_what_can_be([video])
        raise StoreFailed("lease_lost", "Another worker took over.")


def _may_have_row(video: Video) -> bool:
    try:
        return Video.objects.filter(file=video.file.name).exists()
    except Error:
        # Nobody can say now; `check_storage` finds a file without its row.
        return True
