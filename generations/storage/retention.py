"""The trash: what people or a project's retention throw away can be brought back for `TRASH_DAYS`; then its files are deleted.

Rows stay for good, as they were paid. Nothing is deleted that is still owed: a picture that something unfinished is made of, a
video that may belong to an unconfirmed generation, or that was just given to one.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.core.files.storage import default_storage
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce, Greatest
from django.utils import timezone

from generations.models import (
    NOT_ACCEPTED,
    Generation,
    Status,
    Video,
)
from projects.models import Project, SourceImage

log = structlog.get_logger(__name__)

BATCH = 500


def is_given() -> Q:
    """Its prediction is somebody's by now, who is charged for it and about to take it over."""
    unfinished = [status for status in Status if status != Status.COMPLETED]
    return Q(unassigned__assigned_to__status__in=unfinished)


def deleted_on(trashed_at: datetime) -> datetime:
    return trashed_at + timedelta(days=settings.TRASH_DAYS)


def apply_retention() -> int:
    """Moves to the trash what is older than its project keeps it; how many. Once a day is enough."""
    now = timezone.now()
    trashed = 0
    for project in Project.objects.filter(retention_days__isnull=False):
        kept_since = now - timedelta(days=project.retention_days or 0)
        kept_from = Greatest("created_at", Coalesce("restored_at", "created_at"))
        old = Video.objects.filter(generation__project=project, trashed_at=None).alias(kept_from=kept_from)
        count = old.filter(kept_from__lt=kept_since).update(trashed_at=now, trashed_by=None)
        if count:
            log.info("retention", project=str(project.pk), videos=count)
        trashed += count
    return trashed


def empty() -> int:
    """Deletes the files of what has been in the trash for `TRASH_DAYS`; how many videos and pictures."""
    before = timezone.now() - timedelta(days=settings.TRASH_DAYS)
    return _empty(_videos_to_delete(before), ("file", "poster")) + _empty(
        _pictures_to_delete(before), ("file", "thumbnail", "original")
    )


def _videos_to_delete(before: datetime) -> QuerySet[Video]:
    undecided = Q(unassigned__candidate_for__status=Status.UNCONFIRMED)
    rows = Video.objects.filter(trashed_at__lt=before, purged_at=None)
    return rows.exclude(pk__in=Video.objects.filter(undecided | is_given()).values("pk"))


def _pictures_to_delete(before: datetime) -> QuerySet[SourceImage]:
    used = Generation.objects.filter(Q(image=OuterRef("pk")) | Q(end_image=OuterRef("pk")), status__in=NOT_ACCEPTED)
    return SourceImage.objects.filter(~Exists(used), trashed_at__lt=before, purged_at=None)


def _empty(rows: QuerySet[Video] | QuerySet[SourceImage], fields: tuple[str, ...]) -> int:
    """Marks each row first, as long as it is still to be deleted, so that nobody brings back what is half gone.

    A file that the storage keeps all the same is a file without a row: `check_storage` finds it.
    """
    deleted = 0
    for pk, *names in _batch(rows, fields):
        marked = rows.filter(pk=pk).update(purged_at=timezone.now(), **dict.fromkeys(fields, ""))
        if not marked:
            continue
        deleted += 1
        for name in filter(None, names):
            _delete(name)
    return deleted


def _batch(
    rows: QuerySet[Video] | QuerySet[SourceImage], fields: tuple[str, ...]
) -> Iterator[tuple[UUID, *tuple[str, ...]]]:
    yield from rows.order_by("trashed_at").values_list("pk", *fields)[:BATCH]


def _delete(name: str) -> None:
    try:
        default_storage.delete(name)
    except Exception:
        # Storages raise what their vendor's library raises.
        log.exception("not_deleted", file=name)
