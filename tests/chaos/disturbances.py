"""What is broken while the studio works, and when: a timetable drawn from the seed."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from tests.chaos.town import Town

# How often a minute, and at least once in a run. What is out of order for a while says how long, in seconds.
RATES = {
    "worker killed": 4.0,
    "dispatcher killed": 2.0,
    "web server killed": 0.5,
    "provider killed": 0.5,
    "Redis emptied": 1.0,
    "PostgreSQL connections cut": 2.0,
    "storage refuses": 1.0,
}
KILLED = {
    "worker killed": ("worker-1", "worker-2"),
    "dispatcher killed": ("dispatcher-1", "dispatcher-2"),
    "web server killed": ("web",),
    "provider killed": ("provider",),
}
QUIET_AT_FIRST = 3.0
STORAGE_SECONDS = (3.0, 8.0)
DEAD_SECONDS = (0.0, 3.0)
STORAGE_UNTIL = 0.75  # of the time: while there are orders, whose images are read
AGAIN = 1.0  # seconds later, where there was nothing to break


@dataclass(frozen=True)
class Disturbance:
    at: float  # seconds after the start
    kind: str
    which: int
    seconds: float  # until it is mended


def timetable(dice: random.Random, seconds: float) -> list[Disturbance]:
    """In the order of their times."""
    planned = []
    for kind, rate in RATES.items():
        for _ in range(max(1, round(rate * seconds / 60))):
            is_storage = kind == "storage refuses"
            latest = seconds * STORAGE_UNTIL if is_storage else seconds - 2
            at = dice.uniform(QUIET_AT_FIRST, max(QUIET_AT_FIRST, latest))
            lasts = dice.uniform(*(STORAGE_SECONDS if is_storage else DEAD_SECONDS))
            planned.append(Disturbance(at, kind, dice.randrange(2), lasts))
    return sorted(planned, key=lambda each: each.at)


class Disturber:
    """Does what is due, mends what is due to be mended; `done` counts what found something to break, `cut` connections."""

    def __init__(self, town: Town, planned: list[Disturbance]) -> None:
        self.done: Counter[str] = Counter()
        self.cut = 0
        self._town = town
        self._planned = list(planned)
        self._mending: list[tuple[float, Callable[[], None]]] = []

    def look(self, elapsed: float) -> None:
        while self._planned and self._planned[0].at <= elapsed:
            self._disturb(self._planned.pop(0))
        for due in [each for each in self._mending if each[0] <= elapsed]:
            self._mending.remove(due)
            due[1]()

    def end(self) -> None:
        """Everything is mended, and what was planned later is dropped."""
        self._planned.clear()
        self.look(float("inf"))
        self._town.gate.open()

    def _disturb(self, disturbance: Disturbance) -> None:
        if self._broke(disturbance):
            self.done[disturbance.kind] += 1
        else:
            self._planned.append(replace(disturbance, at=disturbance.at + AGAIN))
            self._planned.sort(key=lambda each: each.at)

    def _broke(self, disturbance: Disturbance) -> bool:
        match disturbance.kind:
            case "Redis emptied":
                self._town.empty_redis()
                return True
            case "PostgreSQL connections cut":
                cut = self._town.cut_connections()
                self.cut += cut
                return cut > 0
            case "storage refuses":
                self._town.gate.shut()
                ends = disturbance.at + disturbance.seconds
                self._mending.append((ends, partial(self._open_gate, ends, self._town.gate.refused)))
                return True
            case kind:
                return self._kill(KILLED[kind][disturbance.which % len(KILLED[kind])], disturbance)

    def _kill(self, name: str, disturbance: Disturbance) -> bool:
        service = self._town.services[name]
        if not service.is_running:
            # Killed before and not started yet, or ended by itself.
            return False
        service.kill()
        self._mending.append((disturbance.at + disturbance.seconds, service.start))
        return True

    def _open_gate(self, due: float, refused: int) -> None:
        """As soon as it has refused somebody."""
        if self._town.gate.refused > refused:
            self._town.gate.open()
        else:
            self._mending.append((due + AGAIN, partial(self._open_gate, due + AGAIN, refused)))
