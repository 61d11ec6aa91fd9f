"""/metrics, as Prometheus reads it."""

import os
import re
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from generations import counters, lifecycle
from generations.models import Generation, Lane, PauseCause, Process, Status, UnassignedPrediction
from projects.models import Project
from projects.money import spend
from tests import factories
from tests.generations.conftest import budget, control, draft, make_sandbox, queued, sandbox, wavespeed
from tests.pipeline import run_to_end
from tests.sandbox import SandboxControl
from tests.studio_process import ROOT, Studio, free_port

__all__ = ["budget", "control", "draft", "make_sandbox", "queued", "sandbox", "wavespeed"]

TOKEN = "m" * 40
Sample = tuple[str, frozenset[tuple[str, str]]]


@pytest.fixture(autouse=True)
def token(settings: Any) -> None:
    settings.METRICS_TOKEN = TOKEN


def samples(text: str) -> dict[Sample, float]:
    families = text_string_to_metric_families(text)
    return {
        (sample.name.removeprefix("kling_studio_"), frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


def scraped() -> dict[Sample, float]:
    answer = Client().get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    return samples(answer.content.decode())


def value(found: dict[Sample, float], name: str, **labels: str) -> float:
    return found.get((name, frozenset(labels.items())), 0)


# --- Who may read -----------------------------------------------------------------------------------------------------


def test_metrics_are_for_the_token_and_for_studio_owners(
    client: Client, editor_client: Client, owner_client: Client, settings: Any
) -> None:
    def status(client: Client, **headers: str) -> int:
        return client.get("/metrics", headers=headers).status_code

    assert status(client) == status(editor_client) == 403
    assert status(owner_client) == 200
    assert status(client, Authorization=f"Bearer {TOKEN}") == 200
    assert status(client, Authorization="Bearer wrong") == status(owner_client, Authorization="Bearer wrong") == 403
    assert status(client, Authorization=f"Basic {TOKEN}") == 403
    settings.METRICS_TOKEN = ""
    assert status(client, Authorization="Bearer ") == status(client, Authorization="Bearer") == 403
    assert "METRICS_TOKEN" in client.get("/metrics").content.decode()


# --- What the database says -------------------------------------------------------------------------------------------


def test_queue_and_ages(queued: Generation) -> None:
    Generation.objects.filter(pk=queued.pk).update(queued_at=timezone.now() - timedelta(seconds=90))
    found = scraped()

    assert value(found, "database_up") == 1
    assert value(found, "generations", status="queued") == 1
    assert 90 <= value(found, "oldest_seconds", status="queued") < 200
    assert value(found, "generations", status="storing") == value(found, "oldest_seconds", status="storing") == 0


def test_overdue_work(queued: Generation) -> None:
    """What is queued waits for the lane; anything else that is due waits for a dispatcher."""
    due = timezone.now() - timedelta(minutes=5)
    Generation.objects.filter(pk=queued.pk).update(status=Status.STORING, next_action_at=due, sent_at=due)
    found = scraped()

    assert value(found, "handed_out", status="storing") == 1
    assert 300 <= value(found, "overdue_seconds", status="storing") < 400
    assert ("overdue_seconds", frozenset({("status", "queued")})) not in found


def test_lane_and_processes(db: None, settings: Any) -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE, settings.WAVESPEED_VIDEOS_PER_MINUTE = 10, 20
    Lane.objects.update_or_create(
        pk=Lane.WAVESPEED,
        defaults={
            "paused_at": timezone.now(),
            "paused_cause": PauseCause.NO_CREDITS,
            "rate": 50,
            "rate_changed_at": timezone.now(),
        },
    )
    Process.objects.create(kind="worker", host="a", pid=1, queues="poll,store")
    Process.objects.create(kind="worker", host="b", pid=1, seen_at=timezone.now() - timedelta(minutes=2))
    UnassignedPrediction.objects.create(prediction_id="p1", found_by="list", stored_at=timezone.now())
    found = scraped()

    assert value(found, "lane_paused", cause="no_credits") == 1
    assert value(found, "lane_paused", cause="owner") == 0
    assert (value(found, "lane_rate"), value(found, "lane_slots"), value(found, "lane_minute")) == (0.5, 5, 10)
    assert value(found, "processes", kind="worker", state="alive") == 1
    assert value(found, "processes", kind="worker", state="dead") == 1
    assert value(found, "processes", kind="dispatcher", state="alive") == 0
    assert (value(found, "workers", queue="poll"), value(found, "workers", queue="submit")) == (1, 0)
    assert value(found, "unassigned_predictions", state="stored") == 1


def test_money_by_kind(project: Project) -> None:
    factories.budget(project, 100_000_000)
    charged, released, _ = (factories.reservation(project, amount=amount) for amount in (2_100_000, 500_000, 300_000))
    spend.charge(charged, amount=2_000_000, key="c")
    spend.adjust(charged, amount=-150_000, key="a", reason="The bill says so.")
    spend.refund(charged, amount=250_000, key="f", reason="The provider refunded it.")
    spend.release(released, key="r")
    found = scraped()
    kinds = ("reserved", "charged", "released", "adjusted", "refunded")
    endpoint = "kwaivgi/kling-video-o3-4k/image-to-video"

    assert {kind: value(found, "money_usd", kind=kind, endpoint=endpoint) for kind in kinds} == {
        "reserved": 2.9,
        "charged": 2.0,
        "released": 0.5,
        "adjusted": -0.15,
        "refunded": 0.25,
    }
    assert (value(found, "held_usd"), value(found, "spent_usd")) == (0.3, 1.6)


def test_money_of_long_ago_is_counted_too(project: Project) -> None:
    factories.budget(project, 100_000_000)
    for days in (400, 3, 1):
        with time_machine.travel(timezone.now() - timedelta(days=days)):
            factories.reservation(project, amount=1_000_000)
    with time_machine.travel(timezone.now() + timedelta(hours=5)):
        first, second = scraped(), scraped()

    assert value(first, "held_usd") == value(second, "held_usd") == 3


def test_few_queries_whatever_there_is(queued: Generation, editor: User, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        Process.objects.create(kind="worker", host=f"host-{number}", pid=number)
    for _ in range(5):
        factories.reservation(queued.project, amount=1)
    with django_assert_max_num_queries(18):
        scraped()


def test_database_that_is_away_is_a_figure(tmp_path: Path) -> None:
    studio = Studio(tmp_path, DATABASE_URL=f"postgres://a:s3cr3t@127.0.0.1:{free_port()}/b", METRICS_TOKEN=TOKEN)
    out = studio.run(
        "from django.test import Client\n"
        "from generations import counters\n"
        "counters.submitted('accepted')\n"
        f"answer = Client(headers={{'host': 'localhost', 'Authorization': 'Bearer {TOKEN}'}}).get('/metrics')\n"
        "print(answer.status_code)\n"
        "print(answer.content.decode())\n"
    )
    found = samples(out.partition("\n")[2] + "\n")

    assert out.startswith("200\n")
    assert value(found, "database_up") == 0
    assert value(found, "submits_total", outcome="accepted") == 1
    assert "s3cr3t" not in out


# --- What processes count ---------------------------------------------------------------------------------------------


def test_a_video_is_counted_on_its_way(queued: Generation, wavespeed: SandboxControl) -> None:
    before = scraped()
    run_to_end(queued)
    after = scraped()

    def more(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    assert queued.status == Status.COMPLETED
    assert more("submits_total", outcome="accepted") == 1
    assert more("videos_stored_total", of="generation") == 1
    assert more("stored_bytes_total", of="generation") == queued.videos.get().bytes
    assert more("provider_seconds_count", route="/{model}") == 1
    assert more("provider_seconds_count", route="/predictions/{id}/result") >= 1
    assert more("provider_seconds_bucket", route="/{model}", le="+Inf") == 1


@pytest.mark.parametrize(
    ("fault", "outcome", "kind"),
    [("submit_429", "not_created", "http_429"), ("submit_drop_after", "unclear", "broken")],
)
def test_what_went_wrong_is_counted_by_route_and_kind(
    queued: Generation, wavespeed: SandboxControl, fault: str, outcome: str, kind: str
) -> None:
    before = scraped()
    wavespeed.arm(fault)
    lease = lifecycle.admit()
    assert lease
    lifecycle.submit(lease)
    after = scraped()

    for name, labels in [
        ("submits_total", {"outcome": outcome}),
        ("provider_errors_total", {"route": "/{model}", "kind": kind}),
    ]:
        assert value(after, name, **labels) - value(before, name, **labels) == 1


def test_requests_are_counted_by_page(client: Client, db: None) -> None:
    before = scraped()
    client.get("/livez")
    client.get("/nothing/here/4711")
    after = scraped()

    for labels in ({"view": "livez", "status": "2xx"}, {"view": "none", "status": "4xx"}):
        assert value(after, "request_seconds_count", **labels) - value(before, "request_seconds_count", **labels) == 1


def test_no_label_tells_of_a_person_a_project_or_an_id(queued: Generation, wavespeed: SandboxControl) -> None:
    run_to_end(queued)
    labels = {text for _, labels in scraped() for _, text in labels}
    known = [queued.project.name, queued.requested_by.username, queued.requested_by.email, queued.prompt]

    assert not [text for text in labels if re.search(r"[0-9a-f]{8}-|@", text)]
    assert not labels & set(known)
    # Routes, kinds of errors, bounds of histograms; what grows with rows would be far more.
    assert len(labels) < 400


# --- The files --------------------------------------------------------------------------------------------------------


def count(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Another process of the same machine."""
    return subprocess.run(
        [sys.executable, "-c", f"import os, signal\nfrom generations import counters\n{code}"],
        cwd=ROOT,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def submits() -> float:
    found = [family for family in counters.collect() if family.name == "kling_studio_submits"]
    return sum(sample.value for family in found for sample in family.samples)


def test_processes_of_a_machine_are_added_up_also_the_killed_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for number in range(1, 4):
        done = count(tmp_path, "counters.submitted('accepted')\nos.kill(os.getpid(), signal.SIGKILL)")
        assert done.returncode == -signal.SIGKILL
        assert submits() == number
    files = sorted(path.name for path in tmp_path.iterdir())

    assert files == ["counter_ended.db", "gate"]


def test_fork_counts_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the forked process does not keep the one that it comes from alive among the files."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    count(
        tmp_path,
        "counters.submitted('accepted')\n"
        "child = os.fork()\n"
        "counters.submitted('accepted')\n"
        "if child:\n"
        "    os.waitpid(child, 0)\n",
    )

    assert submits() == 3


def test_work_goes_on_where_nothing_can_be_counted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = count(tmp_path / "file" / "metrics", "counters.submitted('accepted')\nprint('sent')")

    assert (done.returncode, done.stdout) == (0, "sent\n")
    assert "not counted: NotADirectoryError" in done.stderr
