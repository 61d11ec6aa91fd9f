"""The sandbox's book: one SQLite file that survives `kill -9`. What is committed is on the disk (synchronous=FULL)."""

import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS posts (
    number INTEGER PRIMARY KEY AUTOINCREMENT, received_at REAL NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL,
    image TEXT NOT NULL, webhook TEXT, fault TEXT, prediction_id TEXT, status INTEGER, message TEXT
);
CREATE TABLE IF NOT EXISTS predictions (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, model TEXT NOT NULL, inputs TEXT NOT NULL,
    webhook TEXT, submitted_at REAL NOT NULL, starts_at REAL NOT NULL, ends_at REAL,
    outcome TEXT NOT NULL, code INTEGER NOT NULL, error TEXT NOT NULL, nsfw INTEGER NOT NULL,
    refund_delay REAL, webhook_faults TEXT NOT NULL, webhook_planned INTEGER NOT NULL DEFAULT 0,
    fetched INTEGER NOT NULL DEFAULT 0, output_sha256 TEXT, output_bytes INTEGER, element TEXT,
    url_version INTEGER NOT NULL DEFAULT 1, deleted_at REAL
);
CREATE TABLE IF NOT EXISTS billings (
    number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, prediction_id TEXT NOT NULL,
    billing_type TEXT NOT NULL, price INTEGER NOT NULL, created_at REAL NOT NULL, visible_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS billings_by_prediction ON billings (prediction_id, billing_type);
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, filename TEXT NOT NULL, size INTEGER NOT NULL, content_type TEXT NOT NULL,
    token TEXT NOT NULL, created_at REAL NOT NULL, stored_at REAL, sha256 TEXT
);
CREATE TABLE IF NOT EXISTS faults (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, times INTEGER, chance REAL NOT NULL,
    filters TEXT NOT NULL, parameters TEXT NOT NULL, taken INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT, prediction_id TEXT NOT NULL, message_id TEXT NOT NULL,
    status TEXT NOT NULL, due_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL,
    bad_signature INTEGER NOT NULL DEFAULT 0, last_answer TEXT NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (state, due_at);
"""
_BUSINESS_TABLES = ("posts", "predictions", "billings", "uploads", "faults", "deliveries")


class BookInUse(Exception):
    """Another sandbox has this data directory open."""


class Book:
    """One connection behind one lock; every write is a transaction that is fsynced before it returns."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            data_dir / "book.sqlite3", timeout=1.0, check_same_thread=False, isolation_level=None
        )
        self._connection.row_factory = sqlite3.Row
        try:
            # Exclusive: two sandboxes on one book would each make the same outputs and send the same webhooks.
            for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise BookInUse(f"{data_dir} can't be opened ({error}): does another sandbox use it?") from error

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside is committed together, or not at all; transactions nest as one."""
        with self._lock:
            if self._connection.in_transaction:
                yield
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        rows = self.rows(sql, *values)
        return rows[0] if rows else None

    def value(self, sql: str, *values: Any) -> Any:
        """The first column of the first row, or None."""
        row = self.row(sql, *values)
        return row[0] if row else None

    def write(self, sql: str, *values: Any) -> int:
        """Run one statement and return how many rows it changed."""
        with self.transaction():
            return self._connection.execute(sql, values).rowcount

    def insert(self, table: str, **columns: Any) -> int:
        """Add one row and return its number."""
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        with self.transaction():
            sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - names are our own literals
            return self._connection.execute(sql, tuple(columns.values())).lastrowid or 0

    def setting(self, key: str, default: str) -> str:
        value = self.value("SELECT value FROM settings WHERE key = ?", key)
        return default if value is None else str(value)

    def set_setting(self, key: str, value: str) -> None:
        self.write(
            "INSERT INTO settings VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", key, value
        )

    def secret(self, key: str) -> str:
        """A random text that is made once and kept."""
        with self.transaction():
            secret = self.setting(key, "") or secrets.token_hex(24)
            self.set_setting(key, secret)
            return secret

    def clear(self) -> None:
        """Forget everything that was done here; secrets, ports and the clock stay."""
        with self.transaction():
            for table in _BUSINESS_TABLES:
                self.write(f"DELETE FROM {table}")  # noqa: S608 - names are our own literals
