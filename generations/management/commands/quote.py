from argparse import ArgumentParser
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from generations import catalog
from generations.catalog import endpoint


class Command(BaseCommand):
    help = "Prints what a video would cost, in USD; nothing is sent."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--endpoint", default=next(iter(catalog.ENDPOINTS)))
        parser.add_argument("--duration", default="5", help="whole seconds")

    def handle(self, **options: Any) -> None:
        text = options["duration"]
        try:
            price: Decimal = catalog.get(options["endpoint"]).price(
                {"duration": int(text) if text.isdecimal() else text}
            )
        except (catalog.UnknownEndpoint, endpoint.InvalidInputs) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"${price}")
