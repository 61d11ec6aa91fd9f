from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from kling_studio.database import backups


class Command(BaseCommand):
    help = (
        "Copies the database of a studio on SQLite to a file, consistently, while it runs. It holds digests of passwords and tokens: "
        "keep it as safe as the database. Media are files of their own: copy STUDIO_HOME/media after it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="a new file, such as /backups/studio-2026-11-30.sqlite3")

    def handle(self, *, file: Path, **options: Any) -> None:
        if connection.vendor != "sqlite":
            raise CommandError(
                "The studio is on PostgreSQL, which has its own tool: pg_dump --format=custom --file=FILE and the name of the database. "
                "See docs/operations.md."
            )
        try:
            size = backups.save(file)
        except backups.Unusable as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Saved and checked: {file}, {size:,} bytes. Put it back with “manage.py restore {file}”.")
