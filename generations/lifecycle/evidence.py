"""Keeps what the provider answered, whatever becomes of the step that asked."""

import uuid
from dataclasses import asdict

from generations.models import Exchange
from generations.wavespeed.transport import Exchange as Evidence


def keep(
    pk: uuid.UUID, kind: Exchange.Kind, exchange: Evidence | None, *, summary: str, prediction_id: str = ""
) -> None:
    """Saves evidence, unguarded by lease or status, and outside the transaction that acts on it."""
    Exchange.objects.create(
        generation_id=pk,
        kind=kind,
        prediction_id=prediction_id,
        summary=summary[:300],
        detail=asdict(exchange) if exchange else {},
    )
