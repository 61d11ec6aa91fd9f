"""How generations get into the queue: locks, duplicates, money. What `services` and `approvals` share.

Locks are taken in one order (docs/architecture.md, “The order of locks”). Requests for approval and their generations change under the
project's lock alone, so that of approving, rejecting, cancelling, editing and expiring exactly one wins.
"""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone

from generations import tasks
from generations.models import (
    NOT_ASKED_FOR,
    Generation,
    Status,
)
from generations.services.refusals import Archived, NeedsConfirmation, WrongStatus
from projects import alerts
from projects.models import Project
from projects.money import budgets, shown, spend
from projects.money.spend import SpendRefused

DUPLICATE_HOURS = 24
MOST_TOLD = 10
SAME = ("project", "inputs_digest")
NEWEST_FIRST = ("-queued_at", "-created_at")


def lock_projects(pks: Iterable[uuid.UUID]) -> None:
    """Their rows stay locked until the transaction ends; other rows may still refer to them."""
    list(Project.objects.select_for_update(no_key=True).filter(pk__in=set(pks)).order_by("pk").values_list("pk"))


def lock(pks: Iterable[uuid.UUID]) -> list[Generation]:
    """The generations as they are now, in their locking order."""
    rows = Generation.objects.select_for_update(of=("self",)).filter(pk__in=set(pks)).order_by("pk")
    return list(rows.select_related("project", "requested_by", "image", "end_image").prefetch_related("element_links"))


def let_in(generations: Sequence[Generation], old: Status, *, reasons: Mapping[uuid.UUID, str], by: User) -> None:
    """Moves all of them from `old` into the queue and reserves what they are quoted for their `requested_by`, who pays.

    Raises `SpendRefused`, `WrongStatus`.
    """
    now = timezone.now()
    for generation in generations:
        moved = Generation.objects.move(
            generation.pk,
            old,
            Status.QUEUED,
            reason=reasons[generation.pk],
            by=by,
            requested_by=generation.requested_by,
            quote=generation.quote,
            queued_at=now,
            next_action_at=now,
        )
        if not moved:
            raise WrongStatus("Somebody else moved it at this very moment. Look at it again.")
    budgets.hold_till()
    for generation in generations:
        _reserve(generation, by)
    tasks.send_on_commit(tasks.fill_lane)


def _reserve(generation: Generation, by: User) -> None:
    assert generation.quote is not None
    try:
        spend.reserve(
            project=generation.project,
            user=generation.requested_by,
            reference=generation.pk,
            endpoint=generation.endpoint,
            amount=generation.quote,
            key=f"reserve:{generation.pk}",
            by=by,
        )
    except SpendRefused as refusal:
        refusal.spender = (generation.project, generation.requested_by)
        raise


@contextmanager
def refusals_told() -> Iterator[None]:
    """Goes around the outermost transaction: what a budget refused is told once it is rolled back, so that the alert stays."""
    try:
        yield
    except SpendRefused as refusal:
        if refusal.spender and not connection.in_atomic_block:
            project, user = refusal.spender
            refusal.spender = None
            alerts.refused(project, user, refusal)
        raise


# --- Checks -----------------------------------------------------------------------------------------------------------


def require_open(project: Project) -> None:
    if project.archived_at:
        raise Archived(f"{project} is archived: nothing new can be made in it.")


def require_usable(generation: Generation) -> None:
    require_open(generation.project)
    for image in (generation.image, generation.end_image):
        if image and image.archived_at:
            raise Archived(f"The picture “{image}” is archived. Bring it back, or take another one.")


def require_new(generations: Sequence[Generation], *, since: datetime | None = None, apart: bool = False) -> None:
    """Raises `NeedsConfirmation` if the same video was asked for lately, or was queued after `since`.

    Needs the project's lock, so that two at once see each other. `apart`: these were asked for together on purpose.
    """
    together = {generation.pk for generation in generations} if apart else set()
    by_generation = duplicates_of(generations)
    for generation in generations:
        found = [each for each in by_generation[generation.pk] if each.pk not in together]
        if since is not None:
            found = [each for each in found if each.queued_at and each.queued_at > since]
        if found:
            raise NeedsConfirmation(
                f"The same video was asked for in the last {DUPLICATE_HOURS} hours "
                f"({found[0].get_status_display().lower()}). "
                f"Another one costs {shown(generation.quote or 0)}: confirm that you want it.",
                found,
            )


def duplicates_of(generations: Iterable[Generation]) -> dict[uuid.UUID, list[Generation]]:
    """By generation: others with its inputs, and other retries of the same one; the one that it retries is no surprise."""
    rows = list(generations)
    lately = _asked_for_lately(rows)
    retries = retries_of({each.retry_of_id for each in rows if each.retry_of_id})
    found: dict[uuid.UUID, list[Generation]] = {}
    for generation in rows:
        known = (generation.pk, generation.retry_of_id)
        same = lately.get((generation.project_id, generation.inputs_digest), [])
        found[generation.pk] = [each for each in same if each.pk not in known][:MOST_TOLD]
        siblings = retries.get(generation.retry_of_id, []) if generation.retry_of_id else []
        found[generation.pk] += [
            each for each in siblings if each.pk != generation.pk and each not in found[generation.pk]
        ]
    return found


def retries_of(pks: Iterable[uuid.UUID]) -> dict[uuid.UUID, list[Generation]]:
    """By the generation that they retry, what was asked for."""
    found: dict[uuid.UUID, list[Generation]] = {}
    for each in Generation.objects.filter(retry_of__in=set(pks)).exclude(status__in=NOT_ASKED_FOR):
        if each.retry_of_id:
            found.setdefault(each.retry_of_id, []).append(each)
    return found


def existing(project: Project, digest: str) -> list[Generation]:
    """What was asked for lately with these inputs: queued, or still waiting for an approval."""
    return list(_lately().filter(project=project, inputs_digest=digest)[:MOST_TOLD])


def _asked_for_lately(generations: Iterable[Generation]) -> dict[tuple[uuid.UUID, str], list[Generation]]:
    """By project and inputs, newest first."""
    rows = list(generations)
    same = _lately().filter(
        project__in={each.project_id for each in rows}, inputs_digest__in={each.inputs_digest for each in rows}
    )
    found: dict[tuple[uuid.UUID, str], list[Generation]] = {}
    # So many of each that some are left when all of `generations` are among them.
    numbered = same.annotate(place=Window(RowNumber(), partition_by=SAME, order_by=NEWEST_FIRST))
    for each in numbered.filter(place__lte=MOST_TOLD + 2 * len(rows)):
        found.setdefault((each.project_id, each.inputs_digest), []).append(each)
    return found


def _lately() -> QuerySet[Generation]:
    since = timezone.now() - timedelta(hours=DUPLICATE_HOURS)
    lately = Q(queued_at__gte=since) | Q(status=Status.AWAITING_APPROVAL)
    return Generation.objects.filter(lately).exclude(status__in=NOT_ASKED_FOR).order_by(*NEWEST_FIRST)
