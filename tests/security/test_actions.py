"""Each action of the admin's lists by each role, on rows of one's own project and of another."""

from typing import Any

import pytest
from django.contrib import admin
from django.db import connection, transaction
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from generations.models import Generation, Status
from tests.security.expected import ACTIONS
from tests.security.test_matrix import NOT_LOGGED_IN, body_of, may, said
from tests.security.world import MARK, OUTSIDER, ROLES, STUDIO_OWNER, VIEWER, World, build, writes


@pytest.fixture
def world(db: None) -> World:
    return build()


def registered() -> set[tuple[str, str]]:
    """What stands in an admin class or in the site, whoever may use it."""
    found = set()
    for model, model_admin in admin.site._registry.items():
        for _, name, _ in model_admin._get_base_actions():
            found.add((model._meta.label_lower, name))
    return found - {(model, "delete_selected") for model, _ in found}


def rows_for(world: World, model: str, action: str) -> list[Any]:
    """A row in which the action has something to do."""
    if model == "generations.generation":
        fitting = {"retry": "failed", "ignore_result": "unconfirmed", "want_result": "done"}
        return [world.rows[fitting.get(action, "generations.generation")]]
    row = world.rows[model]
    if action == "bring_back":
        field = "archived_at" if hasattr(row, "archived_at") else "trashed_at"
        type(row).objects.filter(pk=row.pk).update(**{field: row.created_at})
    return [row]


def choose(world: World, role: str, model: str, action: str, rows: list[Any]) -> tuple[Any, list[str]]:
    """The answer, and what was changed, which is undone."""
    url = reverse(f"admin:{model.replace('.', '_')}_changelist")
    # Past the filters that hide rows, where the list has them: with others Django leads to `?e=1`.
    for each in ("?archived=all&trash=all", "?archived=all", "?trash=all", ""):
        chosen = {"action": action, "_selected_action": [str(row.pk) for row in rows], "sure": "1"}
        with transaction.atomic():
            client = world.admin(role)
            with CaptureQueriesContext(connection) as queries:
                response = client.post(url + each, chosen)
                body_of(response)
            transaction.set_rollback(True)
        if "e=1" not in response.headers.get("Location", ""):
            break
    return response, writes(queries.captured_queries)


def test_every_action_has_a_line() -> None:
    lines = {(model, action) for model, actions in ACTIONS.items() for action in actions}

    assert sorted(registered() - lines) == [], "This action has no line in ACTIONS of tests/security/expected.py."
    assert sorted(lines - registered()) == [], "This line of ACTIONS has no action any more."


def test_nobody_may_delete_rows(world: World) -> None:
    request = RequestFactory().get("/")
    request.user = world.people[STUDIO_OWNER]  # type: ignore[assignment]

    assert [
        admin_ for admin_ in admin.site._registry.values() if "delete_selected" in admin_.get_actions(request)
    ] == []


@pytest.mark.parametrize(
    "role", [pytest.param(role, marks=[] if role in (VIEWER, OUTSIDER) else pytest.mark.slow) for role in ROLES]
)
def test_action_does_it_for_whom_the_table_says_and_for_nobody_else(world: World, role: str) -> None:
    wrong = []
    for model, actions in ACTIONS.items():
        for action, least in actions.items():
            if action == "high_priority":
                Generation.objects.filter(status=Status.DRAFT).update(priority=0)
            response, changed = choose(world, role, model, action, rows_for(world, model, action))
            location = response.headers.get("Location", "")
            done = bool(changed) or ("/confirm/" in location and not location.endswith("ids="))
            if done != may(role, least) or response.status_code >= 500:
                told = f"{response.status_code} {location} {said(response)} {changed}"
                wrong.append(f"{role}: {action} of {model}: {'done' if done else 'not done'}: {told}")
            if role == OUTSIDER and MARK in body_of(response) + str(said(response)):
                wrong.append(f"{role}: {action} of {model}: it tells of the project")
            if role in NOT_LOGGED_IN and not location.startswith("/admin/login/"):
                wrong.append(f"{role}: {action} of {model}: HTTP {response.status_code}")

    assert not wrong, "\n".join(wrong)
