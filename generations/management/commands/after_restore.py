from typing import Any

from django.core.management.base import BaseCommand, CommandError

from generations.services import after_restore
from generations.services.after_restore import Finding, Report
from generations.wavespeed import errors

AGAIN = 2


class Command(BaseCommand):
    help = (
        "Run it after the database was restored from a backup: compares every draft and unfinished video with what the provider has made, "
        "so that nothing is paid twice. Pauses submitting; a studio owner resumes it later. Exits with 2 if it has to be run again."
    )

    def handle(self, **options: Any) -> None:
        try:
            report = after_restore.compare(tell=self.stderr.write)
        except errors.WaveSpeedError as error:
            raise CommandError(
                f"The provider can't be read: {error} Nothing is submitted until this was done; try again later.",
                returncode=AGAIN,
            ) from error
        self.stdout.write(as_text(report))
        if report.left:
            raise CommandError(
                f"{len(report.left)} of them moved while it was compared: run this again. Nothing is submitted until then.",
                returncode=AGAIN,
            )


def as_text(report: Report) -> str:
    parts = [
        f"Compared {report.compared} drafts and unfinished videos with {report.predictions} predictions of the provider's last 7 days.",
        *map(_line, report.findings),
        "" if report.findings else "None of them was sent after the backup.",
        *_strangers(report),
        "The ledger does not know what was charged after the backup: “manage.py reconcile” lists it as orphans, which your finance team "
        "has to count beside it.",
        "" if report.left else "Read this, then let a studio owner resume submitting in the admin, under Lane.",
    ]
    return "\n".join(part for part in parts if part)


def _line(finding: Finding) -> str:
    generation = finding.generation
    moved = finding.state if finding.state == finding.now else f"{finding.state} → {finding.now}"
    return f"  {generation.project}: “{generation}”\n    {moved}. {finding.why}"


def _strangers(report: Report) -> list[str]:
    parts = []
    if report.strangers:
        parts.append(
            f"{report.strangers} prediction{'s are' if report.strangers != 1 else ' is'} at the provider and "
            "in no row of the backup. What the provider still has of them is stored: for its generation, or as an unassigned video."
        )
    if report.billed_only:
        parts.append(
            f"{report.billed_only} of them stand on the bill alone: the provider's list goes back 7 days, and drops what is older."
        )
    return parts
