"""schemathesis sends what the schema allows, and what it does not: nothing of it may be a server error."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from knox.models import AuthToken
from schemathesis import Case
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.schemas import OpenApiSchema

from generations.models import Element, Generation, Video
from generations.services import approvals, drafts, orders
from generations.services.inputs import inputs_of
from projects.models import Project, SourceImage
from projects.money import budgets
from projects.people import tokens

SCHEMA = Path(__file__).resolve().parents[3] / "docs/openapi.yaml"
FEW = settings(
    max_examples=12,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def schema() -> Iterator[OpenApiSchema]:
    schema = schemathesis.openapi.from_path(SCHEMA)
    schema.app = get_wsgi_application()
    # As Django's own test client does: the requests are part of the test's transaction.
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield schema
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture
def rows(project: Project, draft: Generation, editor: User, image: SourceImage, settings: Any) -> dict[str, str]:
    """The id of a row that exists, by the first part of an address."""
    settings.WAVESPEED_WEBHOOK_SECRET = "whsec_fuzz"
    video = Video(generation=draft, bytes=1, sha256="0" * 64)
    video.file.save("clip.mp4", ContentFile(b"0"))
    element = Element.objects.create(project=project, name="Cup", element_id="306", created_by=editor)
    named = {"projects": project, "members": editor.memberships.get(), "budgets": project.budgets.get()}
    named |= {"source-images": image, "elements": element, "generations": draft, "videos": video}
    ends_at = timezone.now() + timedelta(days=1)
    budget = project.budgets.get()
    named["top-ups"] = budgets.top_up(budget, amount=1, ends_at=ends_at, reason="Fuzz", by=project.created_by)
    project.approval_above = 0
    project.save()
    named["approvals"] = approvals.approval_of(orders.queue(_another(draft), by=editor))
    token, _ = tokens.make(project.created_by)
    return {name: str(row.pk) for name, row in named.items()} | {"tokens": token.pk, "wavespeed": str(draft.pk)}


def _another(draft: Generation) -> Generation:
    inputs = {**inputs_of(draft), "prompt": "To be approved"}
    return drafts.create(draft.project, endpoint=draft.endpoint, inputs=inputs, by=draft.requested_by)


def aimed(case: Case, rows: dict[str, str]) -> None:
    """Points the request at rows that exist, so that it gets past the 404."""
    parts = case.path.split("/")
    for name in case.path_parameters or {}:
        case.path_parameters[name] = rows[parts[parts.index(f"{{{name}}}") - 1]]
    if isinstance(case.body, dict):
        given = {"project": rows["projects"], "image": rows["source-images"]}
        case.body |= {name: value for name, value in given.items() if name in case.body}


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_is_a_server_error(
    schema: OpenApiSchema, studio_owner: User, rows: dict[str, str], mode: GenerationMode
) -> None:
    _, token = AuthToken.objects.create(studio_owner)
    answers: dict[str, list[int]] = {}

    def send(case: Case) -> None:
        aimed(case, rows)
        with transaction.atomic():
            response = case.call(headers={"Authorization": f"Bearer {token}"})
            transaction.set_rollback(True)
        answers.setdefault(case.operation.label, []).append(response.status_code)
        assert response.status_code < 500, (case.as_curl_command(), response.text)

    for operation in schema.get_all_operations():
        strategy: Any = operation.ok().as_strategy(generation_mode=mode)
        FEW(given(case=strategy)(send))()

    assert len(answers) > 25
    if mode == GenerationMode.POSITIVE:
        assert 201 in answers["POST /api/v1/elements/"]
