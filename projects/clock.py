"""What time it is for money: budgets, their periods and top-ups, the ledger.

Machines disagree on the time; the database is one for all of them. So no machine whose clock is ahead can open the next
period, and its limit, for everybody.
"""

from datetime import datetime

from django.conf import settings
from django.db import connection
from django.utils import timezone
from django.utils.module_loading import import_string


def now() -> datetime:
    moment: datetime = import_string(settings.MONEY_CLOCK)()
    return moment


def of_database() -> datetime:
    """PostgreSQL's clock as it is, also in a transaction that has waited for a lock. SQLite's is that of its one machine: ours."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment
