"""Counts the moments at which a worker can die, and kills this process with SIGKILL at the one with the number in `KILL_AT`.

`KILL_ON`, a part of a point's name, does the same. `POINTS_TRACE` is a file that each point is written to before.

A point is: right after each outermost commit that wrote something, and before its on-commit messages leave; right after each write in
autocommit; right before and right after each external call (over HTTP by urllib3, which requests and boto3 use; a local storage's file;
a message to the broker). Where a broker outlives the worker, also before and after it is told that a message is done with.

Only the steps of a generation are counted, by the thread that does them. What the dispatcher and the studio's other jobs write comes by
the clock, once a second or a night: counted, they would make the numbers differ from run to run, and the last point never come. They die
with the process all the same, wherever they are at that instant.

Installed by `tests.faults.settings` alone.
"""

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dramatiq
from dramatiq.brokers.stub import StubBroker
from urllib3.connectionpool import HTTPConnectionPool

STEPS = frozenset({"fill_lane", "recover_submit", "resolve", "poll", "store", "store_unassigned", "settle"})
CHANGING = re.compile(r'\s*(INSERT INTO|UPDATE|DELETE FROM)\s+"?(\w+)')
IDS = re.compile(r"[0-9a-f]{8,}[0-9a-f-]*|-[0-9a-zA-Z]{7}(?=\.)")

_here = threading.local()
_lock = threading.Lock()
# A thread that is no worker's does its step undisturbed by what its messages set off: else two threads' points would come in any order.
_no_other = threading.RLock()


class Points:
    """What this process has counted: `number` of points, how many messages are `busy` in its workers, and how many have `ended`."""

    kill_at = int(os.environ.get("KILL_AT", "0"))
    kill_on = os.environ.get("KILL_ON", "")
    trace: Path | None = Path(os.environ["POINTS_TRACE"]) if "POINTS_TRACE" in os.environ else None
    number = 0
    busy = 0
    ended: Counter[str] = Counter()
    errors: list[str] = []


def reached(label: str) -> None:
    """One more point, if a step of a generation is being done here; at the chosen one, nothing comes after."""
    if not getattr(_here, "step", ""):
        return
    with _lock:
        Points.number += 1
        if Points.trace:
            with Points.trace.open("a") as file:
                file.write(f"{Points.number} {_here.step}: {label}\n")
        if Points.number == Points.kill_at or (Points.kill_on and Points.kill_on in label):
            os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def step(name: str) -> Iterator[None]:
    """What this thread does in the block is counted; workers wait for it before they take another message."""
    with _no_other:
        _here.step = name
        try:
            yield
        finally:
            _here.step = ""


@contextmanager
def external_call(label: str) -> Iterator[None]:
    """Also after a call that failed: it may have done something."""
    reached(f"before {label}")
    try:
        yield
    finally:
        reached(f"after {label}")


def count_http() -> None:
    """Counts each request that leaves through urllib3."""
    urlopen = HTTPConnectionPool.urlopen

    def counted(pool: HTTPConnectionPool, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        with external_call(f"{method} {IDS.sub('…', urlsplit(url).path)}"):
            return urlopen(pool, method, url, *args, **kwargs)

    HTTPConnectionPool.urlopen = counted


class CountSteps(dramatiq.Middleware):
    """Counts what the actors of the lifecycle do, and what any step sends."""

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        with _no_other, _lock:
            Points.busy += 1
        _here.step = message.actor_name if message.actor_name in STEPS else ""

    def after_process_message(
        self,
        broker: dramatiq.Broker,
        message: dramatiq.MessageProxy,
        *,
        result: Any = None,
        exception: BaseException | None = None,
    ) -> None:
        with _lock:
            Points.ended[message.actor_name] += 1
            if exception is not None:
                Points.errors.append(f"{message.actor_name}: {exception!r}")

    def before_enqueue(self, broker: dramatiq.Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        reached(f"before sending {message.actor_name}")

    def after_enqueue(self, broker: dramatiq.Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        reached(f"after sending {message.actor_name}")

    def before_ack(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        # What the in-memory broker knows dies with the worker, told or not.
        if not isinstance(broker, StubBroker):
            reached("before acknowledging")

    def after_ack(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        if not isinstance(broker, StubBroker):
            reached("after acknowledging")
        self._is_done()

    def after_nack(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:
        self._is_done()

    def _is_done(self) -> None:
        _here.step = ""
        with _lock:
            Points.busy -= 1


class CountingWrapper:
    """What a database backend needs to count its commits; mixed into Django's own."""

    in_atomic_block: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._changes: list[str] = []
        self.execute_wrappers: list[Callable[..., Any]]
        self.execute_wrappers.append(self._look)

    def _look(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        done = execute(sql, params, many, context)
        if change := CHANGING.match(sql):
            words = f"{change[1].split()[0]} {change[2]}"
            if self.in_atomic_block:
                self._changes.append(words)
            else:
                reached(f"wrote {words}")
        return done

    def _commit(self) -> None:
        super()._commit()
        if self._changes:
            changes, self._changes = self._changes, []
            reached(f"committed {', '.join(dict.fromkeys(changes))}")

    def _rollback(self) -> None:
        super()._rollback()
        self._changes = []
