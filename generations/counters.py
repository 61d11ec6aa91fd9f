"""What each process counts for Prometheus; docs/watching.md names the metrics.

The counters lie in files of PROMETHEUS_MULTIPROC_DIR, so that one page shows all processes of a machine. Each process locks a file
for as long as it lives; what a dead one counted is added up into one pair of files, so that no counter ever goes back and the
files don't pile up. Counting never breaks the work: where it can't, it doesn't.
"""

import fcntl
import logging
import os
import struct
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, values
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

log = logging.getLogger(__name__)

KINDS = ("counter", "histogram")
ENDED = "ended"
# Room for some thousand label values; taken at once, since a write into a mapped file kills the process when the disk is full.
FILE_BYTES = 512 * 1024
UNREADABLE = (OSError, RuntimeError, ValueError, struct.error)


class _ThisProcess:
    """The name of this process among the files; a fork gets one of its own."""

    def __init__(self) -> None:
        self.name = ""
        self._pid = 0
        self._alive = -1
        self._lock = threading.Lock()

    def enter(self) -> None:
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._enter()

    def _enter(self) -> None:
        name = uuid.uuid4().hex
        with _one_at_a_time() as folder:
            _add_up_the_dead(folder)
            # Locked as long as it is open, so as long as the process lives.
            alive = os.open(folder / f"{name}.lock", os.O_CREAT | os.O_WRONLY)
            fcntl.flock(alive, fcntl.LOCK_EX)
            for kind in KINDS:
                _take_room(folder / f"{kind}_{name}.db")
        if self._alive >= 0:
            # Of the process that this one was forked from, which would seem to live on with it.
            os.close(self._alive)
        self._alive, self.name, self._pid = alive, name, os.getpid()


@contextmanager
def _one_at_a_time() -> Iterator[Path]:
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "gate").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield folder


def _take_room(path: Path) -> None:
    with path.open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, FILE_BYTES)


def _add_up_the_dead(folder: Path) -> None:
    for lock in folder.glob("*.lock"):
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
        for kind in KINDS:
            _add_up(folder / f"{kind}_{lock.stem}.db", folder / f"{kind}_{ENDED}.db")
        lock.unlink()


def _add_up(path: Path, total: Path) -> None:
    try:
        counted = [(key, value) for key, value, _, _ in MmapedDict.read_all_values_from_file(str(path))]
    except UNREADABLE:
        counted = []
    path.unlink(missing_ok=True)
    if not counted:
        return
    _take_room(total)
    sums = MmapedDict(str(total))
    for key, value in counted:
        sums.write_value(key, sums.read_value(key)[0] + value, 0)
    sums.close()


_this = _ThisProcess()
# By our names, not by process ids: two containers that share the folder may have the same ones.
values.ValueClass = values.MultiProcessValue(lambda: _this.name)

# Labels are of few values each, and never a person's, a project's or an id.
_PROVIDER_SECONDS = Histogram(
    "kling_studio_provider_seconds",
    "Calls to the provider, by route.",
    ["route"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
    registry=None,
)
_PROVIDER_ERRORS = Counter(
    "kling_studio_provider_errors",
    "Calls to the provider that brought no good answer.",
    ["route", "kind"],
    registry=None,
)
_SUBMITS = Counter("kling_studio_submits", "Paid requests, by what came of them.", ["outcome"], registry=None)
_VIDEOS = Counter("kling_studio_videos_stored", "Videos that were stored and checked.", ["of"], registry=None)
_BYTES = Counter("kling_studio_stored_bytes", "Bytes of those videos.", ["of"], registry=None)
_WEBHOOKS = Counter(
    "kling_studio_webhooks", "Webhooks that came in, by what became of them.", ["outcome"], registry=None
)
_ACTOR_SECONDS = Histogram(
    "kling_studio_actor_seconds",
    "Messages that workers worked off, by actor.",
    ["actor"],
    buckets=(0.01, 0.05, 0.25, 1, 5, 15, 60, 300, 1800),
    registry=None,
)
_ACTOR_ERRORS = Counter("kling_studio_actor_errors", "Messages that ended with an error.", ["actor"], registry=None)
_REQUEST_SECONDS = Histogram(
    "kling_studio_request_seconds",
    "Requests that the web server answered, by page and kind of answer.",
    ["view", "status"],
    buckets=(0.025, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=None,
)


def provider_answered(route: str, seconds: float, trouble: str) -> None:
    """`trouble` is empty for a good answer."""
    _count(_PROVIDER_SECONDS, seconds, route=route)
    if trouble:
        _count(_PROVIDER_ERRORS, route=route, kind=trouble)


def submitted(outcome: str) -> None:
    """`accepted`, `not_created` or `unclear`."""
    _count(_SUBMITS, outcome=outcome)


def stored(of: str, *, videos: int, size: int) -> None:
    """`of` is `generation` or `unassigned`; `size` is bytes, of all of them."""
    _count(_VIDEOS, videos, of=of)
    _count(_BYTES, size, of=of)


def webhook(outcome: str) -> None:
    """`taken`, `unknown`, `bad_signature`, `no_secret` or `unreadable`."""
    _count(_WEBHOOKS, outcome=outcome)


def acted(actor: str, seconds: float, *, failed: bool) -> None:
    _count(_ACTOR_SECONDS, seconds, actor=actor)
    if failed:
        _count(_ACTOR_ERRORS, actor=actor)


def answered(view: str, status: int, seconds: float) -> None:
    _count(_REQUEST_SECONDS, seconds, view=view, status=f"{status // 100}xx")


def _count(metric: Counter | Histogram, amount: float = 1, **labels: str) -> None:
    try:
        _this.enter()
        child = metric.labels(**labels)
        if isinstance(child, Histogram):
            child.observe(amount)
        else:
            child.inc(amount)
    except (*UNREADABLE, KeyError) as error:
        log.warning("not counted: %s", type(error).__name__)


def collect() -> list[Any]:
    """What all processes of this machine have counted, the dead ones too."""
    with _one_at_a_time() as folder:
        _add_up_the_dead(folder)
        return list(MultiProcessCollector(CollectorRegistry(), str(folder)).collect())
