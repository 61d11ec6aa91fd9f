"""A run: orders and disturbances for so many minutes, then the end, then the verdict."""

import json
import random
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from tests.chaos import verdict
from tests.chaos.customers import Customers
from tests.chaos.disturbances import Disturber, timetable
from tests.chaos.fates import EVERYWHERE, TIGHT, orders
from tests.chaos.happened import Happened
from tests.chaos.town import PATIENCE, QUICK, Town
from tests.studio_process import ROOT

# Seconds: a machine may be slow, but it must not stand still.
STANDSTILL = 300.0
STILL_ORDERING = 60.0  # seconds after them in which a slow machine may still be ordered from, and meet its faults
ORDERING = 0.85  # of the time; the rest of it only breaks things
LOOK = 0.2
SAY_EVERY = 15.0
FOR_THE_CLOCK = 4 * 3600.0
RAN_TIGHT = 0.4  # of what the tight project is asked for, its budget is for so much


class Run:
    def __init__(self, town: Town, seed: int, number: int, *, seconds: float, grace: float) -> None:
        """`grace` is the seconds after the disturbances in which everything has to end."""
        self._town = town
        dice = random.Random(seed)
        self._orders = orders(dice, number, seconds * ORDERING)
        self._disturber = Disturber(town, timetable(dice, seconds))
        self._seconds = seconds
        self._grace = grace
        self._samples: Counter[str] = Counter()
        self._faults: list[dict[str, Any]] = []
        self._settled: set[str] = set()
        self.wrong: list[str] = []

    def go(self) -> verdict.Verdict:
        prepared = self._inside("prepare", str(max(2, round(len(self._orders) * TIGHT * RAN_TIGHT))))
        self._town.start_studio()
        for fault, chance in EVERYWHERE:
            self._town.provider.arm(fault.kind, times=None, chance=chance, **fault.parameters)
        self._customers = Customers(
            self._town.studio.url,
            prepared["token"],
            prepared["projects"],
            prepared["images"],
            self._town.provider,
        )
        self._break_things()
        self._faults_off()
        self._wait_for_the_end()
        self._settle_the_rest()
        return self._judged()

    def _inside(self, *arguments: str, given: str = "") -> Any:
        done = self._python("-m", "tests.chaos.inside", *arguments, given=given)
        if done.returncode:
            raise RuntimeError(done.stderr[-4000:])
        return json.loads(done.stdout.splitlines()[-1])

    def _python(self, *arguments: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        """In the studio's environment."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=self._town.studio.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    # While everything breaks

    def _break_things(self) -> None:
        began = time.monotonic()
        self._stop_ordering = began + self._seconds + STILL_ORDERING
        self._ends = began + self._seconds + self._grace
        self._customers.start(self._orders, until=self._stop_ordering)
        said = 0.0
        while (elapsed := time.monotonic() - began) < self._seconds or not self._customers.are_done:
            self._disturber.look(elapsed)
            self._town.look_after()
            self._look_at_budgets()
            if elapsed - said >= SAY_EVERY:
                said = elapsed
                say(f"{elapsed:4.0f} s: {self._told_shortly()}")
            time.sleep(LOOK)

    def _told_shortly(self) -> str:
        statuses = ", ".join(f"{count} {status}" for status, count in sorted(self._statuses().items()))
        return f"{statuses}; {sum(self._disturber.done.values())} disturbances"

    def _statuses(self) -> dict[str, int]:
        rows = self._town.ask("SELECT status, count(*) FROM generations_generation GROUP BY status")
        return {str(status): int(str(count)) for status, count in rows}

    def _look_at_budgets(self) -> None:
        """No hard budget is passed, at any moment that is looked at."""
        rows = self._town.ask(
            'SELECT budget.id, budget."limit", period.spent, period.reserved FROM projects_budgetperiod period'
            " JOIN projects_budget budget ON budget.id = period.budget_id WHERE budget.enforcement = 'hard'"
        )
        self._samples["looks at the hard budgets"] += 1
        for budget, limit, spent, reserved in rows:
            if spent + reserved > limit:
                self._samples["of them with one passed"] += 1
                self.wrong.append(f"The hard budget {budget} was passed: {spent:,} + {reserved:,} of {limit:,}.")

    def _faults_off(self) -> None:
        """Everything is mended; the provider behaves as soon as the last one was submitted."""
        self._disturber.end()
        while self._statuses().get("queued") and time.monotonic() < self._stop_ordering:
            self._look_at_budgets()
            self._town.look_after()
            time.sleep(LOOK)
        self._town.wait_for_provider()
        self._faults = self._town.provider.faults()
        self._town.provider.disarm()
        say(f"faults off: {self._told_shortly()}")

    # The end

    def _wait_for_the_end(self) -> None:
        """Until nothing moves any more; an unclear request that the provider has no task of is settled as an owner would."""
        said = moved = time.monotonic()
        before = None
        while any(left := self._left()):
            now = time.monotonic()
            self._look_at_budgets()
            self._town.look_after()
            self._settle_what_was_not_made()
            if now - said > SAY_EVERY:
                said = now
                say(f"ending: {self._told_shortly()}; {_in_words(left)}")
            if left != before:
                before, moved = left, now
            if now > self._ends or now - moved > STANDSTILL:
                after = now - self._ends + self._grace
                self.wrong.append(f"It has not ended {after:.0f} s after everything was mended: {_in_words(left)}.")
                return
            time.sleep(1)

    def _left(self) -> tuple[int, ...]:
        """How many rows still wait for something, by what they wait for."""
        (counts,) = self._town.ask(
            "SELECT count(*) FILTER (WHERE status NOT IN ('completed', 'failed', 'cancelled', 'draft')),"
            " count(*) FILTER (WHERE settle_at IS NOT NULL), count(*) FILTER (WHERE next_action_at IS NOT NULL),"
            " (SELECT count(*) FROM generations_unassignedprediction WHERE next_action_at IS NOT NULL)"
            " FROM generations_generation"
        )
        return tuple(counts)

    def _settle_what_was_not_made(self) -> None:
        unclear = {
            str(pk)
            for (pk,) in self._town.ask(
                "SELECT id FROM generations_generation WHERE status = 'unconfirmed'"
                f" AND submitted_at < now() - interval '{60 * float(QUICK['UNCONFIRMED_MINUTES'])} seconds'"
            )
        }
        if unclear and (not_made := unclear - self._made()):
            self._settled.update(self._inside("settle", given="\n".join(sorted(not_made)))["settled"])

    def _made(self) -> set[str]:
        return {verdict.of_request(each) for each in self._town.provider.predictions()}

    def _settle_the_rest(self) -> None:
        """Refunds and bills that come hours later come now, and the reconciliation books them, as it does every night."""
        self._town.provider.advance(FOR_THE_CLOCK)
        self._python("manage.py", "reconcile")
        again = self._python("manage.py", "reconcile", "--strict")
        if again.returncode:
            self.wrong.append(f"The reconciliation finds differences: {again.stdout[-2000:]}{again.stderr[-500:]}")

    # The verdict

    def _judged(self) -> verdict.Verdict:
        provider = self._town.provider
        books = self._inside("books")
        # The database does not outlive the run.
        (self._town.home / "books.json").write_text(json.dumps(books, indent=1))
        judged = verdict.judge(
            books,
            provider.posts()["posts"],
            provider.predictions(),
            provider.bill()["rows"],
            self._town.stored,
            self._customers.accepted,
        )
        judged.wrong += self.wrong
        judged.wrong += [f"An order was refused: {each}" for each in self._customers.unexpected]
        judged.figures = {
            **{f"orders {what}": count for what, count in sorted(self._customers.told.items())},
            **judged.figures,
            "settled “not made” by the script": len(self._settled),
            **self._samples,
        }
        self._happened = Happened(
            orders=len(self._orders),
            told=self._customers.told,
            asked_again=self._customers.asked_again,
            broken=self._disturber.done,
            connections_cut=self._disturber.cut,
            refused_by_storage=self._town.gate.refused,
            faults=self._faults,
            deliveries=provider.webhooks(),
            made=judged.figures["predictions completed"],
        )
        judged.wrong += self._happened.wrong
        return judged

    def report(self) -> None:
        required = self._happened.required.items()
        print_table("what had to happen", {f"{what} (at least {least})": count for what, (count, least) in required})
        print_table("faults of the provider, and how often they struck", dict(sorted(self._happened.struck.items())))
        by_themselves = {
            name: service.ended_by_itself for name, service in self._town.services.items() if service.ended_by_itself
        }
        if by_themselves:
            print_table("ended by themselves, and started again", by_themselves)


def _in_words(left: tuple[int, ...]) -> str:
    names = ("not ended", "to be settled", "to be looked at", "unassigned to be looked at")
    return ", ".join(f"{count} {name}" for count, name in zip(left, names, strict=True) if count)


def say(text: str) -> None:
    print(text, flush=True)


def print_table(title: str, rows: dict[str, int]) -> None:
    say(f"\n{title}")
    for name, count in rows.items():
        say(f"  {name:<56} {count:>14,}")
