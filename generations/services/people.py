"""What changes about people, with what it means for what they asked for."""

from uuid import UUID

from django.contrib.auth.models import User
from django.db import transaction

from generations.services import approvals, queueing
from projects.models import Membership, Role
from projects.people import members
from projects.versions import Expected


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
