"""Takes the provider's webhooks: proved, kept as evidence, and a reason to look. What they say is never believed by itself.

Nothing here asks the provider but `refresh_secret`, so that a webhook is answered at once.
"""

import uuid
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta

import structlog
from django.conf import settings
from django.db.models import Exists, Q, QuerySet
from django.utils import timezone

from generations import provider, tasks
from generations.models import Exchange, Generation, Lane, Status
from generations.wavespeed import errors, webhooks
from generations.wavespeed.replies import Prediction
from generations.wavespeed.transport import Exchange as Evidence

log = structlog.get_logger(__name__)

# A prediction with its inputs has some kilobytes.
MAX_BODY = 500_000
# What says the same within this time as one before it is no news; the poll goes on by itself.
SAME_NEWS = timedelta(seconds=30)
LOOKS = {
    Status.QUEUED: tasks.resolve,
    Status.UNCONFIRMED: tasks.resolve,
    Status.PROCESSING: tasks.poll,
    Status.FAILED: tasks.poll,
}


class NoSecret(Exception):
    """Nobody can say whether a webhook is the provider's: there is no secret yet."""


class NoSuchGeneration(Exception):
    """The address is of nothing here."""


def refresh_secret() -> None:
    """Asks the provider for the secret that signs webhooks, where they are expected and none is set."""
    if not settings.WAVESPEED_WEBHOOK_BASE_URL or settings.WAVESPEED_WEBHOOK_SECRET:
        return
    try:
        secret = provider.client().webhook_secret()
    except errors.WaveSpeedError as error:
        log.warning("webhook_secret_not_read", reason=str(error))
        return
    if len(secret) > _longest_secret():
        log.error("webhook_secret_too_long", length=len(secret))
        return
    Lane.objects.get_or_create(pk=Lane.WAVESPEED)
    if Lane.objects.filter(pk=Lane.WAVESPEED).exclude(webhook_secret=secret).update(webhook_secret=secret):
        log.info("webhook_secret_changed")


def receive(pk: uuid.UUID, headers: Mapping[str, str], body: bytes, *, path: str) -> None:
    """Keeps what the provider tells of a generation, and has it looked at. Safe to be told twice, late, or in any order.

    Raises `BadSignature`, `Unreadable`, `NoSecret` or `NoSuchGeneration`, and then nothing was kept.
    """
    _verify(headers, body)
    prediction = webhooks.parse(body, provider.redactor())
    row = _evidence(pk, headers, body, prediction, path=path)
    known = Generation.objects.filter(pk=pk).annotate(is_known=Exists(_told_before(row)))
    found = known.values_list("status", "prediction_id", "is_known").first()
    if found is None:
        raise NoSuchGeneration
    status, prediction_id, is_known = found
    is_own = prediction_id in (None, prediction.id)
    if not is_own:
        row.prediction_id = ""
        row.summary += ", of a prediction that is not this one's; not believed"
        log.warning("webhook_of_another", generation=str(pk), prediction=prediction.id)
    # Once per delivery, and before anything is done about it.
    Exchange.objects.bulk_create([row], ignore_conflicts=True)
    if is_own and not is_known:
        _wake(pk, status)


def _verify(headers: Mapping[str, str], body: bytes) -> None:
    """By any of the secrets: while one is changed, both may be set, with a space between them."""
    told = settings.WAVESPEED_WEBHOOK_SECRET or (
        Lane.objects.filter(pk=Lane.WAVESPEED).values_list("webhook_secret", flat=True).first() or ""
    )
    secrets = told.split()
    if not secrets:
        raise NoSecret
    for last, secret in enumerate(secrets, start=1 - len(secrets)):
        try:
            webhooks.verify(secret, headers, body)
        except errors.BadSignature:
            if last == 0:
                raise
        else:
            return


def _evidence(pk: uuid.UUID, headers: Mapping[str, str], body: bytes, prediction: Prediction, *, path: str) -> Exchange:
    """What is kept of a webhook, redacted."""
    redactor = provider.redactor()
    told = Evidence("POST", path, None, redactor.excerpt(body), 0)
    return Exchange(
        generation_id=pk,
        kind=Exchange.Kind.WEBHOOK,
        prediction_id=prediction.id,
        delivery_id=redactor.text(headers.get("webhook-id", ""))[:100],
        summary=f"Told by the provider: {redactor.text(prediction.status)[:40] or 'nothing'}",
        detail=asdict(told) | {"prediction": prediction.id},
    )


def _told_before(row: Exchange) -> QuerySet[Exchange]:
    """This delivery itself, or another one of this moment that says the same: neither is a reason to look again."""
    lately = timezone.now() - SAME_NEWS
    same_news = Q(prediction_id=row.prediction_id, summary=row.summary, at__gt=lately)
    told = Exchange.objects.filter(generation_id=row.generation_id, kind=Exchange.Kind.WEBHOOK)
    return told.filter(Q(delivery_id=row.delivery_id) | same_news)


def _wake(pk: uuid.UUID, status: str) -> None:
    """What has failed is looked at too, as it may come after all; and what shows as queued, as it may be paid."""
    actor = LOOKS.get(Status(status))
    if actor is None:
        return
    if Generation.objects.filter(pk=pk, status=status).update(next_action_at=timezone.now()):
        tasks.send_on_commit(actor, str(pk))


def _longest_secret() -> int:
    return Lane._meta.get_field("webhook_secret").max_length or 0
