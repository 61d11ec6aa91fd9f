import time
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from kling_studio.database import stopped

SECONDS_BETWEEN = 1.0


class Command(BaseCommand):
    requires_system_checks: list[str] = []  # it only looks
    help = "Says whether the whole studio stands still, on all machines: before its database is restored or moved. Exits with 1 if not."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--wait", type=float, default=0, metavar="SECONDS", help="how long to wait for it; 0")

    def handle(self, *, wait: float, **options: Any) -> None:
        ends = time.monotonic() + wait
        while running := stopped.what_runs():
            if time.monotonic() >= ends:
                raise CommandError("\n".join(["The studio runs:", *running]))
            time.sleep(SECONDS_BETWEEN)
        self.stdout.write("The studio stands still: no process gives a sign of life, and no worker has a row.")
