"""One form of a prompt for comparing, counting and emptiness, in the admin as in the API; what is sent is what was typed."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from generations.catalog.endpoint import InvalidInputs
from generations.models import Generation, Status
from generations.services import drafts, orders, refusals
from generations.services.inputs import check_tags
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT, run_to_end
from tests.sandbox import SandboxControl

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
SAME = [
    ("ctrl one\nctrl two", "ctrl one\r\nctrl two"),
    ("caf\u00e9 scene", "cafe\u0301 scene"),
    ("caf\u00e9 scene", "caf\u00e9 scene\u200b"),
    ("caf\u00e9 scene", "\ufeff caf\u00e9 scene \n"),
]
pytestmark = pytest.mark.django_db

Make = Callable[..., Generation | dict[str, Any]]


@pytest.fixture
def image(project: Project, editor: User) -> str:
    factories.budget(project, 100_000_000)
    return str(factories.source_image(project, editor).pk)


def by_api(client: Client, project: Project, image: str, **inputs: Any) -> Any:
    body = {"project": str(project.pk), "endpoint": ENDPOINT, "image": image, "duration": 5, **inputs}
    return client.post("/api/v1/generations/", json.dumps(body), content_type="application/json")


def by_admin(client: Client, project: Project, image: str, **inputs: Any) -> Any:
    page = f"{reverse('admin:generations_generation_add')}?project={project.pk}"
    return client.post(page, {"endpoint": ENDPOINT, "image": image, "duration": 5, "project": project.pk, **inputs})


@pytest.mark.parametrize("make", [by_api, by_admin])
@pytest.mark.parametrize(("typed", "again"), SAME)
def test_what_looks_the_same_is_asked_about(
    make: Callable[..., Any], typed: str, again: str, project: Project, editor: User, editor_client: Client, image: str
) -> None:
    inputs = {"image": image, "duration": 5, "prompt": typed}
    orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=editor), by=editor)

    make(editor_client, project, image, prompt=again)
    twin = Generation.objects.get(status=Status.DRAFT)

    assert twin.prompt == again.replace("\r\n", "\n")
    with pytest.raises(refusals.NeedsConfirmation):
        orders.queue(twin, by=editor)


def test_shots_that_look_the_same_are_asked_about(project: Project, editor: User, image: str) -> None:
    def shots(first: str) -> Generation:
        inputs = {
            "image": image,
            "duration": 5,
            "multi_prompt": [{"prompt": first, "duration": 2}, {"prompt": "B", "duration": 3}],
        }
        return drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=editor)

    orders.queue(shots("one\ntwo"), by=editor)
    twin = shots("one\r\ntwo\u200b")

    assert twin.multi_prompt[0]["prompt"] == "one\ntwo\u200b"
    with pytest.raises(refusals.NeedsConfirmation):
        orders.queue(twin, by=editor)


@pytest.mark.parametrize("make", [by_api, by_admin])
@pytest.mark.parametrize("prompt", ["\u200b\u200b", " \r\n\t", "\u2800\u3164", "\ufeff"])
def test_a_prompt_of_nothing_to_be_seen_is_none(
    make: Callable[..., Any], prompt: str, project: Project, editor_client: Client, image: str
) -> None:
    answer = make(editor_client, project, image, prompt=prompt, queue=True)

    assert "Neither prompt nor multi_prompt was given" in answer.content.decode()
    assert not Generation.objects.exists()


def test_a_shot_of_nothing_to_be_seen_is_refused(project: Project, editor: User, image: str) -> None:
    shots = [{"prompt": "\u200b", "duration": 5}]
    with pytest.raises(InvalidInputs, match="Shot 1: This text is empty"):
        drafts.create(project, endpoint=ENDPOINT, inputs={"image": image, "multi_prompt": shots}, by=editor)


@pytest.mark.parametrize("make", [by_api, by_admin])
@pytest.mark.parametrize(
    ("prompt", "is_taken"),
    [
        ("a\r\n" * 1_250 + "\u200b", True),
        ("e\u0301" * 2_500, True),
        (" " * 100 + "a" * 2_500 + "\n" * 100, True),
        ("a" * 2_501, False),
        ("e\u0301" * 2_501, False),
        ("a" + "\u200b" * 10_000, False),
    ],
)
def test_what_is_seen_is_counted(
    make: Callable[..., Any], prompt: str, is_taken: bool, project: Project, editor_client: Client, image: str
) -> None:
    answer = make(editor_client, project, image, prompt=prompt)

    assert Generation.objects.exists() == is_taken
    assert ("at most 2,500" in answer.content.decode()) != is_taken


def test_what_is_sent_is_what_was_typed_but_for_line_ends(
    project: Project, editor: User, image: str, wavespeed: SandboxControl
) -> None:
    typed = f" {FAMILY} wave\r\ncafe\u0301\u200b "
    inputs = {"image": image, "duration": 5, "prompt": typed}
    generation = orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=editor), by=editor)

    run_to_end(generation)

    assert wavespeed.predictions()[0]["inputs"]["prompt"] == f" {FAMILY} wave\ncafe\u0301\u200b "


def test_tags_that_look_the_same_are_one() -> None:
    assert check_tags(["cafe\u0301", "caf\u00e9", " caf\u00e9\u200b", "\u200b"]) == ["caf\u00e9"]
