"""Backups of a studio on SQLite: taken while it runs, put back while it stands still. PostgreSQL has its own tools."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from generations.lifecycle import restored
from generations.models import Process

# Beside a database in WAL mode; with another database they would destroy it.
COMPANIONS = ("-wal", "-shm")
REASON = (
    "The database was restored from a backup: what it shows as queued may be paid already. "
    "Run “manage.py after_restore”, which compares it with the provider, then resume."
)


class Unusable(Exception):
    """Nothing was changed; the text says why."""


def save(path: Path) -> int:
    """Writes a consistent copy to `path`, readable by its owner alone, complete or not at all; its size in bytes."""
    if path.exists():
        raise Unusable(f"{path} exists already. Choose another name, so that an older backup is not lost.")
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        connection.ensure_connection()
        with closing(sqlite3.connect(partial)) as copy:
            connection.connection.backup(copy)
            # A file that stands alone.
            copy.execute("PRAGMA journal_mode=DELETE")
        check(partial)
        _flush(partial)
        partial.rename(path)
    except OSError as error:
        raise Unusable(f"{path} can't be written: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)
    return path.stat().st_size


def check(path: Path) -> None:
    """Whether it is a whole database of a studio."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            (verdict,) = database.execute("PRAGMA integrity_check").fetchone()
            database.execute("SELECT 1 FROM generations_generation").fetchone()
    except sqlite3.Error as error:
        raise Unusable(f"{path} is no backup of a studio: {error}.") from error
    if verdict != "ok":
        raise Unusable(f"{path} is damaged: {verdict}.")


def put_back(path: Path) -> Path | None:
    """Puts the backup in the database's place and pauses the lane; where the present database is kept, if there was one."""
    check(path)
    database = Path(connection.settings_dict["NAME"])
    incoming = database.with_name(f"{database.name}.incoming")
    shutil.copyfile(path, incoming)
    incoming.chmod(0o600)
    _flush(incoming)
    connection.close()
    kept = _put_aside(database)
    incoming.rename(database)
    call_command("migrate", verbosity=0, interactive=False)
    # Who ran when it was made runs no more.
    Process.objects.all().delete()
    restored.pause(REASON)
    return kept


def _put_aside(database: Path) -> Path | None:
    if not database.exists():
        return None
    kept = database.with_name(f"{database.name}.before-restore-{timezone.now():%Y%m%d-%H%M%S}")
    for companion in COMPANIONS:
        beside = database.with_name(database.name + companion)
        if beside.exists():
            beside.rename(kept.with_name(kept.name + companion))
    database.rename(kept)
    return kept


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
