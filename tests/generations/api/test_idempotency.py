from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone
from rest_framework.test import APIClient

from generations.models import Generation
from generations.watching.heartbeat import SECONDS_BETWEEN
from projects.api.base.idempotency import KEPT, LOCK, end_all, renew
from projects.models import IdempotencyKey, Project, SpendEntry
from tests.projects.api.client import API, client_of, errors

ADDRESS = f"{API}/generations/"
KEY = {"Idempotency-Key": "order-1"}

pytestmark = pytest.mark.usefixtures("budget")


def test_same_request_again_gets_the_first_answer(api: APIClient, body: dict[str, Any]) -> None:
    first = api.post(ADDRESS, {**body, "queue": True}, headers=KEY)
    again = api.post(ADDRESS, {"queue": True, **body}, headers=KEY)

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert ("Idempotency-Replayed" in first, again["Idempotency-Replayed"]) == (False, "true")
    assert Generation.objects.count() == SpendEntry.objects.count() == 1


def test_replay_is_the_first_answer_even_when_the_row_has_moved_on(api: APIClient, body: dict[str, Any]) -> None:
    first = api.post(ADDRESS, {**body, "queue": True}, headers=KEY).json()
    api.post(f"{ADDRESS}{first['id']}/cancel/")

    assert api.post(ADDRESS, {**body, "queue": True}, headers=KEY).json()["status"] == "queued"


def test_another_body_or_address_with_the_same_key_is_refused(
    api: APIClient, body: dict[str, Any], draft: Generation
) -> None:
    api.post(ADDRESS, body, headers=KEY)

    other_body = api.post(ADDRESS, {**body, "duration": 6}, headers=KEY)
    other_address = api.post(f"{ADDRESS}{draft.pk}/queue/", headers=KEY)

    for response in (other_body, other_address):
        assert response.status_code == 422
        assert errors(response) == [
            (
                "idempotency_key_reused",
                None,
                "This idempotency key came with another request before. Take a new key for a new request.",
            )
        ]
    assert not SpendEntry.objects.exists()


def test_keys_of_others_are_others(api: APIClient, owner_api: APIClient, body: dict[str, Any]) -> None:
    first = api.post(ADDRESS, body, headers=KEY).json()
    second = owner_api.post(ADDRESS, body, headers=KEY).json()

    assert first["id"] != second["id"]


def test_request_in_flight_is_told(api: APIClient, body: dict[str, Any]) -> None:
    api.post(ADDRESS, body, headers=KEY)
    IdempotencyKey.objects.update(status_code=None, response=None)

    response = api.post(ADDRESS, body, headers=KEY)

    assert response.status_code == 409
    assert errors(response)[0][0] == "idempotency_key_in_flight"
    assert Generation.objects.count() == 1


def test_request_that_crashed_is_taken_over_after_its_lock(api: APIClient, body: dict[str, Any]) -> None:
    api.post(ADDRESS, body, headers=KEY)
    Generation.objects.all()[0].events.all().delete()
    Generation.objects.all().delete()
    IdempotencyKey.objects.update(status_code=None, response=None, locked_until=timezone.now() - timedelta(seconds=1))

    response = api.post(ADDRESS, body, headers=KEY)

    assert (response.status_code, "Idempotency-Replayed" in response) == (201, False)
    assert Generation.objects.count() == 1
    assert api.post(ADDRESS, body, headers=KEY)["Idempotency-Replayed"] == "true"


def test_claim_is_held_for_seconds_and_only_while_its_process_lives(api: APIClient, body: dict[str, Any]) -> None:
    assert timedelta(seconds=SECONDS_BETWEEN * 2) < LOCK <= timedelta(seconds=30)
    api.post(ADDRESS, body, headers=KEY)
    Generation.objects.all()[0].events.all().delete()
    Generation.objects.all().delete()
    IdempotencyKey.objects.update(status_code=None, response=None, locked_until=timezone.now() + LOCK)

    renew()  # this process works on nothing
    told = api.post(ADDRESS, body, headers=KEY)
    with time_machine.travel(timezone.now() + LOCK):
        again = api.post(ADDRESS, body, headers=KEY)

    assert (told.status_code, told["Retry-After"], again.status_code) == (409, "2", 201)
    assert Generation.objects.count() == 1


def test_new_studio_waits_for_no_claim_of_the_one_before(api: APIClient, body: dict[str, Any]) -> None:
    api.post(ADDRESS, body, headers=KEY)
    Generation.objects.all()[0].events.all().delete()
    Generation.objects.all().delete()
    IdempotencyKey.objects.update(status_code=None, response=None, locked_until=timezone.now() + LOCK)

    end_all()

    assert api.post(ADDRESS, body, headers=KEY).status_code == 201


