import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook

from generations import reports
from generations.reports import By, Days, Table
from generations.reports.exports import harmless, write_xlsx
from projects.models import Project
from tests.generations.reports import books

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
MARCH = Days(date(2026, 3, 1), date(2026, 3, 31))


def read_csv(table: Table) -> list[list[str]]:
    content = "".join(reports.csv_with_mark(table)).encode()
    return list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def read_xlsx(table: Table, **options: int) -> list[list[list[Any]]]:
    """The cells of each sheet."""
    file = io.BytesIO()
    write_xlsx(table, file, **options)
    return [[[cell.value for cell in row] for row in sheet] for sheet in load_workbook(file).worksheets]


@pytest.mark.django_db
@pytest.mark.both_databases
def test_ledger_has_every_entry_and_every_decimal_place(project: Project, editor: User) -> None:
    charge = books.paid(project, editor, NOON, 1_234_567)
    books.refunded(charge, 1, at=NOON + timedelta(days=1))

    header, *rows = read_csv(reports.entries_table(reports.of_project(project), MARCH))
    listed = [dict(zip(header, row, strict=True)) for row in rows]

    assert [(row["kind"], row["spent_usd"], row["held_usd"]) for row in listed] == [
        ("reserve", "0.00", "2.10"),
        ("charge", "1.234567", "-2.10"),
        ("refund", "-0.000001", "0.00"),
    ]
    assert listed[1] == {
        "booked_at": "2026-03-10T12:00:00Z",
        "day": "2026-03-10",
        "project": "Coffee",
        "kind": "charge",
        "member": "eddie",
        "endpoint": "kwaivgi/kling-video-o3-4k/image-to-video",
        "spent_usd": "1.234567",
        "held_usd": "-2.10",
        "reason": "",
        "booked_by": "",
        "generation": str(charge.reference),
        "entry": str(charge.pk),
        "reservation": str(charge.reservation_id),
    }


@pytest.mark.django_db
def test_day_of_the_ledger_is_the_projects_and_its_time_utc(project: Project, editor: User) -> None:
    project.time_zone = "Asia/Kolkata"
    project.save()
    books.paid(project, editor, datetime(2026, 3, 9, 20, tzinfo=UTC))

    header, *rows = read_csv(reports.entries_table(reports.of_project(project), MARCH))
    charge = dict(zip(header, rows[-1], strict=True))

    assert (charge["booked_at"], charge["day"]) == ("2026-03-09T20:00:00Z", "2026-03-10")


@pytest.mark.django_db
def test_xlsx_has_numbers_and_times_not_texts(project: Project, editor: User) -> None:
    charge = books.paid(project, editor, NOON, 1_234_567)
    books.adjusted(charge, -500_000, at=NOON + timedelta(hours=1), reason="=1+1")

    [[header, *rows]] = read_xlsx(reports.entries_table(reports.of_project(project), MARCH))
    listed = [dict(zip(header, row, strict=True)) for row in rows]

    assert [row["spent_usd"] for row in listed] == [0, 1.234567, -0.5]
    assert listed[1]["booked_at"] == datetime(2026, 3, 10, 12)  # noqa: DTZ001  # a spreadsheet's times have no zone
    assert listed[2]["reason"] == "'=1+1"


@pytest.mark.django_db
def test_breakdown_has_keys_for_programs_and_labels_for_people(project: Project, editor: User) -> None:
    charge = books.paid(project, editor, NOON, 1_234_567)
    books.refunded(charge, 234_567, at=NOON)

    table = reports.breakdown_table(reports.of_project(project), MARCH, By.ENDPOINT)

    assert read_csv(table) == [
        ["endpoint", "label", "net_usd", "charged_usd", "refunded_usd", "adjusted_usd", "charges"],
        [
            "kwaivgi/kling-video-o3-4k/image-to-video",
            "Kling Video O3 4K: image to video",
            "1.00",
            "1.234567",
            "0.234567",
            "0.00",
            "1",
        ],
    ]


def test_csv_begins_with_a_byte_order_mark_so_that_excel_reads_utf_8() -> None:
    content = "".join(reports.csv_with_mark(Table("t", ["name"], [["Kaffee für Zoë"]]))).encode()

    assert content == b"\xef\xbb\xbfname\r\n" + "Kaffee für Zoë\r\n".encode()


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\tharmless", " =1+1", "＝1+1", "-"]
)
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    table = Table("t", ["text"], [[text]])

    assert read_csv(table)[1] == [f"'{text}"]
    assert read_xlsx(table)[0][1][0].startswith("'")


@pytest.mark.parametrize("text", ["", "2 + 2 = 4", "Coffee", "a@b.example", "é", "'quoted'"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text


def test_numbers_below_zero_stay_numbers() -> None:
    table = Table("t", ["amount", "count"], [[Decimal("-1.050001"), -3]])

    assert read_csv(table)[1] == ["-1.050001", "-3"]
    assert read_xlsx(table)[0][1] == [-1.050001, -3]


def test_tiny_and_large_amounts_have_no_exponent() -> None:
    assert read_csv(Table("t", ["a"], [[Decimal("1E-7")], [Decimal("1E+7")]]))[1:] == [["0.0000001"], ["10000000"]]


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_whatever_somebody_types_no_cell_begins_like_a_formula(text: str) -> None:
    assert harmless(text).lstrip()[:1] not in set("=+-@")


def test_characters_that_xlsx_cannot_hold_are_left_out() -> None:
    assert read_xlsx(Table("t", ["text"], [["a\x00b\x1bc"]]))[0][1] == ["abc"]


def test_what_passes_a_sheet_goes_on_in_the_next() -> None:
    sheets = read_xlsx(Table("t", ["n"], ([number] for number in range(5))), rows_per_sheet=2)

    assert sheets == [[["n"], [0], [1]], [["n"], [2], [3]], [["n"], [4]]]


def test_empty_table_has_its_header() -> None:
    table = Table("t", ["a", "b"], [])

    assert read_csv(table) == [["a", "b"]]
    assert read_xlsx(table) == [[["a", "b"]]]


def test_csv_lines_are_made_one_by_one() -> None:
    made: list[int] = []

    def rows() -> Iterator[list[int]]:
        for number in range(100):
            made.append(number)
            yield [number]

    lines = reports.csv_lines(Table("t", ["n"], rows()))

    assert [next(lines), next(lines)] == ["n\r\n", "0\r\n"]
    assert made == [0]
