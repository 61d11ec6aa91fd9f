"""Copies the studio's database to another one, wholly or not at all: table by table, in one transaction, and compared row by row."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import DEFAULT_DB_ALIAS, DatabaseError, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model, Sum

from generations.models import Process
from projects.models import BudgetPeriod, SpendEntry, SpendLine

SOURCE = DEFAULT_DB_ALIAS
TARGET = "target"
BATCH = 500
# What migrations themselves put into an empty database.
MADE_BY_MIGRATIONS: frozenset[type[Model]] = frozenset({ContentType, Permission, Group})
# Who ran on the old database says nothing of the new one.
LEFT_BEHIND: frozenset[type[Model]] = frozenset({Process})


class CannotMove(Exception):
    """Nothing was changed in either database; the text says why."""


@dataclass(frozen=True)
class Table:
    name: str
    rows: int


def connect(config: dict[str, Any]) -> None:
    """Makes `config` (of `DATABASES`) the target."""
    connections.settings[TARGET] = connections.configure_settings({SOURCE: {}, TARGET: config})[TARGET]


def disconnect() -> None:
    connections[TARGET].close()
    del connections[TARGET], connections.settings[TARGET]


def move(tell: Callable[[str], None]) -> list[Table]:
    """Migrates the empty target, copies everything and compares it; raises `CannotMove`. `tell` hears how far it is."""
    _require_migrated()
    _require_empty()
    tell("Making the tables…")
    call_command("migrate", database=TARGET, verbosity=0, interactive=False)
    models = _models()
    try:
        # The source's transaction keeps writers out while it is read.
        with transaction.atomic(using=SOURCE), transaction.atomic(using=TARGET):
            _empty_what_migrations_made()
            tables = [_copy(model, tell) for model in models]
            # PostgreSQL looks at foreign keys when the transaction ends, so that the order of the tables is no matter; here it looks now.
            connections[TARGET].check_constraints()
            _set_sequences(models)
            for model in models:
                _require_equal(model)
            _require_equal_sums()
    except (DatabaseError, ValueError) as error:
        raise CannotMove(f"The target did not take a row, and nothing was kept of the copy: {error}") from error
    return tables


def _models() -> list[type[Model]]:
    """Every table of every app: those of many-to-many fields and of histories too."""
    models = apps.get_models(include_auto_created=True)
    return [model for model in models if model._meta.managed and not model._meta.proxy and model not in LEFT_BEHIND]


def _require_migrated() -> None:
    executor = MigrationExecutor(connections[SOURCE])
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise CannotMove("This database is not migrated: run “manage.py migrate” first, then move it.")


def _require_empty() -> None:
    try:
        existing = set(connections[TARGET].introspection.table_names())
    except DatabaseError as error:
        raise CannotMove(f"The target does not answer: {error}") from error
    for model in _models():
        if model in MADE_BY_MIGRATIONS or model._meta.db_table not in existing:
            continue
        if model._base_manager.using(TARGET).exists():
            raise CannotMove(
                f"The target is not empty: it has {model._meta.verbose_name_plural} already. Nothing was changed."
            )


def _empty_what_migrations_made() -> None:
    with connections[TARGET].cursor() as cursor:
        for model in _models():
            if model in MADE_BY_MIGRATIONS or model is Group.permissions.through:
                cursor.execute(f"DELETE FROM {connections[TARGET].ops.quote_name(model._meta.db_table)}")  # noqa: S608


def _copy(model: type[Model], tell: Callable[[str], None]) -> Table:
    """Column by column as it is: no `save()`, no signal, no time stamp anew."""
    target = connections[TARGET]
    fields = model._meta.concrete_fields
    quote = target.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    places = ", ".join(["%s"] * len(fields))
    statement = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({places})"  # noqa: S608 - names of our own models
    rows = (
        [field.get_db_prep_save(value, connection=target) for field, value in zip(fields, row, strict=True)]
        for row in _rows(model, SOURCE)
    )
    count = 0
    with target.cursor() as cursor:
        while batch := list(islice(rows, BATCH)):
            cursor.executemany(statement, batch)
            count += len(batch)
    if count:
        tell(f"{count:>9,} {model._meta.verbose_name_plural}")
    return Table(model._meta.db_table, count)


def _rows(model: type[Model], using: str) -> Iterator[tuple[Any, ...]]:
    names = [field.attname for field in model._meta.concrete_fields]
    return model._base_manager.using(using).order_by().values_list(*names).iterator(chunk_size=BATCH)


def _set_sequences(models: list[type[Model]]) -> None:
    target = connections[TARGET]
    with target.cursor() as cursor:
        for statement in target.ops.sequence_reset_sql(no_style(), models):
            cursor.execute(statement)


def _require_equal(model: type[Model]) -> None:
    ours, theirs = _digest(model, SOURCE), _digest(model, TARGET)
    if ours != theirs:
        raise CannotMove(
            f"The copy of the {model._meta.verbose_name_plural} differs from what it was made of, so nothing was kept of it."
        )


def _digest(model: type[Model], using: str) -> tuple[int, int]:
    """How many rows, and a sum over the digest of each, whatever their order."""
    count = total = 0
    for row in _rows(model, using):
        text = json.dumps(row, default=str, sort_keys=True)
        total += int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
        count += 1
    return count, total


def _require_equal_sums() -> None:
    """The money once more, added up by the databases themselves."""
    columns = {
        SpendEntry: ("reserved_delta", "spent_delta"),
        SpendLine: ("reserved_delta", "spent_delta"),
        BudgetPeriod: ("reserved", "spent"),
    }
    for model, names in columns.items():
        ours, theirs = (
            model._base_manager.using(using).aggregate(*(Sum(name) for name in names)) for using in (SOURCE, TARGET)
        )
        if ours != theirs:
            raise CannotMove(
                f"The sums of the {model._meta.verbose_name_plural} differ, so nothing was kept of the copy."
            )
