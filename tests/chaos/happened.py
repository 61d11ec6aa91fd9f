"""What has to have happened in a run: one in which nothing broke, or hardly anything was ordered, proves nothing. Pure."""

from collections import Counter
from dataclasses import dataclass
from math import ceil
from typing import Any

from tests.chaos.customers import ACCEPTED, BY_THE_BUDGET, TOO_SLOW
from tests.chaos.disturbances import RATES

# Shares of what was planned; the rest is for a slow machine, and for faults of what is never asked for: what fails has no download.
ANSWERED = 0.8
STRUCK = 1 / 3
# Struck by one, a webhook does not come, comes more than once, or comes late.
OF_WEBHOOKS = ("webhook_lost", "webhook_duplicate", "webhook_late")


@dataclass(frozen=True)
class Happened:
    """`faults` and `deliveries` (of webhooks) are the sandbox's own rows."""

    orders: int
    told: Counter[str]
    asked_again: int
    broken: Counter[str]
    connections_cut: int
    refused_by_storage: int
    faults: list[dict[str, Any]]
    deliveries: list[dict[str, Any]]
    made: int

    @property
    def struck(self) -> Counter[str]:
        """How often, by kind."""
        taken: Counter[str] = Counter()
        for fault in self.faults:
            taken[fault["kind"]] += fault["taken"]
        return +taken

    @property
    def required(self) -> dict[str, tuple[int, int]]:
        """How often each thing happened, and how often it has to have at least."""
        of_orders = [fault for fault in self.faults if "prompt" in fault]
        answered = self.told[ACCEPTED] + self.told[BY_THE_BUDGET]
        return {
            "orders that were answered": (answered, ceil(self.orders * ANSWERED)),
            # What is ordered too slowly has let money of the tight budget go by then.
            BY_THE_BUDGET: (self.told[BY_THE_BUDGET], int(not self.told[TOO_SLOW])),
            "requests sent again with their key": (self.asked_again, 1),
            "videos made": (self.made, 1),
            **{kind: (self.broken[kind], 1) for kind in RATES},
            "connections of PostgreSQL that were cut": (self.connections_cut, 1),
            "connections that the storage refused": (self.refused_by_storage, 1),
            "generations' faults that struck": (
                sum(fault["taken"] > 0 for fault in of_orders),
                max(1, ceil(len(of_orders) * STRUCK)),
            ),
            **{kind: (self.struck[kind], 1) for kind in OF_WEBHOOKS},
            "webhooks delivered": (sum(row["state"] == "delivered" for row in self.deliveries), 1),
        }

    @property
    def wrong(self) -> list[str]:
        return [
            f"It proves nothing: {what}: {count}, and at least {least} are needed."
            for what, (count, least) in self.required.items()
            if count < least
        ]
