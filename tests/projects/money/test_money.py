from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from projects.money import NotMoney, shown, to_dollars, to_micros

micros = st.integers(-(10**15) + 1, 10**15 - 1)


@pytest.mark.parametrize(
    ("dollars", "expected"),
    [
        ("2.10", 2_100_000),
        ("2.1", 2_100_000),
        ("0", 0),
        ("-0", 0),
        ("-0.000001", -1),
        ("0.420000000", 420_000),
        ("1E+3", 1_000_000_000),
        ("999999999.999999", 999_999_999_999_999),
    ],
)
def test_to_micros_is_exact(dollars: str, expected: int) -> None:
    assert to_micros(Decimal(dollars)) == expected


@pytest.mark.parametrize("dollars", ["NaN", "sNaN", "Infinity", "-Infinity", "1000000000", "-1E+30"])
def test_to_micros_refuses_what_is_no_amount(dollars: str) -> None:
    with pytest.raises(NotMoney, match=r"is not an amount: use dollars below 1,000,000,000\.$"):
        to_micros(Decimal(dollars))


@pytest.mark.parametrize(
    "dollars", ["0.0000001", "2.1000005", "2.10000000000000000000000000000000000000000001", "1E-400"]
)
def test_to_micros_never_rounds(dollars: str) -> None:
    with pytest.raises(NotMoney) as refused:
        to_micros(Decimal(dollars))
    assert str(refused.value) == f"{Decimal(dollars)} is finer than a millionth of a dollar."


def test_to_micros_does_not_depend_on_the_precision_of_the_caller() -> None:
    with localcontext(prec=28):
        assert to_micros(Decimal("123456789.123456")) == 123_456_789_123_456


@settings(deadline=None, derandomize=True, database=None)
@given(micros)
def test_money_survives_the_way_out_and_in(amount: int) -> None:
    dollars = to_dollars(amount)
    assert to_micros(dollars) == amount
    assert "E" not in str(dollars)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (0, "0.00"),
        (2_100_000, "2.10"),
        (1_234_567, "1.234567"),
        (1_250_500, "1.2505"),
        (1, "0.000001"),
        (-50_000, "-0.05"),
        (1_000_000_000_000, "1000000.00"),
    ],
)
def test_to_dollars_has_two_places_at_least(amount: int, expected: str) -> None:
    assert str(to_dollars(amount)) == expected


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (2_100_000, "$2.10"),
        (0, "$0.00"),
        (-50_000, "-$0.05"),
        (1_234_000_000, "$1,234.00"),
        (-1_234_567_890, "-$1,234.57"),
        (1_005_000, "$1.00"),
        (1_015_000, "$1.02"),
        (1, "$0.00"),
        (-1, "$0.00"),
    ],
)
def test_shown_is_what_people_read(amount: int, expected: str) -> None:
    assert shown(amount) == expected


def test_shown_rounds_the_way_it_is_told() -> None:
    assert shown(2_099_999, ROUND_FLOOR) == "$2.09"
    assert shown(2_100_001, ROUND_CEILING) == "$2.11"
