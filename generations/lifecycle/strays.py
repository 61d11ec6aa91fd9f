"""Rows that wait for a time and have none: a process of an older version, or a hand in the database, may leave one. They are mended."""

from datetime import timedelta

import structlog
from django.db.models import Q
from django.utils import timezone

from generations.lifecycle.resolve import what_is_unread
from generations.lifecycle.timing import call_lease, redelivery
from generations.lifecycle.unassigned import LISTED_FOR
from generations.models import Generation, Status
from projects.models import EntryKind, SpendEntry

log = structlog.get_logger(__name__)

BATCH = 500
# So that nothing is taken for a stray that is just being moved.
SETTLED_DOWN = timedelta(minutes=1)


def mend() -> int:
    """Gives each stray its next look now; how many there were. Harmless for what is none: a look more."""
    now = timezone.now()
    waiting = Q(status__in=(Status.PROCESSING, Status.STORING), next_action_at=None)
    found = Generation.objects.filter(waiting).update(next_action_at=now)
    found += _unconfirmed()
    dead = Generation.objects.filter(status=Status.SUBMITTING, lease_until=None, submitted_at__lt=now - redelivery())
    found += dead.filter(submitted_at__lt=now - timedelta(seconds=call_lease())).update(lease_until=now)
    found += _unsettled()
    if found:
        log.warning("strays_mended", count=found)
    return found


def _unconfirmed() -> int:
    """Looked for as long as the provider's list goes back, and until somebody could decide."""
    rows = Generation.objects.filter(status=Status.UNCONFIRMED, next_action_at=None).prefetch_related("looks")
    young = timezone.now() - LISTED_FOR
    strays = [
        each.pk
        for each in rows[:BATCH]
        if each.submitted_at is None or each.submitted_at > young or what_is_unread(each)
    ]
    return Generation.objects.filter(pk__in=strays, status=Status.UNCONFIRMED, next_action_at=None).update(
        next_action_at=timezone.now()
    )


def _unsettled() -> int:
    """What has failed at the provider, whose money is still held, and which nobody compares with the bill."""
    held = SpendEntry.objects.filter(kind=EntryKind.RESERVE, ended_by=None).values("reference")
    rows = Generation.objects.filter(
        status=Status.FAILED,
        prediction_id__isnull=False,
        settle_at=None,
        completed_at__lt=timezone.now() - SETTLED_DOWN,
        pk__in=held,
    )
    return rows.update(settle_at=timezone.now())
