"""`version`, its ETag, and `If-Match`."""

from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.signals import post_save
from django.utils import timezone
from rest_framework.test import APIClient

from generations.models import Element, Generation, GenerationEvent, Status
from projects.models import Project, Role, SourceImage
from projects.people import members
from tests import factories
from tests.projects.api.client import API, client_of, errors

DOLLAR = 1_000_000


@pytest.fixture
def rows(project: Project, editor: User, body: dict[str, Any], api: APIClient, image: SourceImage) -> dict[str, str]:
    """An address of each kind of row that people edit."""
    draft = api.post(f"{API}/generations/", body).json()["id"]
    element = Element.objects.create(project=project, name="Cup", element_id="306696265837507", created_by=editor)
    budget = factories.budget(project, 10 * DOLLAR)
    membership = project.memberships.get(user=editor)
    return {
        "project": f"projects/{project.pk}/",
        "draft": f"generations/{draft}/",
        "element": f"elements/{element.pk}/",
        "image": f"source-images/{image.pk}/",
        "budget": f"projects/{project.pk}/budgets/{budget.pk}/",
        "member": f"projects/{project.pk}/members/{membership.pk}/",
    }


EDITS = {
    "project": ({"name": "Tea"}, {"description": "Warm"}),
    "draft": ({"prompt": "Rain"}, {"duration": 8}),
    "element": ({"name": "Mug"}, {"description": "Blue"}),
    "image": ({"title": "Front"}, {"tags": ["new"]}),
    "budget": ({"limit": "5.00"}, {"thresholds": [10]}),
    "member": ({"role": "viewer"}, {"role": "approver"}),
}


@pytest.mark.parametrize("kind", EDITS)
def test_an_edit_of_what_was_changed_meanwhile_is_refused_and_shows_it(
    kind: str, rows: dict[str, str], owner_api: APIClient
) -> None:
    path, (first, second) = f"{API}/{rows[kind]}", EDITS[kind]
    # In one moment: addresses of files are signed with the time.
    with time_machine.travel(timezone.now(), tick=False):
        changed = owner_api.patch(path, first)
        late = owner_api.patch(path, second, HTTP_IF_MATCH='"1"')
    tag = changed["ETag"]

    assert (changed.status_code, tag) == (200, '"2"')
    assert changed.json()["version"] == 2
    [error] = late.json()["errors"]
    assert (late.status_code, error["code"], late["ETag"]) == (412, "precondition_failed", tag)
    assert error["current"] == changed.json()
    assert "at version 2 now. Nothing was changed." in error["detail"]

    again = owner_api.patch(path, second, HTTP_IF_MATCH=tag)

    assert (again.status_code, again["ETag"]) == (200, '"3"')
    assert owner_api.patch(path, second)["ETag"] == '"3"', "nothing was changed, so it is the same version"


@pytest.mark.parametrize(
    ("tag", "status"),
    [("*", 200), ('W/"1"', 200), ('"7", "1"', 200), ('"7"', 412), ('"abc"', 412), ("1", 400), ("", 400)],
)
def test_if_match_is_read_as_http_says(tag: str, status: int, rows: dict[str, str], owner_api: APIClient) -> None:
    response = owner_api.patch(f"{API}/{rows['project']}", {"name": "Tea"}, HTTP_IF_MATCH=tag)

    assert response.status_code == status
    assert (Project.objects.get().name == "Tea") == (status == 200)


def test_if_match_where_it_would_be_ignored_is_refused(rows: dict[str, str], owner_api: APIClient) -> None:
    response = owner_api.post(f"{API}/{rows['project']}pause/", {"reason": "Wait"}, HTTP_IF_MATCH='"1"')

    [(code, _, detail)] = errors(response)
    assert (response.status_code, code) == (400, "if_match_not_taken")
    assert detail.startswith("If-Match would be ignored here")
    assert owner_api.get(f"{API}/{rows['project']}", HTTP_IF_MATCH='"9"').status_code == 200


