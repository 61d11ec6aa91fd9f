from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from kling_studio.database import backups, stopped


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # the database may be lost
    help = (
        "Puts a backup of “manage.py backup” in the place of the database, and keeps that beside it. Stop the studio before. "
        "Nothing is submitted afterwards until “manage.py after_restore” was run and an owner resumes."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--force", action="store_true", help="although processes of the studio seem to be running")

    def handle(self, *, file: Path, force: bool, **options: Any) -> None:
        if connection.vendor != "sqlite":
            raise CommandError(
                "The studio is on PostgreSQL, which has its own tool: pg_restore. Run “manage.py after_restore” afterwards. "
                "See docs/operations.md."
            )
        running = _what_runs()
        if running and not force:
            raise CommandError("\n".join(["Stop the studio first:", *running]))
        try:
            kept = backups.put_back(file)
        except backups.Unusable as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Restored from {file}.")
        if kept:
            self.stdout.write(f"What was there before is kept as {kept}.")
        self.stdout.write(
            "Submitting is paused. Now run “manage.py after_restore”, read its report, start the studio, and resume in the admin."
        )


def _what_runs() -> list[str]:
    try:
        return stopped.what_runs()
    except DatabaseError:
        # Lost or damaged, which is why it is restored.
        return []
