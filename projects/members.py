"""Who belongs to a project: invitations by one-time link, roles, and switching people off and on."""

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Q
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken

from projects import permissions
from projects.models import Invitation, Membership, Project, Role


class MembershipRefused(Exception):
    """A rule about members forbids it; `code` is for programs, `message` for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class InvitationRefused(MembershipRefused):
    """The link leads nowhere: unknown, used, expired, archived, member (they are one already) or switched_off."""


@transaction.atomic
def invite(project: Project, *, email: str, role: Role, by: User) -> tuple[Invitation, str]:
    """E-mails a one-time link, which replaces an open one to the same address; returns it too, as it can't be shown again.

    Owners invite to any role: none is above theirs. Raises `PermissionDenied`, `ValidationError`, `MembershipRefused`.
    """
    permissions.require(by, "manage", project)
    invitation = Invitation(project=project, email=email.strip(), role=role, invited_by=by)
    link = settings.PUBLIC_URL + reverse("join", args=[invitation.new_token()])
    invitation.full_clean()
    _refuse_if_needless(invitation)
    _revoke(Q(project=project, email__iexact=invitation.email))
    invitation.save()
    # Robust: without a mail server the invitation stands, and the owner passes the link on. A lambda, because Django logs
    # a failure under the function's `__qualname__`, which a partial lacks.
    transaction.on_commit(lambda: _send(invitation, link), robust=True)
    return invitation, link


def _refuse_if_needless(invitation: Invitation) -> None:
    project, email = invitation.project, invitation.email
    if project.archived_at is not None:
        raise MembershipRefused("archived", f"{project} is archived: nobody can join it.")
    if Membership.objects.filter(project=project, user__email__iexact=email, is_active=True).exists():
        raise MembershipRefused("member", f"{email} is a member of {project} already; change their role instead.")
    if User.objects.filter(email__iexact=email, is_active=False).exists():
        raise MembershipRefused("switched_off", f"{email} is switched off; a studio owner can switch them on again.")


def _send(invitation: Invitation, link: str) -> None:
    context = {"invitation": invitation, "link": link, "inviter": name_of(invitation.invited_by)}
    subject = render_to_string("projects/email/invitation_subject.txt", context)
    text = render_to_string("projects/email/invitation.txt", context)
    send_mail(" ".join(subject.split()), text, None, [invitation.email])


def name_of(user: User) -> str:
    return user.get_full_name() or user.get_username()


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
    return invitation


@transaction.atomic
def accept(token: str, user: User) -> Membership:
    """Uses the link up; a membership that was switched off comes back with the invited role. Raises `InvitationRefused`."""
    invitation = find_invitation(token)
    if not user.is_active:
        raise InvitationRefused("switched_off", f"{name_of(user)} is switched off; a studio owner can switch them on.")
    membership, created = Membership.objects.select_for_update().get_or_create(
        project=invitation.project, user=user, defaults={"role": invitation.role}
    )
    if not created and membership.is_active:
        role = membership.get_role_display()
        raise InvitationRefused("member", f"You are a member of {invitation.project} already, as {role}.")
    # The filter names columns of this one table: PostgreSQL rechecks no join after waiting for the other transaction.
    now = timezone.now()
    unused = Invitation.objects.filter(pk=invitation.pk, accepted_at=None, expires_at__gt=now)
    if unused.update(accepted_at=now, accepted_by=user) != 1:
        raise InvitationRefused(
            "used", f"This invitation was used a moment ago. Ask {name_of(invitation.invited_by)} for a new one."
        )
    if not created:
        membership.is_active, membership.role = True, invitation.role
        membership.save()
    return membership


@transaction.atomic
def register(token: str, user: User) -> Membership:
    """Saves a new user, who may enter the admin, under the invited address, and accepts for them: both or neither."""
    user.email, user.is_staff = find_invitation(token).email, True
    user.save()
    return accept(token, user)


@transaction.atomic
def change_role(membership: Membership, *, role: Role, by: User) -> None:
    """Raises `PermissionDenied`, `ValidationError`, and `MembershipRefused` for the last owner's role."""
    permissions.require(by, "manage", membership.project)
    if role != Role.OWNER:
        _keep_an_owner(membership, by)
        _revoke(Q(project=membership.project, invited_by=membership.user))
    membership.role = role
    membership.full_clean()
    membership.save(update_fields=["role"])


@transaction.atomic
def remove(membership: Membership, *, by: User) -> None:
    """Switches the membership off; what the member did stays. Raises `PermissionDenied`, and `MembershipRefused` for the last owner."""
    permissions.require(by, "manage", membership.project)
    _keep_an_owner(membership, by)
    _revoke(Q(project=membership.project) & _by_or_to(membership.user))
    membership.is_active = False
    membership.save(update_fields=["is_active"])


def _keep_an_owner(membership: Membership, by: User) -> None:
    """Locks the project, so that two owners can't remove each other at once."""
    project = Project.objects.select_for_update().get(pk=membership.project_id)
    owners = Membership.objects.filter(project=project, role=Role.OWNER, is_active=True, user__is_active=True)
    is_last = owners.filter(pk=membership.pk).exists() and not owners.exclude(pk=membership.pk).exists()
    if is_last and not permissions.is_studio_owner(by):
        raise MembershipRefused(
            "last_owner",
            f"{name_of(membership.user)} is the last owner of {project}: make somebody else owner first, or ask a studio owner "
            f"({permissions.names_of_studio_owners()}).",
        )


@transaction.atomic
def switch_off(user: User, *, by: User) -> None:
    """Ends the user's sessions, tokens and open invitations, to them and by them; memberships and what they did stay.

    Raises `PermissionDenied`, and `MembershipRefused` for oneself.
    """
    permissions.require_studio_owner(by, "switch people off")
    if user.pk == by.pk:
        raise MembershipRefused("self", "You can't switch yourself off; another studio owner can.")
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
