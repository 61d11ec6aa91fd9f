from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from knox.models import AuthToken

LONGEST_DAYS = 3650


class Command(BaseCommand):
    help = "Makes a token for the REST API and prints it; it can't be shown again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="the user name")
        parser.add_argument(
            "--days", type=int, default=settings.TOKEN_DAYS, help="how long it works (default: %(default)s)"
        )

    def handle(self, *, user: str, days: int, **_: Any) -> None:
        if not 1 <= days <= LONGEST_DAYS:
            raise CommandError(f"--days must be from 1 to {LONGEST_DAYS}, not {days}.")
        person = User.objects.filter(username=user).first()
        if person is None:
            raise CommandError(f"There is no user “{user}”.")
        if not person.is_active:
            raise CommandError(f"{user} is switched off: a token would not work.")
        token, key = AuthToken.objects.create(person, expiry=timedelta(days=days))
        self.stderr.write(f"Works until {token.expiry:%-d %B %Y}, as: Authorization: Bearer <token>")
        self.stdout.write(key)
