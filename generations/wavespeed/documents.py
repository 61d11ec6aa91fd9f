"""JSON from outside, read so that no number is rounded and no text breaks a database."""

import json
from decimal import Decimal
from typing import Any


def read_json(content: bytes) -> Any:
    """The document, fractions as Decimal; raises ValueError for whatever is not JSON."""
    try:
        return _storable(json.loads(content, parse_float=Decimal, parse_constant=_refuse))
    except (ValueError, ArithmeticError, RecursionError):
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


def _refuse(constant: str) -> None:
    raise ValueError(constant)
