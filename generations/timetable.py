"""Runs jobs again and again by a clock that nobody sets: the wall clock may go an hour back, and no job sleeps it out."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)


@dataclass
class Job:
    """Runs at once and then every `seconds`, never twice at a time; an interval that it overran is left out."""

    name: str
    seconds: float
    run: Callable[[], object]
    succeeded_at: float | None = None

    def repeat(self, ended: threading.Event) -> None:
        due = time.monotonic()
        while not ended.is_set():
            try:
                self.run()
                self.succeeded_at = time.monotonic()
            except Exception:
                # A bug, or a database that is away: it is told, and the next time may be better.
                log.exception("job_failed", job=self.name)
            now = time.monotonic()
            due = max(due + self.seconds, now)
            ended.wait(due - now)


class Timetable:
    """Jobs of a process, each in a thread of its own, so that none waits for another."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def every(self, seconds: float, name: str, run: Callable[[], object]) -> None:
        self.jobs[name] = Job(name, seconds, run)

    def start(self) -> None:
        for job in self.jobs.values():
            thread = threading.Thread(target=job.repeat, args=[self._ended], name=job.name)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Ends once every job has ended what it is at."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
