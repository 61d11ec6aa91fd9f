"""What people do with a generation that is not ordered, or no longer wanted: make, edit, prioritise, ignore its result."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from generations.models import CANCELLABLE, RETRYABLE, Generation, GenerationEvent, Priority, Status
from generations.services import approvals, queueing
from generations.services.inputs import check, check_tags, inputs_of, link_elements
from generations.services.refusals import WrongStatus
from projects import permissions, versions
from projects.models import Project
from projects.versions import Expected


@transaction.atomic
def create(
    project: Project,
    *,
    endpoint: str,
    inputs: Mapping[str, Any],
    by: User,
    tags: Iterable[str] = (),
    priority: Priority = Priority.NORMAL,
    retry_of: Generation | None = None,
) -> Generation:
    """A draft with checked inputs; nothing is sent and nothing is paid.

    `inputs` are the endpoint's parameters under the provider's names; `image` and `end_image` are ids of the project's source images,
    `element_list` ids of its elements. `tags` are never sent. Raises `InvalidInputs`, `PermissionDenied`, `Archived`.
    """
    permissions.require(by, "edit", project)
    queueing.require_open(project)
    checked = check(project, endpoint, inputs)
    generation = Generation.objects.create(
        project=project,
        endpoint=endpoint,
        requested_by=by,
        retry_of=retry_of,
        tags=check_tags(tags),
        priority=priority,
        **checked.columns,
    )
    link_elements(generation, checked.elements)
    reason = f"Retry of {retry_of.pk}." if retry_of else ""
    GenerationEvent.objects.create(generation=generation, new_status=Status.DRAFT, reason=reason, by=by)
    return generation


@transaction.atomic
def update(
    generation: Generation,
    *,
    by: User,
    inputs: Mapping[str, Any] | None = None,
    tags: Iterable[str] | None = None,
    priority: Priority | None = None,
    expected: Expected = None,
    others_too: bool = False,
) -> None:
    """Changes the inputs of a draft that are named, its tags and its priority where they are given.

    They are merged into what the draft is under its lock; with `others_too`, inputs that are not named are unset. A request for
    approval that it waits in is withdrawn first, whole, unless nothing but the priority is given: see `prioritise`.
    Raises `InvalidInputs`, `PermissionDenied`, `Stale`, `WrongStatus`.
    """
    now = locked(generation, "edit", by=by, expected=expected)
    if inputs is not None or tags is not None or priority is None:
        changes: dict[str, Any] = {} if tags is None else {"tags": check_tags(tags)}
        before = now.editable()
        kept = {} if others_too else inputs_of(now)
        checked = check(now.project, now.endpoint, {**kept, **(inputs or {})})
        changes |= checked.columns
        approvals.withdraw_of(now, reason=f"“{now}” was edited.", by=by)
        if not Generation.objects.filter(pk=now.pk, status=Status.DRAFT).update(**changes):
            now.refresh_from_db()
            raise WrongStatus(
                f"Only a draft can be edited; this one is {now.get_status_display().lower()}. Make a new one instead."
            )
        link_elements(now, checked.elements)
        now.note_edit(before, by=by)
    if priority is not None:
        _prioritise(now, priority, by=by)
    generation.refresh_from_db()


def prioritise(generation: Generation, *, priority: Priority, by: User, expected: Expected = None) -> None:
    """Its place among what its project has queued. No input and no price: a request for approval goes on waiting."""
    update(generation, priority=priority, by=by, expected=expected)


def _prioritise(generation: Generation, priority: Priority, *, by: User) -> None:
    priority, before = Priority(priority), generation.editable()
    if not Generation.objects.filter(pk=generation.pk, status__in=CANCELLABLE).update(priority=priority):
        raise WrongStatus(
            f"It is {generation.get_status_display().lower()} already; a priority only counts for what was not submitted yet."
        )
    generation.note_edit(before, by=by, reason=f"Priority: {priority.label}.")


def locked(generation: Generation, action: str, *, by: User, expected: Expected = None) -> Generation:
    """The generation as it is now, locked after its project; asks for the right to `action` when it has both."""
    now: Generation = Generation.locked(generation.pk)
    permissions.require_now(by, action, now.project)
    versions.require(now, expected)
    return now


@transaction.atomic
def ignore_result(generation: Generation, *, by: User) -> None:
    """Marks what is on its way as not wanted; it is still stored, because it is paid. See `want_result`."""
    now = locked(generation, "edit", by=by)
    if now.status in CANCELLABLE:
        raise WrongStatus("It was not submitted yet: cancel it instead, which costs nothing.")
    if now.status == Status.COMPLETED:
        raise WrongStatus("Its video is stored already. If nobody wants it, move the video to the trash.")
    if now.status in RETRYABLE:
        raise WrongStatus(f"It is {now.get_status_display().lower()} already; there is no result to ignore.")
    if now.result_ignored_at is None:
        _note(now, "The result is not wanted.", result_ignored_at=timezone.now(), by=by)
    generation.refresh_from_db()


@transaction.atomic
def want_result(generation: Generation, *, by: User) -> None:
    """Takes back that a result is not wanted, also once it is there."""
    now = locked(generation, "edit", by=by)
    if now.result_ignored_at is not None:
        _note(now, "The result is wanted after all.", result_ignored_at=None, by=by)
    generation.refresh_from_db()


def _note(generation: Generation, reason: str, *, by: User, **changes: Any) -> None:
    """Changes a locked row that stays in its state, and writes who did it into its history."""
    Generation.objects.filter(pk=generation.pk).update(version=F("version") + 1, **changes)
    GenerationEvent.objects.create(
        generation=generation, old_status=generation.status, new_status=generation.status, reason=reason, by=by
    )
    generation.refresh_from_db()
