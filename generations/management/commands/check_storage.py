import json
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from generations.storage import check
from generations.storage.check import Finding, Report
from generations.storage.inventory import StorageUnreadable
from projects.models import Project

WRONG, UNREADABLE = 1, 2


class Command(BaseCommand):
    help = (
        "Compares the stored files with the database: files that are missing or of the wrong size, posters, and files that belong to "
        "nothing. Changes nothing without --repair. Exits with 1 if something is wrong and was not repaired, with 2 if the storage "
        "can't be read. Files that are kept, as they may be what was paid for, are listed and are no error."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", help="only this one: its name or id")
        parser.add_argument(
            "--checksums",
            action="store_true",
            help="read every byte too, which takes long and may cost at an object storage",
        )
        parser.add_argument(
            "--repair",
            action="store_true",
            help="fetch videos again while the provider has them, make posters and thumbnails anew, and delete what belongs to "
            "nothing and is older than a day; never what may still be owed",
        )
        parser.add_argument("--json", action="store_true", help="print the report as JSON")

    def handle(self, *, project: str | None, checksums: bool, repair: bool, **options: Any) -> None:
        try:
            report = check.check(project=_project(project), checksums=checksums, repair=repair)
        except StorageUnreadable as error:
            raise CommandError(str(error), returncode=UNREADABLE) from error
        if options["json"]:
            self.stdout.write(json.dumps(report.as_json(), indent=2, ensure_ascii=False))
        else:
            self.stdout.write(_as_text(report))
        if report.open:
            raise CommandError(_verdict(report, repair=repair), returncode=WRONG)


def _project(named: str | None) -> Project | None:
    if named is None:
        return None
    try:
        by_id = Q(pk=UUID(named))
    except ValueError:
        by_id = Q(pk__in=[])
    found = Project.objects.filter(by_id | Q(name=named)).order_by("archived_at")
    if not (project := found.first()):
        raise CommandError(f"There is no project “{named}”.")
    return project


def _as_text(report: Report) -> str:
    checked = (
        f"Checked {report.videos} {'video' if report.videos == 1 else 'videos'} and "
        f"{report.pictures} {'picture' if report.pictures == 1 else 'pictures'}, {_size(report.bytes)}."
    )
    lines = [_line(finding) for finding in report.findings]
    if all(finding.is_kept for finding in report.findings):
        checked = f"{checked} Everything is as it should be."
    if kept := len(report.kept):
        are_kept = "1 file that belongs to nothing is" if kept == 1 else f"{kept:,} files that belong to nothing are"
        checked = f"{checked} {are_kept} kept: docs/operations.md says why."
    if report.all_are_missing:
        lines.append(
            "Not one of the videos is there: is this the right storage (STORAGE_URL), and is its disk mounted?"
        )
    return "\n".join([*lines, checked])


def _line(finding: Finding) -> str:
    where = f"{finding.what} in {finding.project}" if finding.project else finding.what
    parts = [f"{finding.kind}: {where}: {finding.why}"]
    if finding.done:
        parts.append(f"({finding.done})" if finding.is_repaired else finding.done)
    if finding.file != finding.what:
        parts.append(f"[{finding.file}]")
    return " ".join(parts)


def _verdict(report: Report, *, repair: bool) -> str:
    if repair:
        return f"Could not be repaired: {report.counts}."
    return f"Found {report.counts}. With --repair, what can be mended is."


def _size(size: int) -> str:
    return f"{size / 1_000_000_000:,.1f} GB" if size >= 100_000_000 else f"{size / 1_000_000:,.1f} MB"
