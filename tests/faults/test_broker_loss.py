"""The broker forgets everything while the provider works on a hundred generations: the database knows them all, so all of them end."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
import redis

from tests.sandbox import SandboxControl, end_process, spawn_sandbox
from tests.services import procfile
from tests.services.servers import QUEUES, one_at_a_time, own_redis, scratch_bucket, scratch_database
from tests.studio_process import Studio
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(900), one_at_a_time]

GENERATIONS = 100
PRICE = 1_260_000
PREPARE = """
from django.contrib.auth.models import User
from generations.services.drafts import create
from generations.services.orders import queue_many
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT
by = User.objects.create_superuser("olive")
project = Project.objects.create(name="Coffee", created_by=by)
factories.budget(project, 1_000_000_000)
image = str(factories.source_image(project, by).pk)
drafts = [
    create(project, endpoint=ENDPOINT, inputs={"image": image, "prompt": f"Take {take}", "duration": 3}, by=by)
    for take in range(100)
]
queue_many(drafts, by=by)
"""
BOOKS = """
import hashlib, json
from generations.models import Generation, Video
from projects.money import budgets
from projects.models import Project, SpendEntry
[figures] = budgets.figures(budgets.of_project(Project.objects.get()))
def sha256(video):
    with video.file.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()
videos = {video.generation.prediction_id: [video.sha256, sha256(video)] for video in Video.objects.select_related("generation")}
charges = sum(entry.spent_delta for entry in SpendEntry.objects.all())
print(json.dumps({"spent": figures.spent, "reserved": figures.reserved, "ledger": charges, "videos": videos}))
"""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[SandboxControl]:
    sandbox, url = spawn_sandbox(tmp_path / "sandbox", "--speed", "20")
    yield SandboxControl(url)
    end_process(sandbox)


@pytest.fixture
def studio(tmp_path: Path, control: SandboxControl) -> Iterator[Studio]:
    with ExitStack() as stack:
        database = stack.enter_context(scratch_database())
        studio = Studio(
            tmp_path / "home",
            DATABASE_URL=database,
            # On one disk with the temporary files, a hundred on their way would have to have twice the room (generations/storage/room.py).
            STORAGE_URL=stack.enter_context(scratch_bucket()),
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            DRAMATIQ_BROKER_URL=own_redis(),
            WAVESPEED_BASE_URL=control.url,
            WAVESPEED_DEADLINE="20",
            WAVESPEED_POLL_SECONDS="1",
            WAVESPEED_VIDEOS_PER_MINUTE="1000",
            WAVESPEED_VIDEOS_AT_ONCE=str(GENERATIONS),
            SANDBOX_SPEED="20",
            REDELIVERY_SECONDS="3",
            LOG_LEVEL="WARNING",
        )
        procfile.release(studio)
        yield studio


def statuses(studio: Studio) -> Counter[str]:
    with psycopg.connect(studio.environment["DATABASE_URL"]) as connection:
        rows = connection.execute("SELECT status, count(*) FROM generations_generation GROUP BY status").fetchall()
    return Counter(dict(rows))


def forget_everything(broker: redis.Redis) -> int:
    """Empties Redis; how many messages waited in it at that instant."""
    with broker.pipeline() as at_once:
        for queue in QUEUES:
            at_once.llen(f"dramatiq:{queue}")
        at_once.flushdb()
        return sum(at_once.execute()[:-1])


def test_a_broker_that_forgets_a_hundred_generations_in_flight_loses_none(
    studio: Studio, control: SandboxControl
) -> None:
    studio.run(PREPARE)
    control.arm("task_slow", times=None, factor=100.0)
    with procfile.running(studio) as running:
        running.start("worker-submit", "worker-poll", "worker-store", "worker-default", "dispatcher")
        wait_until(lambda: statuses(studio) == {"processing": GENERATIONS}, seconds=300, why=lambda: statuses(studio))

        with redis.Redis.from_url(studio.environment["DRAMATIQ_BROKER_URL"]) as broker:
            wait_until(lambda: forget_everything(broker) > 0, why=lambda: "no message ever waited")
        assert statuses(studio) == {"processing": GENERATIONS}

        control.disarm()
        control.set_speed(20_000)
        wait_until(lambda: statuses(studio) == {"completed": GENERATIONS}, seconds=400, why=lambda: statuses(studio))

    books = json.loads(studio.run(BOOKS))
    bill = control.bill()
    assert control.posts()["count"] == GENERATIONS
    assert (books["spent"], books["reserved"], books["ledger"]) == (bill["total_micros"], 0, GENERATIONS * PRICE)
    assert books["videos"] == {made["id"]: [made["output_sha256"]] * 2 for made in control.predictions()}
