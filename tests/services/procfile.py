"""The Procfile's processes, started as a supervisor would."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.studio_process import ROOT, Studio

LINE = re.compile(r"(?P<name>[a-z-]+): (?P<variables>(?:\w+=\S+ )*)(?P<command>.+)")
# What a test has patience for; a supervisor gives workers ten minutes.
SECONDS_TO_STOP = 120


def commands() -> dict[str, str]:
    """By the name of the process."""
    return {line["name"]: line["command"] for line in _lines()}


def variables() -> dict[str, list[str]]:
    """What stands before the commands, as `name=value`."""
    return {line["name"]: line["variables"].split() for line in _lines()}


def _lines() -> list[re.Match[str]]:
    return [line for line in map(LINE.fullmatch, (ROOT / "Procfile").read_text().splitlines()) if line]


def processes() -> dict[str, str]:
    """Those that go on for ever; `release` is run once for each release."""
    return {name: command for name, command in commands().items() if name != "release"}


def environment(studio: Studio) -> dict[str, str]:
    bin_folder = Path(sys.executable).parent
    return {
        **studio.environment,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PORT": str(studio.port),
        "WEB_CONCURRENCY": "1",
        # The server's connections are for all tests: threads that wait for work hold none.
        "DATABASE_CONN_MAX_AGE": "0",
    }


def release(studio: Studio) -> None:
    done = subprocess.run(
        commands()["release"],
        shell=True,
        cwd=ROOT,
        env=environment(studio),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


class Running:
    """Processes of one studio by name, each in a process group of its own; what they write goes to one log."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.log = studio.home / "processes.log"
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        for name in names or processes():
            with self.log.open("ab") as log:
                self._started[name] = subprocess.Popen(
                    " ".join(["exec", "env", *variables()[name], processes()[name]]),
                    shell=True,
                    cwd=ROOT,
                    env=environment(self.studio),
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def terminate(self, name: str, *, whole_group: bool = False) -> None:
        """SIGTERM to the main process, as systemd does with KillMode=mixed, or to all of its processes, as others do."""
        pid = self._started[name].pid
        (os.killpg if whole_group else os.kill)(pid, signal.SIGTERM)

    def wait(self, name: str) -> int:
        """The exit status of a process that was told to stop."""
        return self._started.pop(name).wait(timeout=SECONDS_TO_STOP)

    def kill(self, name: str) -> None:
        process = self._started.pop(name)
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            process.wait()

    def kill_all(self) -> None:
        for name in list(self._started):
            self.kill(name)


@contextmanager
def running(studio: Studio) -> Iterator[Running]:
    """However the test goes, no process stays."""
    some = Running(studio)
    try:
        yield some
    finally:
        some.kill_all()
