"""No other site can make somebody's browser change anything: without the token of our own page, every change is refused."""

from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from tests.security.expected import BODIES, QUERIES, ROUTES
from tests.security.routes import every_route
from tests.security.test_matrix import body_of, parsed
from tests.security.world import STUDIO_OWNER, World, build, writes

# The provider has no cookie of ours: it signs what it sends.
SIGNED = {"api/v1/webhooks/wavespeed/<uuid:generation>/"}
SAFE = {"GET", "HEAD", "OPTIONS"}


@pytest.fixture
def world(db: None) -> World:
    return build()


def test_every_form_asks_for_its_token(world: World) -> None:
    open_to_all = []
    for route in every_route():
        if "POST" not in parsed(ROUTES.get(route.pattern, "POST")) or route.is_api:
            continue
        query = QUERIES[route.pattern](world) if route.pattern in QUERIES else ""
        body = BODIES.get(f"POST {route.pattern}", lambda world: {})(world) | {"sure": "1"}
        with transaction.atomic():
            client = world.admin(STUDIO_OWNER, enforce_csrf_checks=True)
            with CaptureQueriesContext(connection) as queries:
                response = client.post(f"{route.path(world)}?{query}", body)
            transaction.set_rollback(True)
        harmless = response.status_code in (404, 405) and not writes(queries.captured_queries)
        if response.status_code != 403 and not harmless:
            open_to_all.append(f"{route.pattern}: HTTP {response.status_code}")

    assert open_to_all == []


def test_the_api_asks_for_it_from_whoever_comes_with_a_session(world: World) -> None:
    let_in = []
    for route in every_route():
        for method in set(route.methods) - SAFE if route.is_api and route.pattern not in SIGNED else ():
            client: Any = APIClient(enforce_csrf_checks=True, raise_request_exception=False)
            client.force_login(world.people[STUDIO_OWNER], "django.contrib.auth.backends.ModelBackend")
            with transaction.atomic():
                with CaptureQueriesContext(connection) as queries:
                    response = getattr(client, method.lower())(route.path(world), {})
                transaction.set_rollback(True)
            if (
                response.status_code != 403
                or "CSRF Failed" not in body_of(response)
                or writes(queries.captured_queries)
            ):
                let_in.append(f"{method} {route.pattern}: HTTP {response.status_code}")

    assert let_in == []


def test_cookies_are_kept_from_scripts_and_other_sites(world: World) -> None:
    olive = world.people[STUDIO_OWNER]
    olive.set_password("a-good-password")
    olive.save()
    client = Client()
    client.post("/admin/login/", {"username": "olive", "password": "a-good-password"})
    session, token = client.cookies["sessionid"], client.cookies["csrftoken"]

    assert (session["httponly"], session["samesite"]) == (True, "Lax")
    assert token["samesite"] == "Lax"
