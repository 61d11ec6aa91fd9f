"""kill -9 of the server at any moment of a generation; the sandbox is a process of its own, so that it and we are killed apart."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox import SandboxControl, end_process, spawn_sandbox
from tests.studio_process import Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

PREPARE = """
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
from generations.services import drafts, orders
from projects.money import budgets
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT
by = User.objects.create_superuser("olive")
project = Project.objects.create(name="Coffee", created_by=by)
factories.budget(project, 10_000_000)
image = factories.source_image(project, by)
inputs = {"image": str(image.pk), "prompt": "Steam rises", "duration": 5, "sound": True}
generation = orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)
print(generation.pk)
"""
MONEY = """
from projects.models import BudgetPeriod, SpendEntry
from generations.models import Video
period = BudgetPeriod.objects.get()
print(period.reserved, period.spent, *SpendEntry.objects.order_by("created_at").values_list("kind", flat=True))
"""
VIDEO = """
import hashlib
from generations.models import Video
video = Video.objects.get()
with video.file.open("rb") as file:
    print(hashlib.sha256(file.read()).hexdigest(), video.sha256)
"""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[SandboxControl]:
    process, url = spawn_sandbox(tmp_path / "sandbox", "--speed", "50")
    yield SandboxControl(url)
    end_process(process)


@pytest.fixture
def studio(tmp_path: Path, control: SandboxControl) -> Iterator[Studio]:
    short = {
        "WAVESPEED_DEADLINE": "4",
        "LEASE_MARGIN_SECONDS": "1",
        "REDELIVERY_SECONDS": "2",
        "STORE_LEASE_SECONDS": "5",
    }
    with Studio(tmp_path / "home", WAVESPEED_BASE_URL=control.url, **short) as studio:
        yield studio


def status(studio: Studio) -> str:
    """The generation's status; `uploading` for one that is queued and that a worker has taken in hand."""
    with closing(sqlite3.connect(studio.home / "studio.sqlite3", timeout=20)) as database:
        found, taken = database.execute(
            "SELECT status, lease_token IS NOT NULL OR attempts > 0 FROM generations_generation"
        ).fetchone()
    return "uploading" if found == "queued" and taken else str(found)


def wait_for(studio: Studio, *wanted: str, seconds: float = 60) -> str:
    ends = time.monotonic() + seconds
    while (now := status(studio)) not in wanted:
        assert time.monotonic() < ends, f"still {now}; {studio.log.read_text()}"
        time.sleep(0.01)
    return now


def wait_for_end(studio: Studio, control: SandboxControl) -> str:
    """Whatever the provider has made goes on by itself to the stored video; what it has not made stays unconfirmed, never sent again."""
    ends = time.monotonic() + 120
    while (now := status(studio)) != "completed" and not (now == "unconfirmed" and control.predictions() == []):
        assert time.monotonic() < ends, f"still {now}; {studio.log.read_text()}"
        time.sleep(0.05)
    return now


def assert_paid_and_kept(ended: str, studio: Studio, control: SandboxControl) -> None:
    """What was made is charged and here, to the byte; of what nobody knows the money is held."""
    if ended == "completed":
        assert studio.run(MONEY) == "0 2100000 reserve charge"
        assert control.bill()["total_micros"] == 2_100_000
        assert studio.run(VIDEO).split() == [control.predictions()[0]["output_sha256"]] * 2
    else:
        assert studio.run(MONEY) == "2100000 0 reserve"
        assert control.bill()["total_micros"] == 0


