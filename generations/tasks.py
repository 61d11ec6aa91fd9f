"""Dramatiq actors: load, one step of the lifecycle, send what follows. A message is a hint; the dispatcher finds what gets lost.

No actor is retried by dramatiq: the row says when it is due again, and the dispatcher sends it.
"""

from typing import Any
from uuid import UUID

import dramatiq
from django.db import transaction
from dramatiq.actor import Actor

from generations import lifecycle
from generations import reconcile as reconciliations
from generations.models import Reconciliation, Status

MINUTE = 60_000


@dramatiq.actor(queue_name="submit", max_retries=0, time_limit=20 * MINUTE)
def fill_lane() -> None:
    """Submits the generation whose turn it is; another message fills the next slot meanwhile."""
    lease = lifecycle.admit()
    if lease is not None:
        fill_lane.send()
        lifecycle.submit(lease)


@dramatiq.actor(queue_name="submit", max_retries=0, time_limit=MINUTE)
def recover_submit(pk: str) -> None:
    lifecycle.recover_submit(UUID(pk))


@dramatiq.actor(queue_name="poll", max_retries=0, time_limit=10 * MINUTE)
def poll(pk: str) -> None:
    status = lifecycle.poll(UUID(pk))
    if status == Status.STORING:
        store.send(pk)
    if status is not None:
        fill_lane.send()


@dramatiq.actor(queue_name="store", max_retries=0, time_limit=60 * MINUTE)
def store(pk: str) -> None:
    lifecycle.store(UUID(pk))


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=10 * MINUTE)
def settle(pk: str) -> None:
    lifecycle.settle(UUID(pk))


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=60 * MINUTE)
def reconcile(pk: str) -> None:
    if reconciliation := Reconciliation.objects.filter(pk=UUID(pk), finished_at=None).first():
        reconciliations.run(reconciliation)


def send_on_commit(actor: Actor[Any, Any], *args: str) -> None:
    """Sends when the transaction has committed. A broker that is down costs seconds, not the request: the dispatcher sends again."""
    transaction.on_commit(lambda: actor.send(*args), robust=True)
