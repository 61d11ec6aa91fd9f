"""The studio in one process: what is slow keeps nobody else waiting."""

import threading
from collections.abc import Iterator

import dramatiq
import pytest
from django.db import connections

from kling_studio.processes import embedded
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def held_up() -> Iterator[threading.Event]:
    """While it is not set, every download is."""
    event = threading.Event()
    yield event
    event.set()


def test_every_queue_has_a_worker() -> None:
    declared = {queue.removesuffix(".DQ") for queue in dramatiq.get_broker().get_declared_queues()}

    assert {queue for group in embedded.QUEUES for queue in group} == declared


def test_downloads_that_hang_hold_up_no_submit(held_up: threading.Event, settings: object) -> None:
    settings.WORKER_THREADS = 2
    broker = dramatiq.get_broker()
    begun, submitted = threading.Semaphore(0), threading.Event()

    @dramatiq.actor(broker=broker, queue_name="store", actor_name="hanging_download")
    def hanging_download() -> None:
        begun.release()
        held_up.wait(30)
        connections.close_all()

    @dramatiq.actor(broker=broker, queue_name="submit", actor_name="quick_submit")
    def quick_submit() -> None:
        submitted.set()
        connections.close_all()

    try:
        with embedded._workers(broker):
            for _ in range(8):
                hanging_download.send()
            assert begun.acquire(timeout=10)
            assert begun.acquire(timeout=10)
            quick_submit.send()

            assert submitted.wait(10)
            held_up.set()
            wait_until(lambda: broker.queues["store"].unfinished_tasks == 0)
    finally:
        del broker.actors["hanging_download"], broker.actors["quick_submit"]
