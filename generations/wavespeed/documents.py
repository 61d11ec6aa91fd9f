"""JSON from outside, read so that no number is rounded and no text breaks a database."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any

# Python takes minutes for whole numbers of millions of digits, and refuses some thousands.
MOST_DIGITS = 100


def read_json(content: bytes) -> Any:
    """The document; fractions, and whole numbers beyond all use, as Decimal. What is written like a number and is none is null.

    Raises ValueError for whatever is not JSON.
    """
    try:
        document = json.loads(content, parse_float=_decimal, parse_int=_whole, parse_constant=lambda constant: None)
        return _storable(document)
    except (ValueError, RecursionError):
        raise ValueError("This is not JSON.") from None


def storable(text: str) -> str:
    """The text without what PostgreSQL can't store: NUL and halves of surrogate pairs."""
    return text.replace("\0", "�").encode("utf-8", "replace").decode()


def _storable(value: Any) -> Any:
    match value:
        case str():
            return storable(value)
        case list():
            return [_storable(item) for item in value]
        case dict():
            return {storable(name): _storable(item) for name, item in value.items()}
    return value


def _whole(digits: str) -> int | Decimal | None:
    return int(digits) if len(digits) <= MOST_DIGITS else _decimal(digits)


def _decimal(digits: str) -> Decimal | None:
    try:
        return Decimal(digits)
    except InvalidOperation:
        return None
