"""What a finished video means for the row and the books, in one transaction; also when it comes after the row had failed."""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from generations import alerts
from generations.lifecycle.timing import redelivery
from generations.models import Exchange, Generation, PausedEndpoint, Status
from generations.provider import bill
from generations.provider.bill import Bill
from generations.wavespeed import errors
from projects.models import EntryKind, SpendEntry
from projects.money import shown, spend

log = structlog.get_logger(__name__)

FIRST_SETTLEMENT = timedelta(seconds=30)


def succeeded(
    generation: Generation,
    outputs: Sequence[str],
    *,
    token: uuid.UUID | None = None,
    decided: str = "",
    by: User | None = None,
) -> Status | None:
    """Moves it to `storing` and charges it. The provider's deduct row is the price if it can be seen, else the quote.

    `decided` is what `by`, an owner, says of it where the provider's own word was not understood: in a request, so the bill is read later.
    """
    old = Status(generation.status)
    billed = None if decided else _billed(generation.prediction_id or "")
    with transaction.atomic():
        amount = _price(generation, billed)
        late = "It came after all: made" if old == Status.FAILED else "Made"
        moved = Generation.objects.move(
            generation.pk,
            old,
            Status.STORING,
            token=token,
            reason=f"{decided} {late} by the provider for {shown(amount)}.".strip(),
            by=by,
            outputs=list(outputs),
            charged=amount,
            completed_at=None,
            next_action_at=timezone.now() + redelivery(),
            settle_at=timezone.now() + FIRST_SETTLEMENT,
        )
        if not moved:
            return None
        _charge(generation, amount)
        if old == Status.FAILED:
            alerts.late_success(generation, charged=spend.charged(generation.pk))
    return Status.STORING


def _charge(generation: Generation, amount: int) -> None:
    reservation = spend.reservation_of(generation.pk)
    if reservation is None:
        return
    if not reservation.entries.filter(kind=EntryKind.CHARGE).exists():
        spend.charge(reservation, amount=amount, key=f"charge:{generation.pk}", reason="Made by the provider.")
    Generation.objects.filter(pk=generation.pk).update(charged=spend.charged(generation.pk))
    pause_if_overcharged(generation, reservation)


def _price(generation: Generation, billed: Bill | None) -> int:
    """What was deducted; less the refunds that the books count already, which only a late success can have."""
    if billed is None or not billed.deducts:
        return generation.quote or 0
    counted = billed.refunded - sum(row.amount for row in new_refunds(generation.pk, billed))
    return max(0, billed.deducted - counted)


def _billed(prediction_id: str) -> Bill | None:
    try:
        return bill.of(prediction_id)
    except errors.WaveSpeedError as error:
        log.warning("bill_not_read", prediction=prediction_id, reason=str(error))
        return None


def new_refunds(pk: uuid.UUID, billed: Bill) -> list[bill.Row]:
    """The refund rows that are not in the books: a release counts the refund that it was made for without an entry of it."""
    counted = {row["uuid"] for row in counted_rows(pk)}
    booked = set(SpendEntry.objects.filter(reference=pk, kind=EntryKind.REFUND).values_list("key", flat=True))
    return [row for row in billed.refunds if row.amount and row.uuid not in counted and refund_key(row) not in booked]


def counted_rows(pk: uuid.UUID) -> list[dict[str, Any]]:
    """The rows of the bill as they were when they were booked: `uuid`, `kind` and `amount`."""
    kept = Exchange.objects.filter(generation_id=pk, kind=Exchange.Kind.BILL).values_list("detail", flat=True)
    return [row for detail in kept for row in detail["rows"]]


def refund_key(row: bill.Row) -> str:
    return f"refund:{row.uuid}"


def pause_if_overcharged(generation: Generation, reservation: SpendEntry) -> None:
    """A charge always lands; one above its reservation stops further ones of that endpoint until an owner resumes it."""
    reserved, charged = reservation.reserved_delta, spend.charged(generation.pk)
    if charged <= reserved:
        return
    log.error("overcharged", generation=str(generation.pk), reserved=reserved, charged=charged)
    reason = (
        f"The provider charged {shown(charged)} where {shown(reserved)} was reserved "
        f"(generation {generation.pk}). Check its price, then resume."
    )
    PausedEndpoint.pause(generation.endpoint, reason)
    alerts.overcharged(generation, reserved=reserved, charged=charged)
