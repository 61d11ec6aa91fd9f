"""What became of an unconfirmed generation, and what came in place of a video: what owners see of it, and what they decide."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from generations.admin.videos import player
from generations.models import Generation, Status, UnassignedPrediction
from generations.services import decisions
from generations.services.refusals import Refused
from projects import permissions
from projects.admin.access import person
from projects.money import shown

REFUSALS = (Refused, PermissionDenied)


@dataclass(frozen=True)
class Candidate:
    """A prediction that may be the one, as an owner compares it."""

    prediction: UnassignedPrediction

    @property
    def players(self) -> list[dict[str, Any]]:
        return [player(video) for video in self.prediction.videos.all()]

    @property
    def prompt(self) -> str:
        """Empty where the provider hides what was asked for."""
        return str(self.prediction.inputs.get("prompt") or "")

    @property
    def state(self) -> str:
        return state_of(self.prediction)


def state_of(prediction: UnassignedPrediction) -> str:
    """What is stored of it, in words."""
    if prediction.stored_at:
        return "Its video is stored here, so it can't expire while you think."
    if prediction.error_message:
        return f"Its video is not stored: {prediction.error_message}"
    return "It is still being made, or copied to the studio."


def facts(generation: Generation, by: User) -> dict[str, Any]:
    """What the page of a generation shows of its decision; nothing once its outcome is known."""
    if generation.status != Status.UNCONFIRMED:
        return {}
    return {
        "may_settle": permissions.may(by, "manage", generation.project),
        "candidates": [Candidate(prediction) for prediction in decisions.candidates_of(generation)],
        "looks": decisions.looks(generation),
        "not_yet": decisions.why_not_yet(generation),
        "looks_again_at": generation.next_action_at,
        "held": shown(generation.quote or 0),
    }


def puzzle(generation: Generation, by: User) -> dict[str, Any]:
    """What the page shows where the provider's answer is not understood: the addresses in it, for an owner to say which it is."""
    if not decisions.may_end(by, generation):
        return {}
    return {"may_end": True, "addresses": generation.outputs}


def take_output(request: HttpRequest, generation: Generation) -> None:
    address = request.POST.get("address", "").strip() or request.POST.get("other", "")
    try:
        decisions.take_output(generation, address, by=person(request), reason=request.POST.get("reason", ""))
    except REFUSALS as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, "It is charged as the provider billed it, and its video comes here.")


def end_without_video(request: HttpRequest, generation: Generation) -> None:
    try:
        decisions.end_without_video(generation, by=person(request), reason=request.POST.get("reason", ""))
    except REFUSALS as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(
            request,
            "Ended without a video. Its money is free again, or charged, as the provider’s bill says. If a video comes, it is stored.",
        )


def facts_of_what_came(generation: Generation, by: User) -> dict[str, Any]:
    """What the page shows of outputs of which something else came than a video."""
    may_take = decisions.may_take_as_it_is(by, generation)
    came = [
        (output, output.file.url if output.file and may_take else "") for output in generation.refused_outputs.all()
    ]
    return {"came": came, "may_take": may_take}


def take_as_it_is(request: HttpRequest, generation: Generation) -> None:
    """Takes what came as it is; what is refused is told."""
    try:
        decisions.take_as_it_is(generation, by=person(request), reason=request.POST.get("reason", ""))
    except REFUSALS as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, "Taken as it is: it is completed, and nothing more is fetched.")


def assign(request: HttpRequest, generation: Generation) -> None:
    """Takes the candidate that was chosen as this generation's; what is refused is told."""
    chosen = _candidate(generation, request.POST.get("candidate", ""))
    if chosen is None:
        messages.error(request, "Choose which of the predictions it is.")
        return
    try:
        decisions.assign(generation, chosen, by=person(request), reason=request.POST.get("reason", ""))
    except REFUSALS as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, "It is this one: it is charged as the provider billed it, and its video comes here.")


def not_made(request: HttpRequest, generation: Generation) -> None:
    """Ends it as never made, and gives its money back; what is refused is told."""
    try:
        decisions.settle_not_made(generation, by=person(request), reason=request.POST.get("reason", ""))
    except REFUSALS as refusal:
        messages.error(request, str(refusal))
    else:
        released = shown(generation.quote or 0)
        messages.success(
            request,
            f"Settled as not made: {released} is free again. If it was made after all, its video still comes here.",
        )


def _candidate(generation: Generation, pk: str) -> UnassignedPrediction | None:
    try:
        wanted = UUID(pk)
    except ValueError:
        return None
    return next((each for each in decisions.candidates_of(generation) if each.pk == wanted), None)
