"""Tables as HTTP answers, for the API and the admin alike."""

from collections.abc import Iterable, Iterator
from itertools import islice

from django.http import FileResponse, StreamingHttpResponse
from django.utils.text import slugify

from generations.reports.exports import Table, csv_lines, csv_with_mark, xlsx_file
from generations.reports.scope import Scope

CSV = "text/csv; charset=utf-8"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
LINES_AT_ONCE = 500


def as_csv(table: Table, scope: Scope) -> StreamingHttpResponse:
    return _streamed(csv_with_mark(table), f"{_name(table, scope)}.csv")


def as_focus_csv(table: Table, scope: Scope) -> StreamingHttpResponse:
    """Without a byte order mark: programs read it."""
    return _streamed(csv_lines(table), f"{_name(table, scope)}.csv")


def as_xlsx(table: Table, scope: Scope) -> FileResponse:
    return FileResponse(xlsx_file(table), as_attachment=True, filename=f"{_name(table, scope)}.xlsx", content_type=XLSX)


def _streamed(lines: Iterable[str], filename: str) -> StreamingHttpResponse:
    headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
    return StreamingHttpResponse(_joined(lines), content_type=CSV, headers=headers)


def _joined(lines: Iterable[str]) -> Iterator[str]:
    """Several lines at a time: a packet a line would be slow."""
    left = iter(lines)
    while some := "".join(islice(left, LINES_AT_ONCE)):
        yield some


def _name(table: Table, scope: Scope) -> str:
    return f"{slugify(scope.title) or 'project'}-{table.name}"
