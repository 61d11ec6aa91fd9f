"""The crash matrix: a studio whose worker is killed at a point, restarted and run to the end, and what has to be true then."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis

from tests.sandbox import SandboxControl, end_process, spawn_sandbox
from tests.services.servers import own_redis, s3_client, scratch_bucket, scratch_database
from tests.studio_process import ROOT

PRICE = 1_260_000
RESERVED = ["reserve", PRICE, 0]
RELEASED = ["release", -PRICE, 0]
CHARGED = ["charge", -PRICE, PRICE]
# After so many a shard stops: what is wrong at five points may be wrong at all of them, and each may take all of a run's patience.
MOST_FAILURES = 5
PAID = "POST /api/v3/kwaivgi/kling-video-o3-4k/image-to-video"
# Without one of these kinds of point, something is not counted any more.
KINDS = ("committed", "wrote", f"before {PAID}", f"after {PAID}", "before sending", "after sending")


@dataclass(frozen=True)
class Scenario:
    """What the provider does, and how the studio's part of it ends."""

    name: str
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    ends: str = "completed"
    hides_inputs: bool = False
    makes: bool = True


SCENARIOS = {
    each.name: each
    for each in (
        Scenario("plain"),
        Scenario("ambiguous, made", {"submit_drop_after": {}}),
        Scenario("ambiguous, not made", {"submit_drop_before": {}}, ends="failed", makes=False),
        Scenario("made, inputs hidden", {"submit_drop_after": {}}, hides_inputs=True),
        Scenario("failed and refunded", {"task_failed": {}}, ends="failed"),
    )
}


class Host:
    """`tests.faults.host` as a process."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.host"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._read("ready")

    def order(self, do: str, **parameters: Any) -> Any:
        """What the fork answered; None if it was killed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **parameters}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._read("{"))
        assert "error" not in answer, f"{answer['error']}\n{self._log.read_text()[-6000:]}"
        return None if answer["killed"] else answer["result"]

    def _read(self, beginning: str) -> str:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith(beginning):
                return line
        raise AssertionError(f"the host has ended: {self._log.read_text()[-6000:]}")

    def end(self) -> None:
        end_process(self._process)
        if self._process.stdin:
            self._process.stdin.close()


class World:
    """One studio and its sandbox for one scenario, set back to the beginning before each run: SQLite, in one process."""

    def __init__(self, home: Path, scenario: Scenario, **environment: str) -> None:
        self.home = home
        self.scenario = scenario
        self.trace = home / "points.log"
        self.stack = ExitStack()
        home.mkdir(parents=True)
        options = ["--no-list-inputs"] if scenario.hides_inputs else []
        process, url = spawn_sandbox(home / "sandbox", "--refund-after", "0", "--speed", "1000", *options)
        self.stack.callback(end_process, process)
        self.sandbox = SandboxControl(url)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("WAVESPEED_", "TEST_"))}
        inherited.pop("KILL_AT", None)
        self.host = Host(
            {
                **inherited,
                "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
                "STUDIO_HOME": str(home / "studio"),
                "SECRET_KEY": "a-key-for-one-test-" + "k" * 40,
                "DATABASE_URL": f"sqlite:///{home}/studio/studio.sqlite3",
                "STORAGE_URL": f"file://{home}/studio/media",
                "DRAMATIQ_BROKER_URL": "stub://",
                "EMAIL_URL": "memory://",
                "LOG_LEVEL": "WARNING",
                "WORKER_THREADS": "1",
                "WAVESPEED_BASE_URL": url,
                "WAVESPEED_API_KEY": "",
                "SANDBOX_SPEED": "1",
                "UNCONFIRMED_MINUTES": "0.001",
                "POINTS_TRACE": str(self.trace),
                **environment,
            },
            home / "host.log",
        )
        self.stack.callback(self.host.end)

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def prepare(self, kept: Path) -> None:
        """Makes the beginning, or takes the one that another world has made, and keeps it in `kept`."""
        if not kept.exists():
            self.host.order("prepare")
            shutil.copytree(self.home / "studio", kept)
        self._beginning = kept

    def set_back(self) -> None:
        self.sandbox.reset()
        for kind, parameters in self.scenario.faults.items():
            self.sandbox.arm(kind, **parameters)
        self.trace.unlink(missing_ok=True)
        self._set_back_studio()

    def _set_back_studio(self) -> None:
        shutil.rmtree(self.home / "studio")
        shutil.copytree(self._beginning, self.home / "studio")

    def work(self, kill_at: int = 0) -> bool:
        """Works until all is done, or until it dies at the point; whether it died."""
        worked = self.host.order("work", kill_at=kill_at, inputs_are_hidden=self.scenario.hides_inputs)
        assert worked is None or worked["errors"] == [], f"actors failed: {worked['errors']}"
        return worked is None

    def facts(self) -> dict[str, Any]:
        return dict(self.host.order("facts"))

    def is_unsent(self) -> bool:
        """Whether it stands in the database that the request is being sent, and nothing has arrived at the provider."""
        if self.host.order("status") != "submitting":
            return False
        # Another thread of the worker may have sent it just now; by then it has arrived.
        time.sleep(0.2)
        return self.sandbox.posts()["count"] == 0

    def points(self) -> list[str]:
        """The points that were counted since it was set back."""
        return self.trace.read_text().splitlines() if self.trace.exists() else []


