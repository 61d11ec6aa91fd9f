"""What the account pays: a deduct row with each task, a refund row when a failed one is given back. Micro-dollars."""

import sqlite3
import uuid
from dataclasses import dataclass
from decimal import Decimal

from wavespeed_sandbox.book import Book
from wavespeed_sandbox.predictions import REFUNDED

MICROS = 1_000_000
CHANGEABLE = ("prediction_id", "billing_type", "price")


def micros(usd: Decimal) -> int:
    return int(usd * MICROS)


def usd(amount: int) -> float:
    """Micro-dollars as the JSON number that the provider sends."""
    return float(Decimal(amount) / MICROS)


class NoSuchRow(Exception):
    """The bill has no row of this uuid."""


@dataclass(frozen=True)
class Row:
    """What is added to the bill by hand; `price` in micro-dollars."""

    prediction_id: str
    billing_type: str
    price: int
    created_at: float


class Billing:
    def __init__(self, book: Book, opening_balance: Decimal) -> None:
        self._book = book
        self._opening = micros(opening_balance)

    def deduct(self, prediction_id: str, price: int, *, now: float, lag: float) -> None:
        self._add(prediction_id, "deduct", price, created_at=now, visible_at=now + lag)

    def _add(self, prediction_id: str, billing_type: str, price: int, *, created_at: float, visible_at: float) -> None:
        self._book.insert(
            "billings",
            uuid=uuid.uuid4().hex,
            prediction_id=prediction_id,
            billing_type=billing_type,
            price=price,
            created_at=created_at,
            visible_at=visible_at,
        )

    def settle(self, now: float) -> None:
        """Write the refund rows that are due by `now`."""
        refunded = ", ".join("?" * len(REFUNDED))
        due_sql = f"""
            SELECT p.id, d.price, p.ends_at + p.refund_delay AS due_at FROM predictions p
            JOIN billings d ON d.prediction_id = p.id AND d.billing_type = 'deduct'
            LEFT JOIN billings r ON r.prediction_id = p.id AND r.billing_type = 'refund'
            WHERE r.uuid IS NULL AND p.outcome IN ({refunded}) AND p.ends_at + p.refund_delay <= ?
        """  # noqa: S608 - question marks only
        with self._book.transaction():
            for due in self._book.rows(due_sql, *REFUNDED, now):
                self._add(due["id"], "refund", due["price"], created_at=due["due_at"], visible_at=due["due_at"])

    def doctor(self, add: list["Row"], change: dict[str, dict[str, str | int]], remove: list[str]) -> None:
        """Falsify the bill, wholly or not at all; raises `NoSuchRow`."""
        with self._book.transaction():
            for row in add:
                self._add(
                    row.prediction_id, row.billing_type, row.price, created_at=row.created_at, visible_at=row.created_at
                )
            for row_uuid, values in change.items():
                self._require(row_uuid)
                for column, value in values.items():
                    sql = f"UPDATE billings SET {column} = ? WHERE uuid = ?"  # noqa: S608 - one of `CHANGEABLE`
                    self._book.write(sql, value, row_uuid)
            for row_uuid in remove:
                self._remove(row_uuid)

    def _remove(self, row_uuid: str) -> None:
        """A refund that is taken out of the bill is not written again."""
        row = self._require(row_uuid)
        self._book.write("DELETE FROM billings WHERE uuid = ?", row_uuid)
        if row["billing_type"] == "refund":
            self._book.write("UPDATE predictions SET refund_delay = NULL WHERE id = ?", row["prediction_id"])

    def _require(self, row_uuid: str) -> sqlite3.Row:
        row = self._book.row("SELECT * FROM billings WHERE uuid = ?", row_uuid)
        if row is None:
            raise NoSuchRow(f"the bill has no row {row_uuid}")
        return row

    def balance(self, now: float) -> int:
        self.settle(now)
        return self._opening - self.total("deduct") + self.total("refund")

    def total(self, billing_type: str) -> int:
        return int(
            self._book.value("SELECT coalesce(sum(price), 0) FROM billings WHERE billing_type = ?", billing_type)
        )

    def rows(self, now: float) -> list[sqlite3.Row]:
        """Every row that exists by `now`, seen by the account or not, oldest first."""
        self.settle(now)
        return self._book.rows("SELECT * FROM billings ORDER BY created_at, number")
