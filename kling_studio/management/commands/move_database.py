import sys
from argparse import ArgumentParser
from typing import Any

import dj_database_url
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from generations.models import Lane, PauseCause
from kling_studio.database import moving, stopped


class Command(BaseCommand):
    help = (
        "Copies the whole studio from SQLite to an empty PostgreSQL database, in one transaction, and compares every row. "
        "Stop the studio before. Media are not touched. Afterwards nothing is submitted from the old database any more."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--to", required=True, help="postgres://user:password@host:5432/name; “-” reads it from standard input"
        )
        parser.add_argument("--force", action="store_true", help="although processes of the studio seem to be running")

    def handle(self, *, to: str, force: bool, **options: Any) -> None:
        if connection.vendor != "sqlite":
            raise CommandError("The studio is not on SQLite: there is nothing to move. Use pg_dump and pg_restore.")
        running = stopped.what_runs()
        if running and not force:
            raise CommandError(
                "\n".join(["Stop the studio first, or what it does meanwhile would be missing:", *running])
            )
        moving.connect(_postgres(sys.stdin.readline().strip() if to == "-" else to))
        try:
            tables = moving.move(self.stdout.write)
        except moving.CannotMove as error:
            raise CommandError(str(error)) from error
        finally:
            moving.disconnect()
        _retire()
        rows = sum(table.rows for table in tables)
        self.stdout.write(
            f"Copied and compared {rows:,} rows of {len(tables)} tables; the sums of the ledger agree.\n"
            "Now set DATABASE_URL to the new database and start the studio; sessions, tokens and media stay as they are.\n"
            "Nothing is submitted from the old database any more: its lane is paused."
        )


def _postgres(url: str) -> dict[str, Any]:
    try:
        config = dict(dj_database_url.parse(url))
    except ValueError:
        config = {}
    if config.get("ENGINE") != "django.db.backends.postgresql":
        raise CommandError("--to takes postgres://user:password@host:5432/name.")
    return config


def _retire() -> None:
    """Two studios with the same queue would each submit it."""
    reason = "This database was moved to PostgreSQL. Start the studio with the new DATABASE_URL instead."
    Lane.pause(PauseCause.OWNER, reason, replaces=frozenset(PauseCause))
