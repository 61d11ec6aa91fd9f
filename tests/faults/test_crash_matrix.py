"""A worker that dies at any point of a generation: it is restarted, and one request at most was paid, and its video is here.

All scenarios are one up to the paid request: `plain` goes through those points, the others begin at the request. `KILL_AT=17` runs that
point alone. On PostgreSQL, Redis and S3 `FAULTS=all` (`script/test --all --faults`) runs every point; else it is a sample of
`FAULTS_SAMPLE` (12) points that `FAULTS_SEED` chooses.
"""

import fcntl
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import cast

import psycopg
import pytest

from tests.faults import matrix
from tests.faults.matrix import SCENARIOS, ScaledOut, World
from tests.faults.test_killed_server import MONEY, VIDEO
from tests.sandbox import SandboxControl, end_process, spawn_sandbox
from tests.services import procfile
from tests.services.servers import empty_rabbitmq, one_at_a_time, scratch_bucket, scratch_database
from tests.studio_process import Studio
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SHARDS = 2
SAMPLES = 4
KILL_AT = int(os.environ.get("KILL_AT", "0"))
ALL_POINTS = os.environ.get("FAULTS") == "all" or KILL_AT > 0
# The day, so that those who run it on the same day run the same points, and all of them run in the course of time.
SEED = int(os.environ.get("FAULTS_SEED", time.strftime("%Y%m%d")))
SAMPLE = int(os.environ.get("FAULTS_SAMPLE", "12"))
if SAMPLE < 1:
    raise pytest.UsageError(f"FAULTS_SAMPLE has to be 1 or more; it is {SAMPLE}.")
Told = Callable[[str, object], None]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this test run have in common."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def kill_at_each(world: World, shard: int) -> list[int]:
    """Kills at every `SHARDS`th number from the shard's own on, or at the one in the environment; the numbers that were reached."""
    points = matrix.survey(world)
    if KILL_AT:
        kills = matrix.kill(world, [KILL_AT])
        assert kills.reached, f"there is no point {KILL_AT}: {points}"
    else:
        first = matrix.first_own(world.scenario, points)
        kills = matrix.kill(world, count(first + shard, SHARDS))
    assert not kills.wrong, "\n\n".join(kills.wrong)
    # It did not end by accident.
    assert KILL_AT or max(kills.reached, default=0) > 0.9 * len(points) - SHARDS, (kills.reached, points)
    return kills.reached


# --- SQLite, in one process -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard", [KILL_AT % SHARDS] if KILL_AT else range(SHARDS))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_worker_killed_at_any_point_pays_once_and_keeps_the_video(
    scenario: str, shard: int, shared: Path, tmp_path: Path, record_property: Told
) -> None:
    with World(tmp_path / "world", SCENARIOS[scenario]) as world:
        with locked(shared / "crash-matrix.lock"):
            world.prepare(kept=shared / "crash-matrix-beginning")
        reached = kill_at_each(world, shard)

    record_property("crash points", ("SQLite", scenario, reached))


def test_the_matrix_finds_a_submit_that_asks_before_it_commits(tmp_path: Path) -> None:
    """What it is good for: in the wrong order, a worker that dies right after its request sends it again."""
    scenario = SCENARIOS["plain"]
    with World(tmp_path / "world", scenario, SUBMIT_IN_WRONG_ORDER="1") as world:
        world.prepare(kept=tmp_path / "beginning")
        unharmed = matrix.run(world, 0)
        after_request = next(number for number, point in enumerate(world.points(), 1) if matrix.is_after_request(point))
        killed = matrix.run(world, after_request)

    matrix.check(unharmed, scenario)
    assert (unharmed.posts, killed.posts) == (1, 2)
    with pytest.raises(AssertionError, match="killed at"):
        matrix.check(killed, scenario)


class Gone:
    """A world in which no run comes to an end."""

    def set_back(self) -> None:
        raise ConnectionError("nobody there")

    def points(self) -> list[str]:
        return ["7 poll: after sending store"] * 1000


def test_a_matrix_in_which_everything_is_wrong_ends_and_names_the_points() -> None:
    kills = matrix.kill(cast(World, Gone()), count(1))

    assert kills.reached == [1, 2, 3, 4, 5]
    assert kills.wrong[-1] == "point 5: killed at 7 poll: after sending store: ConnectionError: nobody there"


# --- PostgreSQL, Redis and S3: workers and dispatcher apart -----------------------------------------------------------


