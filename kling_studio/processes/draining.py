"""Lets a worker process end what it has begun, however its supervisor tells it to stop."""

import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from dramatiq import Broker, Middleware, Worker

ECHO_SECONDS = 5


class DrainOnce(Middleware):
    """Of a process of `manage.py rundramatiq`: the first SIGTERM drains it, and its echo does not kill it.

    Dramatiq's main process hands SIGTERM on to its workers, and kills at the second one. A supervisor that tells the whole process group
    would so kill in the middle of a paid request. One that comes more than 5 s later is meant: it kills.
    """

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        signal.signal(signal.SIGTERM, without_echo(signal.getsignal(signal.SIGTERM)))


def without_echo(handler: Any, clock: Callable[[], float] = time.monotonic) -> Callable[[int, FrameType | None], None]:
    """`handler` without the signals that follow the first one at once."""
    first: list[float] = []

    def handle(signum: int, frame: FrameType | None) -> None:
        now = clock()
        if not first or now - first[0] > ECHO_SECONDS:
            first.append(now)
            handler(signum, frame)

    return handle
