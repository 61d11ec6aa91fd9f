import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import dramatiq
import pytest
import time_machine
from django.contrib.auth.models import Group, User
from django.core import mail
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.mail.backends.base import BaseEmailBackend
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from dramatiq.brokers.stub import StubBroker
from knox.models import AuthToken
from pytest_django import DjangoCaptureOnCommitCallbacks

from generations import dispatch
from generations.timetable import Timetable
from projects import digest, permissions, tasks
from projects.models import Invitation, Membership, Project, Role
from projects.people import members
from projects.people.members import InvitationRefused, MembershipRefused
from tests import factories, post


class BrokerAway(StubBroker):
    def enqueue(self, message: dramatiq.Message, *, delay: int | None = None) -> dramatiq.Message:
        raise dramatiq.errors.ConnectionClosed("away")


class Dies(BaseEmailBackend):
    def send_messages(self, messages: Any) -> int:
        raise SystemExit


def look_for_due_mails() -> None:
    """As the dispatcher does every minute."""
    timetable = Timetable()
    dispatch.schedule(timetable)
    assert tasks.mail_due_invitations.__name__ in timetable.jobs
    tasks.mail_due_invitations()


@pytest.fixture(autouse=True)
def empty_post() -> None:
    post.forget()


@pytest.fixture
def owner(project: Project) -> User:
    return factories.member(project, Role.OWNER, username="ottilie", first_name="Ottilie", last_name="Brandt")


def invited(
    project: Project,
    by: User,
    *,
    role: Role = Role.EDITOR,
    email: str = "nina@example.com",
    for_anyone: bool = False,
) -> str:
    """The token of a fresh invitation."""
    _, link = members.invite(project, email=email, role=role, by=by, for_anyone=for_anyone)
    return link.rstrip("/").rpartition("/")[2]


def role_of(user: User, project: Project) -> Role | None:
    return permissions.roles(user).get(project.pk)


