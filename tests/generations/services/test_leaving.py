"""Who is removed, demoted or switched off leaves no open request, invitation or right behind."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse
from knox.models import AuthToken

from generations.models import Approval, Generation, Status
from generations.services import approvals, drafts, orders, people, refusals
from generations.services.refusals import AskerLeft
from projects import permissions
from projects.models import Membership, Project, Role
from projects.people import members
from projects.people.forms import NewPasswordForm
from projects.people.members import InvitationRefused, MembershipRefused
from tests import factories
from tests.pipeline import ENDPOINT
from tests.projects.api.client import API, client_of, errors
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]


def queued(project: Project, by: User, prompt: str) -> Generation:
    inputs = {"image": str(factories.source_image(project, by).pk), "prompt": prompt, "duration": 15}
    return orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)


@pytest.fixture
def world(project: Project, editor: User) -> Project:
    Project.objects.update(approval_above=1_000_000)
    factories.budget(project, 100_000_000)
    project.refresh_from_db()
    return project


@pytest.fixture
def asked(world: Project, editor: User) -> Approval:
    approval = queued(world, editor, "Rain").approval
    assert approval
    return approval


@pytest.fixture
def anna(world: Project) -> User:
    return factories.member(world, Role.APPROVER, username="anna")


LEAVING: dict[str, Callable[[Membership, User], object]] = {
    "removed from the project": lambda membership, by: people.remove_member(membership, by=by),
    "is viewer now": lambda membership, by: people.change_role(membership, role=Role.VIEWER, by=by),
    "switched off": lambda membership, by: people.switch_off(membership.user, by=by),
    "removed by the API": lambda membership, by: client_of(by).delete(
        f"{API}/projects/{membership.project_id}/members/{membership.pk}/"
    ),
    "demoted by the API": lambda membership, by: client_of(by).patch(
        f"{API}/projects/{membership.project_id}/members/{membership.pk}/", {"role": "viewer"}
    ),
}


@pytest.mark.parametrize("how", LEAVING)
def test_open_requests_are_withdrawn(how: str, asked: Approval, editor: User, studio_owner: User, anna: User) -> None:
    LEAVING[how](asked.project.memberships.get(user=editor), studio_owner)

    asked.refresh_from_db()
    [generation] = asked.generations.all()
    assert (asked.decision, asked.decided_by, generation.status) == ("withdrawn", studio_owner, Status.DRAFT)
    assert asked.comment.startswith("eddie, who asked for it, ")
    assert asked.comment in generation.events.last().reason
    with pytest.raises(refusals.WrongStatus):
        approvals.approve(asked, by=anna)


def test_who_is_still_an_editor_still_asks(asked: Approval, editor: User, studio_owner: User, anna: User) -> None:
    people.change_role(asked.project.memberships.get(user=editor), role=Role.APPROVER, by=studio_owner)
    approvals.approve(asked, by=anna)

    assert asked.generations.get().status == Status.QUEUED


def test_what_is_queued_goes_on(world: Project, editor: User, studio_owner: User) -> None:
    Project.objects.update(approval_above=None)
    generation = queued(world, editor, "Snow")
    people.remove_member(world.memberships.get(user=editor), by=studio_owner)

    generation.refresh_from_db()
    assert generation.status == Status.QUEUED


def test_a_request_in_the_name_of_who_left_is_not_approved(asked: Approval, anna: User, editor: User) -> None:
    """However the right went away: here straight in the database."""
    Membership.objects.filter(user=editor).update(is_active=False)
    with pytest.raises(AskerLeft, match="eddie, who asked for it, may not spend in Coffee any more"):
        approvals.approve(asked, by=anna)

    [(code, _, _)] = errors(client_of(anna).post(f"{API}/approvals/{asked.pk}/approve/", {}))
    assert code == "asker_left"
    approvals.reject(asked, by=anna, comment="They left")
    assert asked.generations.get().status == Status.DRAFT


def test_a_studio_owner_who_is_none_any_more_asks_for_nothing(world: Project, studio_owner: User, anna: User) -> None:
    boss = factories.UserFactory(username="boss", is_staff=True)
    boss.groups.add(Group.objects.get_or_create(name=permissions.STUDIO_OWNERS)[0])
    approval = queued(world, boss, "Rain").approval
    _, link = members.invite(world, email="nina@example.com", role=Role.OWNER, by=boss)
    client, page = Client(), reverse("admin:auth_user_change", args=[boss.pk])
    client.force_login(studio_owner)
    client.post(page, {"username": "boss", "is_staff": "on", "email": boss.email, "groups": []})

    approval.refresh_from_db()
    assert approval.decision == "withdrawn"
    with pytest.raises(InvitationRefused):
        members.find_invitation(_token(link))


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
@pytest.mark.parametrize("who", ["asker", "approver"])
def test_approving_and_leaving_at_once(who: str) -> None:
    """Either it was approved while both had the right, or it was not."""
    project = factories.ProjectFactory(approval_above=1_000_000)
    factories.budget(project, 100_000_000)
    for number in range(8):
        editor, anna = factories.member(project), factories.member(project, Role.APPROVER)
        approval = queued(project, editor, f"Rain {number}").approval
        assert approval
        leaver = editor if who == "asker" else anna
        leave = partial(people.remove_member, project.memberships.get(user=leaver), by=project.created_by)

        results = at_once([partial(approvals.approve, approval, by=anna), leave])

        assert results[1] is None
        assert results[0] is None or isinstance(results[0], refusals.Refused | PermissionDenied), results[0]
        approval.refresh_from_db()
        status = approval.generations.get().status
        assert (results[0] is None) == (status == Status.QUEUED)
        if results[0] is not None:
            assert status == (Status.DRAFT if who == "asker" else Status.AWAITING_APPROVAL)


# --- Invitations ------------------------------------------------------------------------------------------------------


def _token(link: str) -> str:
    return link.rstrip("/").rpartition("/")[2]


def test_an_invitation_counts_while_its_maker_may_make_it(project: Project, studio_owner: User) -> None:
    owner = factories.member(project, Role.OWNER, username="ottilie")
    factories.member(project, Role.OWNER)
    _, link = members.invite(project, email="nina@example.com", role=Role.OWNER, by=owner)
    Membership.objects.filter(user=owner).update(role=Role.EDITOR)

    with pytest.raises(InvitationRefused, match="ottilie, who sent this invitation, may not invite people to Coffee"):
        members.find_invitation(_token(link))
    response = Client().get(link.removeprefix("http://127.0.0.1:8000"))
    assert response.status_code == 410


def test_a_link_for_one_address_makes_no_other_account_owner(project: Project, studio_owner: User) -> None:
    _, link = members.invite(project, email="nina@example.com", role=Role.OWNER, by=studio_owner)
    other = factories.UserFactory(username="otto")
    client, path = Client(), link.removeprefix("http://127.0.0.1:8000")
    client.force_login(other)

    for response in (client.get(path), client.post(path)):
        assert response.status_code == 410
        assert "This invitation is for nina@example.com; you are logged in as otto" in response.content.decode()
    assert permissions.roles(other) == {}
    members.accept(_token(link), factories.UserFactory(email="NINA@example.com"))


def test_an_account_with_the_address_is_not_made_twice(project: Project, studio_owner: User) -> None:
    factories.UserFactory(email="nina@example.com")
    _, link = members.invite(project, email="nina@example.com", role=Role.EDITOR, by=studio_owner)
    with pytest.raises(InvitationRefused, match=r"There is an account with the address nina@example\.com: log in"):
        members.register(_token(link), User(username="nina2"))


def test_an_open_link_takes_anyone_once_but_brings_nobody_back(
    project: Project, studio_owner: User, editor: User
) -> None:
    members.remove(project.memberships.get(user=editor), by=studio_owner)
    _, link = members.invite(project, email="team@example.com", role=Role.VIEWER, by=studio_owner, for_anyone=True)
    with pytest.raises(MembershipRefused, match="You were removed from Coffee: this open link does not bring you back"):
        members.accept(_token(link), editor)

    path, password = link.removeprefix("http://127.0.0.1:8000"), "correct horse 9 staple"
    page = Client().get(path)
    assert 'name="email"' in page.content.decode()
    typed = {"username": "nina", "email": "nina@example.com", "password1": password, "password2": password}
    Client().post(path, typed)
    assert User.objects.get(username="nina").email == "nina@example.com"
    with pytest.raises(InvitationRefused, match="has been used"):
        members.accept(_token(link), factories.UserFactory())


# --- Passwords --------------------------------------------------------------------------------------------------------

NEW = "correct horse 9 staple"


def pages(client: Client, user: User) -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        "own": ("/admin/password_change/", {"old_password": "old", "new_password1": NEW, "new_password2": NEW}),
        "somebody's": (
            reverse("admin:auth_user_password_change", args=[user.pk]),
            {"password1": NEW, "password2": NEW, "usable_password": "true", "set-password": "1"},
        ),
    }


@pytest.mark.parametrize("page", ["own", "somebody's"])
@pytest.mark.parametrize("choice", ["", "end", "keep"])
def test_a_new_password_asks_about_tokens_and_ends_them_unless_told(
    page: str, choice: str, editor: User, studio_owner: User
) -> None:
    editor.set_password("old")
    editor.save()
    AuthToken.objects.create(editor)
    AuthToken.objects.create(studio_owner)
    client = Client()
    client.force_login(editor if page == "own" else studio_owner)
    path, typed = pages(client, editor)[page]
    shown = client.get(path).content.decode()
    assert "Once they have ended, whatever uses them is no longer let in." in shown
    assert "1 work now: " in shown

    response = client.post(path, typed | ({"tokens": choice} if choice else {}), follow=True)

    editor.refresh_from_db()
    assert editor.check_password(NEW)
    assert AuthToken.objects.filter(user=editor).count() == (1 if choice == "keep" else 0)
    assert AuthToken.objects.filter(user=studio_owner).count() == 1
    told = "1 API token goes on working." if choice == "keep" else "No API token works."
    assert told in [str(message) for message in response.context["messages"]]


def test_a_new_password_never_switches_anybody_on_again(editor: User, studio_owner: User) -> None:
    """Both pages read the user before somebody else switched them off, and save after."""
    form = NewPasswordForm(User.objects.get(pk=editor.pk), {"new_password1": NEW, "new_password2": NEW})
    assert form.is_valid()
    people.switch_off(editor, by=studio_owner)
    form.save()

    assert not User.objects.get(pk=editor.pk).is_active
