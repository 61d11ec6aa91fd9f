"""`manage.py backup` and `manage.py restore` of a studio on SQLite. What follows: tests/generations/lifecycle/test_restored.py."""

import sqlite3
import threading
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from generations.lifecycle import restored
from generations.models import Lane, PauseCause, Process
from projects.models import Project
from tests import factories

pytestmark = pytest.mark.django_db(transaction=True)


def run(command: str, *arguments: object) -> str:
    out = StringIO()
    call_command(command, *map(str, arguments), stdout=out)
    return out.getvalue()


@pytest.fixture
def file(tmp_path: Path, project: Project) -> Path:
    """A backup with one project."""
    run("backup", tmp_path / "backup.sqlite3")
    return tmp_path / "backup.sqlite3"


def test_a_backup_is_one_whole_file_that_only_its_owner_reads(project: Project, tmp_path: Path) -> None:
    said = run("backup", tmp_path / "backup.sqlite3")

    assert "Saved and checked" in said
    assert [path.name for path in tmp_path.iterdir()] == ["backup.sqlite3"]
    assert (tmp_path / "backup.sqlite3").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(tmp_path / "backup.sqlite3")) as copy:
        assert copy.execute("SELECT name FROM projects_project").fetchall() == [("Coffee",)]
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_a_backup_while_others_write_is_consistent(project: Project, tmp_path: Path) -> None:
    """Each writer adds two rows in one transaction: a copy has both or neither."""
    stop = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=30, isolation_level=None)) as writer:
            while not stop.wait(0.001):
                writer.executescript(
                    "BEGIN IMMEDIATE; INSERT INTO pairs VALUES (1); INSERT INTO pairs VALUES (1); COMMIT;"
                )

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE pairs (n INTEGER)")
    thread = threading.Thread(target=write)
    thread.start()
    try:
        for take in range(5):
            run("backup", tmp_path / f"{take}.sqlite3")
            with closing(sqlite3.connect(tmp_path / f"{take}.sqlite3")) as copy:
                (rows,) = copy.execute("SELECT count(*) FROM pairs").fetchone()
                assert rows % 2 == 0
    finally:
        stop.set()
        thread.join()
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE pairs")


def test_an_older_backup_is_not_overwritten(file: Path) -> None:
    with pytest.raises(CommandError, match="exists already"):
        run("backup", file)


def test_a_folder_that_is_not_there_is_told(project: Project, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="can't be written: No such file or directory"):
        run("backup", tmp_path / "none" / "backup.sqlite3")


def test_a_restore_brings_the_rows_back_and_pauses_submitting(file: Path, project: Project) -> None:
    factories.ProjectFactory(name="Made after the backup", created_by=project.created_by)

    said = run("restore", file)

    assert list(Project.objects.values_list("name", flat=True)) == ["Coffee"]
    lane = Lane.objects.get()
    assert (lane.paused_cause, restored.is_earlier()) == (PauseCause.RESTORED, False)
    assert "manage.py after_restore" in said
    kept = Path(said.split("kept as ")[1].split(".\n")[0])
    with closing(sqlite3.connect(kept)) as before:
        assert before.execute("SELECT count(*) FROM projects_project").fetchone() == (2,)
    for leftover in kept.parent.glob(f"{kept.name}*"):
        leftover.unlink()


def test_a_studio_that_runs_is_not_restored(file: Path, project: Project) -> None:
    Process.objects.create(kind=Process.Kind.WEB, host="here", pid=7)

    with pytest.raises(CommandError, match="Stop the studio first:\nWeb server 7 on here gave a sign of life"):
        run("restore", file)

    assert Project.objects.count() == 1
    assert not Lane.objects.filter(paused_at__isnull=False).exists()


@pytest.mark.parametrize("damage", ["missing", "no database", "another database", "cut"])
def test_what_is_no_backup_is_refused_and_changes_nothing(damage: str, file: Path, project: Project) -> None:
    match damage:
        case "missing":
            file.unlink()
        case "no database":
            file.write_bytes(b"This is a text.")
        case "another database":
            file.unlink()
            with closing(sqlite3.connect(file)) as other:
                other.execute("CREATE TABLE recipes (name TEXT)")
        case "cut":
            file.write_bytes(file.read_bytes()[:-8192])

    with pytest.raises(CommandError, match=r"is no backup of a studio|is damaged"):
        run("restore", file)

    assert Project.objects.count() == 1
