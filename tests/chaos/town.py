"""Everything that a run needs, each as a process of its own on loopback, started here and ended by its id."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import psycopg
import redis
import requests

from tests.chaos.gate import Gate
from tests.sandbox import SandboxControl
from tests.services.servers import scratch_database
from tests.studio_process import ROOT, Studio, free_port

# Seconds: on a machine that is busy with other things, a process takes its time to start.
PATIENCE = 300.0
SPEED = "400"
BUCKET, FOLDER = "chaos", "studio"
OUR_NAME = "chaos"
QUEUES = ("default", "submit", "poll", "store")

# What makes a studio quick to find out that something is gone, and the account wide enough not to be what is waited for.
QUICK = {
    "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING"),
    "SANDBOX_SPEED": SPEED,
    "WAVESPEED_VIDEOS_AT_ONCE": "40",
    "WAVESPEED_VIDEOS_PER_MINUTE": "100000",
    "WAVESPEED_CONNECT_TIMEOUT": "2",
    "WAVESPEED_READ_TIMEOUT": "3",
    "WAVESPEED_DEADLINE": "3",
    "WAVESPEED_POLL_SECONDS": "0.3",
    "WAVESPEED_LIVE_PRICES": "true",
    "LEASE_MARGIN_SECONDS": "0.5",
    "STORE_LEASE_SECONDS": "5",
    "STORE_MOST_MEGABYTES_PER_SECOND": "1",
    "REDELIVERY_SECONDS": "2",
    # Twelve seconds each, where days and hours are meant.
    "UNCONFIRMED_MINUTES": "0.2",
    "WAVESPEED_REFUND_HOURS": "0.00334",
    # The tests' PostgreSQL has a hundred connections, for everything that runs.
    "DATABASE_CONN_MAX_AGE": "10",
}


class Service:
    """A command in a process group of its own, which can be killed and started again."""

    def __init__(self, name: str, command: Sequence[str], *, environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.ended_by_itself = 0
        self._command = list(command)
        self._environment = environment
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        if self._process is not None:
            return
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, to it and all that it has started."""
        if self._process is None:
            return
        # Whoever leads the group may be dead while its children live.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def look_after(self) -> None:
        """As systemd would: what has ended by itself is started again."""
        if self._process is not None and self._process.poll() is not None:
            self.ended_by_itself += 1
            self.kill()
            self.start()


