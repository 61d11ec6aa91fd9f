"""Work in many threads at the same instant, each on a database connection of its own."""

import fcntl
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from django.db import OperationalError, connection

CONNECT_SECONDS = 60
T = TypeVar("T")


@pytest.fixture
def one_test_at_a_time() -> Iterator[None]:
    """PostgreSQL takes 100 connections by default, so the workers of pytest-xdist take turns; each has an SQLite of its own."""
    if connection.vendor == "sqlite":
        yield
        return
    with open(Path(tempfile.gettempdir()) / f"kling-studio-threads-{os.getuid()}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def connect() -> None:
    """Open this thread's connection; when the server has none left, wait for others to close theirs."""
    until = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return connection.ensure_connection()
        except OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def at_once(jobs: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Run each job in a thread and on a connection of its own, all at the same instant; what each gave or raised."""
    start = threading.Barrier(len(jobs))

    def run(job: Callable[[], T]) -> T | Exception:
        start.wait()
        try:
            connect()
            return job()
        except Exception as error:
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(jobs)) as threads:
        return list(threads.map(run, jobs))
