"""No method and no nonsense in an address is an error of the studio's: who knocks everywhere trips no alert."""

import re
import uuid
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import Client

from tests.projects.api.client import client_of
from tests.security.routes import Route, every_route

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "FOO"]
CONVERTER = re.compile(r"<(?:(\w+):)?(\w+)>")
NUMBERS = ["0", "1", str(10**40)]
TEXTS = ["x", str(10**40), "a\0b", "ü'\"<>", "x" * 5_000, str(uuid.UUID(int=1))]
MAY_BE_UNREADY = {"readyz"}


def values(converter: str) -> list[str]:
    if converter == "uuid":
        return [str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1))]
    return NUMBERS if converter == "int" else TEXTS


def addresses(route: Route) -> list[str]:
    """The route with each nonsense that its converters let through, the same in all places."""
    found = CONVERTER.findall(route.pattern)
    if not found:
        return [f"/{route.pattern}"]
    most = max(len(values(converter)) for converter, _ in found)
    return [f"/{filled(route.pattern, turn)}" for turn in range(most)]


def filled(pattern: str, turn: int) -> str:
    def value(match: re.Match[str]) -> str:
        possible = values(match[1])
        return quote(possible[turn % len(possible)], safe="")

    return CONVERTER.sub(value, pattern)


def sent(client: Any, method: str, address: str) -> Any:
    cache.clear()  # not to be told that it was too much
    return client.generic(method, address)


@pytest.mark.both_databases
@pytest.mark.django_db
@pytest.mark.parametrize(
    "methods", [["GET", "POST"], pytest.param(METHODS, marks=pytest.mark.slow)], ids=["usual ones", "all"]
)
def test_no_request_of_a_stranger_is_a_server_error(settings: Any, methods: list[str]) -> None:
    settings.WAVESPEED_WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 4
    client = Client(raise_request_exception=False)

    wrong = [
        f"{method} {address[:120]}: {response.status_code}"
        for route in every_route()
        for address in addresses(route)
        for method in methods
        if (response := sent(client, method, address)).status_code >= 500 and route.pattern not in MAY_BE_UNREADY
    ]

    assert wrong == []


@pytest.mark.slow
@pytest.mark.both_databases
@pytest.mark.django_db
def test_no_address_is_a_server_error_for_who_may_see_everything(studio_owner: User, settings: Any) -> None:
    settings.WAVESPEED_WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 4
    pages, api = Client(raise_request_exception=False), client_of(studio_owner)

    wrong = []
    for route in every_route():
        for address in addresses(route):
            pages.force_login(studio_owner)
            for method in ("GET", "POST", "DELETE"):
                response = sent(api if route.pattern.startswith("api/") else pages, method, address)
                if response.status_code >= 500 and route.pattern not in MAY_BE_UNREADY:
                    wrong.append(f"{method} {address[:120]}: {response.status_code}")

    assert wrong == []


@pytest.mark.django_db
def test_options_tells_the_methods_and_no_more(studio_owner: User, settings: Any) -> None:
    """A preflight of a browser, a port scanner: no error, and nothing that only looks like a description."""
    settings.WAVESPEED_WEBHOOK_SECRET = "whsec_" + "c2VjcmV0" * 4
    owner_api = client_of(studio_owner)
    for route in every_route():
        if not route.pattern.startswith("api/v1/"):
            continue
        address = addresses(route)[0]
        answers = [Client().options(address), owner_api.options(address)]
        assert [answer.status_code for answer in answers] in ([401, 204], [204, 204]), address
        assert [answer.content for answer in answers if answer.status_code == 204] == [b""] * (
            1 if answers[0].status_code == 401 else 2
        )
        assert "OPTIONS" in answers[1]["Allow"]
