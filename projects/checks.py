"""System checks of what the books stand on; run with `--database default`, as `manage.py migrate` does."""

from collections.abc import Iterable
from typing import Any

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections


@register(Tags.database)
def postgresql_keeps_what_it_confirmed(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """A commit that a power cut rolls back turns a `submitting` into a `queued` again, and that one is paid twice."""
    return [
        Error(
            f"PostgreSQL has {setting} off: a crash could lose commits that it confirmed, and a video could be paid twice.",
            hint=f"Set {setting} = on, for the server, the database and the role.",
            id=f"projects.{id}",
        )
        for alias in databases or []
        if connections[alias].vendor == "postgresql"
        for setting, id in (("fsync", "E001"), ("synchronous_commit", "E002"))
        if _value(alias, setting) == "off"
    ]


def _value(alias: str, setting: str) -> str:
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT current_setting(%s)", [setting])
        return str(cursor.fetchone()[0])