class ScaledOut(World):
    """The same on PostgreSQL, Redis and S3: the workers in a process of their own, which is killed, the dispatcher in another one."""

    def __init__(self, home: Path, scenario: Scenario) -> None:
        with ExitStack() as servers:
            self._database = servers.enter_context(scratch_database())
            storage = servers.enter_context(scratch_bucket())
            self._bucket = urlsplit(storage).netloc
            self._s3 = servers.enter_context(closing(s3_client()))
            self._redis = own_redis()
            super().__init__(
                home,
                scenario,
                DATABASE_URL=self._database,
                STORAGE_URL=storage,
                AWS_ACCESS_KEY_ID="test",
                AWS_SECRET_ACCESS_KEY="test",
                DRAMATIQ_BROKER_URL=self._redis,
                DATABASE_CONN_MAX_AGE="0",
                WORKER_THREADS="2",
            )
            # The host goes first, then what it is connected to.
            self.stack, host = servers.pop_all(), self.stack
            self.stack.enter_context(host)

    def prepare(self) -> None:
        self.host.order("prepare")
        self._beginning = f"{self._name}_beginning"
        self._sql(f"CREATE DATABASE {self._beginning} TEMPLATE {self._name}")
        self.stack.callback(self._sql, f"DROP DATABASE {self._beginning} WITH (FORCE)")
        self._kept_files = self._files()

    def _set_back_studio(self) -> None:
        self.host.order("stop_dispatcher")
        self._sql(
            f"DROP DATABASE {self._name} WITH (FORCE)", f"CREATE DATABASE {self._name} TEMPLATE {self._beginning}"
        )
        for key in self._files() - self._kept_files:
            self._s3.delete_object(Bucket=self._bucket, Key=key)
        with redis.Redis.from_url(self._redis) as broker:
            broker.flushdb()
        self.host.order("start_dispatcher")

    def _files(self) -> set[str]:
        return {each["Key"] for each in self._s3.list_objects_v2(Bucket=self._bucket).get("Contents", [])}

    @property
    def _name(self) -> str:
        return urlsplit(self._database).path.removeprefix("/")

    def _sql(self, *statements: str) -> None:
        with psycopg.connect(os.environ["TEST_DATABASE_URL"], autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@dataclass(frozen=True)
class Run:
    """What one run of the matrix left; `was_unsent`: it was killed after it had committed that it sends, and before it did."""

    point: str
    was_reached: bool
    was_unsent: bool
    facts: dict[str, Any]
    posts: int
    struck: list[int]
    bill: dict[str, Any]
    made: list[dict[str, Any]]


@dataclass(frozen=True)
class Kills:
    """The numbers at which workers were killed, and what is wrong."""

    reached: list[int] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def run(world: World, kill_at: int) -> Run:
    """Kills the worker at the point, restarts it, runs it to the end."""
    world.set_back()
    was_reached = world.work(kill_at)
    point = world.points()[-1] if was_reached else f"none of {len(world.points())} points"
    was_unsent = was_reached and world.is_unsent()
    if was_reached:
        assert not world.work(), "killed without an order"
    control = world.sandbox
    struck = [fault["taken"] for fault in control.faults()]
    posts = control.posts()["count"]
    return Run(point, was_reached, was_unsent, world.facts(), posts, struck, control.bill(), control.predictions())


def survey(world: World) -> list[str]:
    """The points of a run that nobody disturbs."""
    check(run(world, 0), world.scenario)
    points = world.points()
    assert [kind for kind in KINDS if not any(kind in point for point in points)] == [], points
    return points


def first_own(scenario: Scenario, points: list[str]) -> int:
    """The number from which on it is not `plain` all over again: every other scenario is it up to the paid request."""
    if scenario.name == "plain":
        return 1
    return next(number for number, point in enumerate(points, 1) if is_after_request(point))


def is_after_request(point: str) -> bool:
    """Whether the paid request has just come back."""
    return point.endswith(f"after {PAID}")


def kill(world: World, numbers: Iterable[int], most: int | None = None) -> Kills:
    """Kills at one number after the other, until `most` were reached, two in a row were not, or too much is wrong.

    Two, as a message more or less makes some points more or less.
    """
    kills = Kills()
    missed = 0
    for number in numbers:
        was_reached, complaint = attempt(world, number)
        missed = 0 if was_reached else missed + 1
        if was_reached:
            kills.reached.append(number)
        if complaint:
            kills.wrong.append(f"point {number}: {complaint}")
        if missed == 2 or len(kills.reached) == most or len(kills.wrong) == MOST_FAILURES:
            break
    return kills


def attempt(world: World, number: int) -> tuple[bool, str]:
    """Whether the point was reached, and what is wrong."""
    try:
        done = run(world, number)
    except Exception as error:
        # It has come to no end, or the studio or the sandbox has gone: whatever it is, it is this point's.
        points = world.points()
        was_reached = len(points) >= number
        return (
            was_reached,
            f"killed at {points[number - 1] if was_reached else 'none'}: {type(error).__name__}: {error}",
        )
    try:
        check(done, world.scenario)
    except AssertionError as error:
        return done.was_reached, str(error)
    return done.was_reached, ""


def check(run: Run, scenario: Scenario) -> None:
    """One request, or none where nobody can know; what was made is here and on the books to the cent, what was not costs nothing."""
    told = f"killed at {run.point}: {run}"
    facts = run.facts
    assert run.posts == (0 if run.was_unsent else 1), told
    assert run.struck == [run.posts] * len(scenario.faults), told
    assert len(run.made) == (run.posts if scenario.makes else 0), told
    assert facts["reserved"] == 0, told
    assert facts["spent"] == run.bill["total_micros"], told
    if not run.made:
        assert facts["history"][-2:] == ["unconfirmed", "failed"], told
        assert facts["ledger"] == [RESERVED, RELEASED], told
        assert (facts["files"], facts["videos"]) == ([], []), told
        return
    [made] = run.made
    assert (facts["status"], facts["prediction"]) == (scenario.ends, made["id"]), told
    if scenario.ends == "failed":
        assert facts["ledger"] == [RESERVED, RELEASED], told
        assert (facts["files"], facts["videos"]) == ([], []), told
        return
    assert facts["ledger"] == [RESERVED, CHARGED], told
    assert run.bill["total_micros"] == PRICE, told
    check_files(facts, made, told)


def check_files(facts: dict[str, Any], made: dict[str, Any], told: str) -> None:
    """The video is the one that was made; what lies beside it is of the one attempt that was killed."""
    assert len(facts["videos"]) == 1, told
    [video] = facts["videos"]
    assert video["sha256"] == video["stored"] == made["output_sha256"], told
    own = {video["file"], video["poster"]}
    assert own <= set(facts["files"]), told
    attempts = {name.rsplit("-", 1)[-1].split(".")[0] for name in set(facts["files"]) - own}
    assert len(attempts) <= 1, told
