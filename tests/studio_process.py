"""The studio as a process of its own, which can be killed: its home, its server, and scripts that run in its environment."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 240


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Studio:
    """A studio under `home`; it may be started, killed and started again."""

    def __init__(self, home: Path, **environment: str) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = home / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("WAVESPEED_", "TEST_"))},
            "DJANGO_SETTINGS_MODULE": "kling_studio.settings",
            "STUDIO_HOME": str(home),
            "SECRET_KEY": "a-key-for-one-test-" + "k" * 40,
            "DATABASE_URL": f"sqlite:///{home}/studio.sqlite3",
            "STORAGE_URL": f"file://{home}/media",
            "DRAMATIQ_BROKER_URL": "stub://",
            "SANDBOX_PORT": str(free_port()),
            "SANDBOX_RESOLUTION": "180p",
            "SANDBOX_SPEED": "50",
            "WAVESPEED_POLL_SECONDS": "0.5",
            "WAVESPEED_DEADLINE": "5",
            "WAVESPEED_API_KEY": "",
            "PUBLIC_URL": self.url,
            **environment,
        }

    def __enter__(self) -> "Studio":
        return self

    def __exit__(self, *_: object) -> None:
        """However the test went, no process stays."""
        if self._process is not None:
            self.kill()

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=check,
            timeout=PATIENCE,
        )

    def run(self, code: str) -> str:
        """What `code` prints, with Django set up in the studio's environment."""
        program = f"import django\ndjango.setup()\n{code}"
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def launch(self, *arguments: str) -> None:
        """Starts the server and does not wait for it."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "manage.py", "studio", "--port", str(self.port), *arguments],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def start(self, *arguments: str) -> None:
        """Starts the server and waits until it answers."""
        self.launch(*arguments)
        assert self._process is not None
        ends = time.monotonic() + PATIENCE
        while True:
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < ends, self.log.read_text()
            try:
                requests.get(f"{self.url}/admin/login/", timeout=5).raise_for_status()
                return
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.1)

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """Ctrl-C; the server ends by itself."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=PATIENCE)
            self._process = None
