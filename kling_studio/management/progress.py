"""Shows a generation's way in a terminal."""

import sys
import time
from typing import TextIO

from generations.lifecycle import progress
from generations.models import Generation, Status

WIDTH = 40
ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.UNCONFIRMED, Status.AWAITING_APPROVAL})


def follow(generation: Generation, *, timeout: float, out: TextIO | None = sys.stderr) -> Generation:
    """Waits until the generation has ended or waits for an approver, or `timeout` seconds are over; a bar, or a line a status."""
    ends = time.monotonic() + timeout
    last = ""
    while True:
        generation.refresh_from_db()
        line = _line(generation, out) if out else last
        if out and line != last:
            out.write(f"\r\x1b[2K{line}" if out.isatty() else f"{line}\n")
            out.flush()
            last = line
        if generation.status in ENDED or time.monotonic() > ends:
            if out and out.isatty():
                out.write("\n")
            return generation
        time.sleep(0.25)


def _line(generation: Generation, out: TextIO) -> str:
    label = generation.get_status_display().lower()
    if not out.isatty():
        return f"  {label}"
    percent = progress.percent(generation)
    done = WIDTH * percent // 100
    return f"  [{'█' * done}{'·' * (WIDTH - done)}] {percent:3d} %  {label}"
