"""A form that was opened before somebody else's change is refused, says what changed, and keeps what was typed."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from generations.models import Element, Generation
from generations.services import drafts, elements
from projects import permissions, projects, source_images
from projects.models import Project, Role, Studio
from projects.money import budgets
from projects.people import members
from tests import factories
from tests.pipeline import ENDPOINT

DOLLAR = 1_000_000


def opened(client: Client, page: str) -> dict[str, Any]:
    """What the browser would send if nothing were typed: the values of every field of the page's forms."""
    context = client.get(page).context
    forms = [context["adminform"].form] if "adminform" in context else [context["form"]]
    sent: dict[str, Any] = {}
    for formset in (each.formset for each in context.get("inline_admin_formsets", [])):
        forms += [formset.management_form, *formset.forms]
    for form in forms:
        for name in form.fields:
            bound = form[name]
            value = bound.field.prepare_value(bound.value())
            if value not in (None, False):
                sent[bound.html_name] = value
    return sent


def told(response: Any) -> str:
    context = response.context
    form = context["adminform"].form if "adminform" in context else context["form"]
    return " ".join(form.non_field_errors())


def page_of(row: Any) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


@pytest.fixture
def owner(project: Project) -> User:
    return factories.member(project, Role.OWNER, username="ottilie", first_name="Ottilie", last_name="Brandt")


@pytest.fixture
def client(owner: User) -> Client:
    client = Client()
    client.force_login(owner)
    return client


def test_a_rule_that_was_set_meanwhile_is_not_undone(client: Client, project: Project, studio_owner: User) -> None:
    typed = opened(client, page_of(project)) | {"name": "Tea"}
    projects.edit(project, by=studio_owner, approval_above=DOLLAR, description="Warm")

    response = client.post(page_of(project), typed)

    project.refresh_from_db()
    assert (response.status_code, project.name, project.approval_above) == (200, "Coffee", DOLLAR)
    assert told(response).startswith("Nothing was saved: this project was changed after you opened this page.")
    assert "Description is “Warm” now (olive, " in told(response)
    assert "Approval above is “1.00” now (olive, " in told(response)
    # What was typed stays, what was left alone shows what is there, and both are saved with the next click.
    form = response.context["adminform"].form
    assert {name: form[name].value() for name in ("name", "description", "approval_above")} == {
        "name": "Tea",
        "description": "Warm",
        "approval_above": "1.00",
    }
    assert f'name="seen_version" value="{project.version}"' in response.content.decode()
    again = {**typed, **{name: form[name].value() for name in form.fields if form[name].value() is not None}}
    assert client.post(page_of(project), again).status_code == 302
    project.refresh_from_db()
    assert (project.name, project.description, project.approval_above) == ("Tea", "Warm", DOLLAR)
    assert [record.history_user.username for record in project.history.order_by("version")[1:]] == ["olive", "ottilie"]


def test_what_the_form_does_not_show_is_no_reason_to_refuse_it(
    client: Client, project: Project, studio_owner: User
) -> None:
    typed = opened(client, page_of(project)) | {"name": "Tea"}
    projects.archive(project, by=studio_owner)

    assert client.post(page_of(project), typed).status_code == 302
    project.refresh_from_db()
    assert project.name == "Tea"
    assert project.archived_at is not None


def test_saving_without_a_change_writes_nothing(client: Client, project: Project) -> None:
    client.post(page_of(project), opened(client, page_of(project)))

    project.refresh_from_db()
    assert (project.version, project.history.count()) == (1, 1)


def test_a_role_that_was_changed_meanwhile_stays(
    client: Client, project: Project, editor: User, studio_owner: User
) -> None:
    membership = project.memberships.get(user=editor)
    typed = opened(client, page_of(project))
    role = next(name for name, value in typed.items() if name.endswith("-role") and value == "editor")
    members.change_role(membership, role=Role.VIEWER, by=studio_owner)

    response = client.post(page_of(project), typed | {role: "approver"})

    membership.refresh_from_db()
    assert (response.status_code, membership.role) == (200, Role.VIEWER)
    assert "Role is “Viewer” now (olive, " in response.content.decode()
    typed = opened(client, page_of(membership))
    members.change_role(membership, role=Role.EDITOR, by=studio_owner)
    assert "Role is “Editor” now (olive, " in told(client.post(page_of(membership), typed | {"role": "owner"}))


def test_limit_and_thresholds(owner_client: Client, project: Project, studio_owner: User) -> None:
    budget = factories.budget(project, 10 * DOLLAR)
    typed = opened(owner_client, page_of(budget)) | {"thresholds": "90"}
    budgets.change_limit(budget, limit=5 * DOLLAR, by=studio_owner)

    response = owner_client.post(page_of(budget), typed)

    budget.refresh_from_db()
    assert (budget.limit, budget.thresholds) == (5 * DOLLAR, [50, 80, 100])
    assert "Limit in dollars is “5.00” now (olive, " in told(response)


