"""How due-work-harness is told what the lifecycle is: its own steps, run against the sandbox, and what people and the provider see of them.

What only arranges or looks writes and reads rows directly; what acts is the studio's own code, which the harness checks.
"""

import hashlib
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest import mock

import dramatiq
import pytest
import time_machine
from django.contrib.auth.models import AnonymousUser, User
from django.core.files.storage import default_storage
from django.test import RequestFactory
from django.utils import timezone
from dramatiq.brokers.stub import StubBroker
from due_work_harness import (
    AmbiguityAware,
    BoundedRetry,
    ConvergentWrite,
    DueWorkSweep,
    FencedOwnership,
    InFlightExecution,
    Retention,
    SupersededSnapshot,
)
from due_work_harness.integrations.django.lifecycle_states import Lifecycle
from due_work_harness.worker_death import WorkerDied
from prometheus_client.parser import text_string_to_metric_families

from generations import dispatch, lifecycle, tasks
from generations.lifecycle import lane
from generations.lifecycle.lane import Lease
from generations.models import Generation, Lane, Status, UnassignedPrediction, Video
from generations.services import drafts, orders
from generations.storage.retention import apply_retention, empty
from generations.timetable import Timetable
from generations.wavespeed.client import Client
from kling_studio.metrics import metrics
from projects.models import Project
from projects.money import spend
from tests import factories, pipeline
from tests.pipeline import ENDPOINT, booked, poll_to_end, submit_next, until
from tests.sandbox import SandboxControl

STORE = next(work for work in dispatch.WORK if work.actor is tasks.store)
PAGE = 3
PATIENCE = 120


class Studio:
    """What the test has set up: the sandbox, and an owner of the studio with a project."""

    control: SandboxControl
    project: Project
    owner: User
    clock: time_machine.Traveller


@pytest.fixture
def studio(wavespeed: SandboxControl, studio_owner: User, project: Project, settings: Any) -> Iterator[None]:
    """A project with money and the sandbox behind it; unclear requests may be settled at once, and refunds come at once."""
    settings.UNCONFIRMED_MINUTES = 0.0001
    settings.METRICS_TOKEN = "a-token-for-tests"
    factories.budget(project, 1_000_000_000)
    Studio.control, Studio.project, Studio.owner = wavespeed, project, studio_owner
    broker().flush_all()
    with time_machine.travel(timezone.now(), tick=True) as Studio.clock:
        yield
    broker().flush_all()


def broker() -> StubBroker:
    stub = dramatiq.get_broker()
    assert isinstance(stub, StubBroker)
    return stub


# --- Generations, made as the product makes them ----------------------------------------------------------------------


def draft() -> Generation:
    image = factories.source_image(Studio.project, Studio.owner)
    inputs = {"image": str(image.pk), "prompt": "Steam rises", "duration": 3}
    return drafts.create(Studio.project, endpoint=ENDPOINT, inputs=inputs, by=Studio.owner)


def queued() -> Generation:
    return orders.queue(draft(), by=Studio.owner)


def processing() -> Generation:
    generation = queued()
    submit_next()
    return generation


def finished_at_provider() -> Generation:
    """Its task has ended; nobody here knows."""
    generation = processing()
    until(lambda: prediction_of(generation.pk)["status"] not in {"created", "processing"})
    return generation


def storing() -> Generation:
    generation = processing()
    poll_to_end(generation)
    return generation


def failed() -> Generation:
    """Failed at the provider and refunded there; held here until the bill is read."""
    Studio.control.arm("task_failed")
    Studio.control.arm("refund_late", seconds=0.0)
    generation = processing()
    poll_to_end(generation)
    assert generation.status == Status.FAILED
    return generation


# --- What can be seen -------------------------------------------------------------------------------------------------


def made(pk: uuid.UUID) -> list[dict[str, Any]]:
    """The provider's predictions of this generation, which name its own upload."""
    return [each for each in Studio.control.predictions() if str(pk) in each["inputs"]["image"]]


def prediction_of(pk: uuid.UUID) -> dict[str, Any]:
    [prediction] = made(pk)
    return prediction


def posts(pk: uuid.UUID) -> int:
    return sum(number for image, number in Studio.control.posts()["by_image"].items() if str(pk) in image)


def billed(pk: uuid.UUID) -> int:
    """Micro-dollars."""
    ids = {each["id"] for each in made(pk)}
    sign = {"deduct": 1, "refund": -1}
    rows = [row for row in Studio.control.bill()["rows"] if row["prediction_id"] in ids]
    return sum(sign[row["billing_type"]] * row["price_micros"] for row in rows)


