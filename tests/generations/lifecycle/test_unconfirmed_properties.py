"""Random histories of requests whose replies get lost: whatever the order, one POST each, no paid video lost, money = bill."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from generations import lifecycle
from generations.lifecycle import restored
from generations.models import Exchange, Generation, Lane, Status, UnassignedPrediction
from generations.services import decisions, drafts, orders
from generations.services.refusals import Refused
from projects.models import Project, SpendEntry
from projects.money import spend
from tests import factories, pipeline
from tests.histories import histories
from tests.pipeline import ENDPOINT, file_sha256, project_totals, submit_next, until
from tests.sandbox import SandboxControl
from wavespeed_sandbox import Sandbox

WHICH = st.integers(0, 20)
SUBMITS = st.sampled_from(
    ["", "submit_drop_after", "submit_drop_before", "submit_504_created", "submit_504", "submit_no_id", "submit_400"]
)
TASKS = st.sampled_from(["", "", "task_failed", "result_false_failure"])


@dataclass
class World:
    project: Project
    owner: User
    provider: SandboxControl
    counts: Counter[str] = field(default_factory=Counter)


class Lost(RuleBasedStateMachine):
    """Each step is the product's; only their order is random, as messages are lost, doubled and late."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.savepoint = transaction.savepoint()
        world.provider.reset()
        # A history that was rolled back looks like a restored backup to the storage, which remembers each request.
        Lane.objects.get_or_create(pk=Lane.WAVESPEED)
        restored.compared()

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            transaction.savepoint_rollback(self.savepoint)

    # --- What happens ---

    @initialize(faults=st.lists(st.tuples(SUBMITS, TASKS), min_size=2, max_size=3))
    def begin(self, faults: list[tuple[str, str]]) -> None:
        for fault, task in faults:
            self.submit(fault, task)

    @rule(fault=SUBMITS, task=TASKS)
    def submit(self, fault: str, task: str) -> None:
        if Generation.objects.count() > 4:
            return
        for kind in filter(None, (fault, task)):
            self.world.provider.arm(kind)
        by = self.world.owner
        image = factories.source_image(self.world.project, by)
        inputs = {"image": str(image.pk), "prompt": "Steam", "duration": 3}
        orders.queue(drafts.create(self.world.project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)
        submit_next()

    @rule(which=WHICH)
    def resolve(self, which: int) -> None:
        if generation := self.one_of(which, Status.UNCONFIRMED):
            self.resolve_it(generation)

    @rule(which=WHICH)
    def poll(self, which: int) -> None:
        if generation := self.one_of(which, Status.PROCESSING, Status.FAILED):
            self.count("polled", lifecycle.poll(generation.pk))

    @rule()
    def one_look(self) -> None:
        """What workers make of all that is there, once the provider is done."""
        until(self.provider_is_done)
        for generation in Generation.objects.all():
            self.resolve_it(generation)
            self.count("polled", lifecycle.poll(generation.pk))

    @rule(which=WHICH)
    def store(self, which: int) -> None:
        if generation := self.one_of(which, Status.STORING):
            self.count("stored", lifecycle.store(generation.pk))

    @rule(which=WHICH)
    def settle(self, which: int) -> None:
        if generation := self.one_of(which):
            lifecycle.settle(generation.pk)

    @rule(which=WHICH)
    def late_reply(self, which: int) -> None:
        """The worker was not dead after all, and has its answer; maybe a second time."""
        if (generation := self.one_of(which)) and (prediction := self.made_for(generation)):
            adopted = lifecycle.adopt(generation.pk, prediction["id"], reason="The provider's answer came late.")
            self.count("late reply", adopted or None)

    @rule(which=WHICH)
    def webhook(self, which: int) -> None:
        if (generation := self.one_of(which, Status.UNCONFIRMED)) and (prediction := self.made_for(generation)):
            Exchange.objects.create(
                generation=generation, kind=Exchange.Kind.WEBHOOK, prediction_id=prediction["id"], summary="completed"
            )
            Generation.objects.filter(pk=generation.pk, status=Status.FAILED).update(next_action_at=timezone.now())

    @rule()
    def store_candidates(self) -> None:
        for pk in UnassignedPrediction.objects.values_list("pk", flat=True):
            self.count("stored apart", lifecycle.store_unassigned(pk) or None)

    @rule(which=WHICH)
    def decide_not_made(self, which: int) -> None:
        if generation := self.one_of(which, Status.UNCONFIRMED):
            self.decide("not made", lambda: pipeline.settle_not_made(generation, by=self.world.owner, reason="No."))

    @rule(which=WHICH)
    def decide_made(self, which: int) -> None:
        """Rightly: owners see the video."""
        generation = self.one_of(which, Status.UNCONFIRMED)
        prediction = self.made_for(generation) if generation else None
        row = UnassignedPrediction.objects.filter(prediction_id=prediction["id"]).first() if prediction else None
        if generation and row:
            self.decide("made", lambda: decisions.assign(generation, row, by=self.world.owner, reason="Yes."))

    def decide(self, what: str, decision: Callable[[], None]) -> None:
        try:
            decision()
        except Refused:
            return
        self.world.counts[what] += 1

    # --- What must hold ---

    @invariant()
    def nothing_is_sent_twice(self) -> None:
        assert all(count == 1 for count in self.world.provider.posts()["by_image"].values())

    @invariant()
    def money_is_held_until_it_is_known(self) -> None:
        for generation in Generation.objects.all():
            entries = SpendEntry.objects.filter(reference=generation.pk)
            assert entries.filter(kind="charge").count() <= 1
            assert entries.exclude(ends=None).count() <= 1
            if generation.status in (Status.UNCONFIRMED, Status.PROCESSING):
                assert entries.exclude(ends=None).count() == 0

    @invariant()
    def a_prediction_is_one_generations(self) -> None:
        for row in UnassignedPrediction.objects.exclude(assigned_to=None).select_related("assigned_to"):
            assert row.assigned_to.prediction_id == row.prediction_id

    def everything_ends(self) -> None:
        """With the faults off, every row ends, owners decide what is left, and each made video is here and paid once."""
        provider = self.world.provider
        provider.disarm()
        until(self.provider_is_done)
        with time_machine.travel(timezone.now() + timedelta(minutes=10)):
            lifecycle.find_orphans()
            for generation in Generation.objects.all():
                lifecycle.resolve(generation.pk)
            self.owners_decide()
            for _ in range(3):
                for generation in Generation.objects.all():
                    lifecycle.poll(generation.pk)
                    lifecycle.store(generation.pk)
                    lifecycle.settle(generation.pk)
        assert not Generation.objects.exclude(status__in=(Status.COMPLETED, Status.FAILED)).exists()
        for prediction in provider.predictions():
            generation = Generation.objects.get(prediction_id=prediction["id"])
            assert self.made_for(generation) == prediction
            assert (generation.status == Status.COMPLETED) == (prediction["status"] == "completed")
            if generation.status == Status.COMPLETED:
                assert file_sha256(generation) == prediction["output_sha256"]
        totals = project_totals(self.world.project.pk)
        assert (totals["reserved"], totals["spent"]) == (0, provider.bill()["total_micros"])
        for generation in Generation.objects.filter(status=Status.COMPLETED):
            assert generation.charged == spend.charged(generation.pk)
        self.nothing_is_sent_twice()

    def owners_decide(self) -> None:
        for generation in Generation.objects.filter(prediction_id=None, status__in=(Status.UNCONFIRMED, Status.FAILED)):
            prediction = self.made_for(generation)
            if prediction:
                row = UnassignedPrediction.objects.get(prediction_id=prediction["id"])
                decisions.assign(generation, row, by=self.world.owner, reason="It is.")
            elif generation.status == Status.UNCONFIRMED:
                pipeline.settle_not_made(generation, by=self.world.owner, reason="It was not made.")

    # --- Steps ---

    def provider_is_done(self) -> bool:
        return all(each["status"] in ("completed", "failed") for each in self.world.provider.predictions())

    def resolve_it(self, generation: Generation) -> None:
        self.count("found", lifecycle.resolve(generation.pk))

    def one_of(self, which: int, *statuses: Status) -> Generation | None:
        """One that stands there, if any does; else whichever, as messages come too late too."""
        rows = list(Generation.objects.order_by("created_at", "pk"))
        found = [row for row in rows if row.status in statuses] or rows
        return found[which % len(found)] if found else None

    def made_for(self, generation: Generation) -> dict[str, Any] | None:
        uploads = generation.uploads.values()
        return next((each for each in self.world.provider.predictions() if each["inputs"]["image"] in uploads), None)

    def count(self, what: str, outcome: object) -> None:
        self.world.counts[what] += outcome is not None


@pytest.mark.slow
@pytest.mark.parametrize("list_inputs", [True, False], ids=["inputs shown", "inputs hidden"])
def test_whatever_the_order_each_is_paid_once_and_stored(
    list_inputs: bool, project: Project, wavespeed: SandboxControl, settings_of_a_fast_studio: None
) -> None:
    factories.budget(project, 1_000_000_000)
    world = World(project, project.created_by, wavespeed)
    run_state_machine_as_test(
        lambda: Lost(world),
        settings=histories(8, steps=25),
    )
    expected = {"polled", "late reply", "not made", "found" if list_inputs else "made"}
    assert {what for what, count in world.counts.items() if count} >= expected, world.counts


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox], request: pytest.FixtureRequest) -> Sandbox:
    return make_sandbox(list_inputs=request.getfixturevalue("list_inputs"), refund_after=0.0)


@pytest.fixture
def settings_of_a_fast_studio(settings: object) -> None:
    """Owners may decide at once."""
    settings.UNCONFIRMED_MINUTES = 1e-6
