"""Poll: asks the provider for the result until its verdict is clear, and charges what it made."""

import uuid
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from generations import bill, failures, provider
from generations.lifecycle.evidence import keep
from generations.lifecycle.settle import FIRST_SETTLEMENT, pause_if_overcharged
from generations.lifecycle.timing import MARGIN, REDELIVERY, RESULTS_LAST
from generations.models import Exchange, Generation, Status
from generations.wavespeed import errors
from generations.wavespeed.replies import COMPLETED, Prediction
from generations.wavespeed.transport import Exchange as Evidence
from projects import spend
from projects.money import shown

log = structlog.get_logger(__name__)


def poll(pk: uuid.UUID) -> Status | None:
    """Asks for the result once; the status that it moved to, if it moved. Only a clear terminal answer is a verdict."""
    token = Generation.objects.lease(pk, settings.WAVESPEED_DEADLINE + MARGIN, status=Status.PROCESSING)
    if token is None:
        return None
    generation = Generation.objects.get(pk=pk)
    assert generation.prediction_id
    try:
        prediction = provider.client().result(generation.prediction_id)
    except errors.WaveSpeedError as error:
        return _no_verdict(generation, token, str(error), error.exchange)
    if prediction.status == COMPLETED and output_urls(prediction):
        return _succeeded(generation, token, prediction)
    if prediction.is_terminal and prediction.status != COMPLETED:
        failure = failures.of_task(prediction.status, prediction.code, prediction.error)
        keep(
            pk,
            Exchange.Kind.RESULT,
            prediction.exchange,
            summary=f"{prediction.status}: {prediction.error}",
            prediction_id=prediction.id,
        )
        return _failed(generation, token, failure)
    return _no_verdict(
        generation, token, prediction.status, prediction.exchange if prediction.status == COMPLETED else None
    )


def output_urls(prediction: Prediction) -> list[str]:
    """The URLs among the outputs, which are URLs or objects with one."""
    candidates = [output.get("url") if isinstance(output, dict) else output for output in prediction.outputs]
    return [url for url in candidates if isinstance(url, str) and url]


def _succeeded(generation: Generation, token: uuid.UUID, prediction: Prediction) -> Status | None:
    billed = _billed(prediction.id)
    amount = generation.quote or 0 if billed is None else billed
    keep(generation.pk, Exchange.Kind.RESULT, prediction.exchange, summary="completed", prediction_id=prediction.id)
    with transaction.atomic():
        moved = Generation.objects.move(
            generation.pk,
            Status.PROCESSING,
            Status.STORING,
            token=token,
            reason=f"Made by the provider for {shown(amount)}.",
            outputs=output_urls(prediction),
            charged=amount,
            next_action_at=timezone.now() + REDELIVERY,
            settle_at=timezone.now() + FIRST_SETTLEMENT,
        )
        reservation = spend.reservation_of(generation.pk)
        if moved and reservation:
            spend.charge(reservation, amount=amount, key=f"charge:{generation.pk}", reason="Made by the provider.")
            pause_if_overcharged(generation, reservation)
    return Status.STORING if moved else None


def _billed(prediction_id: str) -> int | None:
    """What the provider has deducted by now, in micro-dollars; None where it can't be seen (yet)."""
    try:
        billed = bill.of(prediction_id)
    except errors.WaveSpeedError as error:
        log.warning("bill_not_read", prediction=prediction_id, reason=str(error))
        return None
    return billed.deducted if billed.deducts else None


def _failed(generation: Generation, token: uuid.UUID, failure: failures.Failure) -> Status | None:
    """Failed at once, but its money stays held until `settle` has read the bill."""
    moved = Generation.objects.move(
        generation.pk,
        Status.PROCESSING,
        Status.FAILED,
        token=token,
        reason=failure.sentence,
        error_code=failure.code,
        error_message=failure.provider_says,
        next_action_at=None,
        settle_at=timezone.now(),
        completed_at=timezone.now(),
    )
    return Status.FAILED if moved else None


def _no_verdict(generation: Generation, token: uuid.UUID, why: str, exchange: Evidence | None) -> Status | None:
    """Still running, or no sense in the answer: ask again later, until the provider can't have a result any more."""
    assert generation.submitted_at
    if exchange is not None and generation.attempts < 5:
        keep(
            generation.pk,
            Exchange.Kind.RESULT,
            exchange,
            summary=f"No verdict: {why}",
            prediction_id=generation.prediction_id or "",
        )
    elapsed = timezone.now() - generation.submitted_at
    if elapsed > RESULTS_LAST:
        return _failed(generation, token, failures.Failure("result_expired", why))
    wait = poll_interval(elapsed.total_seconds(), provider.usual_seconds(generation.endpoint))
    attempts = min(generation.attempts + 1, 30_000) if exchange is not None else generation.attempts
    Generation.objects.save_leased(
        generation.pk, token, release=True, attempts=attempts, next_action_at=timezone.now() + timedelta(seconds=wait)
    )
    return None


def poll_interval(elapsed: float, usual: float) -> float:
    """Seconds until the next poll: sparse before the usual duration, then every few seconds, then backing off to ten minutes."""
    often = settings.WAVESPEED_POLL_SECONDS
    if elapsed < usual:
        return min(max(often, (usual - elapsed) / 4), 30.0)
    return min(max(often, (elapsed - 2 * usual) / 10), 600.0)
