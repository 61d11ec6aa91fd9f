"""US dollars as integer micro-dollars inside, `Decimal` at every edge: SQL on SQLite compares decimals as floats."""

from decimal import ROUND_HALF_EVEN, Decimal

MICRO = 1_000_000
CENT = Decimal("0.01")
MILLIONTH = Decimal("0.000001")
# Far above any real figure, far below what a 64-bit column holds after adding many of them up.
LARGEST = Decimal(1_000_000_000)


class NotMoney(ValueError):
    """The amount is no finite number of whole micro-dollars below a billion dollars."""


def to_micros(dollars: Decimal) -> int:
    """Exact micro-dollars of `dollars`; raises `NotMoney` rather than round."""
    if not dollars.is_finite() or abs(dollars) >= LARGEST:
        raise NotMoney(f"{dollars} is not an amount: use dollars below {LARGEST:,}.")
    # Multiplied first, a long fraction would be rounded to 28 digits unseen.
    exact = dollars.quantize(MILLIONTH)
    if exact != dollars:
        raise NotMoney(f"{dollars} is finer than a millionth of a dollar.")
    return int(exact * MICRO)


def to_dollars(micros: int) -> Decimal:
    """Exact dollars, with two places at least: 2_100_000 is 2.10, 1_234_567 is 1.234567."""
    dollars = Decimal(micros) / MICRO
    cents = dollars.quantize(CENT)
    return cents if cents == dollars else dollars.normalize()


def about(micros: int) -> str:
    """An estimate, which has no cents: `about $12`, `less than $1`."""
    dollars = (Decimal(micros) / MICRO).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    return f"about ${dollars:,}" if micros >= MICRO else "less than $1"


def shown(micros: int, rounding: str = ROUND_HALF_EVEN) -> str:
    """What people read: `$2.10`, `-$0.05`, `$1,234.00`; two places, half to even unless told."""
    dollars = (Decimal(micros) / MICRO).quantize(CENT, rounding=rounding) + 0  # plus 0: minus nothing is nothing
    return f"-${-dollars:,}" if dollars < 0 else f"${dollars:,}"
