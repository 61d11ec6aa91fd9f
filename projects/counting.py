"""How many rows a list has, without reading all of them."""

from collections.abc import Sequence
from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property


class MoreThan(int):
    """So many rows were counted, and there are more: it reads as words, and counts as one more than what it says."""

    def __new__(cls, number: int) -> "MoreThan":
        return super().__new__(cls, number + 1)

    def __str__(self) -> str:
        return f"more than {int(self) - 1:,}"


class UpTo(Paginator):
    """Counts no further than `at_least`, or than the page that was asked for, so that every row is on a page that one can go on to."""

    at_least = 5_000

    def __init__(self, rows: QuerySet[Any] | Sequence[Any], per_page: int, *, asked: str = "", **options: Any) -> None:
        super().__init__(rows, per_page, **options)
        self.rows = rows
        self.asked_for(asked)

    def asked_for(self, page: str) -> None:
        number = int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 1
        self.most = max(self.at_least, number * self.per_page)

    @cached_property
    def count(self) -> int:
        if not isinstance(self.rows, QuerySet):
            return len(self.rows)
        counted = self.rows.order_by()[: self.most + 1].count()
        return MoreThan(self.most) if counted > self.most else counted
