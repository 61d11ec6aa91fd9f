from django.db.backends.postgresql import base

from tests.faults.points import CountingWrapper


class DatabaseWrapper(CountingWrapper, base.DatabaseWrapper):
    """PostgreSQL whose commits are counted."""
