from decimal import Decimal

import pytest

from generations.models import Generation
from generations.provider import bill
from generations.wavespeed import errors
from generations.wavespeed.replies import BillingRow
from tests.sandbox import SandboxControl


def row(price: str, kind: str = "deduct", uuid: str = "row") -> BillingRow:
    return BillingRow(uuid, kind, Decimal(price), None, "done", "a" * 32, "completed")


@pytest.mark.parametrize(
    ("price", "amount"),
    [("2.1", 2_100_000), ("2.1000000000000001", 2_100_000), ("0.30000000000000004", 300_000), ("-2.10", 2_100_000)],
)
def test_a_price_is_read_in_whole_micro_dollars_and_without_its_sign(price: str, amount: int) -> None:
    assert bill._row(row(price)).amount == amount


@pytest.mark.parametrize("unreadable", [row("1e30"), row("1000000000"), row("1", uuid="u" * 101)])
def test_a_row_that_is_no_sense_makes_the_bill_unreadable(unreadable: BillingRow) -> None:
    with pytest.raises(errors.Unreadable):
        bill._row(unreadable)


def test_a_bill_nets_what_was_given_back_and_leaves_out_what_nobody_knows() -> None:
    rows = (row("2.10"), row("0.40"), row("0.50", "refund"), row("9", "fee"))
    read = bill.Bill("a" * 32, tuple(map(bill._row, rows)))

    assert (read.deducted, read.refunded, read.net) == (2_500_000, 500_000, 2_000_000)
    assert [strange.kind for strange in read.strange] == ["fee"]


def test_bills_are_asked_for_by_hundreds_and_only_of_the_predictions_named(
    processing: Generation, wavespeed: SandboxControl
) -> None:
    others = [f"{number:032x}" for number in range(250)]

    bills = bill.of_many([*others, processing.prediction_id])

    assert list(bills) == [*others, processing.prediction_id]
    assert [prediction for prediction, of_it in bills.items() if of_it.rows] == [processing.prediction_id]
    assert bill.of_many([]) == {}
