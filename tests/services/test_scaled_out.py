"""The studio as the Procfile's processes on PostgreSQL, a real broker and S3, by environment alone."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from tests.sandbox import SandboxControl, end_process, spawn_sandbox
from tests.services import procfile
from tests.services.servers import empty_rabbitmq, one_at_a_time, own_redis, scratch_bucket, scratch_database
from tests.studio_process import Studio
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(900), one_at_a_time]

# Processes start slowly on a machine that does much else.
PATIENCE = 240
PREPARE = """
from django.contrib.auth.models import User
from generations.services import drafts, orders
from knox.models import AuthToken
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT
by = User.objects.create_superuser("olive")
project = Project.objects.create(name="Coffee", created_by=by)
factories.budget(project, 20_000_000)
for take in range({count}):
    image = str(factories.source_image(project, by).pk)
    inputs = {{"image": image, "prompt": f"Take {{take}}", "duration": 3}}
    orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)
print(AuthToken.objects.create(user=by)[1])
"""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[SandboxControl]:
    sandbox, url = spawn_sandbox(tmp_path / "sandbox")
    yield SandboxControl(url)
    end_process(sandbox)


@pytest.fixture
def make_studio(tmp_path: Path, control: SandboxControl) -> Iterator[Callable[[str], Studio]]:
    with ExitStack() as stack:

        def make(broker_url: str) -> Studio:
            studio = Studio(
                tmp_path / "home",
                DATABASE_URL=stack.enter_context(scratch_database()),
                STORAGE_URL=stack.enter_context(scratch_bucket()),
                DRAMATIQ_BROKER_URL=broker_url,
                AWS_ACCESS_KEY_ID="test",
                AWS_SECRET_ACCESS_KEY="test",
                WAVESPEED_BASE_URL=control.url,
                WAVESPEED_VIDEOS_PER_MINUTE="20",
                WAVESPEED_VIDEOS_AT_ONCE="20",
                WAVESPEED_DEADLINE="30",
                REDELIVERY_SECONDS="5",
            )
            procfile.release(studio)
            return studio

        yield make


@pytest.fixture
def studio(make_studio: Callable[[str], Studio]) -> Studio:
    return make_studio(own_redis())


def statuses(studio: Studio) -> dict[str, str]:
    """By prompt."""
    with psycopg.connect(studio.environment["DATABASE_URL"]) as connection:
        return dict(connection.execute("SELECT prompt, status FROM generations_generation").fetchall())


def wait_for(studio: Studio, running: procfile.Running, wanted: dict[str, str], seconds: float = PATIENCE) -> None:
    wait_until(
        lambda: wanted.items() <= statuses(studio).items(),
        seconds=seconds,
        why=lambda: f"{statuses(studio)}; {running.log.read_text()[-4000:]}",
    )


@pytest.mark.parametrize("broker", ["redis", "rabbitmq"])
def test_videos_are_made_by_the_processes_of_the_procfile_and_stored_on_s3(
    broker: str, make_studio: Callable[[str], Studio], control: SandboxControl
) -> None:
    studio = make_studio(own_redis() if broker == "redis" else empty_rabbitmq())
    api = requests.Session()
    api.headers["Authorization"] = f"Bearer {studio.run(PREPARE.format(count=3)).split()[-1]}"
    with api, procfile.running(studio) as running:
        running.start()
        wait_for(studio, running, {f"Take {take}": "completed" for take in range(3)})
        wait_until(lambda: answers(api, studio), seconds=PATIENCE, why=running.log.read_text)
        rows: list[dict[str, Any]] = api.get(f"{studio.url}/api/v1/generations/", timeout=30).json()["results"]
        stored = {fetched_sha256(api, studio, row["videos"][0]["id"]) for row in rows}
        for name in procfile.processes():
            running.terminate(name)
        ended = {name: running.wait(name) for name in procfile.processes()}

    assert control.posts()["count"] == 3
    assert control.bill()["total_micros"] == 3 * 1_260_000
    assert stored == {made["output_sha256"] for made in control.predictions()}
    assert [row["charged"] for row in rows] == ["1.26"] * 3
    assert ended == dict.fromkeys(procfile.processes(), 0)


def answers(api: requests.Session, studio: Studio) -> bool:
    try:
        return api.get(f"{studio.url}/api/v1/generations/", timeout=30).ok
    except requests.ConnectionError:
        return False


def fetched_sha256(api: requests.Session, studio: Studio, video: object) -> str:
    """The checksum of what a frontend downloads: a redirect to a signed address of the bucket."""
    answer = api.get(f"{studio.url}/api/v1/videos/{video}/download/", timeout=30, allow_redirects=False)
    assert answer.status_code == 302
    target = answer.headers["Location"]
    assert target.startswith(os.environ["TEST_S3_ENDPOINT_URL"])
    assert "X-Amz-Signature" in target
    return hashlib.sha256(requests.get(target, timeout=30).content).hexdigest()


def test_slow_downloads_never_delay_polls(studio: Studio, control: SandboxControl) -> None:
    """More downloads that take for ever than the worker of the queue has threads; another one is polled to its verdict meanwhile."""
    slow = 9
    studio.run(PREPARE.format(count=slow))
    control.arm("download_slow", times=slow, bytes_per_second=200)
    with procfile.running(studio) as running:
        running.start("worker-submit", "worker-poll", "worker-store", "dispatcher")
        wait_for(studio, running, {f"Take {take}": "storing" for take in range(slow)})
        studio.run(LATE)
        # Polled, charged and waiting for its download: as soon as it would be without the others.
        wait_for(studio, running, {"Late": "storing"}, seconds=60)
        assert set(statuses(studio).values()) == {"storing"}
        control.disarm()
    assert control.posts()["count"] == slow + 1


LATE = """
from django.contrib.auth.models import User
from generations.services import drafts, orders
from projects.models import Project, SourceImage
from tests.pipeline import ENDPOINT
by, project = User.objects.get(username="olive"), Project.objects.get()
inputs = {"image": str(SourceImage.objects.first().pk), "prompt": "Late", "duration": 3}
orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)
"""


@pytest.mark.parametrize("whole_group", [False, True], ids=["main process", "whole group"])
def test_sigterm_in_the_middle_of_a_paid_post_lets_it_end(
    whole_group: bool, studio: Studio, control: SandboxControl
) -> None:
    """An upgrade while the provider takes 8 s to answer: the old worker ends its request, the new one goes on from there."""
    studio.run(PREPARE.format(count=1))
    control.arm("submit_slow", seconds=8.0)
    with procfile.running(studio) as running:
        running.start("worker-submit", "dispatcher")
        wait_for(studio, running, {"Take 0": "submitting"})
        wait_until(lambda: control.posts()["count"] == 1, seconds=PATIENCE)

        running.terminate("worker-submit", whole_group=whole_group)
        running.terminate("dispatcher", whole_group=whole_group)

        assert (running.wait("worker-submit"), running.wait("dispatcher")) == (0, 0)
        assert statuses(studio) == {"Take 0": "processing"}
        running.start("worker-submit", "worker-poll", "worker-store", "dispatcher")
        wait_for(studio, running, {"Take 0": "completed"})
    assert control.posts()["count"] == 1
    assert control.bill()["total_micros"] == 1_260_000


def test_a_download_that_is_cut_begins_anew_elsewhere(studio: Studio, control: SandboxControl) -> None:
    """A supervisor whose patience is over kills: the lease ends, and the next worker stores it."""
    studio.environment["STORE_LEASE_SECONDS"] = "5"
    studio.run(PREPARE.format(count=1))
    control.arm("download_slow", times=1, bytes_per_second=200)
    with procfile.running(studio) as running:
        running.start("worker-submit", "worker-poll", "worker-store", "dispatcher")
        wait_for(studio, running, {"Take 0": "storing"})
        wait_until(lambda: control.faults()[0]["taken"] == 1, seconds=PATIENCE)  # it has begun
        running.kill("worker-store")

        running.start("worker-store")

        wait_for(studio, running, {"Take 0": "completed"})
    assert control.posts()["count"] == 1
