"""Use-cases of generations: what the admin, the API and the commands call. Each checks who asks, and moves state and money together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR
from itertools import groupby
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from generations import approvals, prices, provider, queueing, reconcile, tasks
from generations.approvals import approval_of, approve, may_decide, needs_approval, reject, waiting_for
from generations.costs import price
from generations.inputs import check, check_tags, inputs_of, is_uuid, link_elements
from generations.models import CANCELLABLE, RETRYABLE, Generation, GenerationEvent, Priority, Reconciliation, Status
from generations.pauses import (
    pause_endpoint,
    pause_lane,
    pause_project,
    require_may_resume,
    resume_endpoint,
    resume_lane,
    resume_project,
    what_holds_up,
)
from generations.prices import Price, Prices
from generations.queueing import duplicates, refusals_told
from generations.refusals import (
    Archived,
    NeedsConfirmation,
    PriceChanged,
    PriceUnknown,
    ReasonMissing,
    Refused,
    WrongStatus,
)
from projects import budgets, members, permissions, spend, versions
from projects.models import Budget, Enforcement, Membership, Project, Role
from projects.money import shown
from projects.versions import Expected

# With these, all that the edges need is named here.
__all__ = [
    "Archived",
    "NeedsConfirmation",
    "PriceChanged",
    "PriceUnknown",
    "Prices",
    "Priority",
    "ReasonMissing",
    "Refused",
    "WrongStatus",
    "approval_of",
    "approve",
    "check_tags",
    "duplicates",
    "inputs_of",
    "is_uuid",
    "may_decide",
    "needs_approval",
    "pause_endpoint",
    "pause_lane",
    "pause_project",
    "price",
    "refusals_told",
    "reject",
    "require_may_resume",
    "resume_endpoint",
    "resume_lane",
    "resume_project",
    "waiting_for",
    "what_holds_up",
]


@dataclass(frozen=True)
class Quote:
    """What one or several generations would cost, in micro-dollars, and what they have to fit.

    `amount` would be reserved: of each one the higher of `catalogue` and `live`, which is None where the provider is not asked.
    """

    prices: list[Price]
    figures: list[budgets.Figures]
    existing: list[Generation]
    needs_approval: bool

    @property
    def amount(self) -> int:
        return sum(price.amount for price in self.prices)

    @property
    def catalogue(self) -> int:
        return sum(price.catalogue for price in self.prices)

    @property
    def live(self) -> int | None:
        told = [price.live for price in self.prices if price.live is not None]
        return sum(told) if told else None

    @property
    def fits(self) -> bool:
        return bool(self.figures) and all(
            each.free >= self.amount for each in self.figures if each.budget.enforcement == Enforcement.HARD
        )


# --- Drafts -----------------------------------------------------------------------------------------------------------


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
    now = _locked(generation, "edit", by=by, expected=expected)
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


def _locked(generation: Generation, action: str, *, by: User, expected: Expected = None) -> Generation:
    """The generation as it is now, locked after its project; asks for the right to `action` when it has both."""
    now: Generation = Generation.locked(generation.pk)
    permissions.require_now(by, action, now.project)
    versions.require(now, expected)
    return now


# --- Prices -----------------------------------------------------------------------------------------------------------


def ask_prices(generations: Iterable[Generation]) -> Prices:
    """What the provider asks for these drafts, for who queues them inside a transaction of their own. Raises `PriceUnknown`."""
    return prices.ask_for_drafts(generations)


def ask_retry_prices(generations: Iterable[Generation]) -> Prices:
    """The same for retries of what has ended. Raises `InvalidInputs` too: what they were made of may be archived."""
    return prices.ask_for_inputs(
        check(generation.project, generation.endpoint, inputs_of(generation)) for generation in generations
    )


def ask_price(project: Project, *, endpoint: str, inputs: Mapping[str, Any]) -> Prices:
    """The same for what is no draft yet."""
    return prices.ask_for_inputs([check(project, endpoint, inputs)])


def quote(project: Project, *, endpoint: str, inputs: Mapping[str, Any], by: User, told: Prices | None = None) -> Quote:
    """The price of what is not even a draft yet, with the budgets that it would have to fit.

    Without `told` the provider is asked. Raises `InvalidInputs`, `PriceUnknown`, `PermissionDenied`.
    """
    permissions.require(by, "view", project)
    checked = check(project, endpoint, inputs)
    told = prices.ask_for_inputs([checked]) if told is None else told
    cost = prices.of_inputs(endpoint, inputs, checked.digest, told)
    return Quote(
        prices=[cost],
        figures=_figures(project, by),
        existing=queueing.existing(project, checked.digest),
        needs_approval=needs_approval(project, cost.amount),
    )


def quote_many(generations: Sequence[Generation], *, by: User, told: Prices | None = None) -> Quote:
    """The price of several drafts of one project together. Raises `PriceUnknown`, `PermissionDenied`."""
    project = generations[0].project
    permissions.require(by, "view", project)
    told = ask_prices(generations) if told is None else told
    each = [prices.of_draft(generation, inputs_of(generation), told) for generation in generations]
    return Quote(
        prices=each,
        figures=_figures(project, by),
        existing=[found for generation in generations for found in queueing.duplicates(generation)],
        needs_approval=needs_approval(project, sum(cost.amount for cost in each)),
    )


def _figures(project: Project, by: User) -> list[budgets.Figures]:
    """The budgets that a spending by `by` has to fit; none when the project itself has no budget."""
    matching = budgets.figures(Budget.objects.matching(project.pk, by.pk))
    return matching if any(each.budget.project_id and not each.budget.user_id for each in matching) else []


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
    _locked(generation, "edit", by=by, expected=expected)
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


@transaction.atomic
def ignore_result(generation: Generation, *, by: User) -> None:
    """Marks what is on its way as not wanted; it is still stored, because it is paid. See `want_result`."""
    now = _locked(generation, "edit", by=by)
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
    now = _locked(generation, "edit", by=by)
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


@transaction.atomic
def change_role(membership: Membership, *, role: Role, by: User, expected: Expected = None) -> None:
    """Who may not spend any more has their requests for approval withdrawn; what is queued was decided, and goes on."""
    members.change_role(membership, role=role, by=by, expected=expected)
    approvals.withdraw_without_right(
        membership.user,
        reason=f"{membership.user}, who asked for it, is {membership.get_role_display().lower()} now.",
        by=by,
        project=membership.project,
    )


@transaction.atomic
def remove_member(membership: Membership, *, by: User, expected: Expected = None) -> None:
    """Their requests for approval are withdrawn; what is queued was decided, and goes on."""
    members.remove(membership, by=by, expected=expected)
    reason = f"{membership.user}, who asked for it, was removed from the project."
    approvals.withdraw_without_right(membership.user, reason=reason, by=by, project=membership.project)


@transaction.atomic
def switch_off(user: User, *, by: User) -> None:
    """Ends the sessions and tokens of `user`, and withdraws what they asked to have approved."""
    queueing.lock_projects(_projects_of(user))
    members.switch_off(user, by=by)
    approvals.withdraw_without_right(user, reason=f"{user}, who asked for it, was switched off.", by=by)


@transaction.atomic
def rights_changed(user: User, *, by: User) -> None:
    """After the studio's own rights of `user` were changed: ends what only these had allowed."""
    queueing.lock_projects(_projects_of(user))
    members.end_what_is_open(user)
    approvals.withdraw_without_right(user, reason=f"{user}, who asked for it, may not spend in the project now.", by=by)


def _projects_of(user: User) -> set[UUID]:
    """Where something of theirs is, or may be, open."""
    joined = Membership.objects.filter(user=user).values_list("project", flat=True)
    return {*joined, *approvals.waiting_of(user).values_list("project", flat=True)}


def reconcile_now(*, by: User) -> Reconciliation:
    """Begins a reconciliation that only looks, and books late refunds and late deducts; a worker runs it."""
    permissions.require_studio_owner(by, "reconcile")
    reconciliation = reconcile.begin(by=by)
    tasks.send_on_commit(tasks.reconcile, str(reconciliation.pk))
    return reconciliation