def test_refused_request_leaves_no_trace(api: APIClient, body: dict[str, Any], project: Project) -> None:
    project.budgets.update(limit=1_000_000)
    refused = api.post(ADDRESS, {**body, "queue": True}, headers=KEY)
    assert refused.status_code == 402
    assert not IdempotencyKey.objects.exists()
    assert not Generation.objects.exists()

    project.budgets.update(limit=10_000_000)
    assert api.post(ADDRESS, {**body, "queue": True}, headers=KEY).status_code == 202


def test_bad_body_leaves_no_trace(api: APIClient, body: dict[str, Any]) -> None:
    assert api.post(ADDRESS, {**body, "duration": 2}, headers=KEY).status_code == 400
    assert api.generic("POST", ADDRESS, b"{", content_type="application/json", headers=KEY).status_code == 400

    assert not IdempotencyKey.objects.exists()
    assert api.post(ADDRESS, body, headers=KEY).status_code == 201


@pytest.mark.parametrize("key", ["", "with space", "x" * 256, "ümlaut", "tab\t"])
def test_bad_key_is_refused(api: APIClient, body: dict[str, Any], key: str) -> None:
    response = api.post(ADDRESS, body, headers={"Idempotency-Key": key})

    assert response.status_code == 400
    assert errors(response) == [
        (
            "invalid_idempotency_key",
            None,
            "An idempotency key has 1 to 255 visible ASCII characters and no spaces; a UUID is a good one.",
        )
    ]
    assert not Generation.objects.exists()


def test_keys_are_kept_for_two_days(api: APIClient, body: dict[str, Any]) -> None:
    assert timedelta(hours=24) < KEPT
    api.post(ADDRESS, body, headers=KEY)
    long_ago = timezone.now() - KEPT - LOCK
    IdempotencyKey.objects.update(created_at=long_ago, locked_until=long_ago + LOCK)

    api.post(ADDRESS, body, headers={"Idempotency-Key": "order-2"})

    assert [key.key for key in IdempotencyKey.objects.all()] == ["order-2"]


def test_retry_with_a_key_is_paid_once(api: APIClient, queued: Generation) -> None:
    api.post(f"{ADDRESS}{queued.pk}/cancel/", headers={"Idempotency-Key": "cancel"})
    address = f"{ADDRESS}{queued.pk}/retry/"

    first, again = (api.post(address, {"confirm": True}, headers=KEY) for _ in range(2))

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert SpendEntry.objects.filter(kind="reserve").count() == 2


def together(requests: list[Callable[[], Any]]) -> list[Any]:
    """Sends all at the same moment, each from a thread with its own connection."""
    barrier = Barrier(len(requests))

    def send(request: Callable[[], Any]) -> Any:
        try:
            barrier.wait(timeout=30)
            return request()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(send, requests))


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_twenty_at_once_with_one_key_make_one_generation(
    transactional_db: None, project: Project, editor: User, body: dict[str, Any]
) -> None:
    clients = [client_of(editor) for _ in range(20)]
    order = {**body, "queue": True}

    answers = together([lambda client=client: client.post(ADDRESS, order, headers=KEY) for client in clients])

    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {202, 409}, [answer.content for answer in answers]
    assert {errors(answer)[0][0] for answer in answers if answer.status_code == 409} <= {"idempotency_key_in_flight"}
    done = [answer for answer in answers if answer.status_code == 202]
    assert [("Idempotency-Replayed" in answer) for answer in done].count(False) == 1
    generation = Generation.objects.get()
    assert {answer.json()["id"] for answer in done} == {str(generation.pk)}
    assert SpendEntry.objects.get().reserved_delta == 2_100_000
    assert project.budgets.get().periods.get().reserved == 2_100_000


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_twenty_keys_at_once_spend_no_more_than_the_budget(
    transactional_db: None, project: Project, editor: User, body: dict[str, Any]
) -> None:
    """Without it, keys would hide a race of the money itself: $10 are 4 videos of $2.10."""
    clients = [client_of(editor) for _ in range(20)]
    order = {**body, "queue": True, "confirm": True}

    answers = together(
        [
            lambda client=client, number=number: client.post(
                ADDRESS, order, headers={"Idempotency-Key": f"order-{number}"}
            )
            for number, client in enumerate(clients)
        ]
    )

    assert Counter(answer.status_code for answer in answers) == {202: 4, 402: 16}
    assert Generation.objects.count() == SpendEntry.objects.count() == IdempotencyKey.objects.count() == 4


def routes(patterns: list[URLPattern | URLResolver], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            found += routes(pattern.url_patterns, path)
        else:
            found.append((path, pattern.callback))
    return found


def test_every_post_takes_a_key() -> None:
    """Except the quote, which makes nothing and costs nothing, and the provider's webhooks, which have ids of their own."""
    without = [
        path
        for path, view in routes(get_resolver().url_patterns)
        if path.startswith("api/v1/") and "post" in getattr(view, "actions", {})
        if not getattr(getattr(view.cls, view.actions["post"]), "is_idempotent", False)
    ]

    assert sorted(without) == ["api/v1/generations/quote/", "api/v1/webhooks/wavespeed/<uuid:generation>/"]
