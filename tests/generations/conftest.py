from collections.abc import Iterator
from datetime import timedelta

import dramatiq
import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone

from generations import lifecycle, provider
from generations.models import Generation, Status, UnassignedPrediction, Video
from generations.services import drafts, orders
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT, list_and_bill_were_read
from tests.sandbox import SandboxControl, control, make_sandbox, sandbox

__all__ = ["control", "make_sandbox", "sandbox"]


@pytest.fixture
def wavespeed(control: SandboxControl, settings: object) -> Iterator[SandboxControl]:
    """The sandbox as the studio's provider, with short time-outs and a wide lane."""
    settings.WAVESPEED_BASE_URL = control.url
    settings.WAVESPEED_CONNECT_TIMEOUT = 5.0
    settings.WAVESPEED_READ_TIMEOUT = 5.0
    settings.WAVESPEED_DEADLINE = 10.0
    settings.WAVESPEED_VIDEOS_AT_ONCE = 100
    settings.WAVESPEED_VIDEOS_PER_MINUTE = 100
    settings.WAVESPEED_POLL_SECONDS = 0.1
    provider.client.cache_clear()
    yield control
    provider.client.cache_clear()


@pytest.fixture
def budget(project: Project) -> int:
    """A hard budget of $10 on the project."""
    factories.budget(project, 10_000_000)
    return 10_000_000


@pytest.fixture
def draft(project: Project, editor: User, budget: int) -> Generation:
    image = factories.source_image(project, editor)
    inputs = {"image": str(image.pk), "prompt": "Steam rises from the cup", "duration": 5, "sound": True}
    return drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=editor)


@pytest.fixture
def queued(draft: Generation) -> Generation:
    return orders.queue(draft, by=draft.requested_by)


@pytest.fixture
def unconfirmed(queued: Generation) -> Generation:
    """Sent 20 minutes ago, and its answer was lost."""
    sent = timezone.now() - timedelta(minutes=20)
    Generation.objects.filter(pk=queued.pk).update(status=Status.UNCONFIRMED, submitted_at=sent)
    queued.refresh_from_db()
    list_and_bill_were_read(queued)
    return queued


@pytest.fixture
def candidate(unconfirmed: Generation) -> UnassignedPrediction:
    """What may have become of it, with its video stored."""
    found = UnassignedPrediction.objects.create(
        prediction_id="c" * 32,
        endpoint=unconfirmed.endpoint,
        provider_status="completed",
        made_at=unconfirmed.submitted_at,
        found_by=UnassignedPrediction.FoundBy.LIST,
        stored_at=timezone.now(),
        next_action_at=None,
    )
    found.candidate_for.add(unconfirmed)
    Video.objects.create(
        unassigned=found,
        file=default_storage.save("unassigned/video.mp4", ContentFile(b"video")),
        bytes=5,
        sha256="0" * 64,
        width=320,
        height=180,
    )
    return found


@pytest.fixture
def processing(queued: Generation, wavespeed: SandboxControl) -> Generation:
    """Accepted by the provider."""
    lease = lifecycle.admit()
    assert lease
    lifecycle.submit(lease)
    queued.refresh_from_db()
    assert queued.status == Status.PROCESSING
    return queued


@pytest.fixture
def broker() -> Iterator[dramatiq.Broker]:
    """The studio's broker, with nothing in it from another test."""
    broker = dramatiq.get_broker()
    _forget(broker)
    yield broker
    _forget(broker)


def _forget(broker: dramatiq.Broker) -> None:
    """Also what a stopped worker had fetched and not begun: it is in no queue any more, but `join` would wait for it for ever."""
    broker.flush_all()
    for queue in broker.queues.values():
        while queue.unfinished_tasks:
            queue.task_done()
