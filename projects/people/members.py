"""Who belongs to a project: invitations by one-time link, roles, and switching people off and on."""

from collections.abc import Iterable
from functools import partial

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from knox.models import AuthToken

from projects import permissions, versions
from projects.models import Invitation, Membership, Notification, Project, Role
from projects.tasks import ask_for_invitation, link_to
from projects.versions import Expected


class MembershipRefused(Exception):
    """A rule about members forbids it; `code` is for programs, `message` for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class InvitationRefused(MembershipRefused):
    """The link leads nowhere: unknown, used, expired, archived, void (who made it may not make it any more), address (it was
    mailed to another one), account (there is one with its address), removed, member (they are one already) or switched_off.
    """


@transaction.atomic
def invite(project: Project, *, email: str, role: Role, by: User, for_anyone: bool = False) -> tuple[Invitation, str]:
    """Has a one-time link e-mailed, which replaces an open one to the same address; returns it too, as it is shown once.

    Only who has that address can use it, unless it is `for_anyone` who has the link. It counts while `by` may invite.
    Owners invite to any role: none is above theirs. Raises `PermissionDenied`, `ValidationError`, `MembershipRefused`.
    """
    permissions.require(by, "manage", project)
    invitation = Invitation(
        project=project, email=email.strip(), role=role, invited_by=by, for_anyone=for_anyone, email_at=timezone.now()
    )
    link = link_to(invitation.new_token())
    invitation.full_clean()
    _refuse_if_needless(invitation)
    _revoke(Q(project=project, email__iexact=invitation.email))
    invitation.save()
    transaction.on_commit(partial(ask_for_invitation, invitation))
    return invitation, link


def _refuse_if_needless(invitation: Invitation) -> None:
    project, email = invitation.project, invitation.email
    if project.archived_at is not None:
        raise MembershipRefused("archived", f"{project} is archived: nobody can join it.")
    if Membership.objects.filter(project=project, user__email__iexact=email, is_active=True).exists():
        raise MembershipRefused("member", f"{email} is a member of {project} already; change their role instead.")
    if User.objects.filter(email__iexact=email, is_active=False).exists():
        raise MembershipRefused("switched_off", f"{email} is switched off; a studio owner can switch them on again.")


def name_of(user: User) -> str:
    return user.get_full_name() or user.get_username()


def names(people: Iterable[User]) -> str:
    """Those who can help, in a sentence."""
    return ", ".join(map(name_of, people)) or "nobody yet"


def find_invitation(token: str) -> Invitation:
    """The open invitation behind a link. Raises `InvitationRefused`."""
    invitation = Invitation.objects.for_token(token).select_related("project", "invited_by").first()
    if invitation is None:
        raise InvitationRefused("unknown", "There is no such invitation. Check that the whole link was copied.")
    inviter = name_of(invitation.invited_by)
    if invitation.accepted_at is not None:
        raise InvitationRefused(
            "used", f"This invitation has been used. Ask {inviter} for a new one if that was not you."
        )
    if invitation.expires_at <= timezone.now():
        raise InvitationRefused("expired", f"This invitation is no longer valid. Ask {inviter} for a new one.")
    if invitation.project.archived_at is not None:
        raise InvitationRefused("archived", f"{invitation.project} was archived: nobody can join it.")
    if not permissions.may(invitation.invited_by, "manage", invitation.project):
        raise InvitationRefused(
            "void",
            f"{inviter}, who sent this invitation, may not invite people to {invitation.project} any more. "
            "Ask an owner of the project for a new one.",
        )
    return invitation


def require_for(invitation: Invitation, user: User) -> None:
    """Raises `InvitationRefused` where it is not for this person's account."""
    inviter, project = name_of(invitation.invited_by), invitation.project
    if not user.is_active:
        raise InvitationRefused("switched_off", f"{name_of(user)} is switched off; a studio owner can switch them on.")
    membership = Membership.objects.filter(project=project, user=user).first()
    if membership is not None and membership.is_active:
        raise InvitationRefused("member", f"You are a member of {project} already, as {membership.get_role_display()}.")
    if invitation.for_anyone:
        if membership is not None:
            raise InvitationRefused(
                "removed",
                f"You were removed from {project}: this open link does not bring you back. "
                f"Ask {inviter} for an invitation to your own address.",
            )
    elif not _same_address(invitation.email, user.email):
        raise InvitationRefused(
            "address",
            f"This invitation is for {invitation.email}; you are logged in as {user.get_username()} "
            f"({user.email or 'without an e-mail address'}). Log in with the account of that address, "
            f"or ask {inviter} for an invitation to yours.",
        )


def _same_address(one: str, other: str) -> bool:
    return one.strip().casefold() == other.strip().casefold()


@transaction.atomic
def accept(token: str, user: User) -> Membership:
    """Uses the link up; a membership that was switched off comes back with the invited role. Raises `InvitationRefused`."""
    # Under the project's lock, which whoever demotes or removes its maker, or this person, holds too.
    Project.locked(find_invitation(token).project_id)
    invitation, user = find_invitation(token), User.objects.get(pk=user.pk)
    require_for(invitation, user)
    # The filter names columns of this one table: PostgreSQL rechecks no join after waiting for the other transaction.
    now = timezone.now()
    unused = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, expires_at__gt=now)
    if unused.update(accepted_at=now, accepted_by=user) != 1:
        raise InvitationRefused(
            "used", f"This invitation was used a moment ago. Ask {name_of(invitation.invited_by)} for a new one."
        )
    membership, created = Membership.objects.get_or_create(
        project=invitation.project, user=user, defaults={"role": invitation.role}
    )
    if not created:
        with versions.editing(membership, by=user):
            membership.is_active, membership.role = True, invitation.role
    return membership


