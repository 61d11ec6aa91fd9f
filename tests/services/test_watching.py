"""What an operator sees of several processes on PostgreSQL and Redis: /readyz, /metrics, and one click through the logs of all."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import dropwhile
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.generations.watching.test_metrics import TOKEN, Sample, samples, value
from tests.sandbox import end_process, spawn_sandbox
from tests.services.servers import own_redis, scratch_database
from tests.studio_process import ROOT, Studio

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

PATIENCE = 240
PREPARE = """
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
from knox.models import AuthToken
from projects.models import Project
from tests import factories
by = User.objects.create_superuser("olive")
project = Project.objects.create(name="Coffee", created_by=by)
factories.budget(project, 10_000_000)
print(project.pk, factories.source_image(project, by).pk, AuthToken.objects.create(user=by)[1])
"""


class Processes:
    """A scaled-out studio: processes by name, each in a process group and with a log of its own."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        out, err = ((self.studio.home / f"{name}.{kind}").open("ab") for kind in ("out", "err"))
        with out, err:
            self._running[name] = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env=self.studio.environment,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def stop(self, name: str) -> None:
        """In order, as systemd would."""
        process = self._running[name]
        process.terminate()
        process.wait(timeout=PATIENCE)
        del self._running[name]

    def stop_all(self) -> None:
        for name in list(self._running):
            self.stop(name)

    def kill_all(self) -> None:
        """However the test went, no process stays, and none of theirs."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def lines(self, name: str) -> list[dict[str, Any]]:
        """What it wrote to the log; each line has to be JSON, after what `manage.py` says of the setup when it starts."""
        lines = (self.studio.home / f"{name}.err").read_text().splitlines()
        return [json.loads(line) for line in dropwhile(lambda line: not line.startswith("{"), lines)]


@contextmanager
def scaled_out(home: Path) -> Iterator[Processes]:
    with ExitStack() as stack:
        sandbox, url = spawn_sandbox(home / "sandbox")
        stack.callback(end_process, sandbox)
        studio = Studio(
            home / "home",
            DATABASE_URL=stack.enter_context(scratch_database()),
            DRAMATIQ_BROKER_URL=own_redis(),
            WAVESPEED_BASE_URL=url,
            LOG_FORMAT="json",
            METRICS_TOKEN=TOKEN,
        )
        processes = Processes(studio)
        stack.callback(processes.kill_all)
        yield processes


def until(condition: Callable[[], Any], explain: Callable[[], str]) -> Any:
    ends = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < ends, explain()
        time.sleep(0.5)
    return found


def test_processes_show_in_readyz_metrics_and_logs(tmp_path: Path) -> None:
    with scaled_out(tmp_path) as processes:
        studio = processes.studio
        project, image, token = studio.run(PREPARE).split()[-3:]
        serve = ["-m", "gunicorn", "kling_studio.wsgi", "--bind", f"127.0.0.1:{studio.port}", "--workers", "2"]
        processes.start("web", *serve)
        work = ["rundramatiq", "--processes", "2", "--threads", "2", "--skip-logging"]
        processes.start("worker", "manage.py", *work)

        def ready() -> dict[str, Any]:
            try:
                answer = requests.get(f"{studio.url}/readyz", timeout=30)
            except requests.ConnectionError:
                return {}
            return {"code": answer.status_code, **answer.json()}

        def scraped() -> dict[Sample, float]:
            answer = requests.get(f"{studio.url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=30)
            return samples(answer.text)

        first = until(ready, lambda: str(processes.lines("web")))
        assert (first["code"], first["checks"]["dispatcher"]["status"]) == (503, "failed")
        processes.start("dispatcher", "manage.py", "dispatch")
        until(lambda: ready()["code"] == 200, lambda: str(ready()))
        body = {
            "project": project,
            "image": image,
            "endpoint": "kwaivgi/kling-video-o3-4k/image-to-video",
            "prompt": "Steam rises",
            "duration": 3,
            "queue": True,
        }
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "one"}
        made = requests.post(f"{studio.url}/api/v1/generations/", json=body, headers=headers, timeout=60).json()
        until(
            lambda: value(scraped(), "videos_stored_total", of="generation") == 1,
            lambda: f"{scraped()} {processes.lines('worker')[-20:]}",
        )
        found = scraped()

        def alive(kind: str) -> float:
            return value(found, "processes", kind=kind, state="alive")

        # The web server tells of what the workers did.
        assert value(found, "submits_total", outcome="accepted") == 1
        assert value(found, "actor_seconds_count", actor="store") >= 1
        assert value(found, "provider_seconds_count", route="/{model}") == 1
        assert {kind: alive(kind) for kind in ("web", "worker", "dispatcher")} == {
            "web": 2,
            "worker": 2,
            "dispatcher": 1,
        }
        processes.stop("dispatcher")
        gone = ready()
        assert (gone["code"], gone["checks"]["dispatcher"]["message"]) == (
            503,
            "No dispatcher runs: start one with “manage.py dispatch”.",
        )
        processes.stop_all()

        web, worker = processes.lines("web"), processes.lines("worker")
        click = next(line for line in web if line.get("request") == "POST /api/v1/generations/")
        assert {line["actor"] for line in worker if line.get("generation") == made["id"]} >= {
            "fill_lane",
            "poll",
            "store",
        }
        assert "fill_lane" in {line["actor"] for line in worker if line.get("request_id") == click["request_id"]}
        assert all({"message_id", "timestamp", "level"} <= line.keys() for line in worker if "actor" in line)
        assert studio.run("from generations.models import Process\nprint(Process.objects.count())") == "0"
