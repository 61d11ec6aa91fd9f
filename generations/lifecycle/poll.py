"""Poll: asks the provider for the result until its verdict is clear, and charges what it made."""

import uuid
from datetime import timedelta

from django.utils import timezone

from generations import failures, provider
from generations.lifecycle import lane
from generations.lifecycle.adopt import adopt_announced
from generations.lifecycle.evidence import keep
from generations.lifecycle.success import is_made, output_urls, succeeded
from generations.lifecycle.timing import RESULTS_LAST, call_lease, poll_interval
from generations.lifecycle.unassigned import stored_for
from generations.models import Exchange, Generation, Status
from generations.wavespeed import errors
from generations.wavespeed.replies import COMPLETED
from generations.wavespeed.transport import Exchange as Evidence


def poll(pk: uuid.UUID) -> Status | None:
    """Asks for the result once; the status that it moved to, if it moved. Only a clear terminal answer is a verdict.

    Also of what had failed and is due again: there may be a video after all.
    """
    token = Generation.objects.lease(pk, call_lease(), status=Status.PROCESSING) or Generation.objects.lease(
        pk, call_lease(), status=Status.FAILED, next_action_at__isnull=False
    )
    if token is None:
        return None
    generation = Generation.objects.get(pk=pk)
    try:
        if not generation.prediction_id:
            assert generation.status == Status.FAILED
            return _look_for_prediction(generation, token)
        if stored := stored_for(generation):
            # Its video is here, whatever the provider says by now.
            return succeeded(generation, stored.outputs, token=token)
        prediction = provider.client().result(generation.prediction_id)
    except errors.WaveSpeedError as error:
        # Silence, refusals and nonsense say nothing of the video, however long they last.
        is_answer = isinstance(error, errors.NotFound)
        status = _no_verdict(generation, token, str(error), error.exchange, is_answer=is_answer)
        lane.pause_if_account_problem(error, needed=generation.quote or 0)
        return status
    if is_made(prediction):
        keep(pk, Exchange.Kind.RESULT, prediction.exchange, summary="completed", prediction_id=prediction.id)
        return succeeded(generation, output_urls(prediction), token=token)
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
    exchange = prediction.exchange if prediction.status == COMPLETED else None
    return _no_verdict(generation, token, prediction.status, exchange, is_answer=True)


def _look_for_prediction(generation: Generation, token: uuid.UUID) -> Status | None:
    """It was settled as not made; a webhook may have named one since."""
    if not adopt_announced(generation.pk):
        return _failed(generation, token, failures.Failure(generation.error_code, generation.error_message))
    Generation.objects.save_leased(generation.pk, token, release=True)
    return None


def _failed(generation: Generation, token: uuid.UUID, failure: failures.Failure) -> Status | None:
    """Failed at once, but its money stays held until `settle` has read the bill. What had failed before stays so."""
    if generation.status == Status.FAILED:
        bill_to_read = {"settle_at": timezone.now()} if generation.prediction_id else {}
        Generation.objects.save_leased(generation.pk, token, release=True, next_action_at=None, **bill_to_read)
        return None
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


def _no_verdict(
    generation: Generation, token: uuid.UUID, why: str, exchange: Evidence | None, *, is_answer: bool
) -> Status | None:
    """Ask again later, until the provider can't have a result any more and its own answer, of this prediction, is that it has none."""
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
    if is_answer and elapsed > RESULTS_LAST:
        return _failed(generation, token, failures.Failure("result_expired", why))
    wait = poll_interval(elapsed.total_seconds(), provider.usual_seconds(generation.endpoint))
    attempts = min(generation.attempts + 1, 30_000) if exchange is not None else generation.attempts
    Generation.objects.save_leased(
        generation.pk, token, release=True, attempts=attempts, next_action_at=timezone.now() + timedelta(seconds=wait)
    )
    return None
