"""Compares our books with themselves and with the provider's bill, and keeps a report of each difference.

Everything is read first, so that a provider who can't be reached changes nothing. Then each difference is booked by itself,
under the till, and only if its generation is still as it was when its bill was read.
"""

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

import structlog
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from generations.models import Generation, Reconciliation
from generations.reconcile.billed import check_bill, keep_orphans
from generations.reconcile.comparing import compare
from generations.reconcile.own_books import check_own_books
from generations.wavespeed import errors
from projects.models import Studio
from projects.money import budgets

log = structlog.get_logger(__name__)

OVERLAP = timedelta(days=8)
NIGHTLY_AT = time(3, 10)
RETRY_AFTER = timedelta(hours=1)


def begin(*, since: datetime | None = None, by: User | None = None) -> Reconciliation:
    """A reconciliation that is still to be run; without `since` it goes on from the last one that came to its end."""
    now = timezone.now()
    return Reconciliation.objects.create(started_at=now, since=since or _window(now), until=now, started_by=by)


def _window(now: datetime) -> datetime:
    """From where the good ones reach without a gap: one that began later than that has left something out."""
    first = Generation.objects.filter(submitted_at__isnull=False).order_by("submitted_at").first()
    compared_until = first.submitted_at if first and first.submitted_at else now
    good = Reconciliation.objects.filter(finished_at__isnull=False, error="").order_by("until")
    for since, until in good.values_list("since", "until"):
        if since <= compared_until:
            compared_until = max(compared_until, until)
    return compared_until - OVERLAP


def run(reconciliation: Reconciliation, *, apply: bool = False) -> Reconciliation:
    """Compares, books late refunds and late deducts, and with `apply` every other difference too; the report is stored in any case."""
    try:
        compared = compare(reconciliation.since)
    except errors.WaveSpeedError as error:
        log.error("not_reconciled", reason=str(error))
        reconciliation.error = f"The provider's bill can't be read, so nothing was changed: {error}"[:500]
    else:
        kept = keep_orphans(compared)
        findings = [*check_own_books(apply), *check_bill(compared, kept, reconciliation, apply)]
        reconciliation.applied = apply
        reconciliation.differences = sum(finding.is_difference for finding in findings)
        reconciliation.report = {
            "ours": compared.ours,
            "theirs": compared.theirs,
            "compared": len(compared.equal) + len(compared.waiting) + len(compared.differing),
            "findings": [finding.as_json() for finding in findings],
        }
        log.debug("reconciled", differences=reconciliation.differences, applied=apply)
    reconciliation.finished_at = timezone.now()
    reconciliation.save()
    return reconciliation


def tonight() -> Reconciliation | None:
    """Begins the night's reconciliation when it is due: from 03:10 in the studio's time zone on, every hour until one is done."""
    if not Generation.objects.filter(submitted_at__isnull=False).exists():
        return None
    with transaction.atomic():
        budgets.hold_till()
        now = timezone.now()
        since_due = Reconciliation.objects.filter(started_at__gte=_last_due(now))
        is_done = since_due.filter(finished_at__isnull=False, error="").exists()
        if is_done or since_due.filter(started_at__gt=now - RETRY_AFTER).exists():
            return None
        return begin()


def _last_due(now: datetime) -> datetime:
    local = now.astimezone(ZoneInfo(Studio.current().time_zone))
    day = local.date() if local.time() >= NIGHTLY_AT else local.date() - timedelta(days=1)
    return datetime.combine(day, NIGHTLY_AT, local.tzinfo)
