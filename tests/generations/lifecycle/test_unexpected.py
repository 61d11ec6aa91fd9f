"""An error that nobody expected, in any step: counted, told, tried again ever later, and in the end people look at it."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import DataError
from django.utils import timezone

from generations import lifecycle, tasks
from generations.alerts import TRIES_UNTIL_TOLD
from generations.lifecycle import unexpected
from generations.lifecycle.needs_look import TRIES_UNTIL_LOOK
from generations.models import Generation, Status, UnassignedPrediction
from projects.models import Alert, AlertKind
from tests.pipeline import money, poll_to_end
from tests.sandbox import SandboxControl

PRICE = 2_100_000
WAITING = [Status.QUEUED, Status.PROCESSING, Status.UNCONFIRMED, Status.STORING]


def alerts() -> int:
    return Alert.objects.filter(kind=AlertKind.NEEDS_LOOK).count()


@pytest.mark.parametrize("status", WAITING)
def test_it_is_counted_told_and_in_the_end_for_people(status: Status, queued: Generation) -> None:
    lease_ends = timezone.now() + timedelta(minutes=2)
    Generation.objects.filter(pk=queued.pk).update(
        status=status, submitted_at=timezone.now(), attempts=3, lease_until=lease_ends
    )
    error = TypeError("unsupported operand\nwith a second line")

    unexpected.of_step(queued.pk, "store", error)

    queued.refresh_from_db()
    assert (queued.status, queued.attempts, queued.error_code) == (status, 1, "unexpected")
    assert queued.error_message == (
        "An unexpected error in the step “store” (TypeError: unsupported operand). It is tried again, ever later."
    )
    # Not before the lease of the step that ended so has run out.
    assert queued.next_action_at > lease_ends
    assert (queued.needs_look_since, alerts()) == (None, 1)

    for _ in range(TRIES_UNTIL_LOOK - 1):
        unexpected.of_step(queued.pk, "store", error)

    queued.refresh_from_db()
    assert (queued.attempts, alerts()) == (TRIES_UNTIL_LOOK, 2)
    assert "happened 5 times in a row" in queued.needs_look_why
    assert money(queued) == (PRICE, 0)


def test_no_secret_is_told(queued: Generation, settings: Any) -> None:
    settings.WAVESPEED_API_KEY = "ws-very-secret"
    error = RuntimeError("GET postgres://me:pass@db/x?password=1 with ws-very-secret")

    unexpected.of_step(queued.pk, "submit", error)

    queued.refresh_from_db()
    assert "RuntimeError" in queued.error_message
    for secret in ("ws-very-secret", "pass@", "password=1"):
        assert secret not in queued.error_message


def test_a_submit_that_may_have_been_sent_is_never_sent_again(queued: Generation) -> None:
    Generation.objects.filter(pk=queued.pk).update(status=Status.SUBMITTING, submitted_at=timezone.now())

    unexpected.of_step(queued.pk, "submit", DataError("value out of range"))

    queued.refresh_from_db()
    assert (queued.status, money(queued)) == (Status.UNCONFIRMED, (PRICE, 0))
    assert "DataError" in queued.events.last().reason
    assert lifecycle.admit() is None


def test_a_failure_keeps_its_reason(queued: Generation) -> None:
    Generation.objects.filter(pk=queued.pk).update(
        status=Status.FAILED, error_code="timeout", error_message="too slow", next_action_at=timezone.now()
    )

    for _ in range(TRIES_UNTIL_LOOK):
        unexpected.of_step(queued.pk, "poll", TypeError())

    queued.refresh_from_db()
    assert (queued.error_code, queued.error_message, queued.attempts) == ("timeout", "too slow", TRIES_UNTIL_LOOK)
    assert "TypeError" in queued.needs_look_why


def test_settling_is_counted_apart_and_is_over_once_it_works(queued: Generation) -> None:
    Generation.objects.filter(pk=queued.pk).update(status=Status.COMPLETED, settle_at=timezone.now())
    for _ in range(TRIES_UNTIL_LOOK):
        unexpected.of_step(queued.pk, "settle", OverflowError("int too big"))
    queued.refresh_from_db()
    assert (queued.settle_attempts, queued.attempts, queued.error_code) == (TRIES_UNTIL_LOOK, 0, "")
    assert "OverflowError" in queued.needs_look_why
    assert queued.settle_at > timezone.now()

    unexpected.settled(queued.pk)

    queued.refresh_from_db()
    assert (queued.settle_attempts, queued.needs_look_since) == (0, None)


def test_what_belongs_to_nobody_is_counted_too(db: None) -> None:
    row = UnassignedPrediction.objects.create(prediction_id="a" * 32, found_by=UnassignedPrediction.FoundBy.LIST)

    unexpected.of_unassigned(row.pk, TypeError("no"))

    row.refresh_from_db()
    assert (row.attempts, "TypeError" in row.error_message, alerts()) == (1, True, 1)
    assert row.next_action_at > timezone.now()


def test_an_error_in_a_real_step_is_never_silent(processing: Generation, wavespeed: SandboxControl) -> None:
    """A row that no code of ours writes: its stored addresses are no texts."""
    poll_to_end(processing)
    Generation.objects.filter(pk=processing.pk).update(outputs=[{"a": 1}])

    with pytest.raises((TypeError, AttributeError)):
        tasks.store.fn(str(processing.pk))

    processing.refresh_from_db()
    assert (processing.status, processing.error_code, processing.attempts) == (Status.STORING, "unexpected", 1)
    assert processing.next_action_at > timezone.now()
    assert alerts() == 1


def test_what_can_not_be_prepared_for_its_submit_says_so_and_is_for_people_in_the_end(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    """An endpoint that the catalogue does not know any more."""
    Generation.objects.filter(pk=queued.pk).update(endpoint="gone/model", attempts=TRIES_UNTIL_TOLD - 1)

    tasks.fill_lane.fn()

    queued.refresh_from_db()
    assert (queued.status, money(queued)) == (Status.QUEUED, (PRICE, 0))
    assert "UnknownEndpoint" in queued.error_message
    assert queued.error_message in queued.needs_look_why
    assert queued.next_action_at > timezone.now()
    assert wavespeed.posts()["count"] == 0
