"""Requests for approval: one for each thing that costs more than its project lets people spend alone.

A request holds no money. Its price is frozen until it expires; it is approved whole or not at all. Approved, its money is
reserved and it is queued in one transaction. Rejected, expired or withdrawn, its generations are drafts again and cost nothing.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from generations.models import Approval, Generation, GenerationEvent, Status
from generations.services import queueing
from generations.services.refusals import AskerLeft, WrongStatus
from projects import permissions
from projects.models import Project
from projects.money import shown
from projects.money.spend import SpendRefused

Decision = Approval.Decision
MAX_COMMENT = 500
BATCH = 200


def needs_approval(project: Project, amount: int) -> bool:
    """Whether spending so many micro-dollars at once takes an approver; what is exactly the project's amount does not."""
    return project.approval_above is not None and amount > project.approval_above


def request(project: Project, generations: Sequence[Generation], *, reasons: Mapping[UUID, str], by: User) -> Approval:
    """Moves drafts, whose `quote` is frozen by it, to `awaiting_approval`. Needs the project's lock."""
    now = timezone.now()
    amount = sum(generation.quote or 0 for generation in generations)
    approval = Approval.objects.create(
        project=project,
        amount=amount,
        requested_by=by,
        requested_at=now,
        expires_at=now + timedelta(days=settings.APPROVAL_DAYS),
    )
    together = f" (one of {len(generations)}, {shown(amount)} together)" if len(generations) > 1 else ""
    for generation in generations:
        moved = Generation.objects.move(
            generation.pk,
            Status.DRAFT,
            Status.AWAITING_APPROVAL,
            reason=f"Approval asked for: {reasons[generation.pk]}{together}.",
            by=by,
            requested_by=by,
            quote=generation.quote,
            approval=approval,
        )
        if not moved:
            raise WrongStatus("Somebody else moved it at this very moment. Look at it again.")
    return approval


def approval_of(generation: Generation) -> Approval:
    """The request that a generation waits in; raises `WrongStatus` if it waits in none."""
    if generation.approval is None or generation.status != Status.AWAITING_APPROVAL:
        raise WrongStatus(f"It waits for no approval: it is {generation.get_status_display().lower()}.")
    return generation.approval


def approve(approval: Approval, *, by: User, comment: str = "", confirm: bool = False) -> None:
    """Reserves the frozen price and queues all of it, in one transaction.

    Raises `SpendRefused` where it does not fit now: it goes on waiting, and `budget_error` says why. Raises
    `NeedsConfirmation` if the same video was queued since it was asked for, `WrongStatus`, `Archived`, `PermissionDenied`.
    """
    try:
        with queueing.refusals_told(), transaction.atomic():
            _approve(approval, by=by, comment=comment, confirm=confirm)
    except SpendRefused as refusal:
        Approval.objects.filter(pk=approval.pk, decision=Decision.WAITING).update(budget_error=str(refusal))
        approval.refresh_from_db()
        raise


def _approve(approval: Approval, *, by: User, comment: str, confirm: bool) -> None:
    generations = _decidable(approval, by)
    _require_asker(approval)
    for generation in generations:
        queueing.require_usable(generation)
        generation.requested_by = approval.requested_by
    if not confirm:
        queueing.require_new(generations, since=approval.requested_at, apart=True)
    said = _comment(comment)
    _decide(approval, Decision.APPROVED, by=by, comment=said)
    reasons = {
        generation.pk: f"Approved for {shown(generation.quote or 0)}{f': {said}' if said else '.'}"
        for generation in generations
    }
    queueing.let_in(generations, Status.AWAITING_APPROVAL, reasons=reasons, by=by)


@transaction.atomic
def reject(approval: Approval, *, by: User, comment: str) -> None:
    """Makes its generations drafts again; the comment says what would have to change.

    Raises `ValidationError` without a comment, `WrongStatus`, `PermissionDenied`.
    """
    _decidable(approval, by)
    said = _comment(comment)
    if not said:
        raise ValidationError({"comment": "Say why: who asked will want to know what to change."})
    _decide(approval, Decision.REJECTED, by=by, comment=said)
    _back_to_drafts(approval, reason=f"Rejected: {said}", by=by)


def _decidable(approval: Approval, by: User) -> list[Generation]:
    """Locks a request that `by` may decide about now, and reads it; its generations."""
    queueing.lock_projects([approval.project_id])
    approval.refresh_from_db()
    permissions.require_now(by, "approve", approval.project)
    _require_waiting(approval)
    generations = queueing.lock(approval.generations.values_list("pk", flat=True))
    if _is_theirs(approval, by):
        raise PermissionDenied(
            "Somebody else has to decide about this: nobody approves what they asked for, made or edited themselves."
        )
    return generations


