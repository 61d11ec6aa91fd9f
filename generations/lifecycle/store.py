"""Store: brings the outputs home before the provider drops them."""

import uuid
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from generations import failures, provider
from generations.lifecycle.poll import output_urls
from generations.lifecycle.timing import RESULTS_LAST, backoff
from generations.models import Generation, Status
from generations.storing import StoreFailed, delete_files, fetch_and_store
from generations.wavespeed import errors

log = structlog.get_logger(__name__)

# Seconds; renewed while it streams.
STORE_LEASE = 60
# What a fresh result with other URLs would not change.
OUR_OWN_FAULT = frozenset({"storage", "disk", "lease_lost"})


def store(pk: uuid.UUID) -> Status | None:
    """Downloads the outputs, checks them and stores them; tries again later for as long as the provider has them."""
    token = Generation.objects.lease(pk, STORE_LEASE, status=Status.STORING)
    if token is None:
        return None
    generation = Generation.objects.get(pk=pk)

    def renew() -> None:
        if not Generation.objects.renew(pk, token, STORE_LEASE):
            raise StoreFailed("lease_lost", "Another worker took over.")

    try:
        videos = fetch_and_store(generation, attempt=token, renew=renew, allow_loopback=provider.is_loopback())
    except StoreFailed as error:
        return _not_stored(generation, token, error)
    with transaction.atomic():
        moved = Generation.objects.move(
            pk,
            Status.STORING,
            Status.COMPLETED,
            token=token,
            reason="Stored and checked.",
            error_code="",
            error_message="",
            next_action_at=None,
            completed_at=timezone.now(),
        )
        if moved:
            for video in videos:
                video.save()
    if not moved:
        delete_files(videos)
        return None
    return Status.COMPLETED


def _not_stored(generation: Generation, token: uuid.UUID, error: StoreFailed) -> Status | None:
    log.warning("not_stored", generation=str(generation.pk), code=error.code, reason=str(error))
    assert generation.submitted_at
    if timezone.now() - generation.submitted_at > RESULTS_LAST and error.code == "expired":
        failure = failures.Failure("result_expired", str(error))
        moved = Generation.objects.move(
            generation.pk,
            Status.STORING,
            Status.FAILED,
            token=token,
            reason=failure.sentence,
            error_code=failure.code,
            error_message=failure.provider_says,
            next_action_at=None,
            completed_at=timezone.now(),
        )
        return Status.FAILED if moved else None
    changes: dict[str, Any] = {}
    if error.code not in OUR_OWN_FAULT and (outputs := _fresh_outputs(generation)):
        changes["outputs"] = outputs
    Generation.objects.save_leased(
        generation.pk,
        token,
        release=True,
        attempts=min(generation.attempts + 1, 30_000),
        error_code="not_stored",
        error_message=str(error),
        next_action_at=timezone.now() + backoff(generation.attempts, first=2),
        **changes,
    )
    return None


def _fresh_outputs(generation: Generation) -> list[str]:
    """The output URLs of a fresh result; none when it can't be had now."""
    assert generation.prediction_id
    try:
        return output_urls(provider.client().result(generation.prediction_id))
    except errors.WaveSpeedError as error:
        log.warning("no_fresh_result", generation=str(generation.pk), reason=str(error))
        return []
