"""The signs of life of the studio's processes: one row each, renewed by a thread, removed when the process ends in order.

The database being away stops nothing: the row comes back with it.
"""

import os
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

import structlog
from django.db import connection
from django.utils import timezone
from dramatiq import Broker, Middleware, Worker

from generations import alerts, dispatch
from generations.models import Process
from generations.storage import temporary
from generations.timetable import Timetable
from projects import digest
from projects.api.base import idempotency

log = structlog.get_logger(__name__)

SECONDS_BETWEEN = 10
SECONDS_TO_STOP = 5
BEATS_BETWEEN_FORGETTING = 360
# A dispatcher whose looks at the database hang, or all fail, is no dispatcher.
TICKS_LATELY = 30
MISSED_AFTER = 120


def _always() -> bool:
    return True


class Heartbeat:
    """One process's sign of life, given while `is_well`; web servers and workers also look whether there is a dispatcher."""

    def __init__(
        self,
        kind: Process.Kind,
        *,
        queues: Iterable[str] = (),
        is_well: Callable[[], bool] = _always,
        seconds: float = SECONDS_BETWEEN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        host = platform.node()[:200] or "unknown"
        self._process = Process(kind=kind, host=host, pid=os.getpid(), queues=",".join(sorted(queues))[:200])
        self._is_well = is_well
        self._seconds = seconds
        self._clock = clock
        self._dispatcher_seen = timezone.now()
        self._dispatcher_heard = clock()
        self._beats = 0
        self._is_failing = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Takes the row away, if the database is there."""
        self._ended.set()
        self._thread.join(SECONDS_TO_STOP)
        try:
            Process.objects.filter(pk=self._process.pk).delete()
        except Exception as error:
            log.warning("heartbeat_failed", reason=type(error).__name__)
        finally:
            connection.close()

    def beat(self) -> None:
        """One sign of life; raises what the database raises."""
        now = timezone.now()
        if self._is_well() and not Process.objects.filter(pk=self._process.pk).update(seen_at=now):
            self._process.seen_at = now
            self._process.save(force_insert=True)
        if self._beats % BEATS_BETWEEN_FORGETTING == 0:
            Process.objects.all().forget()
            temporary.sweep()
        self._beats += 1
        if self._process.kind in (Process.Kind.WEB, Process.Kind.WORKER):
            self._look_for_dispatcher(now)

    def _look_for_dispatcher(self, now: datetime) -> None:
        if Process.objects.dispatching().alive().exists():
            self._dispatcher_seen, self._dispatcher_heard = now, self._clock()
        elif self._clock() - self._dispatcher_heard > MISSED_AFTER and alerts.dispatcher_missing(self._dispatcher_seen):
            # E-mails are the dispatcher's work, so that this one would wait for what it tells of.
            digest.send()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                idempotency.renew()
                self.beat()
                self._is_failing = False
            except Exception as error:
                if not self._is_failing:
                    log.warning("heartbeat_failed", reason=type(error).__name__)
                self._is_failing = True
            finally:
                # Every ten seconds a connection of its own would otherwise be kept by each process.
                connection.close()
            self._ended.wait(self._seconds)


@contextmanager
def beating(kind: Process.Kind, timetable: Timetable) -> Iterator[None]:
    """A process that dispatches: its sign of life is that it has looked for due work lately."""
    began, look = time.monotonic(), timetable.jobs[dispatch.tick.__name__]
    heartbeat = Heartbeat(kind, is_well=lambda: time.monotonic() - (look.succeeded_at or began) < TICKS_LATELY)
    heartbeat.start()
    try:
        yield
    finally:
        heartbeat.stop()


class WorkerHeartbeat(Middleware):
    """Of a process of `manage.py rundramatiq`: from its boot to the end of its last message."""

    _heartbeat: Heartbeat | None = None

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:
        self._heartbeat = Heartbeat(Process.Kind.WORKER, queues=worker.consumer_whitelist or ())
        self._heartbeat.start()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:
        if self._heartbeat:
            self._heartbeat.stop()