def test_invite_sends_the_link_and_keeps_only_its_digest(
    project: Project, owner: User, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    project.name = "Tom & Tina’s\ncoffee"
    project.save()
    with django_capture_on_commit_callbacks(execute=True):
        invitation, link = members.invite(project, email=" nina@example.com ", role=Role.APPROVER, by=owner)
    assert mail.outbox == [], "no request waits for the mail server"
    post.deliver()

    [message] = mail.outbox
    assert link.startswith("http://127.0.0.1:8000/join/")
    assert (message.to, message.subject) == (["nina@example.com"], "Ottilie Brandt invites you to Tom & Tina’s coffee")
    assert f"\n{link}\n" in message.body
    assert "Your role there: Approver." in message.body
    assert "&amp;" not in message.body
    stored = Invitation.objects.values().get(pk=invitation.pk)
    assert link.rstrip("/").rpartition("/")[2] not in str(stored)


def test_no_one_time_link_lies_in_the_broker(
    project: Project, owner: User, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        token = invited(project, owner)

    [message] = post.taken()
    assert message.actor_name == "send_invitation"
    assert token not in message.encode().decode()
    assert members.find_invitation(token).pk == uuid.UUID(message.args[0])


def test_what_was_revoked_before_the_mail_went_is_not_sent(
    project: Project, owner: User, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        invited(project, owner)
        second = invited(project, owner)
    post.deliver()

    [message] = mail.outbox
    assert second in message.body


def test_a_new_secret_key_ends_no_link(
    project: Project,
    owner: User,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    settings: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        token = invited(project, owner)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another one " * 5, [settings.SECRET_KEY]
    post.deliver()

    assert token in mail.outbox[0].body
    settings.SECRET_KEY_FALLBACKS = []
    assert members.find_invitation(token).email == "nina@example.com"


def test_two_invitations_have_two_links(project: Project, owner: User) -> None:
    assert invited(project, owner) != invited(project, owner)


def test_invite_stands_without_a_mail_server_and_is_tried_again(
    project: Project,
    owner: User,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    settings: Any,
) -> None:
    backend = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    with django_capture_on_commit_callbacks(execute=True):
        token = invited(project, owner)
    post.deliver()
    assert digest.waiting_since() == Invitation.objects.get().created_at

    assert members.find_invitation(token).email == "nina@example.com"
    settings.EMAIL_BACKEND = backend
    with time_machine.travel(timezone.now() + timedelta(minutes=2)):
        look_for_due_mails()
    assert [token in message.body for message in mail.outbox] == [True]
    assert digest.waiting_since() is None


def test_an_invitation_whose_message_was_lost_is_mailed_once(
    project: Project, owner: User, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        token = invited(project, owner)
    [message] = post.taken()  # and then the process is killed

    look_for_due_mails()
    assert [token in mailed.body for mailed in mail.outbox] == [True]

    tasks.send_invitation.fn(*message.args)
    look_for_due_mails()
    assert len(mail.outbox) == 1


def test_a_process_that_dies_while_it_mails_costs_minutes(project: Project, owner: User, settings: Any) -> None:
    invited(project, owner)
    backend, settings.EMAIL_BACKEND = settings.EMAIL_BACKEND, f"{__name__}.Dies"
    with pytest.raises(SystemExit):
        look_for_due_mails()
    settings.EMAIL_BACKEND = backend

    look_for_due_mails()
    assert mail.outbox == [], "another one may be at it"
    with time_machine.travel(timezone.now() + timedelta(minutes=6)):
        look_for_due_mails()
    assert len(mail.outbox) == 1


def test_the_list_says_that_a_mail_is_not_sent_yet(project: Project, owner: User, client: Client) -> None:
    invited(project, owner)
    client.force_login(owner)
    address = reverse("admin:projects_invitation_changelist")
    assert "Open, not mailed yet" in client.get(address).content.decode()

    look_for_due_mails()

    assert "Open, not mailed yet" not in client.get(address).content.decode()


def test_invite_stands_without_a_broker(
    project: Project,
    owner: User,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tasks.send_invitation, "broker", BrokerAway())
    with django_capture_on_commit_callbacks(execute=True):
        token = invited(project, owner)

    assert members.find_invitation(token).email == "nina@example.com"


def test_invite_takes_an_owner(project: Project, editor: User) -> None:
    with pytest.raises(PermissionDenied, match="This takes the role “Owner” or higher in Coffee"):
        invited(project, editor)

    assert Invitation.objects.count() == 0


@pytest.mark.parametrize(("email", "role"), [("nina", Role.EDITOR), ("", Role.EDITOR), ("nina@example.com", "boss")])
def test_invite_refuses_what_is_no_address_or_role(project: Project, owner: User, email: str, role: Role) -> None:
    with pytest.raises(ValidationError):
        members.invite(project, email=email, role=role, by=owner)


def test_invite_of_a_member_is_refused(project: Project, owner: User, editor: User) -> None:
    with pytest.raises(
        MembershipRefused, match=r"^EDDIE@example\.com is a member of Coffee already; change their role instead\.$"
    ):
        invited(project, owner, email="EDDIE@example.com")


def test_invite_of_somebody_who_is_switched_off_is_refused(project: Project, owner: User) -> None:
    factories.UserFactory(username="nina", is_active=False)
    with pytest.raises(
        MembershipRefused, match=r"nina@example\.com is switched off; a studio owner can switch them on again"
    ):
        invited(project, owner)


def test_invite_to_an_archived_project_is_refused(project: Project, owner: User) -> None:
    project.archived_at = timezone.now()
    with pytest.raises(MembershipRefused, match=r"Coffee is archived: nobody can join it\."):
        invited(project, owner)


def test_invite_again_ends_the_first_link(project: Project, owner: User) -> None:
    first, second = invited(project, owner), invited(project, owner, email="Nina@Example.com")

    with pytest.raises(
        InvitationRefused, match=r"This invitation is no longer valid\. Ask Ottilie Brandt for a new one\."
    ):
        members.find_invitation(first)
    assert members.find_invitation(second).email == "Nina@Example.com"


def test_accept_makes_a_member_once(project: Project, owner: User) -> None:
    token, nina, other = (
        invited(project, owner),
        factories.UserFactory(email="Nina@Example.com"),
        factories.UserFactory(),
    )
    members.accept(token, nina)

    assert role_of(nina, project) == Role.EDITOR
    assert Invitation.objects.get().accepted_by == nina
    with pytest.raises(
        InvitationRefused,
        match=r"This invitation has been used\. Ask Ottilie Brandt for a new one if that was not you\.",
    ):
        members.accept(token, other)
    assert role_of(other, project) is None


def test_accept_of_an_unknown_expired_or_archived_invitation_is_refused(project: Project, owner: User) -> None:
    token, nina = invited(project, owner), factories.UserFactory()
    with pytest.raises(
        InvitationRefused, match=r"There is no such invitation\. Check that the whole link was copied\."
    ):
        members.accept(token[:-1], nina)
    with (
        time_machine.travel(timezone.now() + timedelta(days=7, minutes=1)),
        pytest.raises(InvitationRefused, match="This invitation is no longer valid"),
    ):
        members.accept(token, nina)
    Project.objects.update(archived_at=timezone.now())
    with pytest.raises(InvitationRefused, match="Coffee was archived: nobody can join it"):
        members.accept(token, nina)
    assert role_of(nina, project) is None


def test_accept_switches_a_former_member_on_with_the_invited_role(project: Project, owner: User, editor: User) -> None:
    members.remove(project.memberships.get(user=editor), by=owner)
    members.accept(invited(project, owner, role=Role.APPROVER, email=editor.email), editor)

    assert role_of(editor, project) == Role.APPROVER
    assert project.memberships.filter(user=editor).count() == 1


def test_accept_by_a_member_leaves_role_and_invitation_as_they_are(project: Project, owner: User, editor: User) -> None:
    token = invited(project, owner, role=Role.VIEWER)
    with pytest.raises(InvitationRefused, match=r"You are a member of Coffee already, as Editor\."):
        members.accept(token, editor)

    assert role_of(editor, project) == Role.EDITOR
    assert members.find_invitation(token).accepted_at is None


def test_accept_by_somebody_who_is_switched_off_is_refused(project: Project, owner: User) -> None:
    with pytest.raises(InvitationRefused, match="is switched off"):
        members.accept(invited(project, owner), factories.UserFactory(is_active=False))


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_accept_by_many_at_once_lets_one_in() -> None:
    project = factories.ProjectFactory()
    token = invited(project, project.created_by, for_anyone=True)
    people = [factories.UserFactory() for _ in range(6)]
    start = threading.Barrier(6)

    def accept(user: User) -> str:
        try:
            start.wait(timeout=30)
            members.accept(token, user)
        except InvitationRefused as refusal:
            return refusal.code
        finally:
            connection.close()
        return "joined"

    with ThreadPoolExecutor(6) as pool:
        outcomes = sorted(pool.map(accept, people))

    assert outcomes == ["joined"] + ["used"] * 5
    assert Membership.objects.count() == 1


def test_register_saves_the_user_only_together_with_the_membership(project: Project, owner: User) -> None:
    token = invited(project, owner)
    membership = members.register(token, User(username="nina"))

    assert (membership.user.email, membership.user.is_staff, membership.user.is_superuser) == (
        "nina@example.com",
        True,
        False,
    )
    with pytest.raises(InvitationRefused, match="has been used"):
        members.register(token, User(username="late"))
    assert not User.objects.filter(username="late").exists()


def test_change_role(project: Project, owner: User, editor: User) -> None:
    membership = project.memberships.get(user=editor)
    members.change_role(membership, role=Role.APPROVER, by=owner)

    assert role_of(editor, project) == Role.APPROVER
    with pytest.raises(PermissionDenied, match="“Owner”"):
        members.change_role(membership, role=Role.OWNER, by=editor)
    with pytest.raises(ValidationError, match="'boss' is not a valid choice"):
        members.change_role(membership, role="boss", by=owner)


def test_the_last_owner_stays_unless_a_studio_owner_says_so(project: Project, owner: User, studio_owner: User) -> None:
    membership = project.memberships.get(user=owner)
    sentence = r"^Ottilie Brandt is the last owner of Coffee: make somebody else owner first, or ask a studio owner \(olive\)\.$"
    with pytest.raises(MembershipRefused, match=sentence):
        members.remove(membership, by=owner)
    with pytest.raises(MembershipRefused, match=sentence):
        members.change_role(membership, role=Role.VIEWER, by=owner)
    assert role_of(owner, project) == Role.OWNER

    members.remove(membership, by=studio_owner)
    assert role_of(owner, project) is None


def test_one_of_two_owners_may_go(project: Project, owner: User) -> None:
    factories.member(project, Role.OWNER)
    members.remove(project.memberships.get(user=owner), by=owner)

    assert role_of(owner, project) is None


def test_an_owner_who_is_switched_off_does_not_count(project: Project, owner: User) -> None:
    factories.member(project, Role.OWNER, is_active=False)
    with pytest.raises(MembershipRefused, match="last owner"):
        members.remove(project.memberships.get(user=owner), by=owner)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_at_once_leave_one() -> None:
    project = factories.ProjectFactory()
    first, second = (factories.member(project, Role.OWNER) for _ in range(2))
    start = threading.Barrier(2)

    def remove(by: User, other: User) -> None:
        try:
            start.wait(timeout=30)
            members.remove(Membership.objects.get(user=other), by=by)
        except (MembershipRefused, PermissionDenied):
            pass
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(remove, (first, second), (second, first)))

    assert Membership.objects.filter(is_active=True).count() == 1


def test_remove_takes_access_and_invitations_and_keeps_the_row(
    project: Project, owner: User, studio_owner: User
) -> None:
    back_door = invited(project, owner, role=Role.OWNER)
    membership = project.memberships.get(user=owner)
    members.remove(membership, by=studio_owner)

    assert not permissions.may(owner, "view", project)
    assert Membership.objects.filter(pk=membership.pk, is_active=False).exists()
    with pytest.raises(InvitationRefused, match="no longer valid"):
        members.accept(back_door, owner)


def test_switch_off_ends_sessions_tokens_and_invitations(project: Project, owner: User, studio_owner: User) -> None:
    elsewhere = factories.ProjectFactory(created_by=studio_owner)
    by_them, to_them = invited(project, owner), invited(elsewhere, studio_owner, email=owner.email.upper())
    untouched = invited(project, studio_owner, email="other@example.com")
    theirs, others = Client(), Client()
    theirs.force_login(owner)
    others.force_login(studio_owner)
    AuthToken.objects.create(owner)
    kept, _ = AuthToken.objects.create(studio_owner)

    members.switch_off(owner, by=studio_owner)

    for token in (by_them, to_them):
        with pytest.raises(InvitationRefused, match="no longer valid"):
            members.find_invitation(token)
    assert members.find_invitation(untouched).email == "other@example.com"
    assert theirs.get("/admin/").status_code == 302
    assert others.get("/admin/").status_code == 200
    assert list(AuthToken.objects.all()) == [kept]
    assert not permissions.may(owner, "view", project)

    members.switch_on(owner, by=studio_owner)

    assert permissions.may(User.objects.get(pk=owner.pk), "manage", project)
    assert theirs.get("/admin/").status_code == 302, "an old session came back to life"


def test_switch_off_and_on_take_a_studio_owner(project: Project, owner: User, editor: User) -> None:
    with pytest.raises(PermissionDenied, match=r"^Only studio owners switch people off\. They are: olive\.$"):
        members.switch_off(editor, by=owner)
    with pytest.raises(PermissionDenied, match=r"^Only studio owners switch people on\. They are: olive\.$"):
        members.switch_on(editor, by=owner)
    owner.groups.add(Group.objects.get_or_create(name=permissions.STUDIO_OWNERS)[0])
    members.switch_off(editor, by=owner)

    assert not User.objects.get(pk=editor.pk).is_active


def test_switch_off_oneself_is_refused(studio_owner: User) -> None:
    with pytest.raises(MembershipRefused, match="You can't switch yourself off; another studio owner can"):
        members.switch_off(studio_owner, by=studio_owner)
