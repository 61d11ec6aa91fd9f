"""Keeps what the provider answered, whatever becomes of the step that asked; and reads which predictions it named."""

import uuid
from dataclasses import asdict
from datetime import datetime

from generations.models import Exchange, Generation
from generations.wavespeed.transport import Exchange as Evidence


def keep(
    pk: uuid.UUID,
    kind: Exchange.Kind,
    exchange: Evidence | None,
    *,
    summary: str,
    prediction_id: str = "",
    refusal: str = "",
) -> None:
    """Saves evidence, unguarded by lease or status, and outside the transaction that acts on it.

    `refusal` says what a refusal means, as its HTTP status may be 200: see `times_refused`.
    """
    Exchange.objects.create(
        generation_id=pk,
        kind=kind,
        prediction_id=prediction_id,
        summary=summary[:300],
        detail=(asdict(exchange) if exchange else {}) | ({"refusal": refusal} if refusal else {}),
    )


def times_refused(pk: uuid.UUID, refusal: str, *, since: datetime | None) -> int:
    """How often the generation was refused in this way."""
    refusals = Exchange.objects.filter(generation_id=pk, detail__refusal=refusal)
    return (refusals.filter(at__gt=since) if since else refusals).count()


def accepted(pk: uuid.UUID) -> str:
    """The prediction that a reply to the submit itself named; empty without such a reply."""
    named = Exchange.objects.filter(generation_id=pk, kind=Exchange.Kind.SUBMIT).exclude(prediction_id="")
    return named.values_list("prediction_id", flat=True).first() or ""


def announced(pk: uuid.UUID) -> list[str]:
    """The predictions that webhooks to the generation's own address named, and no other has; they are still to be confirmed."""
    told = Exchange.objects.filter(generation_id=pk, kind=Exchange.Kind.WEBHOOK).exclude(prediction_id="")
    named = set(told.values_list("prediction_id", flat=True))
    if not named:
        return []
    of_others = Generation.objects.exclude(pk=pk).filter(prediction_id__in=named)
    return sorted(named - set(of_others.values_list("prediction_id", flat=True)))


def last_post(pk: uuid.UUID) -> datetime | None:
    """When the last answer to a submit came, or else, as that was never seen here, the first webhook; None: neither came."""
    kept = Exchange.objects.filter(generation_id=pk)
    posted = kept.filter(kind=Exchange.Kind.SUBMIT).order_by("-at")
    told = kept.filter(kind=Exchange.Kind.WEBHOOK).order_by("at")
    return posted.values_list("at", flat=True).first() or told.values_list("at", flat=True).first()