@transaction.atomic
def register(token: str, user: User) -> Membership:
    """Saves a new user, who may enter the admin, and accepts for them: both or neither.

    Their address is the invited one, or, where the link is for anyone, the one that they gave.
    """
    invitation = find_invitation(token)
    if not invitation.for_anyone:
        user.email = invitation.email
    if User.objects.filter(email__iexact=user.email).exists():
        raise InvitationRefused(
            "account", f"There is an account with the address {user.email}: log in with it, then open this link again."
        )
    user.is_staff = True
    user.save()
    return accept(token, user)


@transaction.atomic
def change_role(membership: Membership, *, role: Role, by: User, expected: Expected = None) -> None:
    """Raises `PermissionDenied`, `ValidationError`, `Stale`, and `MembershipRefused` for the last owner's role.

    Where people do it, `generations.services.people.change_role` also withdraws what waits for an approval.
    """
    with versions.editing(membership, by=by, expected=expected):
        permissions.require_now(by, "manage", membership.project)
        if role != Role.OWNER:
            _keep_an_owner(membership, by)
        membership.role = role
    _end_what_is_open(membership)


@transaction.atomic
def remove(membership: Membership, *, by: User, expected: Expected = None) -> None:
    """Switches the membership off; what the member did stays.

    Raises `PermissionDenied`, `Stale`, and `MembershipRefused` for the last owner. Where people do it,
    `generations.services.people.remove_member` also withdraws what waits for an approval.
    """
    with versions.editing(membership, by=by, expected=expected):
        permissions.require_now(by, "manage", membership.project)
        _keep_an_owner(membership, by)
        membership.is_active = False
    _end_what_is_open(membership)


def _keep_an_owner(membership: Membership, by: User) -> None:
    """Needs the project's lock, so that two owners can't remove each other at once."""
    project = membership.project
    owners = Membership.objects.filter(project=project, role=Role.OWNER, is_active=True, user__is_active=True)
    is_last = owners.filter(pk=membership.pk).exists() and not owners.exclude(pk=membership.pk).exists()
    if is_last and not permissions.is_studio_owner(by):
        raise MembershipRefused(
            "last_owner",
            f"{name_of(membership.user)} is the last owner of {project}: make somebody else owner first, or ask a studio owner "
            f"({permissions.names_of_studio_owners()}).",
        )


def _end_what_is_open(membership: Membership) -> None:
    """Of somebody who is no member, invitations to them too. Needs the project's lock."""
    user, project = membership.user, membership.project
    if not membership.is_active and user.email:
        _revoke(Q(project=project, email__iexact=user.email))
    end_what_is_open(user, [project])


def end_what_is_open(user: User, projects: Iterable[Project] | None = None) -> None:
    """Ends invitations that `user` may not make any more, and mails about projects that they don't see any more; anywhere unless told."""
    user = User.objects.get(pk=user.pk)
    for project in Project.objects.filter(invitations__invited_by=user).distinct() if projects is None else projects:
        if not permissions.may(user, "manage", project):
            _revoke(Q(project=project, invited_by=user))
    unsent = Notification.objects.filter(user=user, alert__project__isnull=False, emailed_at=None)
    if projects is not None:
        unsent = unsent.filter(alert__project__in=projects)
    unsent.exclude(alert__project__in=permissions.visible_projects(user)).update(email_at=None)


@transaction.atomic
def switch_off(user: User, *, by: User) -> None:
    """Ends the user's sessions, tokens and open invitations, to them and by them; memberships and what they did stay.

    Raises `PermissionDenied`, and `MembershipRefused` for oneself.
    """
    permissions.require_studio_owner(by, "switch people off")
    if user.pk == by.pk:
        raise MembershipRefused("self", "You can't switch yourself off; another studio owner can.")
    # Their projects' locks first: a decision of theirs, or about what they asked for, is wholly before or after.
    for project_id in Membership.objects.filter(user=user).order_by("project").values_list("project", flat=True):
        Project.locked(project_id)
    user.is_active = False
    user.save(update_fields=["is_active"])
    _end_sessions(user)
    AuthToken.objects.filter(user=user).delete()
    _revoke(_by_or_to(user))


def _end_sessions(user: User) -> None:
    """A session names its user inside its signed data only, so each one has to be read."""
    sessions = Session.objects.filter(expire_date__gt=timezone.now()).iterator()
    ended = [session.pk for session in sessions if session.get_decoded().get("_auth_user_id") == str(user.pk)]
    Session.objects.filter(pk__in=ended).delete()


def _by_or_to(user: User) -> Q:
    by = Q(invited_by=user)
    return by | Q(email__iexact=user.email) if user.email else by


def _revoke(which: Q) -> None:
    Invitation.objects.open().filter(which).update(expires_at=timezone.now())


@transaction.atomic
def switch_on(user: User, *, by: User) -> None:
    """Lets the user in again; they log in anew and make new tokens. Raises `PermissionDenied`."""
    permissions.require_studio_owner(by, "switch people on")
    user.is_active = True
    user.save(update_fields=["is_active"])