# What holds the pipeline up in the state in which the server is killed.
MOMENTS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "uploading": ("uploading", {"upload_ticket_500": {}}),
    "submitting": ("submitting", {"submit_slow": {"seconds": 2.0, "created": True}}),
    "submitting, not accepted": ("submitting", {"submit_slow": {"seconds": 2.0, "created": False}}),
    "processing": ("processing", {"task_slow": {"factor": 20.0}}),
    "storing": ("storing", {"download_slow": {"bytes_per_second": 20_000}}),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_server_ends_each_generation_with_one_post_and_one_charge(
    moment: str, studio: Studio, control: SandboxControl
) -> None:
    at, faults = MOMENTS[moment]
    studio.run(PREPARE)
    for kind, parameters in faults.items():
        control.arm(kind, **parameters)
    studio.launch("--no-seed")
    wait_for(studio, at)
    if at == "submitting":
        wait_until(lambda: control.posts()["count"] == 1, why=studio.log.read_text)
    else:
        time.sleep(0.3)

    studio.kill()
    control.set_speed(1000)
    studio.start("--no-seed")

    ended = wait_for_end(studio, control)
    assert ended == ("unconfirmed" if moment == "submitting, not accepted" else "completed")
    assert control.posts()["count"] == 1
    assert_paid_and_kept(ended, studio, control)


def count(studio: Studio, query: str) -> int:
    with closing(sqlite3.connect(studio.home / "studio.sqlite3", timeout=20)) as database:
        return int(database.execute(f"SELECT coalesce(({query}), 0)").fetchone()[0])


STORED = "SELECT count(*) FROM generations_video"
REFUSED = "SELECT max(times) FROM generations_refusedoutput"
EVIDENCE = "SELECT count(*) FROM generations_refusedoutput WHERE file <> ''"
# Beside the video stands a page, which is refused; killed while the other one of them comes.
BETWEEN = {"the page was refused": (True, EVIDENCE), "the video is stored": (False, STORED)}


@pytest.mark.parametrize("moment", BETWEEN)
def test_a_server_killed_between_two_outputs_finds_all_of_it_again(
    moment: str, studio: Studio, control: SandboxControl
) -> None:
    before, happened = BETWEEN[moment]
    studio.run(PREPARE)
    control.arm("result_beside", times=None, what="page", before=before)
    control.arm("download_slow", bytes_per_second=20_000 if before else 10**9)
    studio.launch("--no-seed")
    wait_until(lambda: count(studio, happened) == 1, why=studio.log.read_text)
    assert status(studio) == "storing"

    studio.kill()
    tries = count(studio, REFUSED)
    control.set_speed(1000)
    studio.start("--no-seed")

    wait_until(lambda: count(studio, STORED) == 1 and count(studio, REFUSED) > tries, why=studio.log.read_text)
    studio.stop()
    assert (status(studio), count(studio, STORED), count(studio, EVIDENCE)) == ("storing", 1, 1)
    assert control.posts()["count"] == 1
    assert_paid_and_kept("completed", studio, control)
    kept = sorted(path.name.partition("-")[2][32:] for path in studio.home.glob("**/videos/*/*"))
    assert kept == ["-instead.bin", ".jpg", ".mp4"]


@pytest.mark.parametrize("seconds", [0.4, 2.0])
def test_a_server_killed_at_any_second_pays_at_most_once(
    seconds: float, studio: Studio, control: SandboxControl
) -> None:
    studio.run(PREPARE)
    studio.start("--no-seed")
    time.sleep(seconds)

    studio.kill()
    studio.start("--no-seed")

    ended = wait_for_end(studio, control)
    assert control.posts()["count"] == (1 if ended == "completed" else 0)
    assert_paid_and_kept(ended, studio, control)


def test_the_sandbox_may_be_killed_too(tmp_path: Path) -> None:
    """The embedded default: one process with the sandbox inside; its book outlives it."""
    with Studio(tmp_path / "home", SANDBOX_SPEED="10") as studio:
        studio.run(PREPARE)
        studio.start("--no-seed")
        wait_for(studio, "processing")

        studio.kill()
        studio.start("--no-seed")

        wait_for(studio, "completed")
        control = SandboxControl((studio.home / "sandbox.url").read_text())
        assert (control.posts()["count"], control.bill()["total_micros"]) == (1, 2_100_000)
        assert studio.run(MONEY) == "0 2100000 reserve charge"
        studio.stop()
        assert "Stopped." in studio.log.read_text()