@pytest.mark.services
@pytest.mark.skipif(not ALL_POINTS, reason="every point with script/test --all --faults; the sample below otherwise")
@pytest.mark.parametrize("shard", [KILL_AT % SHARDS] if KILL_AT else range(SHARDS))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scaled_out_worker_killed_at_any_point_pays_once_and_keeps_the_video(
    scenario: str, shard: int, tmp_path: Path, record_property: Told
) -> None:
    with ScaledOut(tmp_path / "world", SCENARIOS[scenario]) as world:
        world.prepare()
        reached = kill_at_each(world, shard)

    record_property("crash points", ("PostgreSQL, Redis and S3", scenario, reached))


@pytest.mark.services
@pytest.mark.skipif(ALL_POINTS, reason="all of them are run")
@pytest.mark.parametrize("part", range(min(SAMPLES, SAMPLE)))
def test_a_scaled_out_worker_killed_at_some_points_pays_once_and_keeps_the_video(
    part: int, tmp_path: Path, record_property: Told
) -> None:
    most = len(range(part, SAMPLE, SAMPLES))
    # Another scenario for each part.
    scenario = random.Random(SEED).sample(list(SCENARIOS), SAMPLES)[part]
    record_property("crash seed", SEED)
    with ScaledOut(tmp_path / "world", SCENARIOS[scenario]) as world:
        world.prepare()
        points = matrix.survey(world)
        numbers = list(range(matrix.first_own(world.scenario, points), len(points) + 1))
        random.Random(f"{SEED}, part {part}").shuffle(numbers)
        # One that is not reached this time is made up for by the next.
        kills = matrix.kill(world, numbers, most)

    record_property("crash points", ("PostgreSQL, Redis and S3", scenario, kills.reached))
    assert not kills.wrong, "\n\n".join([f"FAULTS_SEED={SEED}", *kills.wrong])
    assert len(kills.reached) == min(most, len(numbers)), f"FAULTS_SEED={SEED}: killed only at {kills.reached}"


# --- RabbitMQ: the Procfile's own processes ---------------------------------------------------------------------------

PREPARE = """
from django.contrib.auth.models import User
from generations.services import drafts, orders
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT
by = User.objects.create_superuser("olive")
project = Project.objects.create(name="Coffee", created_by=by)
factories.budget(project, 10_000_000)
inputs = {"image": str(factories.source_image(project, by).pk), "prompt": "Steam rises", "duration": 3}
orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)
"""


@pytest.fixture
def scaled_out(tmp_path: Path) -> Iterator[tuple[Studio, SandboxControl]]:
    sandbox, url = spawn_sandbox(tmp_path / "sandbox")
    with ExitStack() as stack:
        stack.callback(end_process, sandbox)
        studio = Studio(
            tmp_path / "home",
            DJANGO_SETTINGS_MODULE="tests.faults.settings",
            DATABASE_URL=stack.enter_context(scratch_database()),
            STORAGE_URL=stack.enter_context(scratch_bucket()),
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            DRAMATIQ_BROKER_URL=empty_rabbitmq(),
            WAVESPEED_BASE_URL=url,
            WAVESPEED_DEADLINE="10",
            WAVESPEED_POLL_SECONDS="0.5",
            LEASE_MARGIN_SECONDS="1",
            REDELIVERY_SECONDS="3",
            SANDBOX_SPEED="50",
            POINTS_TRACE=str(tmp_path / "points.log"),
        )
        procfile.release(studio)
        yield studio, SandboxControl(url)


@pytest.mark.services
@one_at_a_time
def test_on_rabbitmq_a_worker_killed_in_its_request_pays_once_and_keeps_the_video(
    scaled_out: tuple[Studio, SandboxControl],
) -> None:
    studio, control = scaled_out
    studio.run(PREPARE)
    trace = Path(studio.environment["POINTS_TRACE"])
    studio.environment["KILL_ON"] = "after POST /api/v3/kwaivgi"
    with procfile.running(studio) as running:
        running.start("worker-submit", "dispatcher")
        wait_until(lambda: trace.exists() and has_died(trace), seconds=240, why=running.log.read_text)
        running.kill_all()
        assert control.posts()["count"] == 1

        del studio.environment["KILL_ON"]
        running.start("worker-submit", "worker-poll", "worker-store", "worker-default", "dispatcher")
        wait_until(lambda: status(studio) == "completed", seconds=240, why=lambda: running.log.read_text()[-4000:])

    assert control.posts()["count"] == 1
    assert studio.run(MONEY) == f"0 {control.bill()['total_micros']} reserve charge"
    assert studio.run(VIDEO).split() == [control.predictions()[0]["output_sha256"]] * 2


def has_died(trace: Path) -> bool:
    return matrix.is_after_request(trace.read_text().splitlines()[-1])


def status(studio: Studio) -> str:
    with psycopg.connect(studio.environment["DATABASE_URL"]) as connection:
        [(found,)] = connection.execute("SELECT status FROM generations_generation").fetchall()
    return str(found)
