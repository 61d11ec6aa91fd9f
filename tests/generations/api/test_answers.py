"""What the API answers is what docs/openapi.yaml says, for each of its operations: statuses, media types, fields."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone
from knox.models import AuthToken
from schemathesis import Response
from schemathesis.specs.openapi import checks
from schemathesis.specs.openapi.schemas import OpenApiSchema

from projects.models import Enforcement, Period
from projects.money import budgets
from tests import factories
from tests.generations.api.test_fuzz import aimed, rows, schema
from tests.generations.conftest import ENDPOINT

__all__ = ["rows", "schema"]

CHECKS = [checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance]
REASON = {"reason": "It was looked at by a person."}
GENERATION = {"project": "", "endpoint": ENDPOINT, "image": "", "prompt": "A fox leaps", "tags": ["launch"]}
BUDGET = {"period": "day", "enforcement": "soft", "limit": "5.00", "thresholds": [50]}
TOP_UP = {"amount": "1.50", "reason": "A big week", "ends_at": "2099-01-01T00:00:00Z"}
BODIES: dict[str, Any] = {
    "POST /generations/": {**GENERATION, "queue": True},
    "POST /generations/quote/": GENERATION,
    "PATCH /generations/{id}/": {"end_image": None, "duration": 4},
    "POST /generations/{id}/reject/": {"comment": "Shorter, please"},
    "POST /generations/{id}/assign/": {"candidate": "280d7c94-2b78-427a-a2b8-50359c60c4c5", **REASON},
    "POST /generations/{id}/take-output/": {"address": "https://example.com/clip.mp4", **REASON},
    "POST /approvals/{id}/reject/": {"comment": "Shorter, please"},
    "POST /elements/": {"project": "", "name": "Fox", "element_id": "307"},
    "PATCH /elements/{id}/": {"name": "Hare"},
    "POST /projects/": {"name": "Autumn"},
    "PATCH /projects/{id}/": {"approval_above": None, "retention_days": 30},
    "POST /projects/{project_id}/members/": {"email": "new@example.com", "role": "viewer"},
    "PATCH /projects/{project_id}/members/{id}/": {"role": "viewer"},
    "POST /projects/{project_id}/budgets/": BUDGET,
    "PATCH /projects/{project_id}/budgets/{id}/": {"limit": "900.00"},
    "POST /projects/{project_id}/budgets/{budget_id}/top-ups/": TOP_UP,
    "POST /budgets/": BUDGET,
    "PATCH /budgets/{id}/": {"limit": "900.00"},
    "POST /budgets/{budget_id}/top-ups/": TOP_UP,
    "PATCH /source-images/{id}/": {"title": "Cup", "tags": ["hero"]},
    **{
        f"POST /generations/{{id}}/{decision}/": REASON
        for decision in ("not-made", "no-video", "take-as-it-is", "cancel")
    },
    "POST /projects/{project_id}/pause/": REASON,
    "POST /projects/{project_id}/resume/": REASON,
}


@pytest.mark.django_db
def test_answers_are_what_the_schema_says(schema: OpenApiSchema, studio_owner: User, rows: dict[str, str]) -> None:
    _, token = AuthToken.objects.create(studio_owner)
    done = set()
    budget = budgets.create(
        project=None, user=None, period=Period.TOTAL, enforcement=Enforcement.HARD, limit=10**9, by=studio_owner
    )
    top_up = budgets.top_up(
        budget, amount=1, ends_at=timezone.now() + timedelta(days=1), reason="More", by=studio_owner
    )
    studio_rows = {**rows, "budgets": str(budget.pk), "top-ups": str(top_up.pk)}

    for found in schema.get_all_operations():
        operation = found.ok()
        name = operation.label.replace("/api/v1", "")
        parameters = {each.name: "" for each in operation.path_parameters}
        body = BODIES.get(name, {})
        case: Any = operation.Case(path_parameters=parameters, media_type="application/json")
        if operation.method.upper() in ("POST", "PATCH"):
            case.body = dict(body)
        if name == "POST /source-images/":
            case.media_type = "multipart/form-data"
            case.body = {"project": "", "file": factories.jpeg(500, 500)}
        aimed(case, studio_rows if " /budgets/" in name else rows)
        with transaction.atomic():
            response: Response = case.call(headers={"Authorization": f"Bearer {token}"})
            transaction.set_rollback(True)
        case.validate_response(response, checks=CHECKS)
        if response.status_code < 400:
            done.add(name)

    assert {name.split()[0] for name in done} == {"GET", "POST", "PATCH", "DELETE"}
    assert len(done) > 60, sorted(done)
