"""Putting videos into the trash and taking them out again."""

from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone

from generations.models import Status, Video
from generations.services.refusals import Refused, WrongStatus
from generations.storage.retention import is_given
from projects import permissions


class Deleted(Refused):
    """Its files are gone for good."""

    code = "deleted"


def trash(video: Video, *, by: User) -> None:
    """Out of sight; its files are deleted after `TRASH_DAYS`. Raises `PermissionDenied`, `WrongStatus`."""
    _require(video, by)
    if _is_owed(video):
        raise WrongStatus("It may belong to an unconfirmed generation: decide that first, then it can go to the trash.")
    if video.unassigned is not None and Video.objects.filter(is_given(), pk=video.pk).exists():
        raise WrongStatus("It was just given to a generation. Once that is completed, it can go to the trash.")
    now = timezone.now()
    Video.objects.filter(pk=video.pk, trashed_at=None).update(trashed_at=now, trashed_by=by)
    video.refresh_from_db()


def restore(video: Video, *, by: User) -> None:
    """Out of the trash; a project's retention counts anew. Raises `PermissionDenied`, `Deleted`."""
    _require(video, by)
    restored = Video.objects.filter(pk=video.pk, purged_at=None).update(
        trashed_at=None, trashed_by=None, restored_at=timezone.now()
    )
    if not restored:
        raise Deleted(
            "Its files were deleted, so it can't be brought back. Its generation can be retried, which costs again."
        )
    video.refresh_from_db()


def require_files(video: Video) -> None:
    """Raises `Deleted` for a video of which only the row is left."""
    if video.purged_at is not None:
        raise Deleted(
            f"Its files were deleted on {video.purged_at:%-d %B %Y}, after {settings.TRASH_DAYS} days in the trash."
        )


def _require(video: Video, by: User) -> None:
    if video.generation is None:
        permissions.require_studio_owner(by, "throw away or bring back videos that belong to nobody yet")
    else:
        permissions.require(by, "edit", video.generation.project)


def _is_owed(video: Video) -> bool:
    return video.unassigned is not None and video.unassigned.candidate_for.filter(status=Status.UNCONFIRMED).exists()
