"""Use-cases of generations: what the admin, the API and the commands call. Each checks who asks, and moves state and money together."""

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from generations import catalog, provider, tasks
from generations.catalog import InvalidInputs
from generations.models import (
    CANCELLABLE,
    RETRYABLE,
    Element,
    Generation,
    GenerationElement,
    GenerationEvent,
    Lane,
    Status,
)
from projects import budgets, members, permissions, spend
from projects.models import Budget, Project, SourceImage
from projects.money import shown, to_micros

DUPLICATE_HOURS = 24
IMAGE_INPUTS = ("image", "end_image")


class Refused(Exception):
    """The studio does not do it, and nothing changed. The text is for people; `code` is for programs."""

    code = "refused"


class WrongStatus(Refused):
    code = "wrong_status"


class Archived(Refused):
    code = "archived"


class NeedsConfirmation(Refused):
    """The same video exists or is on its way: `existing`. Say it again with `confirm=True` to pay for another one."""

    code = "needs_confirmation"

    def __init__(self, text: str, existing: Sequence[Generation]) -> None:
        self.existing = existing
        super().__init__(text)


@dataclass(frozen=True)
class Quote:
    """What a generation would cost, in micro-dollars, and what it has to fit."""

    amount: int
    figures: list[budgets.Figures]
    existing: list[Generation]

    @property
    def fits(self) -> bool:
        return bool(self.figures) and all(
            each.free >= self.amount for each in self.figures if each.budget.enforcement == "hard"
        )


# --- Drafts -----------------------------------------------------------------------------------------------------------


@transaction.atomic
def create(
    project: Project, *, endpoint: str, inputs: Mapping[str, Any], by: User, retry_of: Generation | None = None
) -> Generation:
    """A draft with checked inputs; nothing is sent and nothing is paid.

    `inputs` are the endpoint's parameters under the provider's names; `image` and `end_image` are ids of the project's source images,
    `element_list` ids of its elements. Raises `InvalidInputs`, `PermissionDenied`, `Archived`.
    """
    permissions.require(by, "edit", project)
    _require_open(project)
    values, elements = _checked(project, endpoint, inputs)
    generation = Generation.objects.create(
        project=project, endpoint=endpoint, requested_by=by, retry_of=retry_of, **values
    )
    _link(generation, elements)
    GenerationEvent.objects.create(generation=generation, new_status=Status.DRAFT, reason=_why_created(retry_of), by=by)
    return generation


@transaction.atomic
def update(generation: Generation, *, inputs: Mapping[str, Any], by: User) -> None:
    """Replaces the inputs of a draft; one that waits for approval is withdrawn to draft first."""
    permissions.require(by, "edit", generation.project)
    values, elements = _checked(generation.project, generation.endpoint, inputs)
    Generation.objects.move(
        generation.pk,
        Status.AWAITING_APPROVAL,
        Status.DRAFT,
        reason="Edited, so the request for approval was withdrawn.",
        by=by,
    )
    if not Generation.objects.filter(pk=generation.pk, status=Status.DRAFT).update(**values):
        generation.refresh_from_db()
        raise WrongStatus(
            f"Only a draft can be edited; this one is {generation.get_status_display().lower()}. Make a new one instead."
        )
    _link(generation, elements)
    generation.refresh_from_db()


def quote(project: Project, *, endpoint: str, inputs: Mapping[str, Any], by: User) -> Quote:
    """The price of what is not even a draft yet, with the budgets that it would have to fit."""
    permissions.require(by, "view", project)
    values, _ = _checked(project, endpoint, inputs)
    return Quote(
        amount=_price(endpoint, inputs),
        figures=_figures(project, by),
        existing=_existing(project, values["inputs_digest"], excluding=()),
    )


def quote_many(generations: Sequence[Generation], *, by: User) -> Quote:
    """The price of several drafts of one project together."""
    project = generations[0].project
    permissions.require(by, "view", project)
    return Quote(
        amount=sum(price(generation) for generation in generations),
        figures=_figures(project, by),
        existing=[found for generation in generations for found in _duplicates(generation)],
    )


