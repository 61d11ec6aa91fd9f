"""Somebody who owns one project, with the ids of another one inside what they may do: nothing crosses over, and nothing is told."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from generations.models import Generation
from generations.services import drafts
from projects.models import Budget, Membership
from tests import factories
from tests.pipeline import ENDPOINT
from tests.projects.api.client import API, client_of
from tests.security.routes import MISSING
from tests.security.test_matrix import body_of, without
from tests.security.world import MARK, OUTSIDER, World, build


@pytest.fixture
def world(db: None) -> World:
    return build()


@pytest.fixture
def otto(world: World) -> User:
    return world.people[OUTSIDER]


@pytest.fixture
def api(otto: User) -> APIClient:
    return client_of(otto)


@pytest.fixture
def admin(world: World) -> Client:
    return world.admin(OUTSIDER)


@pytest.fixture
def own(world: World, otto: User) -> Generation:
    inputs = {"image": str(world.rows["other image"].pk), "prompt": "Mine", "duration": 3}
    return drafts.create(world.other, endpoint=ENDPOINT, inputs=inputs, by=otto)


def same_as_for_nothing(api: APIClient, method: str, path: str, body: dict[str, Any], theirs: Any) -> int:
    """The status, after checking that an id of nothing gets the very same answer; `…` in the path or body is the id."""

    def ask(pk: Any) -> Any:
        filled = {name: _filled(value, pk) for name, value in body.items()}
        return getattr(api, method)(f"{API}/{path.replace('…', str(pk))}", filled)

    answer, nothing = ask(theirs), ask(MISSING if len(str(theirs)) > 10 else 987_654)
    assert answer.status_code == nothing.status_code
    assert without(body_of(answer), [str(theirs)]) == without(body_of(nothing), [str(MISSING), "987654"])
    assert MARK not in body_of(answer)
    return int(answer.status_code)


def _filled(value: Any, pk: Any) -> Any:
    if isinstance(value, list):
        return [_filled(each, pk) for each in value]
    return str(pk) if value == "…" else value


def test_their_picture_or_element_makes_no_video_of_mine(world: World, api: APIClient, own: Generation) -> None:
    image, element = world.rows["projects.sourceimage"].pk, world.rows["generations.element"].pk
    before = Generation.objects.count()
    order = {"project": str(world.other.pk), "endpoint": ENDPOINT, "prompt": "x", "duration": 3}
    mine = {"image": str(world.rows["other image"].pk)}

    assert same_as_for_nothing(api, "post", "generations/", order | {"image": "…"}, image) == 400
    assert same_as_for_nothing(api, "post", "generations/", order | mine | {"end_image": "…"}, image) == 400
    assert same_as_for_nothing(api, "post", "generations/", order | mine | {"element_list": ["…"]}, element) == 400
    assert same_as_for_nothing(api, "post", "generations/quote/", order | {"image": "…"}, image) == 400
    assert same_as_for_nothing(api, "patch", f"generations/{own.pk}/", {"image": "…"}, image) == 400
    assert Generation.objects.count() == before


def test_their_rows_are_not_below_my_project(world: World, api: APIClient) -> None:
    below = f"projects/{world.other.pk}"
    budget, top_up = world.rows["projects.budget"].pk, world.rows["top-up of projects.budget"].pk
    member = world.rows["projects.membership"].pk
    mine = factories.budget(world.other, 5_000_000, user=world.people[OUTSIDER])

    assert same_as_for_nothing(api, "patch", f"{below}/budgets/…/", {"limit": "1"}, budget) == 404
    assert same_as_for_nothing(api, "delete", f"{below}/budgets/…/", {}, budget) == 404
    assert same_as_for_nothing(api, "get", f"{below}/budgets/…/top-ups/", {}, budget) == 404
    assert same_as_for_nothing(api, "delete", f"{below}/budgets/{mine.pk}/top-ups/…/", {}, top_up) == 404
    assert same_as_for_nothing(api, "patch", f"{below}/members/…/", {"role": "viewer"}, member) == 404
    assert same_as_for_nothing(api, "delete", f"{below}/members/…/", {}, member) == 404
    assert Budget.objects.get(pk=budget).archived_at is None
    assert Membership.objects.get(pk=member).is_active


@pytest.mark.parametrize("collection", ["generations", "source-images", "elements", "approvals", "videos"])
def test_filters_show_nothing_of_theirs(world: World, api: APIClient, collection: str) -> None:
    answer = api.get(f"{API}/{collection}/", {"project": str(world.project.pk)})

    assert (answer.status_code, answer.json()["results"]) == (200, [])


@pytest.mark.parametrize(
    "model",
    [
        "generations_generation",
        "generations_video",
        "generations_approval",
        "generations_element",
        "projects_sourceimage",
        "projects_membership",
        "projects_budget",
        "projects_spendentry",
        "projects_invitation",
    ],
)
@pytest.mark.parametrize(
    "query", ["project={project}", "q=zebraf", "project__name__startswith=Project", "project__id__exact={project}"]
)
def test_lists_of_the_admin_can_t_be_asked_for_theirs(world: World, admin: Client, model: str, query: str) -> None:
    """Also not with a look-up that Django would take from an address."""
    url = reverse(f"admin:{model}_changelist")
    answer = admin.get(f"{url}?{query.format(project=world.project.pk)}", follow=True)
    page = body_of(answer).replace(f'value="{MARK}"', "").replace("q=zebraf", "")

    assert answer.status_code in (200, 400)
    assert MARK not in page


def test_forms_of_the_admin_offer_and_take_nothing_of_theirs(world: World, admin: Client, own: Generation) -> None:
    image, project = world.rows["projects.sourceimage"], world.project
    add = reverse("admin:generations_generation_add")
    order = {"endpoint": ENDPOINT, "mode": "prompt", "prompt": "x", "duration": "3", "image": str(image.pk), "tags": ""}
    before = Generation.objects.count()

    assert admin.get(f"{add}?project={project.pk}").status_code == 404
    assert MARK not in body_of(admin.get(f"{add}?image={image.pk}"))
    refused = admin.post(f"{add}?project={world.other.pk}", order)
    assert refused.status_code == 200
    assert MARK not in body_of(refused)
    assert Generation.objects.count() == before
    changed = admin.post(reverse("admin:generations_generation_change", args=[own.pk]), order)
    assert MARK not in body_of(changed)
    own.refresh_from_db()
    assert own.image_id == world.rows["other image"].pk


def test_adding_to_their_project_is_no_choice(world: World, admin: Client) -> None:
    theirs = str(world.project.pk)
    for name, fields in {
        "generations_element_add": {"name": "x", "element_id": "1", "description": ""},
        "projects_invitation_add": {"email": "x@example.com", "role": "viewer"},
        "projects_budget_add": {"user": "", "period": "day", "enforcement": "hard", "limit": "1", "thresholds": ""},
        "projects_sourceimage_add": {"url": "", "title": "", "tags": ""},
    }.items():
        answer = admin.post(reverse(f"admin:{name}"), {"project": theirs, **fields})
        assert answer.status_code == 200, name
        assert "Select a valid choice" in body_of(answer), name
        assert MARK not in body_of(answer), name


def test_confirming_takes_mine_and_leaves_theirs(world: World, admin: Client, own: Generation) -> None:
    url = reverse("admin:generations_generation_confirm", args=["generate"])
    theirs = world.rows["generations.generation"]

    page = admin.get(f"{url}?ids={own.pk},{theirs.pk}")
    done = admin.post(f"{url}?ids={own.pk},{theirs.pk}", {"total_seen": page.context["plan"].total})

    assert page.context["chosen"] == [own]
    assert MARK not in body_of(page)
    assert done.status_code == 302
    own.refresh_from_db()
    theirs.refresh_from_db()
    assert (own.status, theirs.status) == ("queued", "draft")


def test_a_candidate_of_theirs_is_none_of_mine(world: World, api: APIClient, own: Generation) -> None:
    Generation.objects.filter(pk=own.pk).update(status="unconfirmed", submitted_at=own.created_at)
    candidate = world.rows["generations.unassignedprediction"].pk
    body = {"candidate": "…", "reason": "Mine"}

    assert same_as_for_nothing(api, "post", f"generations/{own.pk}/assign/", body, candidate) == 400


def test_the_choice_of_members_names_my_own_alone(world: World, admin: Client) -> None:
    page = body_of(admin.get(reverse("admin:projects_budget_add")))

    assert ">otto<" in page
    for name in ("uma", "eddie", "anna"):
        assert f">{name}<" not in page
