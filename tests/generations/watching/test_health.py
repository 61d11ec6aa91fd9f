"""/livez and /readyz, each check really failing: in a process of its own where a service is away, here where a row tells it."""

import json
import re
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from generations.admin import attention
from generations.models import Lane, PauseCause, Process
from generations.watching import health
from generations.watching.health import Check, Result, State
from projects import alerts
from projects.models import Alert, AlertKind
from tests import factories
from tests.studio_process import Studio, free_port

# Its studio is made once for all of them.
pytestmark = pytest.mark.xdist_group("health")

ASK = """
import json, time
from django.test import Client
started = time.monotonic()
answer = Client(headers={"host": "localhost"}).get("/readyz")
print(json.dumps([answer.status_code, answer.json(), time.monotonic() - started]))
"""
PREPARE = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
from generations.models import Process
Process.objects.create(kind="studio", host="here", pid=1)
"""
SECRET = "s3cr3t-pa55word"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("health") / "home"
    Studio(home).run(PREPARE)
    return home


def asked(home: Path, **environment: str) -> tuple[int, dict[str, Any], float]:
    """What a process of this studio answers to /readyz: the status, the body, and how many seconds it took."""
    with closing(sqlite3.connect(home / "studio.sqlite3")) as database, database:
        seen_now = [datetime.now(UTC).replace(tzinfo=None).isoformat(" ")]
        assert database.execute("UPDATE generations_process SET seen_at = ?", seen_now).rowcount == 1
    status, body, seconds = json.loads(Studio(home, **environment).run(ASK).splitlines()[-1])
    return status, body, seconds


def states(body: dict[str, Any]) -> dict[str, str]:
    return {name: check["status"] for name, check in body["checks"].items()}


def all_ok_but(**others: str) -> dict[str, str]:
    names = ("database", "migrations", "broker", "storage", "dispatcher", "workers", "lane", "mail", "room")
    return dict.fromkeys(names, "ok") | others


def test_livez_needs_nothing(client: Client) -> None:
    answer = client.get("/livez")

    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_probes_are_not_sent_on_to_https(client: Client, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True

    assert client.get("/livez").status_code == 200
    assert client.get("/admin/").status_code == 301


def test_ready(home: Path) -> None:
    status, body, _ = asked(home)

    assert (status, body["status"], states(body)) == (200, "ok", all_ok_but())


def test_broker_that_is_away(home: Path) -> None:
    for scheme in ("redis", "amqp"):
        status, body, _ = asked(home, DRAMATIQ_BROKER_URL=f"{scheme}://user:{SECRET}@127.0.0.1:{free_port()}")

        assert (status, states(body)) == (503, all_ok_but(broker="failed"))
        assert body["checks"]["broker"]["message"].startswith("The broker does not answer (")
        assert SECRET not in json.dumps(body)


@pytest.fixture
def silent_server() -> Iterator[int]:
    """Takes connections, and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(20)
        yield int(listener.getsockname()[1])


def test_broker_that_hangs_does_not_hang_the_answer(home: Path, silent_server: int) -> None:
    status, body, seconds = asked(home, DRAMATIQ_BROKER_URL=f"redis://127.0.0.1:{silent_server}")

    assert (status, states(body)) == (503, all_ok_but(broker="failed"))
    assert body["checks"]["broker"]["message"] == "No answer within 4 seconds."
    assert seconds < 30


