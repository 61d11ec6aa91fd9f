"""Adopt: a prediction at the provider surely belongs to a generation, or an owner says so; it goes on from there."""

import uuid
from datetime import timedelta

import structlog
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from generations import provider
from generations.lifecycle import evidence
from generations.lifecycle.timing import poll_interval
from generations.models import Generation, GenerationEvent, Status, UnassignedPrediction

log = structlog.get_logger(__name__)


def adopt(pk: uuid.UUID, prediction_id: str, *, reason: str, by: User | None = None) -> bool:
    """Gives a generation its prediction: `submitting` and `unconfirmed` go on to `processing`.

    One that has `failed` without a prediction, as it was settled as not made, remembers it and looks due, so that poll finds the late
    success. False: it has a prediction, it has moved on, or the prediction is another generation's.
    """
    try:
        with transaction.atomic():
            if not _adopt(pk, prediction_id, reason, by):
                return False
            _assign(pk, prediction_id, by)
    except IntegrityError:
        # `prediction_id` and `assigned_to` are unique: somebody else has it.
        log.warning("prediction_of_another", generation=str(pk), prediction=prediction_id)
        return False
    return True


def adopt_announced(pk: uuid.UUID) -> bool:
    """Adopts the one prediction that this generation's own webhooks named, once the provider confirms that it exists.

    Raises `WaveSpeedError` when nobody can say now. Two that are named are for people to decide.
    """
    endpoint = Generation.objects.values_list("endpoint", flat=True).get(pk=pk)
    confirmed = [name for name in evidence.announced(pk) if provider.client().result(name).model in ("", endpoint)]
    return len(confirmed) == 1 and adopt(pk, confirmed[0], reason="The provider's own message named it: accepted.")


def _adopt(pk: uuid.UUID, prediction_id: str, reason: str, by: User | None) -> bool:
    now = timezone.now()
    first_poll = now + _first_poll(pk)
    for status, due in ((Status.SUBMITTING, first_poll), (Status.UNCONFIRMED, now)):
        if Generation.objects.move(
            pk, status, Status.PROCESSING, reason=reason, by=by, prediction_id=prediction_id, next_action_at=due
        ):
            return True
    return _remember(pk, prediction_id, reason, by)


def _remember(pk: uuid.UUID, prediction_id: str, reason: str, by: User | None) -> bool:
    failed = Generation.objects.filter(pk=pk, status=Status.FAILED, prediction_id=None)
    if failed.update(prediction_id=prediction_id, next_action_at=timezone.now(), attempts=0, sent_at=None) != 1:
        return False
    GenerationEvent.objects.create(
        generation_id=pk, old_status=Status.FAILED, new_status=Status.FAILED, reason=reason[:500], by=by
    )
    return True


def _assign(pk: uuid.UUID, prediction_id: str, by: User | None) -> None:
    """What was found of it before has its owner now; nobody has to store it apart any more."""
    rows = UnassignedPrediction.objects.filter(prediction_id=prediction_id)
    rows.filter(assigned_to=None).update(
        assigned_to=pk, assigned_at=timezone.now(), assigned_by=by, next_action_at=None, sent_at=None
    )
    if rows.exclude(assigned_to=pk).exists():
        raise IntegrityError(f"The prediction {prediction_id} was assigned to another generation.")


def _first_poll(pk: uuid.UUID) -> timedelta:
    endpoint = Generation.objects.values_list("endpoint", flat=True).get(pk=pk)
    return timedelta(seconds=poll_interval(0, provider.usual_seconds(endpoint)))