def test_element_picture_and_settings(owner_client: Client, project: Project, editor: User, studio_owner: User) -> None:
    element = Element.objects.create(project=project, name="Cup", element_id="306696265837507", created_by=editor)
    picture, studio = factories.source_image(project, editor), Studio.current()
    rows: list[tuple[Any, dict[str, str], Callable[[], object], str]] = [
        (
            element,
            {"name": "Mug"},
            lambda: elements.edit(element, description="Blue", by=editor),
            "Description is “Blue” now",
        ),
        (
            picture,
            {"title": "Front"},
            lambda: source_images.edit(picture, tags=["new"], by=editor),
            "Tags is “new” now",
        ),
        (studio, {"time_zone": "Asia/Tokyo"}, lambda: changed_zone(owner_client), "Time zone is “Europe/Berlin” now"),
    ]
    for row, change, meanwhile, sentence in rows:
        typed = opened(owner_client, page_of(row)) | change
        meanwhile()
        response = owner_client.post(page_of(row), typed)

        assert sentence in told(response), row
        [(name, value)] = change.items()
        row.refresh_from_db()
        assert getattr(row, name) != value
        assert response.context["adminform"].form[name].value() == value


def changed_zone(client: Client) -> None:
    page = page_of(Studio.current())
    client.post(page, opened(client, page) | {"time_zone": "Europe/Berlin"})


@pytest.fixture
def draft(project: Project, editor: User) -> Generation:
    inputs = {"image": str(factories.source_image(project, editor).pk), "prompt": "Steam rises", "duration": 5}
    return drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=editor)


def test_a_draft(client: Client, draft: Generation, project: Project, editor: User) -> None:
    other = factories.source_image(project, editor)
    typed = opened(client, page_of(draft)) | {"prompt": "Rain falls"}
    assert typed["seen_version"] == 1
    drafts.update(draft, inputs={"duration": 15, "end_image": str(other.pk), "sound": True}, tags=["new"], by=editor)

    response = client.post(page_of(draft), typed)

    draft.refresh_from_db()
    assert (response.status_code, draft.prompt, draft.duration) == (200, "Steam rises", 15)
    for sentence in (
        "Duration is “15” now (eddie, ",
        f"End image is “{other}” now (eddie, ",
        "Sound is on now (eddie, ",
        "Tags is “new” now (eddie, ",
    ):
        assert sentence in told(response)
    assert "Prompt is" not in told(response)
    form = response.context["form"]
    shown = {name: form[name].value() for name in ("prompt", "duration", "sound", "end_image", "tags")}
    assert shown == {
        "prompt": "Rain falls",
        "duration": "15",
        "sound": True,
        "end_image": str(other.pk),
        "tags": "new",
    }
    again = {name: form[name].value() for name in form.fields if form[name].value() not in (None, False, [])}
    assert client.post(page_of(draft), again).status_code == 302
    draft.refresh_from_db()
    assert (draft.prompt, draft.duration, draft.sound, draft.end_image, draft.tags) == (
        "Rain falls",
        15,
        True,
        other,
        ["new"],
    )


def test_shots_and_elements_of_a_draft(client: Client, draft: Generation, project: Project, editor: User) -> None:
    cup = Element.objects.create(project=project, name="Cup", element_id="306696265837507", created_by=editor)
    typed = opened(client, page_of(draft)) | {"tags": "mine"}
    shots = [{"prompt": "Wide", "duration": 2}, {"prompt": "Close", "duration": 3}]
    drafts.update(
        draft,
        inputs={"image": str(draft.image_id), "multi_prompt": shots, "element_list": [str(cup.pk)], "duration": 5},
        others_too=True,
        by=editor,
    )

    response = client.post(page_of(draft), typed)

    assert "Shots is “Wide” (2 s), “Close” (3 s) now" in told(response)
    assert "Elements is “Cup” now" in told(response)
    assert "Prompt is empty now" in told(response)
    form = response.context["form"]
    assert form.shots()[:2] == [{"prompt": "Wide", "duration": "2"}, {"prompt": "Close", "duration": "3"}]
    assert form["element_list"].value() == [str(cup.pk)]
    assert (form["prompt"].value(), form["tags"].value()) == ("", "mine")


def test_a_right_that_was_taken_meanwhile_does_not_come_back(owner_client: Client, studio_owner: User) -> None:
    group = Group.objects.get_or_create(name=permissions.STUDIO_OWNERS)[0]
    boss = factories.UserFactory(username="boss", is_staff=True)
    boss.groups.add(group)
    page = reverse("admin:auth_user_change", args=[boss.pk])
    typed = opened(owner_client, page) | {"first_name": "Bo"}
    owner_client.post(page, opened(owner_client, page) | {"groups": [], "email": "b@example.com"})

    response = owner_client.post(page, typed)

    boss.refresh_from_db()
    assert (response.status_code, boss.first_name, boss.email) == (200, "", "b@example.com")
    assert not boss.groups.exists()
    assert "Groups is empty now (olive, " in told(response)
    assert "Email address is “b@example.com” now (olive, " in told(response)
    form = response.context["adminform"].form
    again = {name: form[name].value() for name in form.fields if form[name].value() not in (None, False, [])}
    assert owner_client.post(page, again).status_code == 302
    boss.refresh_from_db()
    assert (boss.first_name, boss.email, boss.groups.exists()) == ("Bo", "b@example.com", False)
