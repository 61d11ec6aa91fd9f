"""Waits for what processes do, with a deadline instead of a guess."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], *, seconds: float = 60, why: Callable[[], object] = str) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"it took too long: {why()}"
        time.sleep(0.1)
