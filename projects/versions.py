"""Edits of what several people edit at once. None is lost, and the history names who made each.

An edit locks the row, reads it again, writes the columns that it changes and no others, and raises the row's version. Who says
which version they saw is refused when it is another one by now.
"""

import copy
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from projects.models import Versioned

# The versions of a row that an edit may start from; None: any.
Expected = Collection[int] | None


class Stale(Exception):
    """Somebody else changed `row` first, and nothing was changed now. The text is for people."""

    def __init__(self, row: Versioned) -> None:
        self.row = row
        super().__init__(
            f"Somebody changed this {row._meta.verbose_name} meanwhile: it is at version {row.version} now. "
            "Nothing was changed. Look at it again, then repeat what you want to change."
        )


def require(row: Versioned, expected: Expected) -> None:
    """Raises `Stale` if the row, which is locked, is at none of these versions."""
    if expected is not None and row.version not in expected:
        raise Stale(row)


@contextmanager
def editing(row: Versioned, *, by: User, expected: Expected = None) -> Iterator[None]:
    """Goes around one edit of `row` by a person: what the block sets is checked, and saved.

    Raises `Stale`, and `ValidationError` for what is set. Ask for rights inside: the row may have waited for its lock.
    """
    with transaction.atomic():
        row.lock()
        require(row, expected)
        before = _values(row)
        yield
        changed = [name for name, value in _values(row).items() if value != before[name]]
        if changed:
            _check(row, changed)
            row.version += 1
            row._history_user = by  # type: ignore[attr-defined]
            row.save(update_fields=[*changed, "version"])


def _values(row: Versioned) -> dict[str, Any]:
    """By field, what a save would write; copied, as lists may be changed in their place."""
    fields = row._meta.concrete_fields
    return {field.name: copy.deepcopy(field.get_prep_value(getattr(row, field.attname))) for field in fields}


def _check(row: Versioned, changed: list[str]) -> None:
    """What was valid by earlier rules and is left alone stays."""
    others = {field.name for field in row._meta.fields} - set(changed)
    row.clean_fields(exclude=others)
    row.clean()
    row.validate_unique(exclude=others)
    row.validate_constraints()
