"""The provider's stand-in for tests: in this process, or as a process of its own that can be killed."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from wavespeed_sandbox import Sandbox

ROOT = Path(__file__).resolve().parent.parent
SPEED = 400.0
"""A 5-second clip takes 0.3 s."""
TIMEOUT = 30


class SandboxControl:
    """The controls of a running sandbox: what it was asked, what it bills, and the faults that it shall show."""

    def __init__(self, url: str) -> None:
        self.url = url

    def _call(self, method: str, path: str, payload: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = requests.request(method, f"{self.url}/_sandbox/{path}", json=payload, timeout=TIMEOUT)
        if not answer.ok:
            raise ValueError(answer.json()["error"])
        return dict(answer.json())

    def info(self) -> dict[str, Any]:
        return self._call("GET", "")

    def bill(self) -> dict[str, Any]:
        """`rows`, and the totals `deducted`, `refunded`, `total` (USD), `total_micros`, `balance`."""
        return self._call("GET", "bill")

    def doctor(self, **rows: list[Any]) -> dict[str, Any]:
        """Falsify the bill: `add`, `change`, `remove`; the bill after it."""
        return self._call("POST", "bill", rows)

    def predictions(self) -> list[dict[str, Any]]:
        """Every task, newest first, with its inputs and its output's `output_sha256` and `output_bytes`."""
        return list(self._call("GET", "predictions")["predictions"])

    def posts(self) -> dict[str, Any]:
        """Every paid POST that arrived, refused and faulty ones too: `count`, `by_image`, `posts`."""
        return self._call("GET", "posts")

    def uploads(self) -> list[dict[str, Any]]:
        return list(self._call("GET", "uploads")["uploads"])

    def webhooks(self) -> list[dict[str, Any]]:
        return list(self._call("GET", "webhooks")["deliveries"])

    def arm(self, kind: str, times: int | None = 1, **parameters: Any) -> int:
        """Arm a fault (docs/sandbox.md has the kinds) for the next `times` times; None means always."""
        return int(self._call("POST", "faults", {"kind": kind, "times": times, **parameters})["number"])

    def faults(self) -> list[dict[str, Any]]:
        return list(self._call("GET", "faults")["faults"])

    def disarm(self) -> None:
        self._call("DELETE", "faults")

    def advance(self, seconds: float) -> None:
        """Move the sandbox's clock."""
        self._call("POST", "clock", {"advance_seconds": seconds})

    def set_speed(self, speed: float) -> None:
        self._call("POST", "speed", {"speed": speed})

    def reset(self) -> None:
        """Forget all tasks, bills, POSTs and faults."""
        self._call("POST", "reset")


def start_sandbox(data_dir: Path, **options: Any) -> Sandbox:
    """A started sandbox in this process, small and fast; `stop()` it, or use it in a `with`."""
    small_and_fast: dict[str, Any] = {"resolution": "180p", "speed": SPEED}
    return Sandbox(data_dir, **(small_and_fast | options)).start()


def spawn_sandbox(data_dir: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A sandbox as a process, small and fast, and its URL; the caller ends the process."""
    command = [sys.executable, "-m", "wavespeed_sandbox", "--data", str(data_dir)]
    command += ["--resolution", "180p", "--speed", str(SPEED), *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        process.stdout.close()
        raise RuntimeError(f"the sandbox did not start: exit status {process.returncode}")
    return process, line.split(" at ")[1].split()[0]


def end_process(process: subprocess.Popen[str]) -> None:
    """End a spawned sandbox for good, however it is."""
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


@pytest.fixture
def make_sandbox(tmp_path: Path) -> Iterator[Callable[..., Sandbox]]:
    """Starts sandboxes with the options of a test, and stops them after it."""
    started: list[Sandbox] = []

    def make(**options: Any) -> Sandbox:
        sandbox = start_sandbox(options.pop("data_dir", tmp_path / f"sandbox-{len(started)}"), **options)
        started.append(sandbox)
        return sandbox

    yield make
    for sandbox in started:
        sandbox.stop()


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return make_sandbox()


@pytest.fixture
def control(sandbox: Sandbox) -> SandboxControl:
    return SandboxControl(sandbox.url)
