"""What owners decide of a request whose reply was lost: which prediction it became, or that it was not made. Kept with who and why."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from generations import lifecycle, tasks
from generations.models import Generation, Status, UnassignedPrediction
from generations.refusals import NoCandidate, ReasonMissing, TooSoon, WrongStatus
from projects import permissions, spend

MAX_REASON = 400


def candidates_of(generation: Generation) -> list[UnassignedPrediction]:
    """The predictions that may be its, in the order in which they were made; what another generation got is none any more."""
    return lifecycle.candidates(generation)


def may_settle_at(generation: Generation) -> datetime:
    """From when on an owner may say that it was not made: before that, the provider's list may lag."""
    return (generation.submitted_at or generation.created_at) + timedelta(minutes=settings.UNCONFIRMED_MINUTES)


def may_decide(user: User, generation: Generation) -> bool:
    """Whether `user` decides what became of it, and there is something to decide."""
    return generation.status == Status.UNCONFIRMED and permissions.may(user, "manage", generation.project)


def assign(generation: Generation, unassigned: UnassignedPrediction, *, by: User, reason: str) -> None:
    """It became this prediction: it goes on as if its reply had come.

    Also after it was settled as not made: then it is a late success, and charged. A prediction that is no candidate takes a studio
    owner, as it may be another project's. Raises `WrongStatus`, `NoCandidate`, `ReasonMissing`, `PermissionDenied`.
    """
    permissions.require(by, "manage", generation.project)
    words = _reason(reason)
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

    Raises `TooSoon` before `may_settle_at`, `WrongStatus`, `ReasonMissing`, `PermissionDenied`.
    """
    permissions.require(by, "manage", generation.project)
    words = _reason(reason)
    generation.refresh_from_db()
    if generation.status != Status.UNCONFIRMED:
        raise _wrong(generation)
    if timezone.now() < may_settle_at(generation):
        raise TooSoon(
            f"The provider's list may lag, so nobody can say yet that it was not made. From {_when(generation, may_settle_at(generation))} "
            "on you can; until then it is looked for, and nothing is lost."
        )
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


def _reason(reason: str) -> str:
    words = " ".join(reason.split())
    if not words:
        raise ReasonMissing("Say why: the decision is kept with its reason.")
    if len(words) > MAX_REASON:
        raise ReasonMissing(f"The reason is too long: at most {MAX_REASON} characters are kept.")
    return words


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