def price(generation: Generation) -> int:
    """Micro-dollars: what is frozen on the row, else today's price of its inputs."""
    return generation.quote if generation.quote is not None else _price(generation.endpoint, inputs_of(generation))


def inputs_of(generation: Generation) -> dict[str, Any]:
    """The inputs of a generation as `create` takes them."""
    endpoint = catalog.get(generation.endpoint)
    values: dict[str, Any] = {
        "prompt": generation.prompt,
        "image": str(generation.image_id) if generation.image_id else None,
        "end_image": str(generation.end_image_id) if generation.end_image_id else None,
        "duration": generation.duration,
        "sound": generation.sound,
        "shot_type": generation.shot_type,
        "multi_prompt": generation.multi_prompt,
        "element_list": [str(link.element_id) for link in generation.element_links.all()],
    }
    return {name: value for name, value in values.items() if name in endpoint.names and value not in (None, "", [])}


def progress(generation: Generation) -> int:
    """How far it is, in percent: by the endpoint's usual duration while the provider works, as the provider tells none."""
    if generation.status == Status.COMPLETED:
        return 100
    if generation.status == Status.STORING:
        return 96
    if generation.status != Status.PROCESSING or generation.submitted_at is None:
        return 0
    elapsed = (timezone.now() - generation.submitted_at).total_seconds()
    return min(95, int(95 * elapsed / provider.usual_seconds(generation.endpoint)))


# --- Money moves ------------------------------------------------------------------------------------------------------


def queue(generation: Generation, *, by: User, confirm: bool = False) -> Generation:
    """Reserves the price and lets the generation into the lane.

    Raises `SpendRefused`, `NeedsConfirmation`, `WrongStatus`, `Archived`, `PermissionDenied`.
    """
    return queue_many([generation], by=by, confirm=confirm)[0]


@transaction.atomic
def queue_many(generations: Iterable[Generation], *, by: User, confirm: bool = False) -> list[Generation]:
    """Reserves and queues all of them, or none: in one transaction, in a fixed order of locks (rows, then the till)."""
    queued = sorted(generations, key=lambda generation: generation.pk)
    now = timezone.now()
    for generation in queued:
        permissions.require(by, "spend", generation.project)
        _require_usable(generation)
        amount = _price(generation.endpoint, inputs_of(generation))
        moved = Generation.objects.move(
            generation.pk,
            Status.DRAFT,
            Status.QUEUED,
            reason=f"Queued for {shown(amount)}.",
            by=by,
            quote=amount,
            queued_at=now,
            next_action_at=now,
        )
        generation.refresh_from_db()
        if not moved:
            raise WrongStatus(f"Only a draft can be queued; this one is {generation.get_status_display().lower()}.")
    budgets.hold_till()
    for generation in queued:
        if not confirm:
            _require_new(generation)
        spend.reserve(
            project=generation.project,
            user=generation.requested_by,
            reference=generation.pk,
            endpoint=generation.endpoint,
            amount=price(generation),
            key=f"reserve:{generation.pk}",
            by=by,
        )
    tasks.send_on_commit(tasks.fill_lane)
    return queued


@transaction.atomic
def cancel(generation: Generation, *, by: User, reason: str = "") -> None:
    """Stops what was not submitted yet and releases its money. From `submitting` on the provider has no cancel: `WrongStatus`."""
    permissions.require(by, "edit", generation.project)
    for status in CANCELLABLE:
        if Generation.objects.move(
            generation.pk, status, Status.CANCELLED, reason=reason or "Cancelled.", by=by, next_action_at=None
        ):
            if status == Status.QUEUED and (reservation := spend.reservation_of(generation.pk)):
                spend.release(
                    reservation, key=f"cancel:{generation.pk}", reason="Cancelled before it was submitted.", by=by
                )
            generation.refresh_from_db()
            return
    generation.refresh_from_db()
    if generation.status in RETRYABLE:
        raise WrongStatus(f"It is {generation.get_status_display().lower()} already; there is nothing to cancel.")
    raise WrongStatus(
        "It was handed to the provider, who has no cancel and bills it. You can ignore the result instead: "
        "the video is still stored, and marked as not wanted."
    )


