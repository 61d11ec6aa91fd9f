import re
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse
from django_dramatiq.models import Task
from knox.models import AuthToken

from generations.models import Generation, Lane, Status
from generations.services import drafts, orders
from projects.models import Project, Role
from tests import factories
from tests.pipeline import ENDPOINT

LANE = reverse("admin:generations_lane_changelist")
INDEX = reverse("admin:index")
LISTS = [
    "projects_project", "projects_membership", "projects_sourceimage", "projects_budget", "projects_spendentry",
    "generations_element", "generations_generation", "generations_video",
]  # fmt: skip


def text_of(response: Any) -> str:
    return response.content.decode()


def told(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_raw_pages_of_other_packages_are_gone() -> None:
    assert [model for model in (Task, AuthToken, Group) if site.is_registered(model)] == []


@pytest.mark.parametrize("name", LISTS)
def test_every_page_says_that_this_is_a_sandbox(editor_client: Client, name: str, settings: Any) -> None:
    url = reverse(f"admin:{name}_changelist")

    assert "Sandbox: no real videos, no real money" in text_of(editor_client.get(url))
    settings.WAVESPEED_SANDBOX = False
    assert "Sandbox" not in text_of(editor_client.get(url))


def test_nobody_deletes_anything(owner_client: Client, project: Project) -> None:
    for model, admin in site._registry.items():
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_delete", args=[project.pk])
        assert owner_client.post(url, {"post": "yes"}).status_code in {302, 403, 404}, model
        assert admin.has_delete_permission(None) is False
    assert Project.objects.filter(pk=project.pk).exists()


def test_index_of_somebody_without_a_project_is_friendly(client: Client, project: Project) -> None:
    client.force_login(factories.UserFactory(username="nora", is_staff=True))
    shown = text_of(client.get(INDEX))

    assert "Welcome, nora" in shown
    assert "You are in no project yet." in shown
    assert "Coffee" not in shown
    assert [client.get(reverse(f"admin:{name}_changelist")).status_code for name in LISTS] == [403] * len(LISTS)


def test_index_shows_what_runs_waits_and_failed(editor_client: Client, editor: User, project: Project) -> None:
    factories.budget(project, 10_000_000)
    image = factories.source_image(project, editor)
    for prompt, status in (("Runs", Status.PROCESSING), ("Waits", Status.QUEUED), ("Is a draft", Status.DRAFT)):
        inputs = {"image": str(image.pk), "prompt": prompt}
        generation = drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=editor)
        if status != Status.DRAFT:
            orders.queue(generation, by=editor)
        Generation.objects.filter(pk=generation.pk).update(status=status)
    context = editor_client.get(INDEX).context

    assert [[str(row["generation"]) for row in each["rows"]] for each in context["lists"]] == [
        ["Runs"],
        ["Waits"],
        [],
        ["Is a draft"],
    ]
    assert [(bar.title, bar.reserved_shown, bar.free_shown) for bar in context["budget_bars"]] == [
        ("Coffee, in total", "$4.20", "$5.80")
    ]


def test_lane_is_for_studio_owners(editor_client: Client, owner_client: Client) -> None:
    assert editor_client.get(LANE).status_code == 403
    assert editor_client.post(reverse("admin:generations_lane_pause"), {"reason": "No"}).status_code == 403
    assert not Lane.objects.filter(paused_at__isnull=False).exists()
    assert LANE not in text_of(editor_client.get(INDEX))
    assert owner_client.get(LANE).status_code == 200


def test_a_paused_lane_is_told_on_every_page(editor_client: Client, owner_client: Client) -> None:
    reason = "The invoice looks wrong <script>alert(1)</script>"
    owner_client.post(reverse("admin:generations_lane_pause"), {"reason": reason})

    for url in (INDEX, *(reverse(f"admin:{name}_changelist") for name in LISTS)):
        shown = text_of(editor_client.get(url))
        assert "The lane is paused: nothing is submitted." in shown
        assert "The invoice looks wrong &lt;script&gt;alert(1)&lt;/script&gt;" in shown
    owner_client.post(reverse("admin:generations_lane_resume"))
    assert "The lane is paused" not in text_of(editor_client.get(INDEX))


def test_users_are_for_studio_owners(editor_client: Client, editor: User) -> None:
    page = reverse("admin:auth_user_change", args=[editor.pk])

    assert editor_client.get(page).status_code == 404
    assert editor_client.post(page, {"is_superuser": "on"}).status_code == 404


def test_switching_somebody_off_logs_them_out(editor_client: Client, owner_client: Client, editor: User) -> None:
    url = reverse("admin:auth_user_switch_off", args=[editor.pk])
    assert "Switch off eddie?" in text_of(owner_client.post(url))
    answer = owner_client.post(url, {"sure": "1"}, follow=True)

    assert told(answer) == ["eddie is switched off: sessions, tokens and open invitations have ended."]
    assert editor_client.get(INDEX).status_code == 302
    editor.refresh_from_db()
    assert editor.is_active is False


def test_owner_can_not_switch_themselves_off(owner_client: Client, studio_owner: User) -> None:
    url = reverse("admin:auth_user_switch_off", args=[studio_owner.pk])

    assert told(owner_client.post(url, {"sure": "1"}, follow=True)) == [
        "You can't switch yourself off; another studio owner can."
    ]


