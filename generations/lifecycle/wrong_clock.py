"""The wall clock was wrong and went back: what was put off by the wrong one is looked at by the right one.

A machine that begins with a clock that is an hour ahead writes moments that come an hour late once the clock is right. Jobs and waits
within a process go by a clock that nobody sets; this is for what stands in the database.
"""

import time
from collections.abc import Callable
from datetime import timedelta

import structlog
from django.conf import settings
from django.utils import timezone

from generations.models import Generation, Lane, Status, UnassignedPrediction
from projects.models import Notification

log = structlog.get_logger(__name__)

# Smaller steps cost nobody anything.
SMALL_STEP = 5.0
WAITING = (Status.QUEUED, Status.PROCESSING, Status.UNCONFIRMED, Status.STORING, Status.FAILED)


class Watch:
    """Compares the wall clock with the one that nobody sets."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._ahead = wall() - steady()

    def look(self) -> None:
        """Wakes what waits, if the clock went back since the last look."""
        before, self._ahead = self._ahead, self._wall() - self._steady()
        if before - self._ahead > SMALL_STEP:
            log.warning("clock_went_back", seconds=round(before - self._ahead))
            wake()


def wake() -> None:
    """Has everything looked at that waits for a moment: at worst that is a little early, and asks the provider once."""
    now = timezone.now()
    for rows in (Generation.objects.filter(status__in=WAITING), UnassignedPrediction.objects.all()):
        rows.filter(next_action_at__gt=now).update(next_action_at=now)
        rows.filter(sent_at__gt=now).update(sent_at=None)
    Generation.objects.filter(settle_sent_at__gt=now).update(settle_sent_at=None)
    Lane.objects.filter(sent_at__gt=now).update(sent_at=None)
    Lane.objects.filter(slowed_until__gt=now).update(slowed_until=now)
    Notification.objects.filter(email_at__gt=now).update(email_at=now)
    # A worker that lives renews its lease; one that died had it for so long at most.
    longest = now + timedelta(
        seconds=max(settings.WAVESPEED_DEADLINE, settings.STORE_LEASE_SECONDS) + settings.LEASE_MARGIN_SECONDS
    )
    for rows in (Generation.objects.all(), UnassignedPrediction.objects.all()):
        rows.filter(lease_until__gt=longest).update(lease_until=longest)
