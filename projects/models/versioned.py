from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Self
from uuid import UUID

from django.contrib.auth.models import User
from django.db import models


@dataclass(frozen=True)
class Change:
    """What became of one column; `by` and `at` are of its last change. Nobody: the studio itself."""

    old: Any
    new: Any
    by: User | None
    at: datetime


class Versioned(models.Model):
    """A row that several people may edit at once: see `projects.versions`, the one place that saves their edits."""

    version = models.PositiveIntegerField(default=1, editable=False, help_text="raised by each edit")

    class Meta:
        abstract = True

    @classmethod
    def locked(cls, pk: UUID | int) -> Self:
        """The row as it is now, which nobody else changes until the transaction ends."""
        row = cls(pk=pk)
        row.lock()
        row._state.adding = False
        return row

    def lock(self) -> None:
        """Reads the row again under its lock, after the locks that come before it in the order."""
        # No key is changed, so that other rows may refer to it meanwhile.
        self.refresh_from_db(from_queryset=type(self)._base_manager.select_for_update(of=("self",), no_key=True))

    def changes_since(self, version: int) -> dict[str, Change]:
        """By column, what was changed after that version of the row, read from its history."""
        records: Any = self.history.filter(version__gte=version).select_related("history_user")  # type: ignore[attr-defined]
        columns = [field.attname for field in records.model.tracked_fields if field.attname != "version"]
        return together(
            (column, Change(getattr(old, column), getattr(new, column), new.history_user, new.history_date))
            for old, new in pairwise(records.order_by("version", "history_date"))
            for column in columns
        )


def together(changes: Iterable[tuple[str, Change]]) -> dict[str, Change]:
    """Several changes of a column, the earlier first, as one; without what is as it was."""
    found: dict[str, Change] = {}
    for column, change in changes:
        if change.old != change.new:
            first = found.get(column, change)
            found[column] = Change(first.old, change.new, change.by, change.at)
    return {column: change for column, change in found.items() if change.old != change.new}
