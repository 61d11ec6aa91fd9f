import uuid

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from projects import permissions
from projects.models import Project, Role
from tests import factories, post
from tests.projects.api.client import API, client_of, errors, ids


def test_projects_lists_what_one_may_see(api: APIClient, project: Project) -> None:
    factories.ProjectFactory(name="Not yours")

    response = api.get(f"{API}/projects/")

    assert response.status_code == 200
    [row] = response.json()["results"]
    assert row == {
        "id": str(project.pk),
        "version": 1,
        "name": "Coffee",
        "description": "",
        "time_zone": "UTC",
        "approval_above": None,
        "retention_days": None,
        "role": "editor",
        "created_by": "olive",
        "created_at": row["created_at"],
        "archived_at": None,
        "pause": None,
    }
    assert row["created_at"].endswith("Z")


def test_projects_lists_all_for_a_studio_owner(owner_api: APIClient, project: Project) -> None:
    other = factories.ProjectFactory(name="Another")

    assert ids(owner_api.get(f"{API}/projects/")) == [str(other.pk), str(project.pk)]


@pytest.mark.parametrize("rows", [1, 30])
def test_projects_lists_with_few_queries(editor: User, project: Project, rows: int) -> None:
    for _ in range(rows):
        factories.Membership.objects.create(project=factories.ProjectFactory(), user=editor, role=Role.VIEWER)
    client = client_of(editor)

    with CaptureQueriesContext(connection) as queries:
        assert client.get(f"{API}/projects/").json()["count"] == rows + 1

    # Token, its owner's tokens, group, count, rows, roles.
    assert len(queries) == 6, [query["sql"] for query in queries]


def test_project_is_made_by_a_studio_owner(owner_api: APIClient, studio_owner: User) -> None:
    response = owner_api.post(f"{API}/projects/", {"name": "Tea", "time_zone": "Europe/Berlin"})

    assert response.status_code == 201
    project = Project.objects.get(pk=response.json()["id"])
    assert (project.name, project.time_zone, project.created_by) == ("Tea", "Europe/Berlin", studio_owner)


def test_project_is_made_by_nobody_else(api: APIClient) -> None:
    response = api.post(f"{API}/projects/", {"name": "Tea"})

    assert response.status_code == 403
    assert errors(response) == [("permission_denied", None, "Only studio owners make projects. They are: olive.")]
    assert not Project.objects.filter(name="Tea").exists()


def test_who_is_in_no_project_learns_no_names(project: Project) -> None:
    response = client_of(factories.UserFactory()).post(f"{API}/projects/", {"name": "Tea"})

    assert errors(response) == [("permission_denied", None, "Only studio owners make projects.")]


def test_project_with_a_name_that_exists_is_refused(owner_api: APIClient, project: Project) -> None:
    response = owner_api.post(f"{API}/projects/", {"name": "Coffee"})

    assert response.status_code == 400
    assert [error[1:] for error in errors(response)] == [(None, "Another project has this name.")]
    assert Project.objects.count() == 1


def test_project_with_a_bad_time_zone_is_refused(owner_api: APIClient) -> None:
    response = owner_api.post(f"{API}/projects/", {"name": "Tea", "time_zone": "Berlin"})

    assert response.status_code == 400
    assert errors(response) == [
        (
            "invalid",
            "time_zone",
            "“Berlin” is no time zone; use a name such as Europe/Berlin or America/Los_Angeles.",
        )
    ]


def test_project_refuses_unknown_fields_by_name(owner_api: APIClient) -> None:
    response = owner_api.post(f"{API}/projects/", {"name": "Tea", "timezone": "Europe/Berlin"})

    assert response.status_code == 400
    assert response.json()["type"] == "validation_error"
    assert [error[1:] for error in errors(response)] == [
        (
            "timezone",
            "There is no field “timezone”. This takes: name, description, time_zone, approval_above, retention_days.",
        )
    ]