def stored(pk: uuid.UUID) -> list[str]:
    """The checksums of the files that are its videos."""
    checksums = []
    for video in Video.objects.filter(generation_id=pk):
        with video.file.open("rb") as file:
            checksums.append(hashlib.sha256(file.read()).hexdigest())
    return checksums


def files(pk: uuid.UUID) -> int:
    """How many files of it are in the storage."""
    folder = f"projects/{Studio.project.pk}/videos/{pk}"
    return len(default_storage.listdir(folder)[1]) if default_storage.exists(folder) else 0


def status(pk: uuid.UUID) -> str:
    return Generation.objects.values_list("status", flat=True).get(pk=pk)


def outcome(generation: Generation) -> Any:
    """Everything of it that people and the provider see: where it stands, its books, what was asked and billed there, what is here."""
    pk = generation.pk
    return (
        status(pk),
        sorted(kind for kind, _, _ in booked(generation)),
        posts(pk),
        spend.charged(pk) - billed(pk),
        stored(pk) == [each["output_sha256"] for each in made(pk) if each["status"] == "completed"],
        files(pk),
    )


def promise(generation: Generation) -> Any:
    """What holds whatever became of it: it has ended, nothing is held, it was asked for once at most, and what was made is here and paid.

    A worker that dies between its commit and its request made nothing: an owner ends that, where normal operation makes a video.
    """
    pk = generation.pk
    [reservation] = [spend.reservation_of(pk)]
    return (
        status(pk) in {Status.COMPLETED, Status.FAILED},
        reservation is not None and not spend.is_held(reservation),
        posts(pk) <= 1,
        spend.charged(pk) - billed(pk),
        stored(pk) == [each["output_sha256"] for each in made(pk)],
    )


# --- Messages, and the workers that take them --------------------------------------------------------------------------


def waiting(actor: dramatiq.Actor) -> list[dramatiq.Message]:
    messages = [dramatiq.Message.decode(data) for data in broker().queues[actor.queue_name].queue]
    return [message for message in messages if message.actor_name == actor.actor_name]


def deliver() -> None:
    """Works off the messages that are waiting, and those that come of them."""
    while messages := [dramatiq.Message.decode(data) for queue in broker().queues.values() for data in queue.queue]:
        broker().flush_all()
        for message in messages:
            broker().get_actor(message.actor_name).fn(*message.args)


def recover() -> None:
    """Time passes and the dispatcher looks, until nothing is owed; what nobody can know, an owner decides."""
    ends = time.monotonic() + PATIENCE
    while any(is_owed(each) for each in Generation.objects.all()):
        assert time.monotonic() < ends, list(Generation.objects.values())
        time_passes()
        dispatch.tick()
        deliver()
        for each in Generation.objects.all():
            if each.status == Status.UNCONFIRMED and not made(each.pk):
                pipeline.settle_not_made(each, by=Studio.owner, reason="The provider knows nothing of it.")


