from typing import Any

from django.core.management.base import BaseCommand, CommandError

from generations.provider import checkup


class Command(BaseCommand):
    help = (
        "Says whether key, balance, models, prices and webhooks are right at the provider. Costs nothing and shows no secret. "
        "Exits with 1 if anything is wrong."
    )

    def handle(self, **options: Any) -> None:
        wrong = 0
        for check in checkup.run():
            self.stdout.write(f"{'ok   ' if check.is_right else 'WRONG'}  {check.what}: {check.found}")
            self.stdout.flush()
            wrong += not check.is_right
        if wrong:
            raise CommandError(
                f"{wrong} {'thing is' if wrong == 1 else 'things are'} wrong with the provider's settings."
            )
        self.stdout.write("All is right.")
