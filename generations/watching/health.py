"""`/livez`: this process answers. `/readyz`: the studio can do its work; each check with a sentence that holds no secret.

Not django-health-check's views, which were tried: they wait at the end of a request for the thread of a check that hangs, answer 500,
know no "paused", and leave the checks' database connections open. docs/watching.md says what to point at which address.
"""

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

import dramatiq
import pika
import structlog
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from django.utils.timesince import timesince
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.brokers.stub import StubBroker

from generations.models import Lane, Process
from generations.storage import room
from projects import digest

log = structlog.get_logger(__name__)

# All checks run at once; what has not answered by then has failed.
SECONDS = 4.0
# Longer than a digest waits by itself, an e-mail waits for a mail server.
MAIL_PATIENCE = timedelta(minutes=20)


class State(StrEnum):
    OK = "ok"
    # Not as it should be, and nothing that another machine or a restart would mend.
    DEGRADED = "degraded"
    FAILED = "failed"


@dataclass(frozen=True)
class Result:
    state: State
    message: str


class Failed(Exception):
    """A check's own sentence for people."""


@dataclass
class Check:
    """Something that the studio needs. `run` gives the result, or raises: `Failed` with a sentence, or what its library raises.

    A result is kept for `keep` seconds. One that hangs is not started again before it ends, so that no threads pile up.
    """

    run: Callable[[], Result]
    trouble: str
    keep: float = 0
    _running: "Future[Result] | None" = None
    _ended_at: float = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> "Future[Result]":
        with self._lock:
            is_old = time.monotonic() - self._ended_at >= self.keep
            if self._running is None or (self._running.done() and is_old):
                self._running = Future()
                threading.Thread(target=self._run, args=[self._running], daemon=True).start()
            return self._running

    def _run(self, future: "Future[Result]") -> None:
        try:
            result = self.run()
        except Failed as failure:
            result = Result(State.FAILED, str(failure))
        except Exception as error:
            # Whatever a driver or a vendor's library raises; its text may quote an address with a password.
            log.warning("check_failed", check=self.run.__name__, reason=type(error).__name__)
            result = Result(State.FAILED, f"{self.trouble} ({type(error).__name__}).")
        finally:
            connections.close_all()
        self._ended_at = time.monotonic()
        future.set_result(result)


def _database() -> Result:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return Result(State.OK, "The database answers.")


def _migrations() -> Result:
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        raise Failed(f"{len(missing)} migrations are missing: run “manage.py migrate”.")
    return Result(State.OK, "All migrations are applied.")


def _broker() -> Result:
    broker = dramatiq.get_broker()
    if isinstance(broker, RedisBroker):
        broker.client.ping()
    elif isinstance(broker, RabbitmqBroker):
        # A connection of its own: the broker's are bound to their threads.
        pika.BlockingConnection(broker.parameters).close()
    elif isinstance(broker, StubBroker):
        return Result(State.OK, "Messages stay in this process.")
    return Result(State.OK, "The broker answers.")


def _storage() -> Result:
    content = uuid.uuid4().hex.encode()
    name = default_storage.save(f"checks/ready-{uuid.uuid4().hex}.txt", ContentFile(content))
    try:
        with default_storage.open(name) as file:
            if file.read() != content:
                raise Failed("The storage does not give back what was written to it.")
    finally:
        default_storage.delete(name)
    return Result(State.OK, "The storage takes files and gives them back.")


def _dispatcher() -> Result:
    last = Process.objects.dispatching().order_by("-seen_at").first()
    if last is None:
        raise Failed("No dispatcher runs: start one with “manage.py dispatch”.")
    if not Process.objects.dispatching().alive().exists():
        raise Failed(f"The dispatcher was last seen {_when(last.seen_at)}: look at its log, and start it again.")
    return Result(State.OK, "A dispatcher looks for due work.")


def _when(moment: datetime) -> str:
    if moment > timezone.now():
        return f"at {moment:%Y-%m-%d %H:%M} UTC, by a clock that was wrong"
    return f"{timesince(moment, depth=1)} ago"


def _workers() -> Result:
    if missing := [queue for queue, workers in workers_by_queue().items() if not workers]:
        raise Failed(f"No worker takes what is sent to: {', '.join(missing)}. Start one with “manage.py rundramatiq”.")
    return Result(State.OK, "Each queue has a worker.")


def workers_by_queue() -> dict[str, int]:
    """How many living processes take what is sent to each queue of the studio's actors."""
    workers = list(Process.objects.alive().working())
    queues = sorted({actor.queue_name for actor in dramatiq.get_broker().actors.values()})
    return {queue: sum(process.takes(queue) for process in workers) for queue in queues}


def _lane() -> Result:
    """No reason, which an owner typed: who is not signed in reads this too."""
    lane = Lane.current()
    if lane.paused_at:
        return Result(
            State.DEGRADED, f"The lane is paused since {lane.paused_at:%Y-%m-%d %H:%M} UTC: nothing is submitted."
        )
    if lane.is_slowed(timezone.now()):
        return Result(State.OK, "The lane is open; the provider asked to wait a moment.")
    return Result(State.OK, "The lane is open.")


def mail() -> Result:
    since = digest.waiting_since()
    patience = timedelta(minutes=settings.DIGEST_MINUTES) + MAIL_PATIENCE
    if since and timezone.now() - since > patience:
        return Result(
            State.DEGRADED, f"E-mails wait since {since:%Y-%m-%d %H:%M} UTC: the mail server refuses, or is away."
        )
    return Result(State.OK, "No e-mail waits for long.")


def _room() -> Result:
    """Without figures and folders: who is not signed in reads this too."""
    if room.shown_shortage():
        return Result(State.DEGRADED, "There is no room for more videos: nothing is submitted.")
    return Result(State.OK, "There is room for more videos.")


CHECKS = {
    "database": Check(_database, "The database does not answer"),
    "migrations": Check(_migrations, "Which migrations are applied can't be read", keep=15),
    "broker": Check(_broker, "The broker does not answer"),
    "storage": Check(_storage, "The storage refuses", keep=15),
    "dispatcher": Check(_dispatcher, "The dispatcher's signs of life can't be read"),
    "workers": Check(_workers, "The workers' signs of life can't be read"),
    "lane": Check(_lane, "The lane can't be read"),
    "mail": Check(mail, "Which e-mails wait can't be read"),
    "room": Check(_room, "How much room there is can't be read"),
}


def results() -> dict[str, Result]:
    """Each check's result within `SECONDS`, all told."""
    ends = time.monotonic() + SECONDS
    running = {name: check.start() for name, check in CHECKS.items()}
    return {name: _result(future, ends - time.monotonic()) for name, future in running.items()}


def result(name: str) -> Result:
    """One check's result, within `SECONDS`."""
    return _result(CHECKS[name].start(), SECONDS)


def _result(future: "Future[Result]", seconds: float) -> Result:
    try:
        return future.result(timeout=max(0.0, seconds))
    except TooSlow:
        return Result(State.FAILED, f"No answer within {SECONDS:g} seconds.")
