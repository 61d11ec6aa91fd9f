"""What goes wrong with each generation, drawn from a seed: the same seed gives the same orders, faults and disturbances.

Which of two threads is first is nobody's to repeat, so the same seed is the same weather, not the same day.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Fault:
    kind: str
    times: int = 1
    parameters: dict[str, Any] = field(default_factory=dict)


def _fault(kind: str, times: int = 1, **parameters: Any) -> Fault:
    return Fault(kind, times, parameters)


# Faults whose end no code could tell rightly within minutes.
LEFT_OUT = {
    "task_endless": "it ends on the eighth day, when the provider has no result any more",
    "free_endless": "its rows may be of every lost request, and are looked for for days",
    "upload_binary_500": "the older upload is only used where the provider has no tickets",
}
# Beside them, some parameters of what is in: a `charge_price` above the quote pauses the endpoint until an owner has looked at it, and a
# failure whose `charge_late` is longer than WAVESPEED_REFUND_HOURS counts as never billed, so that a bill after all is for people.

# One line a fate: faults that meet the same generation.
FATES: tuple[tuple[Fault, ...], ...] = (
    # Nobody can say whether it was accepted.
    (_fault("submit_drop_after"),),
    (_fault("submit_drop_before"),),
    (_fault("submit_slow", seconds=1.5),),
    (_fault("submit_slow", seconds=5.0),),
    (_fault("submit_slow", seconds=5.0, created=False),),
    (_fault("submit_500_created"),),
    (_fault("submit_504_created"),),
    (_fault("submit_garbage_created"),),
    (_fault("submit_no_id"),),
    (_fault("submit_500"),),
    (_fault("submit_503"),),
    (_fault("submit_504"),),
    (_fault("submit_garbage"),),
    (_fault("submit_error_code"),),
    (_fault("submit_408"),),
    (_fault("submit_409"),),
    (_fault("submit_redirect"),),
    (_fault("submit_drop_after"), _fault("task_failed")),
    (_fault("submit_504_created"), _fault("webhook_lost"), _fault("task_slow", factor=20.0)),
    (_fault("submit_no_id"), _fault("download_expired")),
    # Surely not accepted.
    (_fault("submit_429", 2, retry_after=1),),
    (_fault("submit_concurrency", 1, retry_after=1),),
    (_fault("submit_403"),),
    (_fault("submit_401"),),
    (_fault("submit_insufficient_credits"),),
    (_fault("submit_400"),),
    (_fault("submit_404"),),
    (_fault("submit_413"),),
    (_fault("submit_422"),),
    # What becomes of it.
    (_fault("task_failed", code=1403),),
    (_fault("task_failed", code=1402), _fault("refund_late", seconds=25.0)),
    (_fault("task_nsfw"), _fault("refund_never")),
    (_fault("task_cancelled"),),
    (_fault("task_timeout"), _fault("charge_late", seconds=4.0)),
    (_fault("task_deleted"),),
    (_fault("task_slow", factor=30.0),),
    (_fault("task_nsfw_flagged"),),
    # What it costs.
    (_fault("charge_price", factor=0.5),),
    (_fault("charge_late", seconds=8.0),),
    (_fault("charge_late", seconds=20.0), _fault("charge_price", factor=0.75)),
    # What is said of it.
    (_fault("result_404", 3),),
    (_fault("result_429", 2),),
    (_fault("result_500", 3),),
    (_fault("result_timeout", 1, seconds=4.0),),
    (_fault("result_drop", 3),),
    (_fault("result_garbage", 2),),
    (_fault("result_error_code", 2),),
    (_fault("result_unknown_status", 2),),
    (_fault("result_null_outputs", 3),),
    (_fault("result_null_nsfw", 5), _fault("result_no_timings", 5)),
    (_fault("result_extra_fields", 5),),
    (_fault("result_object_outputs", 5),),
    (_fault("result_word", 50, status="Succeeded"), _fault("result_form", 50, form="object_of_objects")),
    (_fault("result_form", 50, form="videos"),),
    (_fault("result_form", 50, form="output"), _fault("download_expired")),
    (_fault("result_form", 50, form="no_scheme"),),
    (_fault("result_form", 50, form="host_and_path"),),
    (_fault("result_form", 3, form="elsewhere"),),
    (_fault("result_no_outputs", 3),),
    (_fault("result_error_object", 50), _fault("task_failed", code=1403)),
    (_fault("result_absurd", 50),),
    (_fault("result_bare", 50),),
    (_fault("result_other_id", 3),),
    (_fault("result_false_failure"),),
    # How it comes home.
    (_fault("download_truncated", 2),),
    (_fault("download_reset", 2),),
    (_fault("download_slow", bytes_per_second=15_000),),
    (_fault("download_wrong_length"),),
    (_fault("download_expired"),),
    (_fault("download_500", 2),),
    (_fault("download_truncated"), _fault("download_no_range")),
    (_fault("download_reset"), _fault("download_changed")),
    # Bad bytes first and good ones later.
    (_fault("download_corrupt", 4),),
    (_fault("download_page", 5),),
    (_fault("download_page", 2, body="", status=204), _fault("download_page", 2, status=200, body="{}")),
    (_fault("download_cut", 4),),
    (_fault("download_half", 4),),
    # It never ends, and costs 8 MB a try there.
    (_fault("download_endless"),),
    # Odd headers, addresses and neighbours.
    (_fault("download_encoding", 3),),
    (_fault("download_encoding", 3, encoding="gzip", packed=True),),
    (_fault("download_encoding", 3, encoding="aws-chunked", packed=True),),
    (_fault("download_status", 3, status=206),),
    (_fault("download_status", 3),),
    (_fault("result_beside", 5),),
    (_fault("result_beside", 5, what="twin"),),
    (_fault("result_odd_address", 5),),
    (_fault("result_odd_address", 5, how="without_scheme"), _fault("download_page", 3)),
)

# Each generation meets one of these with this chance, whatever else meets it.
WEBHOOK_CHANCE = 0.4
WEBHOOK_FAULTS: tuple[Fault, ...] = (
    _fault("webhook_lost"),
    _fault("webhook_duplicate", copies=3),
    _fault("webhook_late", seconds=6.0),
    _fault("webhook_out_of_order"),
    _fault("webhook_bad_signature"),
)

# Calls that name no generation: always armed, and each strikes with its chance.
EVERYWHERE: tuple[tuple[Fault, float], ...] = (
    (_fault("upload_ticket_500"), 0.02),
    (_fault("upload_ticket_drop"), 0.02),
    (_fault("upload_put_500"), 0.02),
    (_fault("upload_put_drop"), 0.02),
    (_fault("free_500"), 0.04),
    (_fault("free_429"), 0.03),
    (_fault("free_garbage"), 0.03),
    (_fault("free_401"), 0.01),
    (_fault("free_absurd", route="billings"), 0.03),
    (_fault("free_timeout", seconds=4.0), 0.01),
    (_fault("quote_price", factor=0.8), 0.05),
    (_fault("quote_price", factor=1.2), 0.05),
)

FAULTY = 0.6
TIGHT = 0.25
CANCELLED = 0.06
IMPATIENT = 0.25


@dataclass(frozen=True)
class Order:
    """One generation as it will be asked for, and what will meet it."""

    number: int
    at: float  # seconds after the start
    project: str
    duration: int
    faults: tuple[Fault, ...]
    cancel: bool
    impatient: bool  # asks again with the same key before there was an answer

    @property
    def mark(self) -> str:
        """What its faults know it by: a part of its prompt that no other one has."""
        return f"[{self.number:05d}]"


def orders(dice: random.Random, number: int, seconds: float) -> list[Order]:
    """`number` orders over `seconds`: each fate comes before one comes twice."""
    fates = _fates(dice, number)
    tight = set(dice.sample(range(number), round(number * TIGHT)))
    cancelled = {each for each in range(number) if dice.random() < CANCELLED}
    # Each once on one that is surely made, so that each strikes; the others by chance.
    made = [each for each in range(number) if not fates[each] and each not in tight | cancelled]
    sure = dict(zip(made, WEBHOOK_FAULTS, strict=False))
    return [
        Order(
            number=each,
            at=seconds * each / number,
            project="tight" if each in tight else "generous",
            duration=dice.choice((3, 3, 3, 4)),
            faults=(*fates[each], *([sure[each]] if each in sure else _webhook_faults(dice))),
            cancel=each in cancelled,
            impatient=dice.random() < IMPATIENT,
        )
        for each in range(number)
    ]


def _fates(dice: random.Random, number: int) -> list[tuple[Fault, ...]]:
    faulty = round(number * FAULTY)
    drawn: list[tuple[Fault, ...]] = []
    while len(drawn) < faulty:
        drawn += dice.sample(FATES, len(FATES))
    chosen = [*drawn[:faulty], *[()] * (number - faulty)]
    dice.shuffle(chosen)
    return chosen


def _webhook_faults(dice: random.Random) -> Sequence[Fault]:
    return [dice.choice(WEBHOOK_FAULTS)] if dice.random() < WEBHOOK_CHANCE else []
