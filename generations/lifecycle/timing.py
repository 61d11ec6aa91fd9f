"""How long the steps' leases, waits and results last."""

import random
from datetime import timedelta

from django.conf import settings

# The provider keeps a result for 7 days; on the eighth there is nothing left to wait for.
RESULTS_LAST = timedelta(days=8)


def redelivery() -> timedelta:
    """Rows that were sent to a worker look due again after this, in case the message is lost."""
    return timedelta(seconds=settings.REDELIVERY_SECONDS)


def call_lease() -> float:
    """Seconds. A lease outlives the call to the provider that it covers; a step that died is taken up again when it ends."""
    return float(settings.WAVESPEED_DEADLINE + settings.LEASE_MARGIN_SECONDS)


def poll_interval(elapsed: float, usual: float) -> float:
    """Seconds until the next poll: sparse before the usual duration, then every few seconds, then backing off to ten minutes.

    Sparser where the provider calls back: then a poll only makes up for a webhook that was lost, which costs seconds.
    """
    often = settings.WAVESPEED_POLL_SECONDS
    if settings.WAVESPEED_WEBHOOK_BASE_URL:
        often = max(often, min(4 * often, usual / 6))
    if elapsed < usual:
        return min(max(often, (usual - elapsed) / 4), 30.0)
    return min(max(often, (elapsed - 2 * usual) / 10), 600.0)


def backoff(attempts: int, *, first: float = 5, most: float = 300) -> timedelta:
    """Doubling from `first` to `most` seconds, with jitter, so that many do not come back at once."""
    return timedelta(seconds=min(most, first * 2 ** min(attempts, 16)) * random.uniform(0.8, 1.2))
