"""Random histories of generations and of the provider's bill, settled by the real step; checked for what must never be."""

import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import time_machine
from django.conf import settings as studio
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from generations import lifecycle, reconcile
from generations.models import Generation, Status
from projects.models import Alert, AlertKind, Budget, BudgetPeriod, Enforcement, Period, Project, SpendEntry
from projects.money import budgets, spend, to_dollars
from tests import factories
from tests.histories import histories, some_and_all
from tests.pipeline import ENDPOINT, project_totals
from tests.sandbox import SandboxControl

DOLLAR = 1_000_000
PRICE = 2_100_000
LIMITS = st.integers(0, 12).map(lambda count: count * PRICE)
WHICH = st.integers(0, 20)
FATES = st.sampled_from(["lost", "accepted", "succeeded", "failed"])
BILLED = st.sampled_from([None, PRICE, PRICE, PRICE - DOLLAR, PRICE + DOLLAR])
# Two hours before November ends in Los Angeles.
BEGIN = datetime(2026, 12, 1, 6, tzinfo=UTC)
# The bill is looked at again every hour at the latest.
DEADLINE = timedelta(hours=studio.WAVESPEED_REFUND_HOURS + 1)
EVERYTHING = {
    "reserved",
    "refused",
    "billed deduct",
    "billed refund",
    "submitting to unconfirmed",
    "unconfirmed to processing",
    "processing to storing",
    "processing to failed",
    "failed to storing",
    "billed fee",
    "released by a refund",
    "released without a deduct",
    "late deduct",
}
OFTEN = {"reserved", "refused", "billed deduct"}
ON_ITS_WAY = (Status.SUBMITTING, Status.PROCESSING, Status.UNCONFIRMED)


@dataclass
class World:
    project: Project
    editor: User
    owner: User
    provider: SandboxControl
    clock: time_machine.Traveller
    counts: Counter[str] = field(default_factory=Counter)


