"""What owners decide of a request whose reply was lost: which prediction it became, or that it was not made. Kept with who and why."""

from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from generations import lifecycle, provider, tasks
from generations.models import Generation, GenerationEvent, Look, Status, UnassignedPrediction, Video
from generations.services import reasons
from generations.services.refusals import BadAddress, NoCandidate, NotRead, TooSoon, WrongStatus
from generations.wavespeed.redaction import Redactor
from projects import fetch, permissions
from projects.money import spend

KEPT = "the decision is kept with its reason."


def candidates_of(generation: Generation) -> list[UnassignedPrediction]:
    """The predictions that may be its, in the order in which they were made; what another generation got is none any more."""
    return lifecycle.candidates(generation)


def may_settle_at(generation: Generation) -> datetime:
    """From when on an owner may say that it was not made: before that, the provider's list may lag."""
    return lifecycle.may_settle_at(generation)


def looks(generation: Generation) -> list[Look]:
    """When the provider's list and its bill were last tried and read to find it, the list first; one that was not tried is unsaved."""
    known = {look.source: look for look in generation.looks.all()}
    sources = (Look.Source.LIST, Look.Source.BILL)
    return [known.get(source) or Look(generation=generation, source=source) for source in sources]


def why_not_yet(generation: Generation) -> str:
    """Why nobody may say yet that it was not made, for people; empty once its list and bill were read after the lag."""
    if timezone.now() < may_settle_at(generation):
        return (
            f"The provider's list may lag, so nobody can say yet that it was not made. From {_when(generation, may_settle_at(generation))} "
            "on you can; until then it is looked for, and nothing is lost."
        )
    unread = [_unread(generation, look) for look in lifecycle.what_is_unread(generation)]
    return " ".join([*unread, "Do not decide yet: it is tried again every few minutes."]) if unread else ""


def _unread(generation: Generation, look: Look) -> str:
    read = _when(generation, look.read_at) if look.read_at else "never"
    if not look.error:
        return f"{look.get_source_display()} was not read since it may have lagged; last read: {read}."
    error = look.error.rstrip(".")
    return f"{look.get_source_display()} could not be read ({error}), last tried {_when(generation, look.tried_at)}; last read: {read}."


def may_decide(user: User, generation: Generation) -> bool:
    """Whether `user` decides what became of it, and there is something to decide."""
    return generation.status == Status.UNCONFIRMED and permissions.may(user, "manage", generation.project)


def assign(generation: Generation, unassigned: UnassignedPrediction, *, by: User, reason: str) -> None:
    """It became this prediction: it goes on as if its reply had come.

    Also after it was settled as not made: then it is a late success, and charged. A prediction that is no candidate takes a studio
    owner, as it may be another project's. Raises `WrongStatus`, `NoCandidate`, `ReasonMissing`, `PermissionDenied`.
    """
    permissions.require(by, "manage", generation.project)
    words = reasons.required(reason, KEPT)
    _require_without_prediction(generation)
    if not generation.candidates.filter(pk=unassigned.pk).exists():
        permissions.require_studio_owner(by, "assign a prediction that is no candidate")
        if unassigned.endpoint not in ("", generation.endpoint):
            raise NoCandidate(f"It was made by {unassigned.endpoint}, and this asks for {generation.endpoint}.")
    told = f"Decided by an owner: it is the prediction of {_when(generation, unassigned.made_at or unassigned.found_at)}. {words}"
    if not lifecycle.adopt(generation.pk, unassigned.prediction_id, reason=told, by=by):
        _require_without_prediction(generation)
        raise NoCandidate("This prediction was just given to another generation. Choose another one.")
    tasks.send_on_commit(tasks.poll, str(generation.pk))
    generation.refresh_from_db()


@transaction.atomic
def settle_not_made(generation: Generation, *, by: User, reason: str) -> None:
    """It was not made: it has failed, and its money is released. If it comes all the same, it is stored and charged.

    Raises `TooSoon` before `may_settle_at`, `NotRead` until the provider's list and bill were read after that, `WrongStatus`,
    `ReasonMissing`, `PermissionDenied`.
    """
    permissions.require(by, "manage", generation.project)
    words = reasons.required(reason, KEPT)
    generation.refresh_from_db()
    if generation.status != Status.UNCONFIRMED:
        raise _wrong(generation)
    if reason_to_wait := why_not_yet(generation):
        raise TooSoon(reason_to_wait) if timezone.now() < may_settle_at(generation) else NotRead(reason_to_wait)
    moved = Generation.objects.move(
        generation.pk,
        Status.UNCONFIRMED,
        Status.FAILED,
        reason=f"Decided by an owner: it was not made. {words}",
        by=by,
        error_code="not_made",
        error_message="",
        next_action_at=None,
        completed_at=timezone.now(),
    )
    generation.refresh_from_db()
    if not moved:
        raise _wrong(generation)
    if reservation := spend.reservation_of(generation.pk):
        spend.release(reservation, key=f"not_made:{generation.pk}", reason=f"It was not made: {words}", by=by)


# --- What the provider says is not understood --------------------------------------------------------------------------


def may_end(user: User, generation: Generation) -> bool:
    """Whether `user` may say how it ended at the provider, whose answer is not understood."""
    return _is_puzzling(generation) and permissions.may(user, "manage", generation.project)


