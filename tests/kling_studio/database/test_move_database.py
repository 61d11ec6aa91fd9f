"""What `manage.py move_database` refuses before it begins. The move itself: tests/services/test_move_database.py."""

import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from generations.lifecycle import restored
from generations.models import Generation, Lane, Process
from kling_studio.database import stopped
from projects.models import Project
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = "postgres://nobody:wrong-password@127.0.0.1:1/none"


def refusal(url: str) -> str:
    with pytest.raises(CommandError) as refused:
        call_command("move_database", "--to", url)
    assert not Lane.objects.filter(paused_at__isnull=False).exists()
    assert "wrong-password" not in str(refused.value)
    return str(refused.value)


def test_a_studio_that_runs_is_not_moved() -> None:
    Process.objects.create(kind=Process.Kind.DISPATCHER, host="here", pid=7)

    assert "Stop the studio first" in refusal(NOBODY)
    assert "Dispatcher 7 on here gave a sign of life" in refusal(NOBODY)


def test_a_process_that_is_dead_for_long_does_not_count() -> None:
    Process.objects.create(kind=Process.Kind.WEB, host="here", pid=7, seen_at=timezone.now() - timedelta(minutes=5))

    assert stopped.what_runs() == []


def test_a_row_that_a_worker_has_is_waited_for(project: Project) -> None:
    generation = Generation.objects.create(
        project=project,
        requested_by=project.created_by,
        endpoint="kwaivgi/kling-video-o3-4k/image-to-video",
        image=factories.source_image(project),
        lease_until=timezone.now() + timedelta(seconds=60),
    )

    assert f"A worker has the generation {generation.pk}" in refusal(NOBODY)


@pytest.mark.parametrize("url", ["sqlite:///elsewhere.sqlite3", "nonsense", "mysql://a:wrong-password@b/c"])
def test_a_target_that_is_no_postgresql_is_refused(url: str) -> None:
    assert refusal(url) == "--to takes postgres://user:password@host:5432/name."


# --- Whether it stands still, for a database that has its own tools ------------------------------------------------


def test_check_stopped_names_what_still_runs_and_waits_for_it() -> None:
    process = Process.objects.create(kind=Process.Kind.WORKER, host="here", pid=7)
    with pytest.raises(CommandError, match=r"The studio runs:\nWorker 7 on here gave a sign of life 0 s ago"):
        call_command("check_stopped")

    def end() -> None:
        Process.objects.filter(pk=process.pk).delete()
        connection.close()  # this thread's own

    ends = threading.Timer(0.5, end)
    ends.start()
    out = StringIO()
    call_command("check_stopped", "--wait", "30", stdout=out)
    ends.join()

    assert "The studio stands still" in out.getvalue()


def test_what_a_wrong_clock_wrote_may_live() -> None:
    Process.objects.create(kind=Process.Kind.WORKER, host="here", pid=7, seen_at=timezone.now() + timedelta(hours=1))

    assert len(stopped.what_runs()) == 1


def test_processes_of_the_backup_do_not_count_as_dead_after_a_restore() -> None:
    """Of PostgreSQL, whose own tools bring them back with the rest."""
    Process.objects.create(kind=Process.Kind.WEB, host="here", pid=7, seen_at=timezone.now() - timedelta(hours=5))
    living = Process.objects.create(kind=Process.Kind.WEB, host="here", pid=8)

    restored.pause("The database is an earlier one.")

    assert [process.pk for process in Process.objects.all()] == [living.pk]