class Settlement(RuleBasedStateMachine):
    """Rows are put where submit and poll would have put them; reserving, charging and settling are the product's."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.savepoint = transaction.savepoint()
        world.provider.reset()
        world.clock.move_to(BEGIN)
        self.budget = factories.budget(world.project, 8 * PRICE, period=Period.MONTH)

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            transaction.savepoint_rollback(self.savepoint)

    # --- What happens ---

    @initialize(fates=st.lists(st.tuples(FATES, BILLED), min_size=3, max_size=6))
    def begin(self, fates: list[tuple[str, int | None]]) -> None:
        """With less, most histories would end before much has happened."""
        for fate, billed in fates:
            self.queue()
            if fate == "lost":
                self.lose_the_reply(0)
                continue
            self.accept(0, billed)
            if fate != "accepted":
                self.succeed(0) if fate == "succeeded" else self.fail(0)

    @rule()
    def queue(self) -> None:
        """Reserved, and on its way to the provider."""
        generation = Generation.objects.create(
            project=self.world.project,
            requested_by=self.world.editor,
            endpoint=ENDPOINT,
            prompt="Steam",
            quote=PRICE,
            status=Status.SUBMITTING,
            submitted_at=timezone.now(),
        )
        free = min(each.free for each in self.hard_figures())
        try:
            spend.reserve(
                project=self.world.project,
                user=self.world.editor,
                reference=generation.pk,
                endpoint=ENDPOINT,
                amount=PRICE,
                key=f"reserve:{generation.pk}",
                by=None,
            )
        except spend.OverBudget:
            generation.delete()
            self.world.counts["refused"] += 1
            assert free < PRICE
            return
        assert min(each.free for each in self.hard_figures()) == free - PRICE >= 0
        self.world.counts["reserved"] += 1

    @rule(which=WHICH)
    def lose_the_reply(self, which: int) -> None:
        if generation := self.one_of(which, Status.SUBMITTING):
            self.move(generation, Status.UNCONFIRMED)

    @rule(which=WHICH, billed=BILLED)
    def accept(self, which: int, billed: int | None) -> None:
        """At once, or when an unconfirmed one is found again; the bill says so now or later, and maybe another amount."""
        if generation := self.one_of(which, Status.SUBMITTING, Status.UNCONFIRMED):
            self.move(generation, Status.PROCESSING, prediction_id=uuid.uuid4().hex)
            if billed:
                self.add_to_bill(generation, "deduct", billed)

    @rule(which=WHICH)
    def deduct_late(self, which: int) -> None:
        """Also after its hold was released."""
        generation = self.one_of(which, Status.PROCESSING, Status.FAILED, Status.STORING)
        if generation and not self.billed(generation, "deduct"):
            self.add_to_bill(generation, "deduct", PRICE)

    @rule(which=WHICH, kind=st.sampled_from(["fee", "deduct", "refund"]))
    def add_a_strange_row(self, which: int, kind: str) -> None:
        """Of a kind that nobody knows, or without a price yet."""
        if generation := self.one_of(which, Status.PROCESSING, Status.FAILED, Status.STORING):
            self.add_to_bill(generation, kind, PRICE if kind == "fee" else 0)

    @rule(which=WHICH)
    def succeed(self, which: int) -> None:
        """In time, or late, after it was given up as failed."""
        generation = self.one_of(which, Status.PROCESSING, Status.FAILED)
        if generation is None or self.billed(generation, "refund"):
            return
        with transaction.atomic():
            self.move(generation, Status.STORING, settle_at=timezone.now())
            reservation = spend.reservation_of(generation.pk)
            assert reservation
            spend.charge(reservation, amount=PRICE, key=f"charge:{generation.pk}")

    @rule(which=WHICH)
    def fail(self, which: int) -> None:
        if generation := self.one_of(which, Status.PROCESSING):
            self.move(generation, Status.FAILED, settle_at=timezone.now(), completed_at=timezone.now())

    @rule(which=WHICH, part=st.sampled_from([1, 1, 2]))
    def refund(self, which: int, part: int) -> None:
        """What was deducted for a failure, or a part of it: before it is settled, or hours or months after it."""
        generation = self.one_of(which, Status.FAILED)
        if generation and (left := self.net(generation)) > 0:
            self.add_to_bill(generation, "refund", left // part)

    @rule(which=WHICH)
    def settle(self, which: int) -> None:
        """Whenever a message comes, also twice."""
        if generation := self.one_of(which, Status.FAILED, Status.STORING):
            self.settled(generation.pk)
            self.settled(generation.pk)

    @rule(hours=st.sampled_from([1, 1, 3, 5, 24, 24 * 31]))
    def pass_time(self, hours: int) -> None:
        """And the dispatcher finds what is due."""
        self.world.clock.move_to(timezone.now() + timedelta(hours=hours))
        for pk in Generation.objects.filter(settle_at__lte=timezone.now()).values_list("pk", flat=True):
            self.settled(pk)

    @rule()
    def reconcile(self) -> None:
        """Every night, and whenever somebody asks for it."""
        assert not reconcile.run(reconcile.begin(since=BEGIN)).error
        late = SpendEntry.objects.filter(key__startswith="late-deduct")
        assert Alert.objects.filter(kind=AlertKind.LATE_DEDUCT).count() == late.count()
        self.world.counts["late deduct"] += late.count()

    @rule(limit=LIMITS)
    def change_limit(self, limit: int) -> None:
        budgets.change_limit(self.budget, limit=limit, by=self.world.owner)

    @rule(hours=st.sampled_from([1, 24, 24 * 31]))
    def top_up(self, hours: int) -> None:
        ends_at = timezone.now() + timedelta(hours=hours)
        budgets.top_up(self.budget, amount=2 * PRICE, ends_at=ends_at, reason="The fair", by=self.world.owner)

    @rule(period=st.sampled_from([Period.DAY, Period.WEEK, Period.YEAR]), hard=st.booleans(), limit=LIMITS)
    def create_budget(self, period: Period, hard: bool, limit: int) -> None:
        enforcement = Enforcement.HARD if hard else Enforcement.SOFT
        if not Budget.objects.filter(project=self.world.project, period=period, enforcement=enforcement).exists():
            factories.budget(self.world.project, limit, period=period, enforcement=enforcement)

    # --- What must hold ---

    @invariant()
    def balances_are_the_lines(self) -> None:
        periods = BudgetPeriod.objects.annotate(
            line_spent=Sum("lines__spent_delta", default=0), line_reserved=Sum("lines__reserved_delta", default=0)
        )
        for period in periods:
            assert (period.spent, period.reserved) == (period.line_spent, period.line_reserved)
            assert period.reserved >= 0
            assert period.spent >= 0

    @invariant()
    def only_what_is_on_its_way_is_held_past_the_deadline(self) -> None:
        for reservation in SpendEntry.objects.filter(kind="reserve", ended_by=None):
            generation = Generation.objects.get(pk=reservation.reference)
            if generation.status not in ON_ITS_WAY:
                assert generation.completed_at
                assert timezone.now() - generation.completed_at <= DEADLINE

    @invariant()
    def charged_is_never_more_than_once(self) -> None:
        for generation in Generation.objects.all():
            entries = SpendEntry.objects.filter(reference=generation.pk)
            assert entries.filter(kind="charge").count() <= 1
            assert entries.exclude(ends=None).count() <= 1

    def everything_ends(self) -> None:
        """Long after: each hold has ended once, but for what is on its way or unconfirmed."""
        for _ in range(3):
            self.pass_time(24 * 8)
        self.reconcile()
        for generation in Generation.objects.exclude(status__in=ON_ITS_WAY):
            reservation = spend.reservation_of(generation.pk)
            assert reservation
            assert SpendEntry.objects.filter(ends=reservation).count() == 1
            assert generation.settle_at is None
            if generation.status == Status.FAILED:
                assert spend.charged(generation.pk) == max(0, self.net(generation))
        held = Generation.objects.filter(status__in=ON_ITS_WAY).count()
        assert project_totals(self.world.project.pk)["reserved"] == held * PRICE
        self.balances_are_the_lines()

    # --- Steps ---

    def settled(self, pk: uuid.UUID) -> None:
        """A hold that is released by it was covered by a refund, or nothing was deducted in time."""
        released = SpendEntry.objects.filter(reference=pk, kind="release")
        is_new = not released.exists()
        lifecycle.settle(pk)
        if is_new and released.exists():
            generation = Generation.objects.get(pk=pk)
            assert generation.completed_at
            if deducted := self.billed(generation, "deduct"):
                assert self.billed(generation, "refund") >= deducted
                self.world.counts["released by a refund"] += 1
            else:
                assert timezone.now() - generation.completed_at > timedelta(hours=studio.WAVESPEED_REFUND_HOURS)
                self.world.counts["released without a deduct"] += 1

    def net(self, generation: Generation) -> int:
        return self.billed(generation, "deduct") - self.billed(generation, "refund")

    def hard_figures(self) -> list[budgets.Figures]:
        return [
            each for each in budgets.figures(Budget.objects.active()) if each.budget.enforcement == Enforcement.HARD
        ]

    def one_of(self, which: int, *statuses: Status) -> Generation | None:
        found = list(Generation.objects.filter(status__in=statuses).order_by("created_at", "pk"))
        return found[which % len(found)] if found else None

    def move(self, generation: Generation, new: Status, **changes: Any) -> None:
        self.world.counts[f"{generation.status} to {new}"] += 1
        assert Generation.objects.move(generation.pk, Status(generation.status), new, **changes)
        generation.refresh_from_db()

    def add_to_bill(self, generation: Generation, kind: str, micros: int) -> None:
        self.world.counts[f"billed {kind}"] += 1
        row = {"prediction_id": generation.prediction_id, "billing_type": kind, "price": float(to_dollars(micros))}
        self.world.provider.doctor(add=[row])

    def billed(self, generation: Generation, kind: str) -> int:
        rows = self.world.provider.bill()["rows"]
        wanted = (generation.prediction_id, kind)
        return sum(row["price_micros"] for row in rows if (row["prediction_id"], row["billing_type"]) == wanted)


@some_and_all
def test_settlement_keeps_the_books_whatever_the_bill_does(
    project: Project, editor: User, studio_owner: User, wavespeed: SandboxControl, share: float
) -> None:
    project.time_zone = "America/Los_Angeles"
    project.save()
    with time_machine.travel(BEGIN, tick=False) as clock:
        world = World(project, editor, studio_owner, wavespeed, clock)
        run_state_machine_as_test(
            lambda: Settlement(world),
            settings=histories(20, steps=25, share=share),
        )
    assert world.counts.keys() >= (EVERYTHING if share == 1 else OFTEN), "a history of nothing shows nothing"