def test_a_changed_draft_is_not_queued_as_it_was_seen(
    rows: dict[str, str], api: APIClient, owner_api: APIClient
) -> None:
    seen = api.get(f"{API}/{rows['draft']}")["ETag"]
    owner_api.patch(f"{API}/{rows['draft']}", {"duration": 15})

    refused = api.post(f"{API}/{rows['draft']}queue/", {}, HTTP_IF_MATCH=seen)

    assert refused.status_code == 412
    assert refused.json()["errors"][0]["current"]["duration"] == 15
    assert Generation.objects.get().status == "draft"
    queued = api.post(f"{API}/{rows['draft']}queue/", {}, HTTP_IF_MATCH=refused["ETag"])
    assert queued.status_code == 202
    assert api.post(f"{API}/{rows['draft']}cancel/", {}, HTTP_IF_MATCH=refused["ETag"]).status_code == 412


def test_every_edit_of_a_draft_is_told_with_who_made_it(rows: dict[str, str], owner_api: APIClient) -> None:
    owner_api.patch(f"{API}/{rows['draft']}", {"prompt": "Rain", "duration": 8})
    owner_api.patch(f"{API}/{rows['draft']}", {"priority": "high"})
    owner_api.patch(f"{API}/{rows['draft']}", {"prompt": "Rain"})

    told = owner_api.get(f"{API}/{rows['draft']}events/").json()["results"]
    assert [(event["reason"], event["by"]) for event in told[1:]] == [
        ("Edited: prompt, duration.", "olive"),
        ("Priority: High.", "olive"),
    ]


def test_archiving_and_bringing_back_are_in_the_history_with_who_did_it(
    rows: dict[str, str], image: SourceImage, owner_api: APIClient, api: APIClient
) -> None:
    owner_api.post(f"{API}/{rows['image']}trash/")
    api.post(f"{API}/{rows['image']}restore/")
    api.delete(f"{API}/{rows['image']}")
    owner_api.post(f"{API}/{rows['project']}archive/")
    owner_api.post(f"{API}/{rows['project']}archive/")

    def authors(row: Any) -> list[tuple[int, str]]:
        records = row.history.exclude(history_type="+").order_by("version")
        return [(record.version, record.history_user.username) for record in records]

    assert authors(image) == [(2, "olive"), (3, "eddie"), (4, "eddie")]
    assert authors(Project.objects.get()) == [(2, "olive")]


def test_removed_in_the_middle_of_ones_own_cancel(
    rows: dict[str, str], project: Project, editor: User, studio_owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row was found before, the rest happens after: refused, and nothing is done."""
    api, membership = client_of(editor), project.memberships.get(user=editor)
    found = Generation.objects.get()
    members.remove(membership, by=studio_owner)
    monkeypatch.setattr("generations.api.views.GenerationViewSet.get_object", lambda view: found)

    response = api.post(f"{API}/{rows['draft']}cancel/", {})

    assert response.status_code == 403
    assert Generation.objects.get().status == "draft"
    members.accept(_link(project, editor, studio_owner), editor)
    assert api.post(f"{API}/{rows['draft']}cancel/", {}).status_code == 200


def _link(project: Project, user: User, by: User) -> str:
    _, link = members.invite(project, email=user.email, role=Role.EDITOR, by=by)
    return link.rstrip("/").rpartition("/")[2]


@pytest.mark.django_db(transaction=True)
def test_removed_after_the_cancel_and_before_its_answer_they_are_told_that_it_is_done(
    rows: dict[str, str], project: Project, editor: User, studio_owner: User
) -> None:
    membership = project.memberships.get(user=editor)

    def remove_once_it_is_done(instance: GenerationEvent, **_: Any) -> None:
        if instance.new_status == Status.CANCELLED:
            transaction.on_commit(lambda: members.remove(membership, by=studio_owner))

    post_save.connect(remove_once_it_is_done, sender=GenerationEvent)
    try:
        response = client_of(editor).post(f"{API}/{rows['draft']}cancel/", {})
    finally:
        post_save.disconnect(remove_once_it_is_done, sender=GenerationEvent)

    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert client_of(editor).get(f"{API}/{rows['draft']}").status_code == 404
