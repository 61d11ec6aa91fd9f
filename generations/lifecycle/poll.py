"""Poll: asks the provider for the result until its verdict is clear, and charges what it made."""

import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from generations import failures, provider
from generations.lifecycle import account, not_understood
from generations.lifecycle.adopt import adopt_announced
from generations.lifecycle.evidence import keep
from generations.lifecycle.needs_look import NO_LOOK, TRIES_UNTIL_LOOK, ask_for_look
from generations.lifecycle.settle import fail_until_billed
from generations.lifecycle.success import succeeded
from generations.lifecycle.timing import RESULTS_LAST, backoff, call_lease, poll_interval
from generations.lifecycle.unassigned import stored_for
from generations.models import Exchange, Generation, Status
from generations.wavespeed import errors
from generations.wavespeed.replies import COMPLETED, FAILED, Prediction
from generations.wavespeed.transport import Exchange as Evidence

# Of answers that say nothing new, the first tell enough.
EVIDENCE_KEPT = 5
MOST_ATTEMPTS = 30_000
# Seconds between two looks at what is not understood.
LONGEST_WAIT = 600


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
    except errors.NotUnderstood as error:
        return _not_understood(generation, token, not_understood.answer(error), error.exchange)
    except errors.WaveSpeedError as error:
        # Silence, refusals and nonsense say nothing of the video, however long they last.
        is_answer = isinstance(error, errors.NotFound)
        status = _no_verdict(generation, token, str(error), error.exchange, is_answer=is_answer)
        account.pause_if_account_problem(error, needed=generation.quote or 0)
        return status
    return _take(generation, token, prediction)


def _take(generation: Generation, token: uuid.UUID, prediction: Prediction) -> Status | None:
    """What a readable answer means."""
    if prediction.is_made:
        _keep(generation, prediction, summary="completed")
        return succeeded(generation, provider.output_urls(prediction), token=token)
    if prediction.status in FAILED:
        failure = failures.of_task(prediction.status, prediction.code, prediction.error)
    elif prediction.status == COMPLETED and prediction.has_nsfw and not prediction.others:
        failure = failures.Failure("content_moderation", prediction.error or "It was flagged, and no video was given.")
    elif prediction.is_pending:
        return _no_verdict(generation, token, prediction.status, None, is_answer=True)
    else:
        return _not_understood(generation, token, not_understood.result(prediction), prediction.exchange, prediction)
    _keep(generation, prediction, summary=f"{prediction.status}: {failure.provider_says}")
    return _failed(generation, token, failure)


def _keep(generation: Generation, prediction: Prediction, *, summary: str) -> None:
    keep(generation.pk, Exchange.Kind.RESULT, prediction.exchange, summary=summary, prediction_id=prediction.id)


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
        Generation.objects.save_leased(
            generation.pk, token, release=True, next_action_at=None, **NO_LOOK, **bill_to_read
        )
        return None
    return fail_until_billed(generation, failure, token=token)


def _not_understood(
    generation: Generation,
    token: uuid.UUID,
    why: str,
    exchange: Evidence | None,
    prediction: Prediction | None = None,
) -> Status | None:
    """Its trouble says so at once; asked again for some minutes, in case it is not all said yet, it is for people to read."""
    assert generation.submitted_at
    is_over = timezone.now() - generation.submitted_at > RESULTS_LAST
    if generation.status != Status.PROCESSING or is_over:
        return _no_verdict(generation, token, why, exchange, is_answer=True)
    tries = generation.attempts + 1 if generation.error_code == not_understood.CODE else 1
    if tries <= EVIDENCE_KEPT:
        summary = f"Not understood: {why}"
        keep(
            generation.pk, Exchange.Kind.RESULT, exchange, summary=summary, prediction_id=generation.prediction_id or ""
        )
    saved = Generation.objects.save_leased(
        generation.pk,
        token,
        release=True,
        attempts=min(tries, MOST_ATTEMPTS),
        error_code=not_understood.CODE,
        error_message=why,
        outputs=provider.all_addresses(prediction) if prediction else [],
        next_action_at=timezone.now() + backoff(tries - 1, first=settings.WAVESPEED_POLL_SECONDS, most=LONGEST_WAIT),
    )
    if saved and tries >= TRIES_UNTIL_LOOK:
        ask_for_look(generation.pk, f"{why} {not_understood.WHAT_TO_DO}")
    return None


def _no_verdict(
    generation: Generation, token: uuid.UUID, why: str, exchange: Evidence | None, *, is_answer: bool
) -> Status | None:
    """Ask again later, until the provider can't have a result any more and its own answer, of this prediction, is that it has none."""
    assert generation.submitted_at
    if exchange is not None and generation.attempts < EVIDENCE_KEPT:
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
    attempts = min(generation.attempts + 1, MOST_ATTEMPTS) if exchange is not None else generation.attempts
    changes: dict[str, Any] = {"attempts": attempts, "next_action_at": timezone.now() + timedelta(seconds=wait)}
    if generation.status == Status.PROCESSING and generation.error_code and exchange is None and is_answer:
        # What was in its way is over.
        changes |= {"attempts": 0, "error_code": "", "error_message": "", **NO_LOOK}
    Generation.objects.save_leased(generation.pk, token, release=True, **changes)
    return None
