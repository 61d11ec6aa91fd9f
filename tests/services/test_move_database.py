"""A studio moves from SQLite to PostgreSQL in the middle of its work, and goes on there."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.sandbox import SandboxControl, end_process, spawn_sandbox
from tests.services.servers import scratch_database
from tests.studio_process import PATIENCE, Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.services

# One of each: completed, storing, unconfirmed although the provider has it, queued, and a draft; with a top-up, a history and people.
PREPARE = """
from datetime import timedelta
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.utils import timezone
call_command("migrate", verbosity=0)
from generations.services import drafts, orders
from knox.models import AuthToken
from projects.money import budgets
from projects.models import Project, Role
from tests import factories, pipeline
from tests.sandbox import SandboxControl
by = User.objects.create_superuser("olive", password="correct horse battery staple")
project = Project.objects.create(name="Coffee ☕", time_zone="America/Los_Angeles", created_by=by)
project.description = "changed, so that there is a history"
project.save()
budget = factories.budget(project, 20_000_000)
budgets.top_up(budget, amount=5_000_000, reason="launch", ends_at=timezone.now() + timedelta(days=3), by=by)
factories.member(project, Role.EDITOR, username="eddie")
def make(prompt):
    image = str(factories.source_image(project, by).pk)
    inputs = {"image": image, "prompt": prompt, "duration": 3}
    return drafts.create(project, endpoint=pipeline.ENDPOINT, inputs=inputs, by=by, tags=["cup", "ünïcode"])
def queue(prompt):
    return orders.queue(make(prompt), by=by)
pipeline.run_to_end(queue("completed"))
storing = queue("storing")
pipeline.submit_next()
pipeline.poll_to_end(storing)
SandboxControl(settings.WAVESPEED_BASE_URL).arm("submit_500_created")
queue("unconfirmed")
pipeline.submit_next()
queue("queued")
make("draft")
AuthToken.objects.create(user=by)
"""
FACTS = """
import json
from django.apps import apps
from generations.models import Generation
from projects.models import SpendEntry, BudgetPeriod
print(json.dumps({
    "statuses": dict(Generation.objects.values_list("prompt", "status")),
    "entries": sorted([e.key, e.kind, e.reserved_delta, e.spent_delta, str(e.created_at)] for e in SpendEntry.objects.all()),
    "periods": sorted([p.reserved, p.spent] for p in BudgetPeriod.objects.all()),
    "rows": {m._meta.label: m._base_manager.count() for m in apps.get_models(include_auto_created=True)
             if m._meta.managed and m._meta.label != "generations.Process"},
}))
"""
STATUSES = """
from generations.models import Generation
print(*Generation.objects.order_by("created_at").values_list("prompt", "status"), sep="\\n")
"""


@pytest.fixture
def control(tmp_path: Path) -> Iterator[SandboxControl]:
    process, url = spawn_sandbox(tmp_path / "sandbox")
    yield SandboxControl(url)
    end_process(process)


@pytest.fixture
def target() -> Iterator[str]:
    with scratch_database() as url:
        yield url


def test_a_moved_studio_goes_on_and_pays_for_each_video_once(
    tmp_path: Path, control: SandboxControl, target: str
) -> None:
    studio = Studio(
        tmp_path / "home",
        WAVESPEED_BASE_URL=control.url,
        WAVESPEED_VIDEOS_PER_MINUTE="20",
        WAVESPEED_DEADLINE="30",
    )
    studio.run(PREPARE)
    before = json.loads(studio.run(FACTS))
    assert before["statuses"] == {each: each for each in ("completed", "storing", "unconfirmed", "queued", "draft")}

    moved = studio.manage("move_database", "--to", target)

    assert "the sums of the ledger agree" in moved.stdout
    assert "moved to PostgreSQL" in studio.run(
        "from generations.models import Lane; print(Lane.objects.get().paused_reason)"
    )
    studio.environment["DATABASE_URL"] = target
    assert json.loads(studio.run(FACTS)) == before
    require_append_only(target)
    require_sequences_to_go_on(target)
    with studio:
        studio.start("--no-seed")
        wait_until(lambda: unfinished(target) == set(), seconds=PATIENCE, why=lambda: studio.log.read_text()[-3000:])
        studio.stop()
    assert control.posts()["count"] == 4
    assert set(control.posts()["by_image"].values()) == {1}
    assert money(target) == (0, control.bill()["total_micros"])


def unfinished(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT prompt FROM generations_generation WHERE status NOT IN ('completed', 'draft')"
        )
        return {prompt for (prompt,) in rows}


def money(url: str) -> tuple[int, int]:
    """What is held, and what was spent."""
    with psycopg.connect(url) as connection:
        held, spent = connection.execute("SELECT reserved, spent FROM projects_budgetperiod").fetchone()
        return held, spent


def require_append_only(url: str) -> None:
    with (
        psycopg.connect(url) as connection,
        pytest.raises(psycopg.errors.RaiseException, match="append-only"),
    ):
        connection.execute("UPDATE projects_spendentry SET spent_delta = 0")


def require_sequences_to_go_on(url: str) -> None:
    table = "generations_generationevent"
    with psycopg.connect(url) as connection:
        last, following = connection.execute(
            f"SELECT max(id), nextval(pg_get_serial_sequence('{table}', 'id')) FROM {table}"
        ).fetchone()
    assert following > last


SMALL = """
from django.core.management import call_command
call_command("migrate", verbosity=0)
from django.contrib.auth.models import User
from generations.models import Process
User.objects.create_superuser("olive", first_name="O\\x00live")
Process.objects.create(kind="dispatcher", host="here", pid=7)
"""
MEND = "from django.contrib.auth.models import User; User.objects.update(first_name='Olive')"


def test_a_copy_is_whole_or_not_at_all_and_never_goes_into_a_database_in_use(tmp_path: Path, target: str) -> None:
    """PostgreSQL takes no NUL in text, which SQLite does."""
    studio = Studio(tmp_path / "home")
    studio.run(SMALL)

    failed = studio.manage("move_database", "--to", target, "--force", check=False)

    assert failed.returncode == 1
    assert "nothing was kept of the copy" in failed.stderr
    assert people(target) == []
    assert studio.run("from generations.models import Lane; print(Lane.objects.exists())") == "False"

    studio.run(MEND)
    assert "Copied and compared" in studio.manage("move_database", "--to", target, "--force").stdout
    assert people(target) == [("olive", "Olive")]

    again = studio.manage("move_database", "--to", target, "--force", check=False)
    assert again.returncode == 1
    assert "The target is not empty" in again.stderr


def people(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT username, first_name FROM auth_user").fetchall()
