"""Two people who edit the same thing at once, each in a thread and on a connection of their own: both are answered 200, nothing is lost."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from generations.models import Element, Generation
from generations.services import drafts
from projects import projects
from projects.models import Budget, Project, Role, SourceImage
from tests import factories
from tests.pipeline import ENDPOINT
from tests.projects.api.client import API, client_of
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("one_test_at_a_time"),
]
ROUNDS = 12
DOLLAR = 1_000_000


@dataclass
class World:
    project: Project
    boss: User
    owner: User
    budget: Budget
    draft: Generation
    element: Element
    image: SourceImage

    def call(self, by: User, method: str, path: str, body: dict[str, Any] | None = None) -> Callable[[], Any]:
        api = client_of(by)
        return partial(getattr(api, method), f"{API}/{path}", body)


@pytest.fixture
def world() -> World:
    project = factories.ProjectFactory(name="Coffee")
    boss = project.created_by
    owner = factories.member(project, Role.OWNER, username="ottilie")
    image = factories.source_image(project, owner)
    inputs = {"image": str(image.pk), "prompt": "Steam rises", "duration": 5}
    draft = drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=owner)
    element = Element.objects.create(project=project, name="Cup", element_id="306696265837507", created_by=owner)
    return World(project, boss, owner, factories.budget(project, 50 * DOLLAR), draft, element, image)


def both(world: World, one: Callable[[], Any], other: Callable[[], Any]) -> None:
    answers = at_once([one, other])
    assert [answer.status_code for answer in answers] == [200, 200], [
        getattr(answer, "content", answer) for answer in answers
    ]


def test_a_rename_never_undoes_an_archive(world: World) -> None:
    for n in range(ROUNDS):
        Project.objects.update(archived_at=None)
        rename = world.call(world.owner, "patch", f"projects/{world.project.pk}/", {"name": f"Tea {n}"})
        both(world, rename, world.call(world.boss, "post", f"projects/{world.project.pk}/archive/"))

        now = Project.objects.get()
        assert (now.name, now.archived_at is None) == (f"Tea {n}", False)
    # Each change has one author, who made it.
    made = {record.version: record for record in now.history.all()}
    assert sorted(made) == list(range(1, 2 * ROUNDS + 2))
    for version in range(2, 2 * ROUNDS + 2):
        renamed = made[version].name != made[version - 1].name
        assert made[version].history_user == (world.owner if renamed else world.boss)


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("projects/{project}/", {"description": "Warm"}, {"approval_above": "1.00"}),
        ("projects/{project}/", {"name": "Tea"}, {"description": "Warm"}),
        ("projects/{project}/", {"retention_days": 30}, {"time_zone": "Europe/Berlin"}),
        ("elements/{element}/", {"name": "Mug"}, {"description": "A blue mug"}),
        ("source-images/{image}/", {"title": "Front"}, {"tags": ["new"]}),
        ("projects/{project}/budgets/{budget}/", {"limit": "7.00"}, {"thresholds": [10, 90]}),
        ("generations/{draft}/", {"prompt": "Rain falls"}, {"duration": 4}),
        ("generations/{draft}/", {"prompt": "Rain falls"}, {"tags": ["new"]}),
        ("generations/{draft}/", {"duration": 8}, {"priority": "high"}),
        ("generations/{draft}/", {"sound": True}, {"prompt": "Rain falls"}),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else None,
)
def test_both_edits_of_a_row_stay(world: World, path: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    kind = path.rpartition("{")[2].removesuffix("}/")
    row = getattr(world, kind)
    model, path = type(row), path.format(**{name: each.pk for name, each in vars(world).items() if hasattr(each, "pk")})
    before = model.objects.filter(pk=row.pk).values(*(field.attname for field in model._meta.concrete_fields)).get()
    # A project's owner sets no limit of its own budget.
    second = world.boss if kind == "budget" else world.owner
    wanted = {**one, **other}
    for _ in range(ROUNDS):
        model.objects.filter(pk=row.pk).update(**before)
        both(world, world.call(world.boss, "patch", path, one), world.call(second, "patch", path, other))

        address = path if kind != "budget" else path.removesuffix(f"{row.pk}/")
        shown = client_of(world.boss).get(f"{API}/{address}").json()
        shown = shown["results"][0] if kind == "budget" else shown
        assert {name: shown["base_limit" if name == "limit" else name] for name in wanted} == wanted
        assert shown["version"] == 3


def test_a_form_and_the_api_at_once_lose_nothing(world: World) -> None:
    """Either the form was first, and the API's change is merged into it; or the form is refused, and says why."""
    page, path = f"/admin/projects/project/{world.project.pk}/change/", f"projects/{world.project.pk}/"
    client = Client()
    client.force_login(world.owner)
    refused = 0
    for n in range(ROUNDS):
        projects.edit(world.project, by=world.boss, approval_above=None)
        form = client.get(page).context["adminform"].form
        fields = {name: form[name].value() for name in form.fields}
        typed = {name: "" if value is None else value for name, value in fields.items()} | {"description": f"Text {n}"}
        inline = client.get(page).context["inline_admin_formsets"][0].formset
        typed |= {f"{inline.prefix}-TOTAL_FORMS": 0, f"{inline.prefix}-INITIAL_FORMS": 0}
        post = partial(client.post, page, typed)
        patch = world.call(world.boss, "patch", path, {"approval_above": "1.00"})

        posted, patched = at_once([post, patch])

        assert patched.status_code == 200, patched.content
        now = Project.objects.get()
        assert now.approval_above == DOLLAR
        if posted.status_code == 302:
            assert now.description == f"Text {n}"
        else:
            refused += 1
            assert now.description != f"Text {n}"
            assert "Approval above" in posted.content.decode()


def test_locks_are_taken_in_one_order(world: World) -> None:
    """Everything that locks, at once and again and again: PostgreSQL would end a deadlock with an error."""
    project, draft = f"projects/{world.project.pk}/", f"generations/{world.draft.pk}/"
    editor = factories.member(world.project)
    membership = world.project.memberships.get(user=editor)
    for n in range(ROUNDS):
        mine = drafts.create(
            world.project,
            endpoint=ENDPOINT,
            inputs={"image": str(world.image.pk), "prompt": f"Round {n}", "duration": 5},
            by=world.owner,
        )
        answers = at_once(
            [
                world.call(world.owner, "patch", project, {"description": f"{n}"}),
                world.call(world.boss, "patch", project, {"approval_above": f"{n + 20}.00"}),
                world.call(world.boss, "patch", f"{project}budgets/{world.budget.pk}/", {"limit": f"{n + 60}.00"}),
                world.call(world.owner, "post", f"generations/{mine.pk}/queue/", {}),
                world.call(world.owner, "post", f"generations/{mine.pk}/cancel/", {}),
                world.call(world.owner, "patch", draft, {"prompt": f"Draft {n}"}),
                world.call(
                    world.owner, "patch", f"{project}members/{membership.pk}/", {"role": ["viewer", "editor"][n % 2]}
                ),
            ]
        )
        assert {answer.status_code for answer in answers} <= {200, 202, 409}, [
            getattr(answer, "content", answer) for answer in answers
        ]
        assert not [answer for answer in answers if "changed the same thing" in json.dumps(answer.json())]
