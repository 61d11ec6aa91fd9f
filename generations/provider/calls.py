"""Which of the provider's calls fail, and since when: a row for each route, as several processes call."""

import time
from datetime import datetime, timedelta

import structlog
from django.db import DatabaseError, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from generations.models import ProviderCall
from generations.wavespeed import errors

log = structlog.get_logger(__name__)

# What each call is for, as people know it.
NAMES = {
    "/{model}": "The paid request",
    "/predictions/{id}/result": "The result of a video",
    "/predictions": "The provider's list",
    "/balance": "The balance",
    "/model/price": "The provider's price",
    "/billings/search": "The provider's bill",
    "/models": "The list of models",
    "/webhook/secret": "The secret of webhooks",
    "/media/uploads": "The upload of pictures",
}
# These say no to what was asked; the call itself went well.
ANSWERS = (errors.NotFound, errors.Rejected, errors.InsufficientCredits)
# Seconds in which a process notes a good answer once.
NOTED_EVERY = 10.0
# What passes by itself is no matter for people.
PASSES = timedelta(minutes=2)


class Reporter:
    """Notes how calls end. A database that is away makes no call fail: then nothing is noted."""

    def __init__(self) -> None:
        self._good: dict[str, float] = {}

    def __call__(self, route: str, error: errors.WaveSpeedError | None) -> None:
        is_good = error is None or isinstance(error, ANSWERS)
        now = time.monotonic()
        if is_good and now - self._good.get(route, -NOTED_EVERY) < NOTED_EVERY:
            return
        try:
            with transaction.atomic():
                _note(route, "" if is_good else str(error))
        except DatabaseError as trouble:
            log.warning("call_not_noted", route=route, reason=type(trouble).__name__)
            return
        if is_good:
            self._good[route] = now
        else:
            self._good.pop(route, None)


def _note(route: str, error: str) -> None:
    now = timezone.now()
    changes = (
        {"failed_at": now, "failing_since": Coalesce("failing_since", now), "error": error[:300]}
        if error
        else {"good_at": now, "failing_since": None, "error": ""}
    )
    rows = ProviderCall.objects.filter(route=route)
    if not rows.update(**changes):
        ProviderCall.objects.bulk_create([ProviderCall(route=route)], ignore_conflicts=True)
        rows.update(**changes)


def failing(*, before: datetime | None = None) -> list[tuple[str, ProviderCall]]:
    """The calls that fail, with what they are for, the longest failing first; those only that began to fail before a time."""
    rows = ProviderCall.objects.filter(failing_since__isnull=False).order_by("failing_since")
    if before:
        rows = rows.filter(failing_since__lte=before)
    return [(NAMES.get(row.route, row.route), row) for row in rows]
