"""Dramatiq actors: load, one step of the lifecycle, send what follows. A message is a hint; the dispatcher finds what gets lost.

No actor is retried by dramatiq: the row says when it is due again, and the dispatcher sends it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import dramatiq
import structlog
from django.db import DatabaseError, transaction
from dramatiq.actor import Actor
from dramatiq.middleware import TimeLimitExceeded
from structlog.contextvars import bind_contextvars

from generations import lifecycle
from generations import reconcile as reconciliations
from generations.lifecycle import unexpected
from generations.models import Reconciliation, Status
from generations.storage import check, retention

log = structlog.get_logger(__name__)

MINUTE = 60_000


@contextmanager
def _never_silent(count: Callable[[BaseException], None]) -> Iterator[None]:
    """Whatever a step ends with that nobody expected is counted where it belongs and told to people; then it is raised, for the log."""
    try:
        yield
    except (Exception, TimeLimitExceeded) as error:
        try:
            count(error)
        except DatabaseError:
            # It was away before, or is now: the lease ends, and the dispatcher sends again.
            log.exception("error_not_counted")
        raise


def _step(pk: str | UUID, name: str) -> Any:
    """A step of a generation."""
    return _never_silent(lambda error: unexpected.of_step(UUID(str(pk)), name, error))


def _job(name: str) -> Any:
    """Work that belongs to no row."""
    return _never_silent(lambda error: unexpected.of_job(name, error))


@dramatiq.actor(queue_name="submit", max_retries=0, time_limit=20 * MINUTE)
def fill_lane() -> None:
    """Submits the generation whose turn it is; another message fills the next slot meanwhile."""
    lease = lifecycle.admit()
    if lease is not None:
        _send(fill_lane)
        bind_contextvars(generation=str(lease.pk))
        with _step(lease.pk, "submit"):
            lifecycle.submit(lease)


@dramatiq.actor(queue_name="submit", max_retries=0, time_limit=MINUTE)
def recover_submit(pk: str) -> None:
    with _step(pk, "recover_submit"):
        lifecycle.recover_submit(UUID(pk))


@dramatiq.actor(queue_name="poll", max_retries=0, time_limit=10 * MINUTE)
def poll(pk: str) -> None:
    with _step(pk, "poll"):
        status = lifecycle.poll(UUID(pk))
    if status == Status.STORING:
        _send(store, pk)
    if status is not None:
        _send(fill_lane)


@dramatiq.actor(queue_name="store", max_retries=0, time_limit=60 * MINUTE)
def store(pk: str) -> None:
    with _step(pk, "store"):
        lifecycle.store(UUID(pk))


@dramatiq.actor(queue_name="poll", max_retries=0, time_limit=10 * MINUTE)
def resolve(pk: str) -> None:
    """Also of what shows as queued, where a webhook has named a prediction of it."""
    with _step(pk, "resolve"):
        lifecycle.take_up_announced(UUID(pk))
        status = lifecycle.resolve(UUID(pk))
    if status == Status.PROCESSING:
        _send(poll, pk)


@dramatiq.actor(queue_name="store", max_retries=0, time_limit=60 * MINUTE)
def store_unassigned(pk: str) -> None:
    with _never_silent(lambda error: unexpected.of_unassigned(UUID(pk), error)):
        lifecycle.store_unassigned(UUID(pk))


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=20 * MINUTE)
def find_orphans() -> None:
    with _job("find_orphans"):
        lifecycle.find_orphans()


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=10 * MINUTE)
def settle(pk: str) -> None:
    with _step(pk, "settle"):
        lifecycle.settle(UUID(pk))
        unexpected.settled(UUID(pk))


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=60 * MINUTE)
def reconcile(pk: str) -> None:
    if reconciliation := Reconciliation.objects.filter(pk=UUID(pk), finished_at=None).first():
        with _job("reconcile"):
            reconciliations.run(reconciliation)


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=60 * MINUTE)
def check_storage() -> None:
    """Sent every night with `reconcile`; one that gets lost is made up for the night after."""
    with _job("check_storage"):
        check.nightly()


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=60 * MINUTE)
def clean_up() -> None:
    """Retention and the trash; what one run leaves, the next one does."""
    with _job("clean_up"):
        retention.apply_retention()
        retention.empty()


def _send(actor: Actor[Any, Any], *args: str) -> None:
    """Sends what follows. A broker that is away must not end the step that has the row: the dispatcher sends again."""
    try:
        actor.send(*args)
    except Exception as error:
        log.warning("not_sent", actor=actor.actor_name, reason=repr(error))


def send_on_commit(actor: Actor[Any, Any], *args: str) -> None:
    """Sends when the transaction has committed. A broker that is down costs seconds, not the request: the dispatcher sends again."""
    transaction.on_commit(lambda: actor.send(*args), robust=True)
