"""The dispatcher and the actors on a real worker: what is lost is found again."""

from collections.abc import Iterator
from datetime import timedelta

import dramatiq
import pytest
from django.db import connection
from django.utils import timezone

from generations import dispatch, lifecycle, services
from generations.models import Generation, Status
from tests import factories
from tests.pipeline import ENDPOINT, until
from tests.sandbox import SandboxControl

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
        made.append(services.queue(services.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by))
    return made


@pytest.fixture
def broker() -> Iterator[dramatiq.Broker]:
    broker = dramatiq.get_broker()
    broker.flush_all()
    yield broker
    broker.flush_all()


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
        broker.join("submit", timeout=20_000)
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
    assert all(at > timezone.now() + lifecycle.REDELIVERY - timedelta(seconds=10) for at in due)


def test_a_dead_submit_is_found_and_unconfirmed(
    queued_ones: list[Generation], worker: dramatiq.Worker, settings: object
) -> None:
    Generation.objects.update(status=Status.SUBMITTING, submitted_at=timezone.now(), lease_until=timezone.now())

    dispatch.tick()

    until(lambda: statuses() == ["unconfirmed"] * 3)


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

    with django_assert_max_num_queries(20):
        dispatch.tick()

    assert broker.queues["poll"].qsize() == 60
