"""What a killed process leaves on the temporary disk goes; what a living one uses stays."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from generations.models import Process
from generations.storage import temporary
from generations.watching.heartbeat import Heartbeat

DOWNLOADS = """
import time
from generations.storage import temporary
with temporary.folder() as here:
    (here / "came").write_bytes(b"half a video")
    print(here, flush=True)
    time.sleep(60)
"""
HOUR, DAY = 3_600, 86_400


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a download."""
    with subprocess.Popen([sys.executable, "-c", DOWNLOADS], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def folder_of(worker: subprocess.Popen[str]) -> Path:
    assert worker.stdout
    return aged(Path(worker.stdout.readline().strip()), HOUR)


def aged(path: Path, seconds: int) -> Path:
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_a_folder_is_gone_with_its_block(disk: Path) -> None:
    with temporary.folder() as here:
        assert here.parent == disk
        (here / "came").write_bytes(b"a video")

    assert not list(disk.iterdir())


@pytest.mark.django_db
def test_what_a_killed_process_left_is_swept_by_any_process_of_the_machine(
    disk: Path, worker: subprocess.Popen[str]
) -> None:
    left = folder_of(worker)
    heartbeat = Heartbeat(Process.Kind.WEB)
    heartbeat.beat()
    assert (left / "came").read_bytes() == b"half a video", "its process lives"

    worker.kill()
    worker.wait()
    Heartbeat(Process.Kind.WORKER).beat()

    assert not left.exists()


def test_what_a_thread_of_this_process_uses_stays() -> None:
    with temporary.folder() as here:
        aged(here, DAY)

        assert temporary.sweep() == 0
        assert here.exists()


def test_an_upload_whose_request_was_killed_goes_after_a_day(disk: Path) -> None:
    young, old = disk / "tmpaa.upload.jpg", disk / "tmpbb.upload.jpg"
    for path, age in ((young, HOUR), (old, DAY)):
        path.write_bytes(b"half a picture")
        aged(path, age)
    theirs = aged(disk, DAY) / "notes.txt"
    theirs.write_text("nobody of the studio")

    assert temporary.sweep() == 1
    assert sorted(path.name for path in disk.iterdir()) == ["notes.txt", "tmpaa.upload.jpg"]
