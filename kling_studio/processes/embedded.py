"""The studio in one process: dramatiq's workers on the in-memory broker, the dispatcher, and the sandbox when there is no key."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import dramatiq
import structlog
from django.conf import settings
from dramatiq.brokers.stub import StubBroker

from generations import dispatch, provider
from generations.models import Process
from generations.timetable import Timetable
from generations.watching.heartbeat import beating
from projects.api.base import idempotency
from wavespeed_sandbox import Sandbox
from wavespeed_sandbox.book import BookInUse

log = structlog.get_logger(__name__)

# What waits for the provider's API, what downloads, and what may take its time.
QUEUES = (("submit", "poll"), ("store",), ("default",))
SANDBOX_HOME = settings.STUDIO_HOME / "sandbox"
# Where a second process of the same studio finds the sandbox of the first.
SANDBOX_ADDRESS = settings.STUDIO_HOME / "sandbox.url"


@contextmanager
def running() -> Iterator[None]:
    """Runs what the studio needs in this process until the block ends; with a real broker the workers are processes of their own."""
    with ExitStack() as stack:
        if settings.SANDBOX_EMBEDDED:
            stack.enter_context(_sandbox())
        broker = dramatiq.get_broker()
        if isinstance(broker, StubBroker):
            # What the process before this one had begun to answer, it never will.
            idempotency.end_all()
            stack.enter_context(_workers(broker))
            stack.enter_context(_dispatcher())
        yield


@contextmanager
def _sandbox() -> Iterator[None]:
    try:
        sandbox = _start_sandbox()
    except BookInUse:
        provider.connect(SANDBOX_ADDRESS.read_text().strip())
        yield
        return
    SANDBOX_ADDRESS.write_text(sandbox.url)
    provider.connect(sandbox.url)
    try:
        yield
    finally:
        sandbox.stop()


def _start_sandbox() -> Sandbox:
    on_port = partial(Sandbox, SANDBOX_HOME, resolution=settings.SANDBOX_RESOLUTION, speed=settings.SANDBOX_SPEED)
    try:
        return on_port(port=settings.SANDBOX_PORT).start()
    except OSError:
        log.warning("sandbox_port_taken", port=settings.SANDBOX_PORT)
        return on_port(port=0).start()


@contextmanager
def _workers(broker: StubBroker) -> Iterator[None]:
    """A worker for each group of queues, as scaled out: however slow downloads are, they keep nobody from submitting."""
    # What `dramatiq`'s own command does when it boots; without it time limits never start.
    broker.emit_after("process_boot")
    options = {"worker_threads": settings.WORKER_THREADS, "worker_timeout": 100}
    workers = [dramatiq.Worker(broker, queues=set(queues), **options) for queues in QUEUES]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.stop(timeout=5_000)
        broker.close()


@contextmanager
def _dispatcher() -> Iterator[None]:
    timetable = Timetable()
    dispatch.schedule(timetable)
    timetable.start()
    try:
        with beating(Process.Kind.STUDIO, timetable):
            yield
    finally:
        timetable.stop()