def test_storage_that_refuses(home: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, body, _ = asked(home, STORAGE_URL=f"file://{tmp_path}/file/media")

    assert (status, states(body)) == (503, all_ok_but(storage="failed"))
    assert body["checks"]["storage"]["message"].startswith("The storage refuses (")
    assert str(tmp_path) not in json.dumps(body)


def test_database_that_is_away(home: Path) -> None:
    status, body, _ = asked(home, DATABASE_URL=f"postgres://studio:{SECRET}@127.0.0.1:{free_port()}/studio")
    away = dict.fromkeys(["database", "migrations", "dispatcher", "workers", "lane", "mail", "room"], "failed")

    assert (status, states(body)) == (503, all_ok_but(**away))
    assert body["checks"]["database"]["message"] == "The database does not answer (OperationalError)."
    assert SECRET not in json.dumps(body)


def test_migrations_that_are_missing(tmp_path: Path) -> None:
    body = json.loads(Studio(tmp_path / "new").run(ASK).splitlines()[-1])[1]

    assert states(body)["migrations"] == "failed"
    assert "migrations are missing: run “manage.py migrate”." in body["checks"]["migrations"]["message"]


@pytest.mark.django_db(transaction=True)
def test_dispatcher_that_is_absent_dead_or_there(client: Client) -> None:
    def told() -> tuple[str, str]:
        check = client.get("/readyz").json()["checks"]["dispatcher"]
        return check["status"], check["message"]

    Process.objects.create(kind=Process.Kind.WORKER, host="here", pid=1)
    assert told() == ("failed", "No dispatcher runs: start one with “manage.py dispatch”.")
    seen_at = timezone.now() - timedelta(minutes=5)
    dead = Process.objects.create(kind=Process.Kind.DISPATCHER, host="here", pid=2, seen_at=seen_at)
    assert told()[0] == "failed"
    assert told()[1].replace("\xa0", " ").startswith("The dispatcher was last seen 5 minutes ago")
    Process.objects.filter(pk=dead.pk).update(kind=Process.Kind.STUDIO, seen_at=timezone.now())
    assert told() == ("ok", "A dispatcher looks for due work.")


@pytest.mark.django_db(transaction=True)
def test_queue_without_a_worker(client: Client) -> None:
    def told() -> tuple[str, str]:
        check = client.get("/readyz").json()["checks"]["workers"]
        return check["status"], check["message"]

    assert told()[0] == "failed"
    for pid, queues in enumerate(["poll", "default", "submit"]):
        Process.objects.create(kind=Process.Kind.WORKER, host="here", pid=pid, queues=queues)
    assert told() == (
        "failed",
        "No worker takes what is sent to: store. Start one with “manage.py rundramatiq”.",
    )
    Process.objects.create(kind=Process.Kind.WORKER, host="here", pid=9, queues="poll,store")
    assert told() == ("ok", "Each queue has a worker.")


@pytest.mark.django_db(transaction=True)
def test_paused_lane_is_degraded_and_serves_on(client: Client) -> None:
    Process.objects.create(kind=Process.Kind.STUDIO, host="here", pid=1)
    Lane.objects.update_or_create(
        pk=Lane.WAVESPEED,
        defaults={"paused_at": timezone.now(), "paused_cause": PauseCause.OWNER, "paused_reason": "Of Olive's own"},
    )
    answer = client.get("/readyz")

    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert "The lane is paused since " in answer.json()["checks"]["lane"]["message"]
    assert "Olive" not in answer.content.decode()


def test_check_that_hangs_is_not_started_again_before_it_ends() -> None:
    started, ends = [], threading.Event()

    def hang() -> Result:
        started.append(1)
        ends.wait(60)
        return Result(State.OK, "At last.")

    check = Check(hang, "It hangs")
    first = check.start()
    assert check.start() is first
    ends.set()
    assert first.result(timeout=60).message == "At last."
    assert check.start() is not first
    assert len(started) == 2


def test_result_is_kept_for_a_while() -> None:
    runs: list[float] = []

    def run() -> Result:
        runs.append(time.monotonic())
        return Result(State.OK, "Fine.")

    check = Check(run, "It fails", keep=3600)
    for _ in range(3):
        check.start().result(timeout=60)

    assert len(runs) == 1


@pytest.mark.django_db(transaction=True)
def test_e_mails_that_nobody_takes_are_told_and_counted(client: Client, settings: Any) -> None:
    settings.METRICS_TOKEN = "m" * 40
    person = factories.UserFactory(username="mia")
    alerts.tell(AlertKind.ENDED, "one", people=[person], title="Ready")
    assert health.mail().state == "ok"
    Alert.objects.update(created_at=timezone.now() - timedelta(hours=1))

    assert client.get("/readyz").json()["checks"]["mail"]["status"] == "degraded"
    page = client.get("/metrics", headers={"Authorization": f"Bearer {settings.METRICS_TOKEN}"}).content.decode()
    assert re.search(r"^kling_studio_mail_waiting_seconds 36\d\d\.", page, re.MULTILINE)
    assert [matter.title for matter in attention.matters() if "mail" in matter.title] == ["E-mails can’t be sent"]


@pytest.mark.django_db(transaction=True)
def test_no_room_is_told_and_counted(client: Client, settings: Any) -> None:
    settings.METRICS_TOKEN = "m" * 40
    settings.STORAGE_ROOM_MEGABYTES = 10**12

    told = client.get("/readyz").json()["checks"]["room"]
    assert told == {"status": "degraded", "message": "There is no room for more videos: nothing is submitted."}
    page = client.get("/metrics", headers={"Authorization": f"Bearer {settings.METRICS_TOKEN}"}).content.decode()
    assert "\nkling_studio_no_room 1.0\n" in page
