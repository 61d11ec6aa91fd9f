"""What a reconciliation finds: its kinds, and which of them are explained."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from projects.money import to_dollars


class Kind(StrEnum):
    BALANCE = "balance"
    LEDGER = "ledger"
    CHARGE = "charge"
    REFUND = "refund"
    DRIFT = "drift"
    ORPHAN = "orphan"
    WAITING = "waiting"
    HELD = "held"


# What is on its way, or held for an outcome that nobody knows, is explained.
EXPLAINED = frozenset({Kind.WAITING, Kind.HELD})


@dataclass(frozen=True)
class Finding:
    """One line of the report. Amounts are micro-dollars; `done` says what this run did about it."""

    kind: Kind
    what: str
    ours: int
    theirs: int
    why: str
    held: int = 0
    done: str = ""
    generation: str = ""
    prediction: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    is_difference: bool = True

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"difference": self.theirs - self.ours}


def dollars(micros: int) -> str:
    """With all its places: a difference of less than a cent is one."""
    return f"{'-' if micros < 0 else ''}${to_dollars(abs(micros)):,f}"