def is_owed(generation: Generation) -> bool:
    ended = {Status.DRAFT, Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    return generation.status not in ended or generation.settle_at is not None


def time_passes() -> None:
    """Longer than any lease, wait or redelivery."""
    Studio.clock.shift(timedelta(minutes=2))


@contextmanager
def recorded() -> Iterator[list[str]]:
    """The names of the actors that messages were meant for; none of them leaves."""
    names: list[str] = []

    def note(message: dramatiq.Message, *, delay: int | None = None) -> dramatiq.Message:
        names.append(message.actor_name)
        return message

    with mock.patch.object(broker(), "enqueue", note):
        yield names


class Refused:
    def __init__(self) -> None:
        self.count = 0
        self.failure: BaseException | None = None


@contextmanager
def broker_refuses(at: int | None) -> Iterator[Refused]:
    """Counts what is published; the chosen message meets a broker that is down."""
    told = Refused()
    enqueue = broker().enqueue

    def counted(message: dramatiq.Message, *, delay: int | None = None) -> Any:
        told.count += 1
        if told.count == at:
            told.failure = dramatiq.errors.ConnectionClosed(ConnectionError("The broker is down."))
            raise told.failure
        return enqueue(message, delay=delay)

    with mock.patch.object(broker(), "enqueue", counted):
        yield told


# --- A: automatic recovery: a paid video that is not stored yet --------------------------------------------------------


def owed_video(*, age: timedelta) -> Generation:
    """Made by the provider `age` ago, and nobody stores it: the poll left it to come due after the redelivery time."""
    return copy_of_made(Status.STORING, next_action_at=timezone.now() - age + lifecycle.redelivery())


def ended_videos(*, age: timedelta) -> list[Generation]:
    ended = (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
    return [copy_of_made(each, next_action_at=None, completed_at=timezone.now() - age) for each in ended]


def copy_of_made(at: Status, **changes: Any) -> Generation:
    """Another generation with the outputs of one that was really made: some proofs want dozens."""
    original = Generation.objects.filter(status=Status.COMPLETED).exclude(outputs=[]).order_by("created_at").first()
    if original is None:
        original = storing()
        lifecycle.store(original.pk)
        lifecycle.settle(original.pk)
        original.refresh_from_db()
    values = {field.attname: getattr(original, field.attname) for field in Generation._meta.concrete_fields}
    own = {"id": uuid.uuid4(), "prediction_id": uuid.uuid4().hex, "status": at, "settle_at": None}
    return Generation.objects.create(**(values | own | changes))


@contextmanager
def sweep() -> Iterator[DueWorkSweep]:
    def run_tick() -> int:
        before = len(waiting(tasks.store))
        dispatch.tick()
        return len(waiting(tasks.store)) - before

    @contextmanager
    def handed_out(row: Generation, start_tick: Callable[[], int]) -> Iterator[None]:
        start_tick()
        yield

    def assert_scheduled() -> None:
        timetable = Timetable()
        dispatch.schedule(timetable)
        assert timetable.jobs[dispatch.tick.__name__].seconds == dispatch.SECONDS_BETWEEN_TICKS

    def outstanding() -> float:
        request = RequestFactory().get("/metrics", headers={"Authorization": "Bearer a-token-for-tests"})
        request.user = AnonymousUser()
        page = metrics(request).content.decode()
        [gauge] = [each for each in text_string_to_metric_families(page) if each.name == "kling_studio_generations"]
        [number] = [sample.value for sample in gauge.samples if sample.labels["status"] == Status.STORING]
        return float(number)

    # ARRANGE: rows in `storing`, as `poll` leaves them. The share of a page that goes to what came due last is drawn by lot
    # (tests/generations/test_dispatch.py proves it): here it is none, so that a page has one order.
    with mock.patch.object(dispatch, "NEWEST", 1_000_000_000), mock.patch.object(dispatch, "BATCH", PAGE):
        yield DueWorkSweep(
            name="paid videos",
            make_owed=owed_video,
            make_terminal=ended_videos,
            recovery_delay=lifecycle.redelivery(),
            page_size=dispatch.BATCH,
            tick_interval=timedelta(seconds=dispatch.SECONDS_BETWEEN_TICKS),
            # REAL PRODUCTION: the dispatcher's own selection, its tick and its schedule.
            due_work=lambda: STORE.due(timezone.now()),
            run_tick=run_tick,
            assert_scheduled=assert_scheduled,
            in_flight=InFlightExecution(
                make_owed=lambda: owed_video(age=lifecycle.redelivery() + timedelta(minutes=1)),
                start=handed_out,
                execution_count_for=lambda row: len(messages_for(row)),
            ),
            # EXTERNAL SEAM: dramatiq's in-memory broker keeps the messages; the provider is the sandbox over HTTP.
            dispatched_ids=lambda: [uuid.UUID(message.args[0]) for message in waiting(tasks.store)],
            lifecycle=Lifecycle(
                state_fields=("status",),
                execute=lifecycle.store,
                excluded_states={
                    "draft": "nothing is owed before it is queued",
                    "awaiting_approval": "nothing is owed before somebody has approved it; approvals.expire ends it",
                    "queued": "the lane's own selection hands it out: lifecycle.ask_for_worker, and profile B",
                    "submitting": "recover_submit's selection in dispatch.WORK, and profile C",
                    "unconfirmed": "resolve's selection in dispatch.WORK, and profile C",
                    "processing": "poll's selection in dispatch.WORK; the crash histories end it",
                },
                effect_calls_for=lambda row: files(row.pk),
            ),
            # OBSERVE: what an operator reads on /metrics.
            observe_outstanding=outstanding,
        )


def messages_for(row: Generation) -> list[dramatiq.Message]:
    return [message for message in waiting(tasks.store) if message.args[0] == str(row.pk)]


# --- B: bounded ownership: the lane's lease ----------------------------------------------------------------------------


@contextmanager
def ownership() -> Iterator[FencedOwnership]:
    def claim() -> tuple[uuid.UUID, uuid.UUID] | None:
        lease = lifecycle.admit()
        return (lease.pk, lease.token) if lease else None

    def observe(pk: uuid.UUID) -> Any:
        return Generation.objects.values_list("status", "attempts", "lease_until").get(pk=pk)

    # ARRANGE: a queued generation; an owner that died is one whose lease has ended.
    yield FencedOwnership(
        name="a place in the lane",
        make_claimable=queued,
        expire_lease=end_lease,
        # REAL PRODUCTION: the lane lets in, the rows' own queryset fences what the owner writes.
        claim=claim,
        fenced_write=lambda pk, token: Generation.objects.save_leased(pk, token, attempts=7),
        other_fenced_writes={
            "hand over": lambda pk, token: Generation.objects.move(
                pk, Status.QUEUED, Status.SUBMITTING, token=token, submitted_at=timezone.now()
            ),
            "fail": lambda pk, token: Generation.objects.move(pk, Status.QUEUED, Status.FAILED, token=token),
        },
        renew_lease=lambda pk, token: Generation.objects.renew(pk, token, 600),
        reclaim_stalled=lambda pk: lifecycle.ask_for_worker(),
        no_disposition=False,
        release_unchanged=lambda pk, token: Generation.objects.save_leased(pk, token, release=True),
        # EXTERNAL SEAM: none; nothing is sent while a place is only taken.
        # OBSERVE: the row as the next worker finds it.
        observe=observe,
        race_timeout=60,
    )


def end_lease(pk: uuid.UUID) -> None:
    Generation.objects.filter(pk=pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    Lane.objects.update(sent_at=None)


# --- C: crash ambiguity: the paid request ------------------------------------------------------------------------------


@contextmanager
def ambiguity() -> Iterator[AmbiguityAware]:
    def claim() -> tuple[uuid.UUID, uuid.UUID]:
        queued()
        lease = lifecycle.admit()
        assert lease
        return lease.pk, lease.token

    def start_attempt(pk: uuid.UUID, token: uuid.UUID) -> None:
        with dies_in_request(), pytest.raises(WorkerDied):
            lifecycle.submit(Lease(pk, token))

    def resolve_stalled(pk: uuid.UUID) -> str:
        lifecycle.recover_submit(pk)
        return status(pk)

    def apply_late_evidence(pk: uuid.UUID) -> str:
        lifecycle.resolve(pk)
        until(lambda: lifecycle.poll(pk) is not None or status(pk) != Status.PROCESSING)
        lifecycle.store(pk)
        return status(pk)

    # ARRANGE: a queued generation that a worker has taken in hand.
    yield AmbiguityAware(
        name="the paid request",
        expire_lease=end_lease,
        # REAL PRODUCTION: admit, submit, recover_submit, resolve, poll and store are the lifecycle's own.
        claim=claim,
        start_attempt=start_attempt,
        resolve_stalled=resolve_stalled,
        apply_late_evidence=apply_late_evidence,
        due_work_ids=due_again,
        # EXTERNAL SEAM: the client's paid call really reaches the sandbox; then the worker dies before it hears of it.
        # OBSERVE: the row's status; an open attempt is `submitting` with the time at which it was handed over.
        open_attempt=lambda pk: Generation.objects.filter(pk=pk, status=Status.SUBMITTING).first(),
        state_of=status,
        ambiguous_disposition=Status.UNCONFIRMED.value,
        retryable_disposition=Status.QUEUED.value,
        ambiguous_state=Status.UNCONFIRMED.value,
        terminal_states=(Status.COMPLETED.value,),
    )


def due_again() -> list[uuid.UUID]:
    """What the lane would let in and send to the provider."""
    return [row.pk for row in lane._due(timezone.now())]


@contextmanager
def dies_in_request() -> Iterator[None]:
    """The paid request is sent and accepted, and the worker dies before the answer is read."""
    submit = Client.submit

    def die(client: Client, *args: Any, **kwargs: Any) -> None:
        submit(client, *args, **kwargs)
        raise WorkerDied("in the paid request")

    with mock.patch.object(Client, "submit", die):
        yield


# --- D: durable retention: the trash -----------------------------------------------------------------------------------


@contextmanager
def retention() -> Iterator[Retention]:
    def undecided() -> Video:
        """In the trash for long, and perhaps the video of a request that nobody has decided about."""
        unconfirmed = queued()
        Generation.objects.filter(pk=unconfirmed.pk).update(status=Status.UNCONFIRMED, submitted_at=timezone.now())
        prediction = UnassignedPrediction.objects.create(
            prediction_id=uuid.uuid4().hex, found_by=UnassignedPrediction.FoundBy.LIST, stored_at=timezone.now()
        )
        prediction.candidate_for.add(unconfirmed)
        return thrown_away(generation=None, unassigned=prediction)

    def thrown_away(**owner: Any) -> Video:
        video = stored_video()
        Video.objects.filter(pk=video.pk).update(trashed_at=timezone.now() - timedelta(days=400), **owner)
        return Video.objects.get(pk=video.pk)

    # ARRANGE: stored videos that were thrown away more than a year ago.
    yield Retention(
        name="the trash",
        make_non_terminal=undecided,
        make_prunable=thrown_away,
        # REAL PRODUCTION: the actor that the dispatcher sends every hour runs these two.
        run_retention=lambda: (apply_retention(), empty()),
        # EXTERNAL SEAM: the local storage is the real one.
        # OBSERVE: whether the file is there.
        still_exists=lambda video: default_storage.exists(video.file.name),
    )


def stored_video() -> Video:
    generation = storing()
    lifecycle.store(generation.pk)
    return generation.videos.get()


# --- E: eventual convergence: the provider's bill, and a worker that was overtaken --------------------------------------


@dataclass(frozen=True)
class Books:
    pk: uuid.UUID
    entries: tuple[tuple[str, int, int], ...]

    @classmethod
    def of(cls, generation: Generation) -> "Books":
        return cls(generation.pk, tuple(booked(generation)))


@contextmanager
def convergence() -> Iterator[ConvergentWrite]:
    def apply_bill(books: Books) -> Books:
        lifecycle.settle(books.pk)
        return Books.of(Generation.objects.get(pk=books.pk))

    def settled() -> Books:
        return apply_bill(unsettled())

    def unsettled() -> Books:
        return Books.of(failed())

    # ARRANGE: a generation that failed at the provider and was refunded there, before and after its bill was read.
    yield ConvergentWrite(
        name="the books of a failure",
        settled_state=settled,
        unsettled_state=unsettled,
        # REAL PRODUCTION: settle reads the bill and books it.
        apply_evidence=apply_bill,
        # EXTERNAL SEAM: the bill is the sandbox's, over HTTP.
        # OBSERVE: the ledger's entries, and whether its hold has ended.
        is_settled=lambda books: books.entries[-1][0] == "release",
    )


@contextmanager
def snapshot() -> Iterator[SupersededSnapshot]:
    observed: list[uuid.UUID] = []

    def take() -> Lease:
        observed[:] = [queued().pk]
        lease = lifecycle.admit()
        assert lease
        return lease

    def overtake() -> None:
        """The worker is slow, its lease ends, and another one takes the generation in hand."""
        time_passes()
        assert lifecycle.admit()

    def observe() -> Any:
        [pk] = observed
        return status(pk), posts(pk), Generation.objects.values_list("request_body", flat=True).get(pk=pk)

    # ARRANGE: a queued generation in a worker's hand.
    yield SupersededSnapshot(
        name="a worker that was overtaken",
        take_snapshot=take,
        # REAL PRODUCTION: the lane gives it to the next worker, and the first one goes on to submit it.
        supersede=overtake,
        run_with_snapshot=lifecycle.submit,
        # EXTERNAL SEAM: the clock; the provider is the sandbox over HTTP.
        # OBSERVE: the row, and how often the sandbox was asked for it.
        observe=observe,
    )


# --- Safety: bounded retry: a request that is refused ------------------------------------------------------------------


@contextmanager
def refused() -> Iterator[BoundedRetry]:
    def make() -> uuid.UUID:
        Studio.control.disarm()
        Studio.control.arm("submit_403", times=None)
        return queued().pk

    # ARRANGE: a queued generation that the provider refuses each time, though the key is good for other calls.
    yield BoundedRetry(
        name="a refused request",
        max_executions=3,
        make_failing=make,
        advance_to_due=lambda pk: time_passes(),
        # REAL PRODUCTION: the lane's selection, and the actor that fills it.
        due_work=lambda: lane._due(timezone.now()),
        run_once=lambda pk: tasks.fill_lane(),
        identity_of=lambda row: getattr(row, "pk", row),
        # EXTERNAL SEAM: the sandbox refuses the POST with 403; it counts the POSTs that arrive.
        failure_attempt_count=posts,
        # OBSERVE: where it stands, and its books.
        is_terminal=lambda pk: status(pk) == Status.FAILED,
        observe=lambda pk: (status(pk), booked(Generation.objects.get(pk=pk)), posts(pk)),
    )
