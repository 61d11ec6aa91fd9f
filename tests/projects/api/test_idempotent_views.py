"""What happens to a key when its request breaks, or is overtaken, in the middle."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory, force_authenticate

from projects.api.base.idempotency import LOCK, idempotent, renew
from projects.api.base.views import Api
from projects.models import IdempotencyKey, Project


def post(handler: Callable[..., Any], person: User) -> Any:
    """POSTs with a key to a view that has this handler."""
    view = type("View", (Api,), {"create": handler}).as_view({"post": "create"})
    request = APIRequestFactory().post("/", {}, headers={"Idempotency-Key": "key-1"})
    force_authenticate(request, person)
    return view(request)


def work(person: User) -> Response:
    Project.objects.create(name="Tea", created_by=person)
    return Response({"made": True}, status=201)


@pytest.mark.both_databases
def test_request_that_breaks_leaves_neither_its_work_nor_its_key(studio_owner: User) -> None:
    @idempotent
    def breaks(view: Api, request: Request) -> Response:
        work(view.person)
        raise RuntimeError("a bug")

    assert post(breaks, studio_owner).status_code == 500
    assert not Project.objects.exists()
    assert not IdempotencyKey.objects.exists()


@pytest.mark.both_databases
def test_request_that_was_overtaken_undoes_its_work_and_keeps_the_key_of_the_other(studio_owner: User) -> None:
    @idempotent
    def slow(view: Api, request: Request) -> Response:
        answer = work(view.person)
        IdempotencyKey.objects.update(holder=uuid4())
        return answer

    response = post(slow, studio_owner)

    assert (response.status_code, response.data["errors"][0]["code"]) == (409, "idempotency_key_in_flight")
    assert not Project.objects.exists()


def test_key_is_claimed_before_the_work_and_answered_with_it(studio_owner: User) -> None:
    @idempotent
    def looks(view: Api, request: Request) -> Response:
        claim = IdempotencyKey.objects.get()
        assert (claim.user, claim.key, claim.status_code) == (view.person, "key-1", None)
        assert claim.locked_until - timezone.now() > LOCK - timedelta(seconds=5)
        return work(view.person)

    assert post(looks, studio_owner).status_code == 201
    claim = IdempotencyKey.objects.get()
    assert (claim.status_code, claim.response) == (201, {"made": True})


def test_claim_is_held_while_its_process_lives_and_works_on_it(studio_owner: User) -> None:
    held = []

    @idempotent
    def slow(view: Api, request: Request) -> Response:
        IdempotencyKey.objects.update(locked_until=timezone.now())
        renew()
        held.append(IdempotencyKey.objects.get().locked_until > timezone.now() + LOCK / 2)
        return work(view.person)

    assert (post(slow, studio_owner).status_code, held) == (201, [True])


def test_handler_that_is_not_atomic_runs_outside_transactions_of_ours_and_is_replayed(studio_owner: User) -> None:
    calls = []

    @idempotent(atomic=False)
    def imports(view: Api, request: Request) -> Response:
        calls.append(1)
        return work(view.person)

    first, again = post(imports, studio_owner), post(imports, studio_owner)

    assert (first.status_code, again.status_code, len(calls)) == (201, 201, 1)
    assert again["Idempotency-Replayed"] == "true"
