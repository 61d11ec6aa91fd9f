"""What came in place of an output's video: noted once an output, and the last of it kept in the storage until the video is here."""

import uuid
from collections.abc import Iterable
from typing import IO, Any

import structlog
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from generations.models import Generation, RefusedOutput, Status
from generations.storage.storing import Came, StoreFailed, explained

log = structlog.get_logger(__name__)


def keep(generation: Generation, token: uuid.UUID, position: int, came: Came, file: IO[bytes]) -> None:
    """Keeps what came, in place of what came before it. A storage that refuses it keeps nobody from trying again."""
    known = RefusedOutput.objects.filter(generation=generation, position=position).first()
    facts = {
        "bytes": came.bytes,
        "sha256": came.sha256,
        "content_type": came.content_type,
        "beginning": came.beginning,
        "is_picture": came.is_picture,
    }
    if known and known.file and known.sha256 == came.sha256:
        _note(generation, token, position, **facts)
        return
    name = f"projects/{generation.project_id}/videos/{generation.pk}/{position}-{token.hex}-instead.{came.extension}"
    try:
        file.seek(0)
        name = default_storage.save(name, File(file))
    except Exception as error:
        # Each storage's library has its own.
        log.warning("evidence_not_kept", generation=str(generation.pk), reason=explained(error))
        name = ""
    is_noted = _note(generation, token, position, file=name, **facts)
    superseded = known.file.name if is_noted and known else "" if is_noted else name
    delete(superseded or "")


def refuse(generation: Generation, token: uuid.UUID, failures: Iterable[tuple[int, StoreFailed]]) -> None:
    """Counts a try that brought no video, and why; what came before, and was kept, keeps its reason."""
    came_before = set(generation.refused_outputs.exclude(sha256="").values_list("position", flat=True))
    for position, error in failures:
        why = {} if error.came is None and position in came_before else {"why": str(error)}
        _note(generation, token, position, last_at=timezone.now(), times=F("times") + 1, **why)


@transaction.atomic
def _note(generation: Generation, token: uuid.UUID, position: int, **changes: Any) -> bool:
    """False: the row is somebody else's by now, who may have taken what came before as it is."""
    ours = Generation.objects.filter(pk=generation.pk, lease_token=token, status=Status.STORING)
    if not ours.select_for_update().exists():
        return False
    row, _ = RefusedOutput.objects.get_or_create(generation=generation, position=position)
    RefusedOutput.objects.filter(pk=row.pk).update(**changes)
    return True


def forget(generation: Generation) -> list[str]:
    """The files that nobody needs any more, since the videos are here or never were any; the facts stay. Delete them after the commit."""
    rows = RefusedOutput.objects.filter(generation=generation).exclude(file="")
    names = list(rows.select_for_update().values_list("file", flat=True))
    rows.update(file="")
    return names


def delete(name: str) -> None:
    if not name:
        return
    try:
        default_storage.delete(name)
    except Exception as error:
        # `check_storage` finds it.
        log.warning("not_deleted", file=name, reason=explained(error))