def ignore_result(generation: Generation, *, by: User) -> None:
    """Marks a result as not wanted; it is still stored, because it is paid."""
    permissions.require(by, "edit", generation.project)
    if generation.status in CANCELLABLE:
        raise WrongStatus("It was not submitted yet: cancel it instead, which costs nothing.")
    Generation.objects.filter(pk=generation.pk, result_ignored_at=None).update(result_ignored_at=timezone.now())
    generation.refresh_from_db()


@transaction.atomic
def retry(generation: Generation, *, by: User, confirm: bool = False) -> Generation:
    """A new, queued generation with the same inputs, that names the old one. The old one must have ended."""
    permissions.require(by, "spend", generation.project)
    if generation.status not in RETRYABLE:
        raise WrongStatus(
            f"It is {generation.get_status_display().lower()}; only a failed, cancelled or completed one can be retried, "
            "or it might be paid twice."
        )
    again = create(
        generation.project, endpoint=generation.endpoint, inputs=inputs_of(generation), by=by, retry_of=generation
    )
    return queue(again, by=by, confirm=confirm)


@transaction.atomic
def switch_off(user: User, *, by: User) -> None:
    """Ends the sessions and tokens of `user`, and withdraws what they asked to have approved."""
    members.switch_off(user, by=by)
    waiting = Generation.objects.filter(requested_by=user, status=Status.AWAITING_APPROVAL)
    for pk in waiting.values_list("pk", flat=True):
        Generation.objects.move(pk, Status.AWAITING_APPROVAL, Status.DRAFT, reason=f"{user} was switched off.", by=by)


def pause_lane(*, reason: str, by: User) -> None:
    """Nothing more is submitted until somebody resumes; what was submitted goes on."""
    permissions.require_studio_owner(by, "pause submitting")
    Lane.objects.update_or_create(
        pk=Lane.WAVESPEED,
        defaults={"paused_at": timezone.now(), "paused_reason": reason or "Paused by hand.", "paused_by": by},
    )


def resume_lane(*, by: User) -> None:
    permissions.require_studio_owner(by, "resume submitting")
    Lane.objects.filter(pk=Lane.WAVESPEED).update(paused_at=None, paused_reason="", paused_by=None)
    tasks.send_on_commit(tasks.fill_lane)


# --- Checks -----------------------------------------------------------------------------------------------------------


def _checked(project: Project, endpoint_id: str, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], list[Element]]:
    """The columns of a generation with these inputs, and its elements; `InvalidInputs` names every problem at once."""
    try:
        endpoint = catalog.get(endpoint_id)
    except catalog.UnknownEndpoint as error:
        raise InvalidInputs({"endpoint": [str(error)]}) from error
    errors: dict[str, list[str]] = {}
    images = {
        name: _image(project, name, inputs[name], errors) for name in IMAGE_INPUTS if inputs.get(name) not in (None, "")
    }
    elements = _elements(project, inputs.get("element_list"), errors)
    plain = dict(inputs)
    if elements is not None:
        plain["element_list"] = [{"element_id": element.element_id} for element in elements]
    try:
        valid = endpoint.validate(plain)
    except InvalidInputs as error:
        for name, problems in error.errors.items():
            errors.setdefault(name, problems)
    if errors:
        raise InvalidInputs(errors)
    values = {
        name: value
        for name, value in valid.items()
        if name not in {"element_list", *IMAGE_INPUTS} and value is not None
    }
    fingerprint = {
        "endpoint": endpoint_id,
        **valid,
        **{name: image.sha256 for name, image in images.items() if image},
    }
    digest = hashlib.sha256(json.dumps(fingerprint, sort_keys=True, default=str).encode()).hexdigest()
    cleared = {name: images.get(name) for name in IMAGE_INPUTS}
    return {**_BLANK, **values, **cleared, "inputs_digest": digest}, elements or []


_BLANK: dict[str, Any] = {"prompt": "", "shot_type": "", "multi_prompt": [], "sound": False}


