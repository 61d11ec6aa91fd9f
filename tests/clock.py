"""The clock of money in tests: the database's, as in production, except while time-machine travels.

time-machine moves the clock of this process and can't move PostgreSQL's, so the two would contradict each other. What the
database's own clock does is shown by tests that take `projects.clock.of_database` itself.
"""

from datetime import datetime

import time_machine
from django.utils import timezone

from projects import clock


def now() -> datetime:
    return timezone.now() if time_machine.escape_hatch.is_travelling() else clock.of_database()