class Town:
    """A studio of several processes with its own database, Redis, bucket and provider; `close` ends all of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        self.services: dict[str, Service] = {}
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> "Town":
        try:
            self._build()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _build(self) -> None:
        self.database_url = self._stack.enter_context(scratch_database())
        self._redis_port = free_port()
        self._start_redis()
        self._bring_up_storage()
        self._bring_up_provider()
        self.studio = Studio(
            self.home / "studio",
            **QUICK,
            DATABASE_URL=self.database_url,
            STORAGE_URL=f"s3://{BUCKET}/{FOLDER}?endpoint_url=http://127.0.0.1:{self.gate.port}&region_name=us-east-1",
            DRAMATIQ_BROKER_URL=f"redis://127.0.0.1:{self._redis_port}/0",
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            WAVESPEED_BASE_URL=self.provider.url,
        )
        self.studio.environment["WAVESPEED_WEBHOOK_BASE_URL"] = self.studio.url
        self.studio.environment["PYTHONWARNINGS"] = "ignore"

    def start_studio(self) -> None:
        """Its web server, workers and dispatchers; the database has been migrated by then."""
        python = sys.executable
        web = [python, "-m", "gunicorn", "kling_studio.wsgi", "--bind", f"127.0.0.1:{self.studio.port}"]
        self._studio_service("web", [*web, "--workers", "1", "--threads", "8", "--log-level", "error"])
        worker = [python, "manage.py", "rundramatiq", "--processes", "1", "--threads", "8", "--skip-logging"]
        for name in ("worker-1", "worker-2"):
            self._studio_service(name, [*worker, "--queues", *QUEUES])
        for name in ("dispatcher-1", "dispatcher-2"):
            self._studio_service(name, [python, "manage.py", "dispatch"])
        _wait_for("the web server", lambda: _answers(f"{self.studio.url}/admin/login/"))

    def _studio_service(self, name: str, command: Sequence[str]) -> None:
        self._start(name, command, self.studio.environment)

    def _start(self, name: str, command: Sequence[str], environment: dict[str, str] | None = None) -> Service:
        environment = environment or dict(os.environ)
        service = Service(name, command, environment=environment, log=self.home / f"{name}.log")
        self.services[name] = service
        self._stack.callback(service.kill)
        service.start()
        return service

    def look_after(self) -> None:
        for service in self.services.values():
            service.look_after()

    # The broker

    def _start_redis(self) -> None:
        port = str(self._redis_port)
        command = ["redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]
        self._start("redis", [*command, "--dir", str(self.home)])
        self._wait_for_redis()

    def _wait_for_redis(self) -> None:
        with redis.Redis(port=self._redis_port) as client:
            _wait_for("Redis", lambda: _no_error(client.ping, redis.RedisError))

    def empty_redis(self) -> None:
        """Killed and started anew: every message in it is lost."""
        self.services["redis"].kill()
        self.services["redis"].start()
        self._wait_for_redis()

    # The storage

    def _bring_up_storage(self) -> None:
        port = free_port()
        self._start("storage", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)])
        self.gate = Gate(port)
        self._stack.callback(self.gate.close)
        _wait_for("the storage", lambda: _answers(f"http://127.0.0.1:{port}/moto-api/config"))
        self._s3 = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        self._stack.callback(self._s3.close)
        self._s3.create_bucket(Bucket=BUCKET)

    def stored(self, name: str) -> bytes | None:
        """An object of the bucket, past the gate and past the studio."""
        try:
            return bytes(self._s3.get_object(Bucket=BUCKET, Key=f"{FOLDER}/{name}")["Body"].read())
        except self._s3.exceptions.NoSuchKey:
            return None

    # The provider

    def _bring_up_provider(self) -> None:
        port, files_port = free_port(), free_port()
        command = [sys.executable, "-m", "wavespeed_sandbox", "--data", str(self.home / "sandbox")]
        command += ["--port", str(port), "--files-port", str(files_port), "--resolution", "180p", "--speed", SPEED]
        self._start("provider", [*command, "--refund-after", "4", "--balance", "1000000"])
        self.provider = SandboxControl(f"http://127.0.0.1:{port}")
        self.wait_for_provider()

    def wait_for_provider(self) -> None:
        _wait_for("the provider", lambda: _no_error(self.provider.info, requests.RequestException))

    # The database

    def ask(self, query: str, *values: object) -> list[Any]:
        """Rows, over a connection of our own that `cut_connections` leaves alone."""
        if self._connection is None:
            self._connection = self._stack.enter_context(
                psycopg.connect(self.database_url, autocommit=True, application_name=OUR_NAME)
            )
        return self._connection.execute(query, values).fetchall()

    def cut_connections(self) -> int:
        """Ends every connection of the studio to its database, whatever it is doing; how many there were."""
        cut = self.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend' AND application_name <> %s",
            OUR_NAME,
        )
        return len(cut)


def _wait_for(what: str, is_there: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not is_there():
        if time.monotonic() > ends:
            raise RuntimeError(f"{what} does not answer after {PATIENCE:.0f} s")
        time.sleep(0.1)


def _answers(url: str) -> bool:
    return _no_error(lambda: requests.get(url, timeout=5).raise_for_status(), requests.RequestException)


def _no_error(call: Callable[[], object], error: type[Exception]) -> bool:
    try:
        call()
    except error:
        return False
    return True