def test_project_is_changed_by_its_owner_and_not_by_an_editor(project: Project, api: APIClient) -> None:
    owner = client_of(factories.member(project, Role.OWNER))

    refused = api.patch(f"{API}/projects/{project.pk}/", {"name": "Cocoa"})
    changed = owner.patch(f"{API}/projects/{project.pk}/", {"name": "Cocoa"})

    assert refused.status_code == 403
    assert errors(refused)[0][2] == (
        "This takes the role “Owner” or higher in Coffee; an owner of the project can give it to you."
    )
    assert (changed.status_code, changed.json()["name"], changed.json()["role"]) == (200, "Cocoa", "owner")


def test_project_is_archived_and_leaves_the_list(owner_api: APIClient, project: Project) -> None:
    response = owner_api.post(f"{API}/projects/{project.pk}/archive/")

    assert response.status_code == 200
    assert response.json()["archived_at"] is not None
    assert ids(owner_api.get(f"{API}/projects/")) == []
    assert owner_api.get(f"{API}/projects/{project.pk}/").json()["name"] == "Coffee"


def test_project_without_membership_does_not_exist(project: Project) -> None:
    stranger = client_of(factories.UserFactory())

    for path in ("", "members/", "budgets/", "spend/", "spend/entries/"):
        response = stranger.get(f"{API}/projects/{project.pk}/{path}")
        assert response.status_code == 404
        assert errors(response) == [("not_found", None, "There is nothing here, or nothing that you may see.")]
    assert stranger.get(f"{API}/projects/{uuid.uuid4()}/").status_code == 404


# --- Members ----------------------------------------------------------------------------------------------------------


def test_members_are_listed(api: APIClient, project: Project, editor: User) -> None:
    [row] = api.get(f"{API}/projects/{project.pk}/members/").json()["results"]

    assert (row["username"], row["email"], row["role"]) == ("eddie", "eddie@example.com", "editor")


def test_member_is_invited_by_e_mail(project: Project, mailoutbox: list, django_capture_on_commit_callbacks) -> None:
    owner = client_of(factories.member(project, Role.OWNER, username="otto"))

    with django_capture_on_commit_callbacks(execute=True):
        response = owner.post(f"{API}/projects/{project.pk}/members/", {"email": "new@example.com", "role": "viewer"})

    assert response.status_code == 201
    assert (response.json()["email"], response.json()["invited_by"]) == ("new@example.com", "otto")
    assert "link" not in response.json()
    post.deliver()
    [mail] = mailoutbox
    assert mail.to == ["new@example.com"]


def test_member_role_is_changed_and_member_removed(project: Project, editor: User) -> None:
    owner = client_of(factories.member(project, Role.OWNER))
    membership = editor.memberships.get()
    address = f"{API}/projects/{project.pk}/members/{membership.pk}/"

    assert owner.patch(address, {"role": "approver"}).json()["role"] == "approver"
    assert owner.delete(address).status_code == 204
    assert permissions.roles(editor) == {}
    assert owner.delete(address).status_code == 404


def test_last_owner_stays(project: Project) -> None:
    person = factories.member(project, Role.OWNER, username="otto")

    response = client_of(person).delete(f"{API}/projects/{project.pk}/members/{person.memberships.get().pk}/")

    assert response.status_code == 409
    assert errors(response) == [
        (
            "last_owner",
            None,
            "otto is the last owner of Coffee: make somebody else owner first, or ask a studio owner (olive).",
        )
    ]


def test_member_of_another_project_is_not_found(owner_api: APIClient, project: Project) -> None:
    other = factories.ProjectFactory()
    membership = factories.member(other).memberships.get()

    response = owner_api.patch(f"{API}/projects/{project.pk}/members/{membership.pk}/", {"role": "owner"})

    assert response.status_code == 404
    membership.refresh_from_db()
    assert membership.role == Role.EDITOR


def test_member_with_an_unknown_role_is_refused(owner_api: APIClient, project: Project) -> None:
    response = owner_api.post(f"{API}/projects/{project.pk}/members/", {"email": "a@example.com", "role": "boss"})

    assert response.status_code == 400
    assert errors(response) == [("invalid_choice", "role", '"boss" is not a valid choice.')]
