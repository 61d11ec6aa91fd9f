"""The provider's bill, in micro-dollars: what it deducted and refunded for each prediction."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, InvalidOperation
from typing import Any

from generations import provider
from generations.wavespeed import errors
from generations.wavespeed.replies import BillingRow
from projects.money import MILLIONTH, NotMoney, to_micros

IDS_A_CALL = 100
LONGEST_UUID = 100
DEDUCT, REFUND = "deduct", "refund"
DONE = "done"


@dataclass(frozen=True)
class Row:
    """The kind says which way the money went, whatever the sign of the provider's price: `amount` is never negative."""

    uuid: str
    kind: str
    amount: int
    created_at: datetime | None
    prediction_id: str
    prediction_status: str
    state: str = DONE

    @property
    def is_priced(self) -> bool:
        """False: its price is still to come. A row of nothing that is done was free."""
        return self.amount > 0 or self.state == DONE


@dataclass(frozen=True)
class Bill:
    """The rows of one prediction that can be seen; more may come later."""

    prediction_id: str
    rows: tuple[Row, ...] = ()

    @property
    def deducts(self) -> list[Row]:
        return [row for row in self.rows if row.kind == DEDUCT and row.is_priced]

    @property
    def refunds(self) -> list[Row]:
        return [row for row in self.rows if row.kind == REFUND]

    @property
    def strange(self) -> list[Row]:
        """Rows of a kind that nobody knows: they count for nothing, and people have to look at them."""
        return [row for row in self.rows if row.kind not in (DEDUCT, REFUND)]

    @property
    def deducted(self) -> int:
        return sum(row.amount for row in self.deducts)

    @property
    def refunded(self) -> int:
        return sum(row.amount for row in self.refunds)

    @property
    def is_refunded(self) -> bool:
        """Whether refunds cover what was deducted. Where nothing was, nothing was given back."""
        return 0 < self.deducted <= self.refunded

    @property
    def net(self) -> int:
        return self.deducted - self.refunded

    @property
    def first_at(self) -> datetime | None:
        return min((row.created_at for row in self.rows if row.created_at), default=None)


def of(prediction_id: str) -> Bill:
    """Raises `WaveSpeedError`, like the others here."""
    return of_many([prediction_id])[prediction_id]


def of_many(prediction_ids: Sequence[str]) -> dict[str, Bill]:
    """Whole bills by prediction; one without a visible row is empty."""
    bills = {prediction_id: Bill(prediction_id) for prediction_id in prediction_ids}
    for start in range(0, len(prediction_ids), IDS_A_CALL):
        found = _read(prediction_ids=prediction_ids[start : start + IDS_A_CALL])
        # A provider that forgets the filter must not make us count other predictions' rows.
        bills |= {prediction_id: bill for prediction_id, bill in found.items() if prediction_id in bills}
    return bills


def since(moment: datetime) -> dict[str, Bill]:
    """What was billed from `moment` on; rows that are older are missing in it."""
    return _read(start=moment)


def between(start: datetime, end: datetime) -> dict[str, Bill]:
    """What was billed in that time; rows from before and after it are missing."""
    return _read(start=start, end=end)


def _read(**filters: Any) -> dict[str, Bill]:
    return _by_prediction(map(_row, provider.client().billings(**filters)))


def _by_prediction(rows: Iterable[Row]) -> dict[str, Bill]:
    found: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.prediction_id].append(row)
    return {prediction_id: Bill(prediction_id, tuple(of_it)) for prediction_id, of_it in found.items()}


def _row(row: BillingRow) -> Row:
    try:
        # The provider's prices are floats: 2.1000000000000001 is meant to be 2.10.
        amount = abs(to_micros(row.price.quantize(MILLIONTH, ROUND_HALF_EVEN)))
    except (NotMoney, InvalidOperation) as error:
        raise errors.Unreadable("The bill has a price that is no amount.") from error
    if len(row.uuid) > LONGEST_UUID:
        raise errors.Unreadable(f"The bill has a row whose uuid is longer than {LONGEST_UUID} characters.")
    kind = row.billing_type.strip().lower()
    return Row(row.uuid, kind, amount, row.created_at, row.prediction_id, row.prediction_status, row.state)
