import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.exceptions import PermissionDenied

from projects import permissions
from projects.models import Membership, Project, Role
from tests import factories

pytestmark = pytest.mark.django_db

ACTIONS = ["view", "edit", "spend", "approve", "manage"]
MAY = {
    Role.VIEWER: {"view"},
    Role.EDITOR: {"view", "edit", "spend"},
    Role.APPROVER: {"view", "edit", "spend", "approve"},
    Role.OWNER: {"view", "edit", "spend", "approve", "manage"},
}
LABEL = {"view": "Viewer", "edit": "Editor", "spend": "Editor", "approve": "Approver", "manage": "Owner"}


@pytest.fixture
def in_group(project: Project) -> User:
    owner = factories.UserFactory(username="grace", first_name="Grace", last_name="Hopper")
    owner.groups.add(Group.objects.get_or_create(name=permissions.STUDIO_OWNERS)[0])
    return owner


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("role", list(Role))
def test_may_is_what_the_role_allows(project: Project, role: Role, action: str) -> None:
    member = factories.member(project, role)

    assert permissions.may(member, action, project) is (action in MAY[role])


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("role", list(Role))
def test_require_names_the_role_that_it_takes(project: Project, role: Role, action: str) -> None:
    member = factories.member(project, role)

    if action in MAY[role]:
        permissions.require(member, action, project)
        return
    with pytest.raises(PermissionDenied) as denied:
        permissions.require(member, action, project)
    assert str(denied.value) == (
        f"This takes the role “{LABEL[action]}” or higher in Coffee; an owner of the project can give it to you."
    )


@pytest.mark.parametrize("action", ACTIONS)
def test_may_is_nothing_in_other_projects(editor: User, action: str) -> None:
    assert not permissions.may(editor, action, factories.ProjectFactory())


@pytest.mark.parametrize("action", ACTIONS)
def test_may_is_everything_for_studio_owners(studio_owner: User, in_group: User, project: Project, action: str) -> None:
    assert permissions.may(studio_owner, action, project)
    assert permissions.may(in_group, action, project)


@pytest.mark.parametrize("action", ACTIONS)
def test_may_is_nothing_for_who_is_switched_off_or_unknown(project: Project, in_group: User, action: str) -> None:
    left_the_studio = factories.member(project, Role.OWNER, is_active=False)
    left_the_project = factories.member(project, Role.OWNER)
    Membership.objects.filter(user=left_the_project).update(is_active=False)
    in_group.is_active = False
    fired_superuser = factories.UserFactory(is_superuser=True, is_active=False)

    for person in (left_the_studio, left_the_project, in_group, fired_superuser, AnonymousUser()):
        assert not permissions.may(person, action, project)
        assert permissions.roles(person) == {}
        assert list(permissions.visible_projects(person)) == []


def test_may_refuses_an_unknown_action_for_everybody(studio_owner: User, project: Project) -> None:
    with pytest.raises(KeyError, match="destroy"):
        permissions.may(studio_owner, "destroy", project)


def test_visible_projects_are_ones_own(project: Project, editor: User, studio_owner: User, in_group: User) -> None:
    other = factories.ProjectFactory(name="Tea")

    assert list(permissions.visible_projects(editor)) == [project]
    assert list(permissions.visible_projects(studio_owner)) == [project, other]
    assert list(permissions.visible_projects(in_group)) == [project, other]


def test_roles_are_those_of_each_project(project: Project, editor: User) -> None:
    other = factories.ProjectFactory()
    Membership.objects.create(project=other, user=editor, role=Role.OWNER)

    assert permissions.roles(editor) == {project.pk: Role.EDITOR, other.pk: Role.OWNER}


def test_studio_owners_are_superusers_and_the_group_once_each(studio_owner: User, in_group: User, editor: User) -> None:
    studio_owner.groups.add(Group.objects.get_or_create(name=permissions.STUDIO_OWNERS)[0])
    studio_owner.groups.add(Group.objects.create(name="Others"))
    factories.UserFactory(username="gone", is_superuser=True, is_active=False)

    assert list(permissions.studio_owners()) == [in_group, studio_owner]
    assert permissions.names_of_studio_owners() == "Grace Hopper, olive"


def test_require_studio_owner_names_them(studio_owner: User, editor: User) -> None:
    permissions.require_studio_owner(studio_owner, "make projects")
    with pytest.raises(PermissionDenied) as denied:
        permissions.require_studio_owner(editor, "make projects")
    assert str(denied.value) == "Only studio owners make projects. They are: olive."


def test_names_of_studio_owners_without_one() -> None:
    assert permissions.names_of_studio_owners() == "nobody yet"


def test_may_set_budget_by_role_and_kind_of_budget(project: Project, studio_owner: User, editor: User) -> None:
    owner, other_owner = factories.member(project, Role.OWNER), factories.member(project, Role.OWNER)
    approver = factories.member(project, Role.APPROVER)
    elsewhere = factories.ProjectFactory()

    def kinds(by: User) -> dict[str, bool]:
        return {
            "studio": permissions.may_set_budget(by, None, None),
            "project": permissions.may_set_budget(by, project, None),
            "member": permissions.may_set_budget(by, project, editor),
            "other owner": permissions.may_set_budget(by, project, other_owner),
            "own": permissions.may_set_budget(by, project, by),
            "elsewhere": permissions.may_set_budget(by, elsewhere, editor),
        }

    assert [name for name, may in kinds(studio_owner).items() if may] == list(kinds(studio_owner))
    assert [name for name, may in kinds(owner).items() if may] == ["member", "other owner"]
    assert [name for name, may in kinds(approver).items() if may] == []
    assert [name for name, may in kinds(editor).items() if may] == []


def test_may_change_budget_follows_the_budget(project: Project, editor: User) -> None:
    owner = factories.member(project, Role.OWNER)

    assert permissions.may_change_budget(owner, factories.budget(project, 1, user=editor))
    assert not permissions.may_change_budget(owner, factories.budget(project, 1, user=owner))
    assert not permissions.may_change_budget(owner, factories.budget(project, 1))
