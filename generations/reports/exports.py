"""Tables for other programs: the ledger and the breakdowns as CSV and XLSX, written row by row.

Every decimal place is there. A text that a spreadsheet would run as a formula gets an apostrophe in front; numbers stay
numbers. The CSV begins with a byte order mark, without which Excel misreads UTF-8: read it as `utf-8-sig`.
"""

import csv
import io
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from typing import IO, Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from generations.reports.breakdown import By, breakdown
from generations.reports.scope import Days, Scope
from projects.money import to_dollars

BYTE_ORDER_MARK = "\ufeff"
# https://owasp.org/www-community/attacks/CSV_Injection, with the full-width forms that spreadsheets take too.
FORMULA_STARTS = frozenset("=+-@＝＋－＠")
CONTROL_STARTS = frozenset("\t\r\n")
# A sheet holds 1,048,576.
ROWS_PER_SHEET = 1_000_000
CHUNK = 1000
DOLLARS_FORMAT = "0.00####"
TIME_FORMAT = "yyyy-mm-dd hh:mm:ss"

Cell = str | int | Decimal | datetime | None


@dataclass(frozen=True)
class Table:
    """A header, and rows that are made while they are written; money in dollars, times with their zone."""

    name: str
    header: Sequence[str]
    rows: Iterable[Sequence[Cell]]


def entries_table(scope: Scope, days: Days) -> Table:
    """The ledger as it was booked in these days, the oldest first: every kind of entry."""
    return Table(
        name=f"ledger-{days.first}-to-{days.last}",
        header=[
            "booked_at",
            "day",
            "project",
            "kind",
            "member",
            "endpoint",
            "spent_usd",
            "held_usd",
            "reason",
            "booked_by",
            "generation",
            "entry",
            "reservation",
        ],
        rows=_entries(scope, days),
    )


def _entries(scope: Scope, days: Days) -> Iterator[Sequence[Cell]]:
    entries = days.narrow(scope.entries(), scope.zone).order_by("created_at", "id")
    values = entries.values_list(
        "created_at",
        "project__name",
        "kind",
        "user__username",
        "endpoint",
        "spent_delta",
        "reserved_delta",
        "reason",
        "created_by__username",
        "reference",
        "id",
        "reservation",
    )
    for booked_at, project, kind, member, endpoint, spent, held, reason, by, *ids in values.iterator(chunk_size=CHUNK):
        yield [
            booked_at,
            booked_at.astimezone(scope.zone).date().isoformat(),
            project,
            kind,
            member,
            endpoint,
            to_dollars(spent),
            to_dollars(held),
            reason,
            by or "",
            *(str(each) if each else "" for each in ids),
        ]


def breakdown_table(scope: Scope, days: Days, by: By) -> Table:
    """What the report shows by day, endpoint, member, tag, status or project."""
    rows = breakdown(scope, days, by)
    return Table(
        name=f"spend-by-{by}-{days.first}-to-{days.last}",
        header=[by.value, "label", "net_usd", "charged_usd", "refunded_usd", "adjusted_usd", "charges"],
        rows=(
            [
                row.key,
                row.label,
                *map(to_dollars, (row.amounts.net, row.amounts.charged, row.amounts.refunded, row.amounts.adjusted)),
                row.amounts.charges,
            ]
            for row in rows
        ),
    )


# --- CSV --------------------------------------------------------------------------------------------------------------


class _Line:
    """What `csv.writer` writes to: hands each line back instead of keeping it."""

    def write(self, line: str) -> str:
        return line


def csv_lines(table: Table) -> Iterator[str]:
    """The lines of a CSV file, one by one; times are ISO 8601 in UTC."""
    writer = csv.writer(_Line())
    for row in chain([table.header], table.rows):
        yield writer.writerow([plain(cell) for cell in row])


def csv_with_mark(table: Table) -> Iterator[str]:
    return chain([BYTE_ORDER_MARK], csv_lines(table))


def plain(cell: Cell) -> str:
    if isinstance(cell, Decimal):
        return f"{cell:f}"
    if isinstance(cell, datetime):
        return cell.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return harmless(cell) if isinstance(cell, str) else "" if cell is None else str(cell)


def harmless(text: str) -> str:
    """`text`, with an apostrophe in front if a spreadsheet would take it for a formula; what can't be seen before it doesn't hide it."""
    is_formula = text[:1] in CONTROL_STARTS or _first_seen(text) in FORMULA_STARTS
    return f"'{text}" if text and is_formula else text


def _first_seen(text: str) -> str:
    """Past spaces, control characters and marks without a width, such as a byte order mark; empty if there is nothing else."""
    return next((each for each in text if not each.isspace() and unicodedata.category(each) not in ("Cc", "Cf")), "")


# --- XLSX -------------------------------------------------------------------------------------------------------------


def write_xlsx(table: Table, file: IO[bytes], *, rows_per_sheet: int = ROWS_PER_SHEET) -> None:
    """Writes the workbook to `file` without holding its rows; what passes one sheet goes on in the next."""
    workbook = Workbook(write_only=True)
    sheet: Any = None
    for number, row in enumerate(table.rows):
        if number % rows_per_sheet == 0:
            sheet = _sheet(workbook, table.header)
        sheet.append([_xlsx(sheet, cell) for cell in row])
    if sheet is None:
        _sheet(workbook, table.header)
    workbook.save(file)


def _sheet(workbook: Workbook, header: Sequence[str]) -> Any:
    sheet = workbook.create_sheet()
    sheet.freeze_panes = "A2"
    sheet.append(list(header))
    return sheet


def _xlsx(sheet: Any, cell: Cell) -> Any:
    if isinstance(cell, str):
        return ILLEGAL_CHARACTERS_RE.sub("", harmless(cell))
    if isinstance(cell, Decimal):
        return _formatted(sheet, cell, DOLLARS_FORMAT)
    if isinstance(cell, datetime):
        # A spreadsheet's times have no zone.
        return _formatted(sheet, cell.astimezone(UTC).replace(tzinfo=None), TIME_FORMAT)
    return cell


def _formatted(sheet: Any, value: Any, number_format: str) -> WriteOnlyCell:
    cell = WriteOnlyCell(sheet, value)
    cell.number_format = number_format
    return cell


def xlsx_file(table: Table) -> IO[bytes]:
    """The whole workbook, a few megabytes for a hundred thousand rows."""
    file = io.BytesIO()
    write_xlsx(table, file)
    file.seek(0)
    return file
