"""The dispatcher and the actors on a real worker: what is lost is found again."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import dramatiq
import pytest
import time_machine
from django.db import OperationalError, ProgrammingError, connection
from django.utils import timezone
from dramatiq.errors import ConnectionClosed
from structlog.testing import capture_logs

from generations import dispatch, lifecycle, tasks
from generations.models import Generation, Status, UnassignedPrediction
from generations.services import drafts, orders
from generations.timetable import Timetable
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT, until
from tests.sandbox import SandboxControl
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def queued_ones() -> list[Generation]:
    project = factories.ProjectFactory()
    factories.budget(project, 100_000_000)
    by = project.created_by
    image = str(factories.source_image(project, by).pk)
    made = []
    for take in range(3):
        inputs = {"image": image, "prompt": f"Take {take}", "duration": 3}
        made.append(orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by))
    return made


@pytest.fixture
def worker(broker: dramatiq.Broker) -> Iterator[dramatiq.Worker]:
    worker = dramatiq.Worker(broker, worker_threads=4, worker_timeout=50)
    worker.start()
    yield worker
    worker.stop()


def statuses() -> list[str]:
    return sorted(Generation.objects.values_list("status", flat=True))


def test_everything_that_is_queued_is_made_by_workers_and_dispatcher(
    queued_ones: list[Generation], wavespeed: SandboxControl, worker: dramatiq.Worker
) -> None:
    def ticked() -> bool:
        dispatch.tick()
        return statuses() == ["completed"] * 3

    until(ticked)

    assert wavespeed.posts()["count"] == 3
    assert wavespeed.bill()["total_micros"] == sum(Generation.objects.values_list("charged", flat=True))


def test_a_lost_message_costs_no_video(
    queued_ones: list[Generation], wavespeed: SandboxControl, broker: dramatiq.Broker, worker: dramatiq.Worker
) -> None:
    """Every message that an actor or a request sent is thrown away; only what the dispatcher finds again is worked on."""

    def lose_and_tick() -> bool:
        broker.flush_all()
        Generation.objects.filter(lease_token=None, next_action_at__gt=timezone.now()).update(
            next_action_at=timezone.now()
        )
        dispatch.tick()
        broker.join("submit", timeout=60_000)
        return statuses() == ["completed"] * 3

    until(lose_and_tick)

    assert wavespeed.posts()["count"] == 3


def test_a_due_row_looks_due_again_only_after_the_redelivery_time(
    queued_ones: list[Generation], broker: dramatiq.Broker
) -> None:
    Generation.objects.update(
        status=Status.PROCESSING, prediction_id=None, next_action_at=timezone.now(), submitted_at=timezone.now()
    )

    dispatch.tick()
    first = broker.queues["poll"].qsize()
    dispatch.tick()

    assert (first, broker.queues["poll"].qsize()) == (3, 3)
    due = Generation.objects.values_list("next_action_at", flat=True)
    assert all(at > timezone.now() + lifecycle.redelivery() - timedelta(seconds=10) for at in due)


def test_a_dead_submit_is_found_and_unconfirmed(
    queued_ones: list[Generation], worker: dramatiq.Worker, settings: object
) -> None:
    Generation.objects.update(status=Status.SUBMITTING, submitted_at=timezone.now(), lease_until=timezone.now())

    dispatch.tick()

    until(lambda: statuses() == ["unconfirmed"] * 3)


# --- Handing out ------------------------------------------------------------------------------------------------------


def due(number: int, status: Status = Status.PROCESSING, **fields: Any) -> list[Generation]:
    """Rows that are due for what `status` waits for, the first the longest."""
    project = Project.objects.first() or factories.ProjectFactory()
    now = timezone.now()
    rows = [
        Generation(
            **{
                "project": project,
                "requested_by_id": project.created_by_id,
                "endpoint": ENDPOINT,
                "inputs_digest": "x",
                "status": status,
                "submitted_at": now - timedelta(hours=1),
                "next_action_at": now - timedelta(minutes=10) + timedelta(milliseconds=each),
                **fields,
            }
        )
        for each in range(number)
    ]
    return Generation.objects.bulk_create(rows, batch_size=1000)


def messages(broker: dramatiq.Broker) -> list[tuple[str, str]]:
    """Takes all that was sent: (actor, id)."""
    taken = []
    for queue in broker.queues.values():
        while queue.qsize():
            message = dramatiq.Message.decode(queue.get_nowait())
            queue.task_done()
            taken.append((message.actor_name, message.args[0] if message.args else ""))
    return taken


KINDS = [
    (Status.PROCESSING, {}, "poll", 500),
    (Status.FAILED, {}, "poll", 100),
    (Status.UNCONFIRMED, {}, "resolve", 100),
    (Status.STORING, {}, "store", 100),
    (Status.COMPLETED, {"settle_at": timezone.now() - timedelta(days=1), "next_action_at": None}, "settle", 200),
    (Status.SUBMITTING, {"lease_until": timezone.now(), "next_action_at": None}, "recover_submit", 100),
]


@pytest.mark.parametrize(("status", "fields", "actor", "most"), KINDS)
def test_at_most_so_many_are_handed_out_and_not_taken(
    status: Status, fields: dict[str, Any], actor: str, most: int, broker: dramatiq.Broker
) -> None:
    rows = due(most + 50, status, **fields)

    for _ in range(5):
        dispatch.tick()

    sent = messages(broker)
    assert {name for name, _ in sent} == {actor}
    assert len({pk for _, pk in sent}) == len(sent) == most
    # Workers take twenty, so that twenty others are handed out.
    taken = [pk for _, pk in sent[:20]]
    ended = {"status": Status.CANCELLED, "sent_at": None, "settle_sent_at": None, "settle_at": None}
    Generation.objects.filter(pk__in=taken).update(**ended)
    dispatch.tick()
    again = messages(broker)
    assert len(again) == 20
    assert not {pk for _, pk in again} & {pk for _, pk in sent}
    assert len(rows) == Generation.objects.count()


@pytest.mark.parametrize(("status", "fields", "actor", "most"), KINDS)
def test_what_nobody_took_is_sent_again_after_the_redelivery_time(
    status: Status, fields: dict[str, Any], actor: str, most: int, broker: dramatiq.Broker
) -> None:
    [row] = due(1, status, **fields)

    for _ in range(3):
        dispatch.tick()
    assert messages(broker) == [(actor, str(row.pk))]

    with time_machine.travel(timezone.now() + lifecycle.redelivery() + timedelta(seconds=1)):
        dispatch.tick()
        dispatch.tick()
    assert messages(broker) == [(actor, str(row.pk))]


def test_unassigned_predictions_are_handed_out_too(broker: dramatiq.Broker) -> None:
    UnassignedPrediction.objects.bulk_create(
        UnassignedPrediction(prediction_id=f"p{each}", found_by="list") for each in range(60)
    )

    for _ in range(3):
        dispatch.tick()

    assert Counter(name for name, _ in messages(broker)) == {"store_unassigned": 50}


def test_videos_that_expire_within_a_day_are_stored_first(broker: dramatiq.Broker) -> None:
    due(150, Status.STORING)
    urgent = due(
        30, Status.STORING, submitted_at=timezone.now() - timedelta(days=6, hours=1), next_action_at=timezone.now()
    )

    dispatch.tick()

    assert {str(row.pk) for row in urgent} <= {pk for _, pk in messages(broker)}


def test_a_video_is_stored_and_settled_without_either_waiting_for_the_other(broker: dramatiq.Broker) -> None:
    [row] = due(1, Status.STORING, settle_at=timezone.now())

    dispatch.tick()
    assert sorted(messages(broker)) == [("settle", str(row.pk)), ("store", str(row.pk))]

    row.refresh_from_db()
    lifecycle.settle(row.pk)
    assert Generation.objects.values_list("sent_at", "settle_sent_at").get() == (row.sent_at, None)


@pytest.mark.parametrize("number", [2, 10])
def test_dispatchers_side_by_side_send_each_due_row_once(
    number: int, broker: dramatiq.Broker, one_test_at_a_time: None
) -> None:
    rows = due(150) + due(30, Status.STORING) + due(30, Status.UNCONFIRMED)
    lost = due(20, Status.SUBMITTING, lease_until=timezone.now() - timedelta(seconds=1), next_action_at=None)

    for _ in range(3):
        assert at_once([dispatch.tick] * number) == [None] * number

    sent = messages(broker)
    assert sorted(pk for _, pk in sent) == sorted(str(row.pk) for row in [*rows, *lost])


class Unwilling:
    """The broker, that refuses some messages."""

    def __init__(self, broker: dramatiq.Broker, refuses: Callable[[dramatiq.Message], bool]) -> None:
        self.broker, self.refuses, self.refused = broker, refuses, 0

    def enqueue(self, message: dramatiq.Message, **options: Any) -> Any:
        if self.refuses(message):
            self.refused += 1
            raise ConnectionClosed("It is down.")
        return self.broker.enqueue(message, **options)


@contextmanager
def unwilling(broker: dramatiq.Broker, refuses: Callable[[dramatiq.Message], bool]) -> Iterator[Unwilling]:
    stand_in = Unwilling(broker, refuses)
    _connect(broker, stand_in)
    try:
        yield stand_in
    finally:
        _connect(broker, broker)


def _connect(broker: dramatiq.Broker, to: Any) -> None:
    """Each actor has its own way to the broker."""
    dramatiq.set_broker(to)
    for actor in broker.actors.values():
        actor.broker = to


def test_a_message_that_is_refused_costs_no_other_and_comes_again(broker: dramatiq.Broker) -> None:
    rows = due(20) + due(5, Status.STORING)
    unlucky = {str(rows[3].pk), str(rows[20].pk)}

    with unwilling(broker, lambda message: message.args[0] in unlucky), capture_logs() as logs:
        dispatch.tick()

    assert {pk for _, pk in messages(broker)} == {str(row.pk) for row in rows} - unlucky
    assert [(log["event"], log["messages"]) for log in logs] == [("broker_refuses", 2)]
    with time_machine.travel(timezone.now() + lifecycle.redelivery() + timedelta(seconds=1)):
        dispatch.tick()
    assert unlucky <= {pk for _, pk in messages(broker)}


def test_a_broker_that_goes_away_holds_up_nothing_that_a_worker_has(
    queued_ones: list[Generation], wavespeed: SandboxControl, broker: dramatiq.Broker
) -> None:
    with unwilling(broker, lambda message: True), capture_logs() as logs:
        tasks.fill_lane()
        [generation] = Generation.objects.filter(status=Status.PROCESSING)
        until(lambda: tasks.poll(str(generation.pk)) or statuses() == ["queued", "queued", "storing"])

    assert [log["actor"] for log in logs if log["event"] == "not_sent"] == ["fill_lane", "store", "fill_lane"]
    dispatch.tick()
    assert ("fill_lane", "") in messages(broker)


def test_a_broker_that_is_down_is_not_asked_for_each_of_hundreds(broker: dramatiq.Broker) -> None:
    due(300)
    due(100, Status.STORING)

    with unwilling(broker, lambda message: True) as stand_in, capture_logs() as logs:
        dispatch.tick()

    assert (stand_in.refused, len(logs)) == (6, 1)
    with time_machine.travel(timezone.now() + lifecycle.redelivery() + timedelta(seconds=1)):
        dispatch.tick()
    assert len(messages(broker)) == 300


def test_the_jobs_have_names_of_their_own_and_the_look_is_the_most_frequent() -> None:
    timetable = Timetable()
    dispatch.schedule(timetable)

    assert min(timetable.jobs.values(), key=lambda job: job.seconds).name == "tick"
    assert {"resume_if_account_is_back", "reconcile_tonight", "check_balance", "clean_up", "find_orphans"} <= set(
        timetable.jobs
    )


def test_a_job_that_fails_stops_no_other(monkeypatch: pytest.MonkeyPatch, broker: dramatiq.Broker) -> None:
    """A table that is gone is what no dispatcher can mend: what does not need it goes on."""
    [row] = due(1)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE generations_unassignedprediction RENAME TO elsewhere")
    try:
        with pytest.raises(ExceptionGroup) as raised:
            dispatch.tick()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE elsewhere RENAME TO generations_unassignedprediction")

    assert [type(error) for error in raised.value.exceptions] in [[OperationalError], [ProgrammingError]]
    assert messages(broker) == [("poll", str(row.pk))]


# --- A backlog --------------------------------------------------------------------------------------------------------

BACKLOG = 10_000


@pytest.mark.slow
@pytest.mark.parametrize(("status", "fields", "actor", "most"), KINDS)
def test_a_backlog_of_10_000_is_worked_off_without_starving_what_is_new(
    status: Status, fields: dict[str, Any], actor: str, most: int, broker: dramatiq.Broker
) -> None:
    """Stand-in workers lease and end what they are handed; in the middle something else becomes due, of this kind and another."""
    due(BACKLOG, status, **fields)
    sent: Counter[str] = Counter()
    longest, late, other, waited = 0, None, None, 0
    for look in range(1, 400):
        if look == 5:
            # Due only now, behind the whole backlog.
            clock = next((name for name in ("settle_at", "lease_until") if name in fields), "next_action_at")
            [late] = due(1, status, **{**fields, clock: timezone.now() - timedelta(milliseconds=1)})
            [other] = due(1, Status.STORING if status == Status.UNCONFIRMED else Status.UNCONFIRMED)
        dispatch.tick()
        queue = messages(broker)
        longest = max(longest, len(queue))
        done = [pk for _, pk in queue]
        sent.update(done)
        Generation.objects.filter(pk__in=done).update(
            status=Status.CANCELLED, sent_at=None, settle_sent_at=None, settle_at=None
        )
        if late and other and not waited and {str(late.pk), str(other.pk)} <= set(sent):
            waited = look - 5 + 1
        if len(sent) == BACKLOG + 2:
            break

    assert (len(sent), set(sent.values())) == (BACKLOG + 2, {1})
    assert longest <= most + 2
    assert 1 <= waited <= 3
    assert not Generation.objects.filter(status=status).exists()


def test_one_look_takes_the_same_number_of_queries_for_3_and_for_60_rows(
    queued_ones: list[Generation], broker: dramatiq.Broker, django_assert_max_num_queries: object
) -> None:
    template = queued_ones[0]
    for _ in range(57):
        Generation.objects.create(
            project=template.project,
            requested_by=template.requested_by,
            endpoint=ENDPOINT,
            image=template.image,
            inputs_digest="x",
        )
    Generation.objects.update(status=Status.PROCESSING, next_action_at=timezone.now())
    connection.ensure_connection()

    with django_assert_max_num_queries(24):
        dispatch.tick()

    assert broker.queues["poll"].qsize() == 60