def test_studio_owner_of_the_group_does_not_touch_superusers(client: Client, studio_owner: User, editor: User) -> None:
    helper = factories.UserFactory(username="gina", is_staff=True)
    helper.groups.add(Group.objects.get_or_create(name="Studio owners")[0])
    client.force_login(helper)
    password = reverse("admin:auth_user_password_change", args=[studio_owner.pk])
    client.post(password, {"password1": "new-Password-1", "password2": "new-Password-1", "usable_password": "true"})
    fields = {"username": "eddie", "email": "e@example.com", "is_staff": "on", "is_superuser": "on"}
    client.post(reverse("admin:auth_user_change", args=[editor.pk]), fields)

    studio_owner.refresh_from_db()
    editor.refresh_from_db()
    assert not studio_owner.check_password("new-Password-1")
    assert (editor.email, editor.is_superuser) == ("e@example.com", False)


def test_element_form_offers_only_projects_that_one_may_edit(
    editor_client: Client, editor: User, project: Project
) -> None:
    factories.ProjectFactory(name="Secret")
    url = reverse("admin:generations_element_add")
    assert "Secret" not in text_of(editor_client.get(url))
    editor_client.post(url, {"project": str(project.pk), "name": "Mug", "element_id": "306696265837507"})
    refused = editor_client.post(url, {"project": str(project.pk), "name": "Mug", "element_id": "abc"})

    assert [str(element) for element in project.elements.all()] == ["Mug"]
    assert project.elements.get().created_by == editor
    assert "An element id is digits only, such as 306696265837507." in text_of(refused)


def test_pages_name_no_outside_address(owner_client: Client, project: Project) -> None:
    """The browser test looks at requests; this one at what is written in the pages."""
    for name in ["projects_invitation", "auth_user", "generations_lane", *LISTS]:
        shown = text_of(owner_client.get(reverse(f"admin:{name}_changelist")))
        assert re.findall(r'(?:src|href)="(?:https?:)?//[^"]*', shown) == []


def test_project_page_shows_money_and_members(editor_client: Client, project: Project) -> None:
    factories.budget(project, 10_000_000)
    factories.reservation(project)
    shown = text_of(editor_client.get(reverse("admin:projects_project_change", args=[project.pk])))

    assert "$7.90 free of $10.00" in shown
    assert "eddie@example.com" in shown


def test_projects_are_made_and_archived_by_studio_owners(
    editor_client: Client, owner_client: Client, project: Project
) -> None:
    add, archive = reverse("admin:projects_project_add"), reverse("admin:projects_project_archive", args=[project.pk])
    owner_client.post(add, {"name": "Tea <script>", "time_zone": "Europe/Berlin"})

    assert editor_client.post(add, {"name": "Mine", "time_zone": "UTC"}).status_code == 403
    assert editor_client.post(archive).status_code == 403
    assert sorted(Project.objects.values_list("name", flat=True)) == ["Coffee", "Tea <script>"]
    assert "what runs goes on" in text_of(owner_client.post(archive))
    project.refresh_from_db()
    assert project.archived_at is None
    owner_client.post(archive, {"sure": "1"})
    project.refresh_from_db()
    assert project.archived_at is not None
    assert "Tea &lt;script&gt;" in text_of(owner_client.get(reverse("admin:projects_project_changelist")))


def test_a_new_project_says_what_comes_next(owner_client: Client) -> None:
    add = reverse("admin:projects_project_add")
    answer = owner_client.post(add, {"name": "Tea", "time_zone": "UTC"}, follow=True)
    tea = Project.objects.get(name="Tea")

    assert answer.redirect_chain == [(reverse("admin:projects_project_change", args=[tea.pk]), 302)]
    shown = text_of(answer)
    for name in ("projects_budget", "projects_invitation", "projects_sourceimage", "generations_generation"):
        assert f"{reverse(f'admin:{name}_add')}?project={tea.pk}" in shown
    factories.budget(tea, 10_000_000)
    shown = text_of(owner_client.get(reverse("admin:projects_project_change", args=[tea.pk])))
    assert "Set its budget" not in shown


def test_what_i_asked_approval_for_stands_on_home_with_who_can_approve(
    editor_client: Client, editor: User, project: Project
) -> None:
    factories.budget(project, 10_000_000)
    factories.member(project, Role.APPROVER, username="ada")
    Project.objects.filter(pk=project.pk).update(approval_above=1_000_000)
    project.refresh_from_db()
    inputs = {"image": str(factories.source_image(project).pk), "prompt": "Steam rises"}
    draft = drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=editor)
    assert "You asked for approval" not in text_of(editor_client.get(INDEX))
    asked = orders.queue(draft, by=editor)

    shown = text_of(editor_client.get(INDEX))
    assert "You asked for approval" in shown
    assert reverse("admin:generations_approval_change", args=[asked.approval_id]) in shown
    assert "$2.10 in Coffee" in shown
    assert "Can approve it: ada, olive." in shown


def test_another_projects_page_does_not_exist(client: Client, project: Project, editor: User) -> None:
    client.force_login(factories.member(factories.ProjectFactory(name="Tea"), Role.OWNER))
    image = factories.source_image(project, editor)
    entry = factories.reservation(project) if factories.budget(project, 10_000_000) else None
    assert entry is not None
    for name, pk in [
        ("projects_project", project.pk),
        ("projects_sourceimage", image.pk),
        ("projects_spendentry", entry.pk),
        ("projects_membership", project.memberships.get().pk),
        ("projects_budget", project.budgets.get().pk),
    ]:
        answer = client.get(reverse(f"admin:{name}_change", args=[pk]))
        assert answer.status_code in {302, 404}, name
        if answer.status_code == 302:
            assert "doesn’t exist" in " ".join(told(client.get(answer.headers["Location"])))
