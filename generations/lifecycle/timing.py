"""How long the steps' leases, waits and results last."""

import random
from datetime import timedelta

# Seconds. A lease outlives what it covers; a step that died is taken up again when it ends.
MARGIN = 10
# Rows that were sent to a worker look due again after this, in case the message is lost.
REDELIVERY = timedelta(seconds=30)
# The provider keeps a result for 7 days; on the eighth there is nothing left to wait for.
RESULTS_LAST = timedelta(days=8)


def backoff(attempts: int, *, first: float = 5, most: float = 300) -> timedelta:
    """Doubling from `first` to `most` seconds, with jitter, so that many do not come back at once."""
    return timedelta(seconds=min(most, first * 2 ** min(attempts, 16)) * random.uniform(0.8, 1.2))