def take_output(generation: Generation, address: str, *, by: User, reason: str) -> None:
    """It was made, and this is where its video is: it is stored from there, and charged as it was billed.

    Raises `BadAddress`, `WrongStatus`, `ReasonMissing`, `PermissionDenied`.
    """
    permissions.require(by, "manage", generation.project)
    words = reasons.required(reason, KEPT)
    _require_puzzling(generation)
    url = address.strip()
    try:
        fetch.check_url(url, allow_loopback=provider.is_loopback())
    except fetch.FetchError as error:
        raise BadAddress(f"This is no address that a video can be fetched from: {error.message}") from error
    decided = f"Decided by an owner: its video is at {Redactor().text(url)[:100]} {words}"
    if lifecycle.succeeded(generation, [url], decided=decided, by=by) is None:
        generation.refresh_from_db()
        raise _wrong(generation)
    tasks.send_on_commit(tasks.store, str(generation.pk))
    generation.refresh_from_db()


def end_without_video(generation: Generation, *, by: User, reason: str) -> None:
    """It ended there without a video: it has failed, and its money follows the provider's bill. One that comes later is stored and charged.

    Raises `WrongStatus`, `ReasonMissing`, `PermissionDenied`.
    """
    permissions.require(by, "manage", generation.project)
    words = reasons.required(reason, KEPT)
    _require_puzzling(generation)
    moved = Generation.objects.move(
        generation.pk,
        Status.PROCESSING,
        Status.FAILED,
        reason=f"Decided by an owner: it ended without a video. {words}",
        by=by,
        error_code="no_video",
        error_message=generation.error_message,
        next_action_at=None,
        settle_at=timezone.now(),
        completed_at=timezone.now(),
    )
    generation.refresh_from_db()
    if not moved:
        raise _wrong(generation)


def _is_puzzling(generation: Generation) -> bool:
    return generation.status == Status.PROCESSING and generation.needs_look_since is not None


def _require_puzzling(generation: Generation) -> None:
    generation.refresh_from_db()
    if generation.status == Status.PROCESSING and not _is_puzzling(generation):
        raise WrongStatus("The provider is making it, as far as its answers tell. There is nothing to decide.")
    if not _is_puzzling(generation):
        raise _wrong(generation)


# --- What came in place of a video -------------------------------------------------------------------------------------


def may_take_as_it_is(user: User, generation: Generation) -> bool:
    """Whether `user` may take what came as it is, and something came."""
    return permissions.may(user, "manage", generation.project) and _can_be_taken(generation)


@transaction.atomic
def take_as_it_is(generation: Generation, *, by: User, reason: str) -> None:
    """What came in place of its video is taken: the studio stops trying. What can't be read becomes a video that says so.

    Also of a video that an earlier version of the studio stored although it can't be read: then the checks of the storage let it be.
    Raises `WrongStatus`, `ReasonMissing`, `PermissionDenied`.
    """
    permissions.require(by, "manage", generation.project)
    words = reasons.required(reason, KEPT)
    Generation.objects.select_for_update().get(pk=generation.pk)
    generation.refresh_from_db()
    if not _can_be_taken(generation):
        raise WrongStatus(
            "There is nothing to take as it is: nothing came whole, or its video can be read. Look at it again."
        )
    if generation.status == Status.STORING:
        _take_what_came(generation)
        for name in lifecycle.forget_refused(generation):
            transaction.on_commit(partial(lifecycle.delete_refused, name), robust=True)
    told = f"Decided by an owner: taken as it is. {words}"
    now = timezone.now()
    unreadable = generation.videos.exclude(probe_error="").filter(taken_as_it_is_at=None)
    unreadable.update(taken_as_it_is_at=now)
    if generation.status == Status.STORING:
        moved = Generation.objects.move(
            generation.pk,
            Status.STORING,
            Status.COMPLETED,
            reason=told,
            by=by,
            next_action_at=None,
            completed_at=now,
        )
        if not moved:
            raise _wrong(generation)
    else:
        status = generation.status
        GenerationEvent.objects.create(
            generation=generation, old_status=status, new_status=status, reason=told[:500], by=by
        )
    generation.refresh_from_db()


def _can_be_taken(generation: Generation) -> bool:
    if generation.status == Status.STORING:
        return generation.videos.exists() or generation.refused_outputs.exclude(file="").exists()
    unreadable = generation.videos.exclude(probe_error="").filter(taken_as_it_is_at=None, purged_at=None)
    return generation.status == Status.COMPLETED and unreadable.exists()


def _take_what_came(generation: Generation) -> None:
    """A cover beside a video stays one."""
    has_videos = (
        generation.videos.exists() or generation.refused_outputs.filter(is_picture=False).exclude(file="").exists()
    )
    for came in generation.refused_outputs.select_for_update().exclude(file=""):
        if came.is_picture and has_videos:
            continue
        Video.objects.create(
            generation=generation,
            position=came.position,
            file=came.file.name,
            bytes=came.bytes or 0,
            sha256=came.sha256,
            probe_error=came.why[:300],
        )
        came.file = ""
        came.save(update_fields=["file"])


def _require_without_prediction(generation: Generation) -> None:
    generation.refresh_from_db()
    is_open = generation.status == Status.UNCONFIRMED or (
        generation.status == Status.FAILED and generation.error_code == "not_made"
    )
    if not is_open or generation.prediction_id:
        raise _wrong(generation)


def _wrong(generation: Generation) -> WrongStatus:
    status = generation.get_status_display().lower()
    return WrongStatus(f"There is nothing to decide any more: it is {status}. Look at it again.")


def _when(generation: Generation, moment: datetime) -> str:
    local = moment.astimezone(ZoneInfo(generation.project.time_zone))
    return f"{local:%H:%M} on {local.day} {local:%B} ({generation.project.time_zone})"
