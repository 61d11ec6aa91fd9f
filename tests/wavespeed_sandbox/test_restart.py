import hashlib
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.sandbox import SandboxControl, end_process, spawn_sandbox, start_sandbox
from tests.wavespeed_sandbox.conftest import Provider, picture
from wavespeed_sandbox import Sandbox
from wavespeed_sandbox.book import BookInUse


class Machine:
    """A sandbox process on one data directory that can be killed and started again."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self, *arguments: str) -> Provider:
        self._process, self.url = spawn_sandbox(self._data_dir, *arguments)
        return Provider(self.url)

    def kill(self) -> None:
        if self._process:
            end_process(self._process)
            self._process = None

    @property
    def control(self) -> SandboxControl:
        return SandboxControl(self.url)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "data")
    yield machine
    machine.kill()


def test_running_task_goes_on_after_kill(machine: Machine) -> None:
    provider = machine.start("--speed", "100")
    prediction = provider.create(image=provider.upload(picture()), prompt="pan", duration=3)
    machine.kill()
    again = machine.start("--speed", "100")
    assert again.url == provider.url
    found = again.finished(prediction)
    content = requests.get(found["outputs"][0], timeout=5).content
    assert hashlib.sha256(content).hexdigest() == machine.control.predictions()[0]["output_sha256"]
    assert (machine.control.posts()["count"], machine.control.bill()["total"]) == (1, 1.26)


def test_what_was_handed_out_is_served_after_kill(machine: Machine, tmp_path: Path) -> None:
    provider = machine.start()
    photo = picture()
    image = provider.upload(photo)
    prediction = provider.create(image=image, prompt="pan", duration=3)
    url = provider.finished(prediction)["outputs"][0]
    secret = provider.data("GET", "webhook/secret")
    content = requests.get(url, timeout=5).content
    machine.kill()
    again = machine.start()
    assert requests.get(url, timeout=5).content == content
    assert requests.get(image, timeout=5).content == photo
    assert again.result(prediction)["outputs"] == [url]
    assert again.data("GET", "webhook/secret") == secret


def test_clock_faults_and_what_they_decided_outlive_a_kill(machine: Machine) -> None:
    provider = machine.start()
    machine.control.advance(3600)
    machine.control.arm("submit_500", times=2)
    provider.submit(prompt="pan")
    machine.control.arm("task_cancelled")
    machine.kill()
    again = machine.start()
    assert machine.control.info()["clock"]["offset_seconds"] == 3600
    assert again.submit(prompt="pan").status_code == 500
    assert again.finished(again.create(image=again.upload(picture()), prompt="pan"))["status"] == "cancelled"


def test_dropped_submit_is_in_the_book_of_a_killed_sandbox(machine: Machine, tmp_path: Path) -> None:
    provider = machine.start()
    image = provider.upload(picture())
    machine.control.arm("submit_drop_after")
    with pytest.raises(requests.ConnectionError):
        provider.submit(image=image, prompt="pan")
    machine.kill()
    book = sqlite3.connect(tmp_path / "data" / "book.sqlite3")
    assert book.execute("SELECT billing_type, price FROM billings").fetchall() == [("deduct", 2_100_000)]
    assert book.execute("SELECT count(*) FROM posts JOIN predictions ON prediction_id = id").fetchone() == (1,)
    book.close()


def test_webhook_that_is_owed_is_sent_after_a_restart(tmp_path: Path) -> None:
    with start_sandbox(tmp_path / "receiver") as receiver:
        # Any HTTP server will do as a receiver; this one counts POSTs.
        webhook = f"{receiver.url}/api/v3/hook"
        with start_sandbox(tmp_path / "data", speed=1) as sandbox:
            provider = Provider(sandbox.url)
            provider.create(webhook=webhook, image=provider.upload(picture()), prompt="pan", duration=3)
        assert SandboxControl(receiver.url).posts()["count"] == 0
        with start_sandbox(tmp_path / "data", speed=1) as sandbox:
            SandboxControl(sandbox.url).advance(100)
            wait_for(lambda: SandboxControl(receiver.url).posts()["count"] > 0)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen within 10 s")


def test_two_sandboxes_do_not_share_a_directory(sandbox: Sandbox) -> None:
    with pytest.raises(BookInUse, match="does another sandbox use it"):
        Sandbox(sandbox.data_dir).start()


def test_a_taken_port_is_an_error_and_a_remembered_one_is_not(sandbox: Sandbox, tmp_path: Path) -> None:
    port = int(sandbox.url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="Address already in use"):
        Sandbox(tmp_path / "other", port=port).start()
    with Sandbox(tmp_path / "other") as other:
        assert other.url != sandbox.url
