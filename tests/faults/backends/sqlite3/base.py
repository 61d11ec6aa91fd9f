from django.db.backends.sqlite3 import base

from tests.faults.points import CountingWrapper


class DatabaseWrapper(CountingWrapper, base.DatabaseWrapper):
    """SQLite whose commits are counted."""
