"""Rows that wait for a time and have none are found and mended."""

from datetime import timedelta

import pytest
from django.utils import timezone

from generations import lifecycle
from generations.models import Generation, Status
from tests.pipeline import list_and_bill_were_read

LONG_AGO = timedelta(hours=2)


def stray(generation: Generation, status: Status, **fields: object) -> Generation:
    values = {"submitted_at": timezone.now() - LONG_AGO, "next_action_at": None, "lease_until": None, **fields}
    Generation.objects.filter(pk=generation.pk).update(status=status, **values)
    return generation


@pytest.mark.parametrize("status", [Status.PROCESSING, Status.STORING, Status.UNCONFIRMED])
def test_a_row_without_its_next_look_gets_one(status: Status, queued: Generation) -> None:
    stray(queued, status)

    assert (lifecycle.strays.mend(), lifecycle.strays.mend()) == (1, 0)

    queued.refresh_from_db()
    assert (queued.status, queued.next_action_at <= timezone.now()) == (status, True)


def test_a_submit_that_nobody_has_is_taken_up(queued: Generation) -> None:
    stray(queued, Status.SUBMITTING)

    assert lifecycle.strays.mend() == 1
    assert lifecycle.recover_submit(queued.pk)

    queued.refresh_from_db()
    assert queued.status == Status.UNCONFIRMED


def test_a_failure_whose_money_is_held_is_settled(queued: Generation) -> None:
    ended = timezone.now() - LONG_AGO
    stray(queued, Status.FAILED, prediction_id="a" * 32, settle_at=None, completed_at=ended)

    assert (lifecycle.strays.mend(), lifecycle.strays.mend()) == (1, 0)

    queued.refresh_from_db()
    assert queued.settle_at


def test_what_waits_for_people_alone_is_no_stray(queued: Generation) -> None:
    stray(queued, Status.UNCONFIRMED, submitted_at=timezone.now() - timedelta(days=9))
    list_and_bill_were_read(queued)

    assert lifecycle.strays.mend() == 0


@pytest.mark.parametrize("status", [Status.DRAFT, Status.QUEUED, Status.CANCELLED, Status.COMPLETED])
def test_what_has_no_next_look_by_right_is_left_alone(status: Status, queued: Generation) -> None:
    stray(queued, status)

    assert lifecycle.strays.mend() == 0
