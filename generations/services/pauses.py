"""What people pause and resume by hand: the lane, and so everything, a project, or an endpoint; with a reason, kept with who and when.

A pause holds back what is not submitted yet, whose money stays held; what was submitted goes on. Each is set and lifted with the lane's
row locked, as is the last look before a submit: so it is wholly before or wholly after a pause.
"""

import structlog
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from generations import catalog, tasks
from generations.lifecycle import restored
from generations.models import Generation, Lane, PauseCause, PausedEndpoint, PausedProject, PauseEvent, Status
from generations.models.lane import LESSER_CAUSES
from generations.services import reasons
from generations.services.refusals import WrongStatus
from projects import permissions
from projects.models import Project

log = structlog.get_logger(__name__)

READ_BY = "everybody who waits for it reads the reason."


@transaction.atomic
def pause_lane(*, reason: str, by: User) -> None:
    """Nothing more is submitted until a studio owner resumes; what was submitted goes on."""
    permissions.require_studio_owner(by, "pause submitting")
    reason, lane = reasons.required(reason, READ_BY), Lane.locked()
    if lane.paused_at and lane.paused_cause == PauseCause.RESTORED:
        raise WrongStatus("It is paused already, because the database was restored from a backup; that comes first.")
    Lane.pause(PauseCause.OWNER, reason, by=by, replaces=LESSER_CAUSES)


def resume_lane(*, by: User, reason: str = "") -> None:
    """Raises `WrongStatus` where the database was restored from a backup and not compared with the provider yet."""
    permissions.require_studio_owner(by, "resume submitting")
    _require_compared()
    with transaction.atomic():
        if Lane.locked().resume(reasons.optional(reason), by=by):
            tasks.send_on_commit(tasks.fill_lane)


def _require_compared() -> None:
    try:
        must_be_compared = restored.must_be_compared()
    except Exception as error:  # each storage's library has its own
        log.warning("storage_unread", error=type(error).__name__)
        raise WrongStatus(
            "The storage can't be read, where the studio counts what was sent: mend the storage, then resume. Nothing was changed."
        ) from error
    if must_be_compared:
        raise WrongStatus(
            "The database was restored from a backup, and nobody has compared it with the provider yet: what is queued may be paid "
            "already. Run “manage.py after_restore” on the server, read its report, then resume."
        )


@transaction.atomic
def pause_endpoint(endpoint: str, *, reason: str, by: User) -> None:
    """Nothing more is submitted to this endpoint until a studio owner resumes it; other endpoints go on."""
    permissions.require_studio_owner(by, "pause a model")
    catalog.get(endpoint)
    reason = reasons.required(reason, READ_BY)
    Lane.locked()
    PausedEndpoint.pause(endpoint, reason, by=by)


@transaction.atomic
def resume_endpoint(endpoint: str, *, by: User, reason: str = "") -> None:
    permissions.require_studio_owner(by, "resume a model")
    Lane.locked()
    deleted, _ = PausedEndpoint.objects.filter(endpoint=endpoint).delete()
    if deleted:
        PauseEvent.objects.create(is_pause=False, endpoint=endpoint, reason=reasons.optional(reason), by=by)
        tasks.send_on_commit(tasks.fill_lane)


@transaction.atomic
def pause_project(project: Project, *, reason: str, by: User) -> PausedProject:
    """Nothing more of this project is submitted until somebody who may resumes it.

    A studio owner may take over the pause of a project's owner, so that only studio owners resume it. Raises `WrongStatus`,
    `ReasonMissing`, `PermissionDenied`.
    """
    permissions.require(by, "manage", project)
    reason, is_the_studios = reasons.required(reason, READ_BY), permissions.is_studio_owner(by)
    Lane.locked()
    known = _pause_of(project)
    if known and (known.is_the_studios or not is_the_studios):
        raise WrongStatus(f"{project} is paused already, by {known.paused_by}: {known.reason}")
    values = {"reason": reason, "paused_by": by, "is_the_studios": is_the_studios, "paused_at": timezone.now()}
    paused, _ = PausedProject.objects.update_or_create(project=project, defaults=values)
    PauseEvent.objects.create(is_pause=True, project=project, reason=reason, by=by, at=paused.paused_at)
    return paused


@transaction.atomic
def resume_project(project: Project, *, by: User, reason: str = "") -> None:
    """What is queued goes on in turn. What a studio owner paused, only studio owners resume."""
    permissions.require(by, "manage", project)
    Lane.locked()
    paused = _pause_of(project)
    if paused is None:
        raise WrongStatus(f"{project} is not paused.")
    require_may_resume(paused, by)
    paused.delete()
    PauseEvent.objects.create(is_pause=False, project=project, reason=reasons.optional(reason), by=by)
    tasks.send_on_commit(tasks.fill_lane)


def require_may_resume(paused: PausedProject, by: User) -> None:
    if paused.is_the_studios:
        permissions.require_studio_owner(by, "resume what a studio owner paused")


def what_holds_up(generation: Generation) -> str:
    """Why a queued generation is not submitted although it might be its turn, in a sentence; empty when nothing is paused."""
    if generation.status != Status.QUEUED:
        return ""
    lane = Lane.current()
    if lane.paused_at:
        return f"Nothing is submitted at the moment: {lane.paused_reason}"
    if paused := _pause_of(generation.project):
        return f"The project is paused, by {paused.paused_by}: {paused.reason}"
    if endpoint := PausedEndpoint.objects.filter(endpoint=generation.endpoint).first():
        return f"Its model is paused: {endpoint.reason}"
    return ""


def _pause_of(project: Project) -> PausedProject | None:
    return PausedProject.objects.filter(project=project).select_related("paused_by").first()
