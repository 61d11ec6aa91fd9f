"""What people order: queue, cancel and make again. Reserves the money before anything is sent."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR
from itertools import groupby
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from generations.models import CANCELLABLE, RETRYABLE, Generation, Priority, Status
from generations.services import approvals, prices, queueing
from generations.services.approvals import needs_approval
from generations.services.drafts import create, locked
from generations.services.inputs import inputs_of
from generations.services.prices import Prices
from generations.services.queueing import refusals_told
from generations.services.quotes import ask_prices, ask_retry_prices
from generations.services.refusals import PriceChanged, WrongStatus
from projects import permissions, versions
from projects.money import shown, spend
from projects.versions import Expected


def queue(
    generation: Generation, *, by: User, confirm: bool = False, told: Prices | None = None, expected: Expected = None
) -> Generation:
    """Reserves the price and lets the generation into the lane, or asks for an approval: see `queue_many`."""
    return queue_many([generation], by=by, confirm=confirm, told=told, expected=expected)[0]


def queue_many(
    generations: Iterable[Generation],
    *,
    by: User,
    confirm: bool = False,
    told: Prices | None = None,
    at_most: int | None = None,
    expected: Expected = None,
) -> list[Generation]:
    """Reserves and queues all of them, or none, in one transaction.

    Those of a project that cost more together than it lets people spend alone are `awaiting_approval` instead, in one request.
    `told` is what the provider said of their prices; without it the provider is asked, before the transaction. `at_most`
    (micro-dollars) is what was shown and agreed to. Raises `SpendRefused`, `NeedsConfirmation`, `PriceUnknown`,
    `PriceChanged`, `WrongStatus`, `Archived`, `PermissionDenied`.
    """
    drafts = list(generations)
    told = ask_prices(drafts) if told is None else told
    with refusals_told(), transaction.atomic():
        _queue(drafts, by=by, confirm=confirm, told=told, at_most=at_most, expected=expected)
    for generation in drafts:
        generation.refresh_from_db()
    return drafts


def _queue(
    drafts: Sequence[Generation],
    *,
    by: User,
    confirm: bool,
    told: Prices,
    at_most: int | None = None,
    expected: Expected = None,
) -> None:
    queueing.lock_projects(generation.project_id for generation in drafts)
    locked = queueing.lock(generation.pk for generation in drafts)
    reasons = {}
    for generation in locked:
        permissions.require_now(by, "spend", generation.project)
        versions.require(generation, expected)
        if generation.status != Status.DRAFT:
            raise WrongStatus(f"Only a draft can be queued; this one is {generation.get_status_display().lower()}.")
        queueing.require_usable(generation)
        cost = prices.of_draft(generation, inputs_of(generation), told)
        generation.quote = cost.amount
        # Whoever made or edited the draft: who queues it asks for it, and pays.
        generation.requested_by = by
        reasons[generation.pk] = str(cost)
    _require_agreed(sum(generation.quote or 0 for generation in locked), at_most)
    for _, group in groupby(sorted(locked, key=_project_id), key=_project_id):
        _queue_in_project(list(group), reasons, by=by)
    # Last, so that equal ones among these see each other.
    if not confirm:
        queueing.require_new(locked)


def _project_id(generation: Generation) -> UUID:
    return generation.project_id


def _queue_in_project(generations: list[Generation], reasons: Mapping[UUID, str], *, by: User) -> None:
    project = generations[0].project
    if needs_approval(project, sum(generation.quote or 0 for generation in generations)):
        approvals.request(project, generations, reasons=reasons, by=by)
    else:
        queued = {pk: f"Queued for {cost}." for pk, cost in reasons.items()}
        queueing.let_in(generations, Status.DRAFT, reasons=queued, by=by)


def _require_agreed(total: int, at_most: int | None) -> None:
    if at_most is not None and total > at_most:
        raise PriceChanged(
            f"The price has changed: it is {shown(total)} now, not {shown(at_most)}. Nothing was queued; look at it and confirm again."
        )


@transaction.atomic
def cancel(generation: Generation, *, by: User, reason: str = "", expected: Expected = None) -> None:
    """Stops what was not submitted yet and releases its money. From `submitting` on the provider has no cancel: `WrongStatus`.

    The request for approval that it waits in is withdrawn, whole.
    """
    locked(generation, "edit", by=by, expected=expected)
    approvals.withdraw_of(generation, reason=f"“{generation}” was cancelled.", by=by)
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


def retry(generation: Generation, *, by: User, confirm: bool = False, told: Prices | None = None) -> Generation:
    """A new generation with the same inputs, that names the old one: see `retry_many`."""
    return retry_many([generation], by=by, confirm=confirm, told=told)[0]


def retry_many(
    generations: Iterable[Generation],
    *,
    by: User,
    confirm: bool = False,
    told: Prices | None = None,
    at_most: int | None = None,
) -> list[Generation]:
    """New generations with the same inputs, that name the old ones, are queued together: see `queue_many`.

    The old ones must have ended. Raises `InvalidInputs` too: what they were made of may be archived by now.
    """
    olds = list(generations)
    for old in olds:
        permissions.require(by, "spend", old.project)
        if old.status not in RETRYABLE:
            raise WrongStatus(
                f"It is {old.get_status_display().lower()}; only a failed, cancelled or completed one can be retried, "
                "or it might be paid twice."
            )
    told = ask_retry_prices(olds) if told is None else told
    with refusals_told(), transaction.atomic():
        again = [_draft_again(old, by) for old in olds]
        return queue_many(again, by=by, confirm=confirm, told=told, at_most=at_most)


def _draft_again(old: Generation, by: User) -> Generation:
    return create(
        old.project,
        endpoint=old.endpoint,
        inputs=inputs_of(old),
        by=by,
        tags=old.tags,
        priority=Priority(old.priority),
        retry_of=old,
    )


def soft_budget_warnings(generations: Iterable[Generation]) -> list[str]:
    """A sentence for each soft budget that is over its limit where these are reserved; what waits for an approval passes none."""
    reservations = spend.reservations_of(generation.pk for generation in generations)
    return [
        # Rounded apart, so that the two never read the same.
        f"The soft budget “{passed.budget.title}” is passed: {shown(passed.used, ROUND_CEILING)} of "
        f"{shown(passed.limit, ROUND_FLOOR)}."
        for passed in spend.soft_budgets_passed(reservations)
    ]
