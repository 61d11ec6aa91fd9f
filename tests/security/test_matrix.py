"""Each role at each route, with each method: `expected.py` says who is let in; everybody else changes nothing and learns nothing."""

from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.core.cache import cache
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.security.expected import BODIES, QUERIES, ROUTES
from tests.security.routes import MISSING, Route, every_route
from tests.security.world import (
    ANONYMOUS,
    APPROVER,
    DEACTIVATED,
    EDITOR,
    MARK,
    OUTSIDER,
    OWNER,
    ROLES,
    STRANGER,
    STUDIO_OWNER,
    SWITCHED_OFF,
    VIEWER,
    World,
    build,
    writes,
)

RANKS = [VIEWER, EDITOR, APPROVER, OWNER, STUDIO_OWNER]
SPOKEN = {"viewer": VIEWER, "editor": EDITOR, "approver": APPROVER, "owner": OWNER, "studio owner": STUDIO_OWNER}
NOT_LOGGED_IN = {ANONYMOUS, DEACTIVATED}
NO_MEMBERS = {STRANGER, OUTSIDER, SWITCHED_OFF}
REFUSALS = ("takes the role “", "Only studio owners", "Studio owners set the budgets")
# They bind everybody, and so are known to all who are in any project.
KNOWN_TO_ALL = "api/v1/budgets/<"
MAY_BE_UNREADY = {"readyz"}
# Reading these marks something as read; they are no forms.
READING_CHANGES = {"admin/projects/notification/<int:pk>/open/"}


@pytest.fixture
def world(db: None, settings: Any) -> World:
    settings.WAVESPEED_WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 4
    return build()


def test_every_route_has_a_line_and_every_line_its_route() -> None:
    patterns = {route.pattern for route in every_route()}
    told = "This route has no line in the table: add one to tests/security/expected.py, whose docstring says how."

    assert sorted(patterns - set(ROUTES)) == [], told
    assert sorted(set(ROUTES) - patterns) == [], "This line of tests/security/expected.py has no route any more."


def test_every_method_of_the_api_has_a_word_in_its_line() -> None:
    named = {route.pattern: set(parsed(ROUTES.get(route.pattern, ""))) for route in every_route() if route.is_api}
    has = {route.pattern: set(route.methods) for route in every_route() if route.is_api}

    assert named == has


@pytest.mark.parametrize(
    "role", [pytest.param(role, marks=[] if role == OUTSIDER else pytest.mark.slow) for role in ROLES]
)
def test_role_is_let_in_where_the_table_says_and_nowhere_else(world: World, role: str) -> None:
    wrong: list[str] = []
    for route in every_route():
        line = parsed(ROUTES.get(route.pattern, "GET nobody, POST nobody"))
        for method in route.methods:
            trouble = _trouble(world, role, route, method, line.get(method))
            wrong += [f"{role}: {method} {route.pattern}: {each}" for each in trouble]

    assert not wrong, "\n".join(wrong)


def parsed(line: str) -> dict[str, str]:
    """`GET viewer, POST editor` as words by method."""
    return dict(tuple(part.split(" ", 1)) for part in line.split(", ")) if line else {}


def may(role: str, least: str) -> bool:
    match least.partition(" "):
        case ("anybody", _, _):
            return True
        case ("person", _, _):
            return role not in NOT_LOGGED_IN
        case ("somewhere", _, word):
            return role == OUTSIDER or (role in RANKS and RANKS.index(role) >= RANKS.index(SPOKEN[word]))
        case ("nobody", _, _):
            return False
    return role in RANKS and RANKS.index(role) >= RANKS.index(SPOKEN[least])


def _trouble(world: World, role: str, route: Route, method: str, least: str | None) -> list[str]:
    try:
        response, changed = ask(world, role, route, method, route.path(world))
    except LookupError as missing:
        return [str(missing)]
    if response.status_code >= 500 and route.pattern not in MAY_BE_UNREADY:
        return [f"a bug: HTTP {response.status_code}"]
    trouble = []
    refused = is_refused(response)
    if least is None:
        if not refused and changed:
            trouble.append(f"the table does not name {method}, and it changed {changed}")
    elif may(role, least) and refused:
        trouble.append(f"refused (HTTP {response.status_code}, {said(response)}), though the table says “{least}”")
    elif not may(role, least) and not refused:
        trouble.append(f"let in (HTTP {response.status_code}, {said(response)}), though the table says “{least}”")
    if changed and (refused or (method == "GET" and route.pattern not in READING_CHANGES)):
        trouble.append(f"{'refused, but it' if refused else 'GET'} changed {changed}")
    if role in NOT_LOGGED_IN | NO_MEMBERS and least != "anybody":
        trouble += _learnt(world, role, route, method, response)
    return trouble


def _learnt(world: World, role: str, route: Route, method: str, response: Any) -> list[str]:
    """Nothing of the project, and not even whether there is such a row."""
    content = body_of(response)
    told = ["it tells of the project"] if MARK in content else []
    if (
        not route.converters
        or not is_refused(response)
        or (role == OUTSIDER and route.pattern.startswith(KNOWN_TO_ALL))
    ):
        return told
    other, _ = ask(world, role, route, method, route.missing_path())
    if other.status_code != response.status_code:
        told.append(f"HTTP {response.status_code} for another project's id and {other.status_code} for none")
    if without(content, route.ids(world)) != without(body_of(other), [str(MISSING), "987654321"]):
        told.append("what is said of another project's id differs from what is said of none")
    if role in NO_MEMBERS and response.status_code not in (404, 405) and _is_of_project(route, method):
        told.append(f"HTTP {response.status_code}, not 404, for another project's id")
    return told


def _is_of_project(route: Route, method: str) -> bool:
    least = parsed(ROUTES.get(route.pattern, "")).get(method, "")
    return least in ("viewer", "editor", "approver", "owner")


def ask(world: World, role: str, route: Route, method: str, path: str) -> tuple[Any, list[str]]:
    """The answer, and what it changed, which is undone."""
    query = QUERIES[route.pattern](world) if route.pattern in QUERIES else ""
    body = BODIES.get(f"{method} {route.pattern}", lambda world: {})(world)
    if not route.is_api:
        body = body | {"sure": "1"}  # past the question of what ends something
    url = f"{path}?{query}" if query else path
    cache.clear()  # it asks more often than anybody may: only the route itself answers
    with transaction.atomic():
        client: Any = world.api(role) if route.is_api else world.admin(role)
        with CaptureQueriesContext(connection) as queries:
            response = getattr(client, method.lower())(url, body if method != "GET" else None)
            body_of(response)
        transaction.set_rollback(True)
    return response, writes(queries.captured_queries)


def body_of(response: Any) -> str:
    """Read once; of a stream too."""
    if not hasattr(response, "read_content"):
        content = b"".join(response.streaming_content) if response.streaming else response.content
        response.read_content = content.decode("utf-8", "replace")
    return str(response.read_content)


def said(response: Any) -> list[str]:
    request = getattr(response, "wsgi_request", None)
    return [str(message) for message in get_messages(request)] if request else []


def is_refused(response: Any) -> bool:
    """Also a page that says so: the admin's buttons lead back to where they were, with a message."""
    location = response.headers.get("Location", "")
    if response.status_code in (401, 403, 404, 405) or location.startswith("/admin/login/"):
        return True
    return any(text in sentence for sentence in said(response) for text in REFUSALS)


def without(content: str, ids: list[str]) -> str:
    for each in ids:
        if len(each) > 5:
            content = content.replace(each, "…")
    return content
