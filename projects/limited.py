"""Reads files that strangers made in a process with limits of memory and time, and a few at once on this machine.

A studio process has one server, started with its first file: it has the libraries loaded and forks for each file, which takes milliseconds.
A file that takes too much, or breaks what reads it, ends its own process and no other. The server ends when the last process that can
reach it does, however that ends; a fork of the studio's process can go on using it.
"""

import atexit
import fcntl
import gc
import importlib
import io
import os
import pickle
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import IO, Any, NoReturn, ParamSpec, TypeVar

import structlog

log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

# What the server loads before it forks. By name, as it knows them only so.
READERS = ("projects.images", "generations.storage.video")
# None of the studio's secrets: a file may take the process over.
KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH")
STARTED = b"started"
LARGEST_ANSWER = 200_000_000  # bytes
LONGEST_PAUSE = 0.03  # seconds between two looks for a free place
# A busy machine gives a process less than its time: so many seconds on the clock for each of its own.
CLOCK_SECONDS = 3
CLOCK_MARGIN = 10


@dataclass(frozen=True)
class Limits:
    """Of one file (`seconds` of a processor), and how many files are read at once by all processes with the same `home`."""

    home: Path
    seconds: int = 30
    megabytes: int = 3_000
    at_once: int = 2


class OverLimits(Exception):
    """The file was not read to its end: it takes too much memory or time, or it breaks what reads it."""

    def __init__(self, limits: Limits) -> None:
        allowed = f"{limits.seconds} seconds and {limits.megabytes:,} MB of memory"
        self.message = f"This file can't be read within the studio's limits of {allowed}."
        super().__init__(self.message)


class _ServerIsGone(Exception):
    """It ended before it took the file."""


def configure(limits: Limits) -> None:
    """Called once at the start, by settings; tests set limits of their own."""
    global _limits
    _limits = limits


def limits() -> Limits:
    assert _limits, "projects.limited is not configured: Django's apps are not loaded."
    return _limits


_limits: Limits | None = None


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`function(*args)`, one of a reader's module, in a process of its own, once it is its turn. Raises what it raises, and `OverLimits`.

    Arguments, answers and errors are builtins, or classes of the reader's own module.
    """
    with _place(limits()):
        try:
            return _called(function, args, kwargs)
        except _ServerIsGone:
            return _called(function, args, kwargs)  # by a new one


@contextmanager
def _place(limits: Limits) -> Iterator[None]:
    """Waits for one of the machine's places; a killed process leaves its own at once."""
    while True:
        for number in range(limits.at_once):
            with _opened(limits.home / f"place-{number}") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                yield
                return
        time.sleep(random.uniform(0, LONGEST_PAUSE))


def _opened(path: Path) -> IO[bytes]:
    path.parent.mkdir(exist_ok=True)
    return path.open("ab")


def _called(function: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
    ours, theirs = Pipe()
    with ours:
        with theirs:
            _server.hand_over(theirs)
        answer = _asked(ours, pickle.dumps((function, args, kwargs, limits())))
    if answer is None:
        log.warning("file_not_read", reader=f"{function.__module__}.{function.__qualname__}")
        raise OverLimits(limits())
    is_error, value = _Answer(answer, function.__module__).load()
    if is_error:
        raise value
    return value  # type: ignore[no-any-return]


def _asked(connection: Connection, question: bytes) -> bytes | None:
    """The process's answer; None if it ended without one."""
    has_started = False
    try:
        connection.send_bytes(question)
        for _ in range(2):
            if not connection.poll(limits().seconds * CLOCK_SECONDS + CLOCK_MARGIN):
                return None
            answer = connection.recv_bytes(LARGEST_ANSWER)
            if has_started:
                return answer
            has_started = answer == STARTED
    except (EOFError, OSError) as error:
        if not has_started:
            raise _ServerIsGone from error
    return None


class _Answer(pickle.Unpickler):
    """It names nothing but the reader's own classes: a file that takes over the process that reads it gets no further."""

    def __init__(self, answer: bytes, reader: str) -> None:
        super().__init__(io.BytesIO(answer))
        self._modules = {reader, "decimal"}

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if module in self._modules and "." not in name else None
        if not isinstance(found, type) or found.__module__ != module:
            raise pickle.UnpicklingError(f"The answer of a reader names {module}.{name}.")
        return found


# --- The server, as the studio's process sees it ----------------------------------------------------------------------


class _Server:
    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Connection | None = None
        self.renew_lock()

    def renew_lock(self) -> None:
        """In a fork, where whoever held it is not there."""
        self._lock = threading.Lock()

    def hand_over(self, connection: Connection) -> None:
        """Gives the other end of a file's connection to the server, which forks a process for it."""
        with self._lock:
            if self._control is None:
                self._start()
            try:
                self._send(connection)
            except OSError:
                self._start()
                self._send(connection)

    def _send(self, connection: Connection) -> None:
        assert self._control
        send_handle(self._control, connection.fileno(), 0)  # the pid is for Windows

    def _start(self) -> None:
        if self._control and self._process:
            self._control.close()
            self._process.kill()
            self._process.wait()
        self._control, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=Path(__file__).parents[1],
                env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for the studio, which ends its files first
            )

    def stop(self) -> None:
        """At the end of the process that started it; in a fork it is somebody else's."""
        if self._control and self._process:
            self._control.close()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)


_server = _Server()
os.register_at_fork(after_in_child=_server.renew_lock)
atexit.register(_server.stop)


# --- The server, and the process of a file ----------------------------------------------------------------------------


def serve(control: Connection) -> None:
    """Forks a process for each connection that it is given, until nobody is left to give one."""
    for number in (signal.SIGTERM, signal.SIGINT):  # a worker that drains still needs it
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended: their connections tell
    for reader in READERS:
        importlib.import_module(reader)
    gc.freeze()
    with suppress(EOFError, ConnectionError):
        while True:
            connection = Connection(recv_handle(control))
            if os.fork() == 0:
                control.close()
                _work(connection)
            connection.close()


def _work(connection: Connection) -> NoReturn:
    try:
        connection.send_bytes(STARTED)
        function, args, kwargs, limits = pickle.loads(connection.recv_bytes())  # noqa: S301 - the studio's own
        _limit(limits)
        connection.send_bytes(pickle.dumps(_outcome(function, args, kwargs)))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _outcome(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bool, Any]:
    """Whether it is an error, and what it is; what the reader didn't mean to raise ends the process."""
    try:
        return False, function(*args, **kwargs)
    except Exception as error:
        if type(error).__module__ != function.__module__:
            raise
        return True, error


def _limit(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits.megabytes * 1_000_000,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, limits.seconds * CLOCK_SECONDS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory runs out, it is this process's turn


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
