"""Store: brings the outputs home before the provider drops them."""

import uuid
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from generations import alerts, failures, metrics, provider
from generations.lifecycle.success import output_urls
from generations.lifecycle.timing import RESULTS_LAST, backoff
from generations.lifecycle.unassigned import adopt_videos
from generations.models import Generation, Status
from generations.storing import OUR_FAULTS, TRIES_OF_DAMAGED, StoreFailed, delete_what_can_be, fetch_and_store
from generations.wavespeed import errors

log = structlog.get_logger(__name__)

ERROR_CODES = {**OUR_FAULTS, "damaged": "damaged"}
# Our own storage is asked again within a minute, as nothing is submitted until it takes what was made.
LONGEST_WAIT_FOR_OURS = 60


def store(pk: uuid.UUID) -> Status | None:
    """Downloads the outputs, checks them and stores them; tries again later for as long as the provider has them."""
    token = Generation.objects.lease(pk, settings.STORE_LEASE_SECONDS, status=Status.STORING)
    if token is None:
        return None
    generation = Generation.objects.get(pk=pk)
    if adopt_videos(generation, token):
        return Status.COMPLETED

    def renew() -> None:
        if not Generation.objects.renew(pk, token, settings.STORE_LEASE_SECONDS):
            raise StoreFailed("lease_lost", "Another worker took over.")

    try:
        videos = fetch_and_store(
            generation.outputs,
            folder=f"projects/{generation.project_id}/videos/{pk}",
            attempt=token,
            renew=renew,
            allow_loopback=provider.is_loopback(),
            keep_damaged=generation.error_code == "damaged" and generation.attempts >= TRIES_OF_DAMAGED,
        )
    except StoreFailed as error:
        return _not_stored(generation, token, error)
    with transaction.atomic():
        moved = Generation.objects.move(
            pk,
            Status.STORING,
            Status.COMPLETED,
            token=token,
            reason="Stored and checked.",
            next_action_at=None,
            completed_at=timezone.now(),
        )
        if moved:
            for video in videos:
                video.generation = generation
                video.save()
    if not moved:
        delete_what_can_be(videos)
        return None
    metrics.stored("generation", videos=len(videos), size=sum(video.bytes for video in videos))
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
    if error.code == "lease_lost":
        return None
    is_ours = error.code in OUR_FAULTS
    changes: dict[str, Any] = {}
    if not is_ours and (outputs := _fresh_outputs(generation)):
        changes["outputs"] = outputs
    wait = backoff(generation.attempts, first=2, most=LONGEST_WAIT_FOR_OURS if is_ours else 300)
    saved = Generation.objects.save_leased(
        generation.pk,
        token,
        release=True,
        attempts=min(generation.attempts + 1, 30_000),
        error_code=ERROR_CODES.get(error.code, "not_stored"),
        error_message=str(error),
        next_action_at=timezone.now() + wait,
        **changes,
    )
    if saved and is_ours:
        alerts.not_stored(error.code, str(error), generation=generation)
    return None


def _fresh_outputs(generation: Generation) -> list[str]:
    """The output URLs of a fresh result; none when it can't be had now."""
    assert generation.prediction_id
    try:
        return output_urls(provider.client().result(generation.prediction_id))
    except errors.WaveSpeedError as error:
        log.warning("no_fresh_result", generation=str(generation.pk), reason=str(error))
        return []
