import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from generations import reconcile
from generations.models import Reconciliation
from generations.reconcile.findings import dollars

UNREACHED = 2
COLUMNS = ("what", "ours", "theirs", "difference", "why")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"“{text}” is no date: write it as 2026-01-31.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Command(BaseCommand):
    help = (
        "Compares the books with the provider's bill, and keeps a report of each difference. Refunds that came late are booked. "
        "Exits with 1 if there is a difference and --strict was given, and with 2 if the bill can't be read."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--since", type=_moment, help="read the bill from here (UTC); without it, from 8 days before the last time"
        )
        parser.add_argument(
            "--apply", action="store_true", help="book the differences of known videos, and repair balances"
        )
        parser.add_argument("--strict", action="store_true", help="exit with 1 on any difference")
        parser.add_argument("--json", action="store_true", help="print the report as JSON; amounts are micro-dollars")

    def handle(self, *, since: datetime | None, apply: bool, strict: bool, **options: Any) -> None:
        reconciliation = reconcile.run(reconcile.begin(since=since), apply=apply)
        self.stdout.write(_as_json(reconciliation) if options["json"] else _as_text(reconciliation))
        if reconciliation.error:
            raise CommandError(reconciliation.error, returncode=UNREACHED)
        if strict and reconciliation.differences:
            raise CommandError(_differences(reconciliation.differences), returncode=1)


def _as_json(reconciliation: Reconciliation) -> str:
    shown = {
        "id": str(reconciliation.pk),
        "since": reconciliation.since.isoformat(),
        "until": reconciliation.until.isoformat(),
        "applied": reconciliation.applied,
        "differences": reconciliation.differences,
        "error": reconciliation.error,
        **reconciliation.report,
    }
    return json.dumps(shown, indent=2, ensure_ascii=False)


def _as_text(reconciliation: Reconciliation) -> str:
    title = f"{reconciliation}, of what was billed since {reconciliation.since:%Y-%m-%d %H:%M} UTC"
    if reconciliation.error:
        return title
    report = reconciliation.report
    ours, theirs = report["ours"], report["theirs"]
    rows = [_row(finding) for finding in report["findings"]]
    parts = [
        title,
        *([_table([COLUMNS, *rows])] if rows else []),
        f"Compared {report['compared']} generations: our books say {dollars(ours)}, the provider's bill {dollars(theirs)}, "
        f"a difference of {dollars(theirs - ours)}.",
        _differences(reconciliation.differences),
    ]
    return "\n".join(parts)


def _row(finding: dict[str, Any]) -> tuple[str, ...]:
    why = [finding["why"]]
    if finding["held"]:
        why.append(f"{dollars(finding['held'])} is held for it.")
    known = finding["details"]
    if finding["kind"] in ("orphan", "waiting") and known:
        facts = (known["model"], known["status"], known["billed_at"], known["prompt"])
        why.append("; ".join(fact for fact in facts if fact))
    if finding["done"]:
        why.append(f"({finding['done']})")
    amounts = (dollars(finding[name]) for name in ("ours", "theirs", "difference"))
    return (finding["what"], *amounts, " ".join(why))


def _table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS) - 1)]
    lines = []
    for what, *amounts, why in rows:
        cells = [what.ljust(widths[0]), *(text.rjust(width) for text, width in zip(amounts, widths[1:], strict=True))]
        lines.append("  ".join([*cells, why]))
    return "\n".join(lines)


def _differences(count: int) -> str:
    if not count:
        return "No difference: every cent is explained."
    return f"{count} difference{'' if count == 1 else 's'}."
