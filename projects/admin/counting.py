"""How many rows a list has, without reading all of them."""

from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property

MOST_COUNTED = 5_000


class MoreThan(int):
    """So many rows were counted, and there are more: it reads as words, and counts as one more than what it says."""

    def __new__(cls, number: int) -> "MoreThan":
        return super().__new__(cls, number + 1)

    def __str__(self) -> str:
        return f"more than {int(self) - 1:,}"


class UpTo(Paginator):
    """Counts no further than `most`, or than the page that was asked for, so that every row is on a page that one can go on to."""

    def __init__(self, rows: QuerySet[Any], per_page: int, *, asked: str = "", **options: Any) -> None:
        super().__init__(rows, per_page, **options)
        page = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 8 else 1
        self.rows = rows
        self.most = max(MOST_COUNTED, page * per_page)

    @cached_property
    def count(self) -> int:
        counted = self.rows[: self.most + 1].count()
        return MoreThan(self.most) if counted > self.most else counted
