"""What became of a generation's price, in words: on its page, in lists and in the API."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from django.conf import settings
from django.utils import timezone

from generations.models import Generation, Status
from generations.services import prices
from generations.services.inputs import inputs_of
from projects.money import shown

NOTHING = "–"
UNCHARGED = "It cost nothing."


class State(StrEnum):
    ESTIMATE = "estimate"
    RESERVED = "reserved"
    HELD = "held"
    CHARGED = "charged"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Cost:
    """`amount` (micro-dollars) is what it would cost, what is set aside for it, or what was paid; `short` is for lists."""

    state: State
    amount: int
    text: str

    @property
    def short(self) -> str:
        match self.state:
            case State.ESTIMATE:
                return f"would cost {shown(self.amount)}"
            case State.NOTHING:
                return NOTHING
        return f"{shown(self.amount)} {self.state}"


def price(generation: Generation) -> int:
    """Micro-dollars: what is frozen on the row, else today's price in the catalogue."""
    if generation.quote is not None:
        return generation.quote
    return prices.catalogue_price(generation.endpoint, inputs_of(generation))


def of(generation: Generation) -> Cost:
    """From the row alone, so that a list asks nothing more."""
    amount, status = price(generation), Status(generation.status)
    if generation.charged is not None:
        return _charged(generation, generation.charged)
    match status:
        case Status.DRAFT:
            return Cost(State.ESTIMATE, amount, f"It would cost {shown(amount)}. Nothing is paid yet.")
        case Status.AWAITING_APPROVAL:
            text = f"It would cost {shown(amount)}. Nothing is reserved until somebody approves it."
            return Cost(State.ESTIMATE, amount, text)
        case Status.CANCELLED:
            return Cost(State.NOTHING, 0, UNCHARGED)
        case Status.FAILED:
            return _failed(generation, amount)
        case Status.UNCONFIRMED:
            text = f"{shown(amount)} is held until it is known whether the video was made."
            return Cost(State.HELD, amount, text)
    return Cost(State.RESERVED, amount, f"{shown(amount)} is reserved, and charged when the video is made.")


def _charged(generation: Generation, charged: int) -> Cost:
    if charged == 0:
        return Cost(State.NOTHING, 0, "It cost nothing: the provider did not bill it, or gave its price back.")
    if generation.status == Status.FAILED:
        return Cost(
            State.CHARGED, charged, f"{shown(charged)} was charged: the provider billed it, and gave nothing back."
        )
    return Cost(State.CHARGED, charged, f"{shown(charged)} was charged.")


def _failed(generation: Generation, amount: int) -> Cost:
    """What was never billed is free at once; the rest is held until the bill has told."""
    if generation.settle_at is None:
        return Cost(State.NOTHING, 0, UNCHARGED)
    hours = settings.WAVESPEED_REFUND_HOURS
    ended_at = generation.completed_at or timezone.now()
    if timezone.now() - ended_at > timedelta(hours=hours):
        until = "the provider’s bill could be read"
    else:
        until = f"the provider’s bill shows the refund (at most {hours:g} {'hour' if hours == 1 else 'hours'})"
    return Cost(State.HELD, amount, f"{shown(amount)} is held until {until}.")