def _require_asker(approval: Approval) -> None:
    """It is queued in their name, and they pay: whoever may not spend any more asks for nothing."""
    if not permissions.may(approval.requested_by, "spend", approval.project):
        raise AskerLeft(
            f"{approval.requested_by}, who asked for it, may not spend in {approval.project} any more. Reject it; "
            "somebody who may can ask for the same."
        )


def _require_waiting(approval: Approval) -> None:
    if approval.decision != Decision.WAITING:
        who = f" by {approval.decided_by}" if approval.decided_by else ""
        raise WrongStatus(f"This request was {approval.get_decision_display().lower()}{who} already.")
    if approval.expires_at <= timezone.now():
        raise WrongStatus(
            f"This request expired at {approval.expires_at:%Y-%m-%d %H:%M} UTC. Its price may have changed: ask anew."
        )


def may_decide(approval: Approval, by: User) -> bool:
    """Whether `by` may approve or reject it, as things stand."""
    return not _is_theirs(approval, by) and permissions.may(by, "approve", approval.project)


def _is_theirs(approval: Approval, user: User) -> bool:
    """They asked for it, or made or edited a part of it."""
    return user.pk == approval.requested_by_id or _worked_on_by(user).filter(pk=approval.pk).exists()


def _worked_on_by(user: User) -> QuerySet[Approval]:
    """A priority is nothing that is approved."""
    worked = GenerationEvent.objects.filter(by=user, old_status__in=["", Status.DRAFT], new_status=Status.DRAFT)
    return Approval.objects.filter(generations__events__in=worked.exclude(reason__startswith="Priority:"))


def waiting_for(user: User) -> QuerySet[Approval]:
    """The requests that `user` may decide about now."""
    rows = Approval.objects.filter(decision=Decision.WAITING, expires_at__gt=timezone.now())
    rows = rows.filter(project__in=permissions.projects_where(user, "approve")).exclude(requested_by=user)
    return rows.exclude(pk__in=_worked_on_by(user).values("pk"))


def withdraw_of(generation: Generation, *, reason: str, by: User | None) -> None:
    """Withdraws the request that a generation waits in, whole: none of the others may be approved alone. Needs the project's lock."""
    waiting = Approval.objects.filter(generations=generation.pk, decision=Decision.WAITING)
    for approval in waiting:
        _withdraw(approval, reason=reason, by=by)


def waiting_of(user: User) -> QuerySet[Approval]:
    """What `user` asked for, and would pay."""
    return Approval.objects.filter(decision=Decision.WAITING, requested_by=user)


def withdraw_without_right(user: User, *, reason: str, by: User, project: Project | None = None) -> None:
    """Withdraws what waits in the name of `user` where they may not spend now. Needs the projects' locks."""
    user = User.objects.get(pk=user.pk)
    waiting = waiting_of(user).select_related("project")
    for approval in waiting if project is None else waiting.filter(project=project):
        if not permissions.may(user, "spend", approval.project):
            _withdraw(approval, reason=reason, by=by)


def _withdraw(approval: Approval, *, reason: str, by: User | None) -> None:
    _decide(approval, Decision.WITHDRAWN, by=by, comment=reason)
    _back_to_drafts(approval, reason=f"The request for approval was withdrawn: {reason}", by=by)


def expire() -> None:
    """Withdraws what nobody decided about in time; harmless when it runs twice."""
    overdue = Approval.objects.filter(decision=Decision.WAITING, expires_at__lte=timezone.now())
    for approval in overdue.order_by("expires_at")[:BATCH]:
        _expire(approval)


@transaction.atomic
def _expire(approval: Approval) -> None:
    queueing.lock_projects([approval.project_id])
    approval.refresh_from_db()
    if approval.decision == Decision.WAITING:
        _decide(approval, Decision.EXPIRED, by=None)
        _back_to_drafts(
            approval, reason=f"Nobody decided about it until {approval.expires_at:%Y-%m-%d %H:%M} UTC.", by=None
        )


def _decide(approval: Approval, decision: Approval.Decision, *, by: User | None, comment: str = "") -> None:
    """Needs the project's lock, and that it is waiting."""
    approval.decision, approval.decided_by, approval.decided_at = decision, by, timezone.now()
    approval.comment, approval.budget_error = comment[:MAX_COMMENT], ""
    approval.save(update_fields=["decision", "decided_by", "decided_at", "comment", "budget_error"])


def _back_to_drafts(approval: Approval, *, reason: str, by: User | None) -> None:
    """They name the request still, until they are in another one; their price is today's again."""
    for pk in approval.generations.order_by("pk").values_list("pk", flat=True):
        Generation.objects.move(pk, Status.AWAITING_APPROVAL, Status.DRAFT, reason=reason, by=by, quote=None)


def _comment(text: str) -> str:
    said = text.strip()
    if len(said) > MAX_COMMENT:
        raise ValidationError({"comment": f"At most {MAX_COMMENT} characters; this has {len(said)}."})
    return said