def _image(project: Project, name: str, value: Any, errors: dict[str, list[str]]) -> SourceImage | None:
    pk = _uuid(value)
    image = SourceImage.objects.filter(project=project, pk=pk).first() if pk else None
    if image is None:
        errors[name] = [
            f"There is no picture {catalog.show(value)} in {project}. Upload it to this project first, and give its id."
        ]
    elif image.archived_at:
        errors[name] = [f"The picture “{image}” is archived. Bring it back, or take another one."]
    return image


def _elements(project: Project, value: Any, errors: dict[str, list[str]]) -> list[Element] | None:
    """The project's elements with these ids, in their order; None where there is no list to look at."""
    if not isinstance(value, list | tuple):
        return None
    known = {
        element.pk: element
        for element in Element.objects.filter(project=project, archived_at=None, pk__in=filter(None, map(_uuid, value)))
    }
    unknown = [catalog.show(each) for each in value if _uuid(each) not in known]
    if unknown:
        errors["element_list"] = [
            f"There is no element {', '.join(unknown[:10])} in {project}. Give the ids of this project's elements."
        ]
        return None
    pks = [pk for pk in map(_uuid, value) if pk]
    if len(set(pks)) < len(pks):
        errors["element_list"] = ["An element is in the list twice: give each once."]
        return None
    return [known[pk] for pk in pks]


def is_uuid(value: Any) -> bool:
    return _uuid(value) is not None


def _uuid(value: Any) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(value))
    except ValueError:
        return None


def _link(generation: Generation, elements: list[Element]) -> None:
    generation.element_links.all().delete()
    GenerationElement.objects.bulk_create(
        GenerationElement(generation=generation, element=element, position=position)
        for position, element in enumerate(elements)
    )


def _price(endpoint: str, inputs: Mapping[str, Any]) -> int:
    return to_micros(catalog.get(endpoint).price(inputs))


def _figures(project: Project, by: User) -> list[budgets.Figures]:
    """The budgets that a spending by `by` has to fit; none when the project itself has no budget."""
    matching = budgets.figures(Budget.objects.matching(project.pk, by.pk))
    return matching if any(each.budget.project_id and not each.budget.user_id for each in matching) else []


def _require_open(project: Project) -> None:
    if project.archived_at:
        raise Archived(f"{project} is archived: nothing new can be made in it.")


def _require_usable(generation: Generation) -> None:
    _require_open(generation.project)
    for image in (generation.image, generation.end_image):
        if image and image.archived_at:
            raise Archived(f"The picture “{image}” is archived. Bring it back, or take another one.")


def _require_new(generation: Generation) -> None:
    """Raises `NeedsConfirmation` if the same video was asked for lately. Needs the till, so that two at once see each other."""
    if existing := _duplicates(generation):
        raise NeedsConfirmation(
            f"The same video was asked for in the last {DUPLICATE_HOURS} hours ({existing[0].get_status_display().lower()}). "
            f"Another one costs {shown(price(generation))}: confirm that you want it.",
            existing,
        )


def _duplicates(generation: Generation) -> list[Generation]:
    """Other generations with these inputs, and other retries of the same one; the one that this retries is no surprise."""
    found = _existing(generation.project, generation.inputs_digest, excluding=(generation.pk, generation.retry_of_id))
    if generation.retry_of_id:
        others = (
            Generation.objects.filter(retry_of=generation.retry_of_id)
            .exclude(pk=generation.pk)
            .exclude(status__in=(Status.DRAFT, Status.CANCELLED))
        )
        found += [other for other in others if other not in found]
    return found


def _existing(project: Project, inputs_digest: str, *, excluding: Sequence[uuid.UUID | None]) -> list[Generation]:
    since = timezone.now() - timedelta(hours=DUPLICATE_HOURS)
    return list(
        Generation.objects.filter(project=project, inputs_digest=inputs_digest, queued_at__gte=since)
        .exclude(pk__in=[pk for pk in excluding if pk])
        .exclude(status__in=(Status.DRAFT, Status.CANCELLED))
        .order_by("-queued_at")[:10]
    )


def _why_created(retry_of: Generation | None) -> str:
    return f"Retry of {retry_of.pk}." if retry_of else ""
