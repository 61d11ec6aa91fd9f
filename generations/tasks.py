"""Dramatiq actors: load, one step of the lifecycle, send what follows. A message is a hint; the dispatcher finds what gets lost.

No actor is retried by dramatiq: the row says when it is due again, and the dispatcher sends it.
"""

from typing import Any
from uuid import UUID

import dramatiq
import structlog
from django.db import transaction
from dramatiq.actor import Actor
from structlog.contextvars import bind_contextvars

from generations import lifecycle, sanity, trash
from generations import reconcile as reconciliations
from generations.models import Reconciliation, Status

log = structlog.get_logger(__name__)

MINUTE = 60_000


@dramatiq.actor(queue_name="submit", max_retries=0, time_limit=20 * MINUTE)
def fill_lane() -> None:
    """Submits the generation whose turn it is; another message fills the next slot meanwhile."""
    lease = lifecycle.admit()
    if lease is not None:
        _send(fill_lane)
        bind_contextvars(generation=str(lease.pk))
        lifecycle.submit(lease)


@dramatiq.actor(queue_name="submit", max_retries=0, time_limit=MINUTE)
def recover_submit(pk: str) -> None:
    lifecycle.recover_submit(UUID(pk))


@dramatiq.actor(queue_name="poll", max_retries=0, time_limit=10 * MINUTE)
def poll(pk: str) -> None:
    status = lifecycle.poll(UUID(pk))
    if status == Status.STORING:
        _send(store, pk)
    if status is not None:
        _send(fill_lane)


@dramatiq.actor(queue_name="store", max_retries=0, time_limit=60 * MINUTE)
def store(pk: str) -> None:
    lifecycle.store(UUID(pk))


@dramatiq.actor(queue_name="poll", max_retries=0, time_limit=10 * MINUTE)
def resolve(pk: str) -> None:
    """Also of what shows as queued, where a webhook has named a prediction of it."""
    lifecycle.take_up_announced(UUID(pk))
    if lifecycle.resolve(UUID(pk)) == Status.PROCESSING:
        _send(poll, pk)


@dramatiq.actor(queue_name="store", max_retries=0, time_limit=60 * MINUTE)
def store_unassigned(pk: str) -> None:
    lifecycle.store_unassigned(UUID(pk))


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=20 * MINUTE)
def find_orphans() -> None:
    lifecycle.find_orphans()


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=10 * MINUTE)
def settle(pk: str) -> None:
    lifecycle.settle(UUID(pk))


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=60 * MINUTE)
def reconcile(pk: str) -> None:
    if reconciliation := Reconciliation.objects.filter(pk=UUID(pk), finished_at=None).first():
        reconciliations.run(reconciliation)


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=60 * MINUTE)
def check_storage() -> None:
    """Sent every night with `reconcile`; one that gets lost is made up for the night after."""
    sanity.nightly()


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=60 * MINUTE)
def clean_up() -> None:
    """Retention and the trash; what one run leaves, the next one does."""
    trash.apply_retention()
    trash.empty()


def _send(actor: Actor[Any, Any], *args: str) -> None:
    """Sends what follows. A broker that is away must not end the step that has the row: the dispatcher sends again."""
    try:
        actor.send(*args)
    except Exception as error:
        log.warning("not_sent", actor=actor.actor_name, reason=repr(error))


def send_on_commit(actor: Actor[Any, Any], *args: str) -> None:
    """Sends when the transaction has committed. A broker that is down costs seconds, not the request: the dispatcher sends again."""
    transaction.on_commit(lambda: actor.send(*args), robust=True)
