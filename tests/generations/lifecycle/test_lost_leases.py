"""What ends its worker again and again is told to people, and takes others' work with it ever more seldom."""

from datetime import timedelta

import pytest
from django.utils import timezone

from generations import dispatch, lifecycle
from generations.lifecycle import unexpected
from generations.lifecycle.needs_look import TRIES_UNTIL_LOOK
from generations.models import Generation, Status, UnassignedPrediction
from projects.models import Alert, AlertKind
from tests.pipeline import poll_to_end
from tests.sandbox import SandboxControl

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def worker_takes_it_and_dies(row: Generation | UnassignedPrediction) -> None:
    """As the system's memory killer leaves it: leased, and nobody there."""
    rows = type(row).objects
    assert rows.lease(row.pk, 60)
    rows.filter(pk=row.pk).update(lease_until=timezone.now() - MINUTE)


def alerts() -> list[str]:
    return list(Alert.objects.filter(kind=AlertKind.NEEDS_LOOK).values_list("text", flat=True))


@pytest.mark.parametrize("status", [Status.QUEUED, Status.PROCESSING, Status.UNCONFIRMED, Status.STORING])
def test_a_row_whose_workers_end_in_a_row_needs_a_look(status: Status, queued: Generation) -> None:
    Generation.objects.filter(pk=queued.pk).update(status=status)
    for _ in range(TRIES_UNTIL_LOOK):
        worker_takes_it_and_dies(queued)
    assert lifecycle.lost_leases.tell() == 0, "the first of them lost nothing yet"

    worker_takes_it_and_dies(queued)

    assert (lifecycle.lost_leases.tell(), lifecycle.lost_leases.tell()) == (1, 0)
    queued.refresh_from_db()
    assert queued.needs_look_why.startswith("The worker that had it ended 5 times in a row before it was done: ")
    assert [queued.needs_look_why in text for text in alerts()] == [True]


def test_a_lease_that_is_given_back_starts_the_count_anew(queued: Generation) -> None:
    for _ in range(TRIES_UNTIL_LOOK):
        worker_takes_it_and_dies(queued)
    token = Generation.objects.lease(queued.pk, 60)
    assert token

    assert Generation.objects.save_leased(queued.pk, token, release=True)

    queued.refresh_from_db()
    assert queued.lost_leases == 0


def test_a_worker_that_lived_to_tell_its_error_is_not_counted_as_dead(queued: Generation) -> None:
    Generation.objects.filter(pk=queued.pk).update(status=Status.STORING)
    for _ in range(2 * TRIES_UNTIL_LOOK):
        worker_takes_it_and_dies(queued)
        unexpected.of_step(queued.pk, "store", TypeError("no"))

    queued.refresh_from_db()
    assert (queued.lost_leases, lifecycle.lost_leases.tell()) == (0, 0)


def test_it_is_tried_more_seldom_and_goes_well_in_the_end(processing: Generation, wavespeed: SandboxControl) -> None:
    poll_to_end(processing)
    for _ in range(TRIES_UNTIL_LOOK + 1):
        worker_takes_it_and_dies(processing)
    Generation.objects.filter(pk=processing.pk).update(next_action_at=timezone.now())
    began = timezone.now()

    dispatch.tick()

    processing.refresh_from_db()
    assert processing.next_action_at >= began + dispatch.SELDOM
    assert lifecycle.store(processing.pk) == Status.COMPLETED
    processing.refresh_from_db()
    assert (processing.status, processing.lost_leases) == (Status.COMPLETED, 0)


def test_what_belongs_to_nobody_is_told_too() -> None:
    row = UnassignedPrediction.objects.create(prediction_id="a" * 32, found_by=UnassignedPrediction.FoundBy.LIST)
    for _ in range(TRIES_UNTIL_LOOK + 1):
        worker_takes_it_and_dies(row)

    assert (lifecycle.lost_leases.tell(), lifecycle.lost_leases.tell()) == (1, 0)

    row.refresh_from_db()
    assert row.error_message.startswith("The worker that had it ended 5 times in a row")
    assert [row.error_message in text for text in alerts()] == [True]
