"""Whether the database is away, and what is said then."""

import sqlite3
from typing import Any

from django.db import InterfaceError, OperationalError

RETRY_AFTER = 5
AWAY = "The studio's database does not answer now."
AWAY_FOR_PROGRAMS = (
    f"{AWAY} Repeat the request in some seconds; what makes or costs something with the same Idempotency-Key, as nobody "
    "knows yet whether this one was done."
)
# Of PostgreSQL's codes: its connections (08), no more of them (53300), being shut down or started (57P0x); and who lost
# against another transaction and was rolled back (deadlock, serialization, a lock that took too long).
AWAY_STATES = ("08", "53300", "57P0", "40001", "40P01", "55P03")
AWAY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}


def database_is_away(error: BaseException | None) -> bool:
    """Whether the database can't be reached or is too busy: not what it says of a query of ours, which is a fault of ours."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        # The lower byte is the kind, the others the details of it.
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in AWAY_CODES
    state = getattr(cause, "sqlstate", None)
    return state is None or state.startswith(AWAY_STATES)


def error_body(code: str, detail: str, type_: str = "client_error") -> dict[str, Any]:
    return {"type": type_, "errors": [{"code": code, "detail": detail, "attr": None}]}
