"""Settle: brings the books in line with the provider's bill, and stops an endpoint that costs more than was reserved."""

import contextlib
import uuid
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from generations import alerts, bill
from generations.models import Exchange, Generation, PausedEndpoint
from generations.wavespeed import errors
from projects import spend
from projects.models import EntryKind, SpendEntry
from projects.money import shown

log = structlog.get_logger(__name__)

FIRST_SETTLEMENT = timedelta(seconds=30)
STOP_LOOKING_FOR_BILL = timedelta(days=7)


def settle(pk: uuid.UUID) -> None:
    """Compares the books with the provider's bill: corrects a charge, or ends the hold of a failure as the provider billed it."""
    generation = Generation.objects.filter(pk=pk, settle_at__isnull=False).first()
    reservation = spend.reservation_of(pk)
    if generation is None or reservation is None or not generation.prediction_id:
        return
    try:
        billed = bill.of(generation.prediction_id)
    except errors.WaveSpeedError as error:
        log.warning("bill_not_read", generation=str(pk), reason=str(error))
        _settle_later(generation)
        return
    if spend.is_held(reservation):
        _settle_failure(generation, reservation, billed)
    else:
        _settle_charge(generation, reservation, billed)


def _settle_charge(generation: Generation, reservation: SpendEntry, billed: bill.Bill) -> None:
    """A refund row alone is no bill yet: the deduct row that it gives back is still to be seen."""
    age = timezone.now() - (generation.submitted_at or generation.created_at)
    if not billed.deducts and age <= STOP_LOOKING_FOR_BILL:
        _settle_later(generation)
        return
    with transaction.atomic():
        if not _is_settled_now(generation) or not billed.deducts:
            return
        difference = billed.deducted - spend.charged(generation.pk)
        if difference:
            spend.adjust(
                reservation,
                amount=difference,
                key=f"settle:{generation.pk}",
                reason="The provider billed another amount.",
            )
        booked_bill(generation, reservation, billed)
        if difference > 0:
            pause_if_overcharged(generation, reservation)


def _settle_failure(generation: Generation, reservation: SpendEntry, billed: bill.Bill) -> None:
    """Refunded → release; deducted and not refunded in time → charge; never deducted → release."""
    assert generation.completed_at
    is_overdue = timezone.now() - generation.completed_at > timedelta(hours=settings.WAVESPEED_REFUND_HOURS)
    is_refunded = bool(billed.rows) and billed.net <= 0
    if not is_refunded and not is_overdue:
        _settle_later(generation)
        return
    with transaction.atomic():
        if not _is_settled_now(generation):
            return
        if billed.net > 0:
            spend.charge(
                reservation,
                amount=billed.deducted,
                key=f"charge:{generation.pk}",
                reason="It failed, and the provider billed it without a refund.",
            )
        else:
            reason = "The provider refunded it." if billed.rows else "The provider never billed it."
            spend.release(reservation, key=f"release:{generation.pk}", reason=reason)
        booked_bill(generation, reservation, billed)
        pause_if_overcharged(generation, reservation)


def _is_settled_now(generation: Generation) -> bool:
    """False: another worker has settled it."""
    return Generation.objects.filter(pk=generation.pk, settle_at__isnull=False).update(settle_at=None) == 1


def booked_bill(generation: Generation, reservation: SpendEntry, billed: bill.Bill) -> None:
    """Books the refund rows that are new, and keeps which rows the books count by now. Needs a transaction."""
    book_refunds(reservation, new_refunds(generation.pk, billed))
    Exchange.objects.create(
        generation=generation,
        kind=Exchange.Kind.BILL,
        prediction_id=billed.prediction_id,
        summary=f"Billed {shown(billed.deducted)}, refunded {shown(billed.refunded)}",
        detail={"rows": [{"uuid": row.uuid, "kind": row.kind, "amount": row.amount} for row in billed.rows]},
    )
    Generation.objects.filter(pk=generation.pk).update(charged=spend.charged(generation.pk))


def new_refunds(pk: uuid.UUID, billed: bill.Bill) -> list[bill.Row]:
    """The refund rows that are not in the books: a release counts the refund that it was made for without an entry of it."""
    kept = Exchange.objects.filter(generation_id=pk, kind=Exchange.Kind.BILL).values_list("detail", flat=True)
    counted = {row["uuid"] for detail in kept for row in detail["rows"]}
    booked = set(SpendEntry.objects.filter(reference=pk, kind=EntryKind.REFUND).values_list("key", flat=True))
    return [row for row in billed.refunds if row.amount and row.uuid not in counted and _refund_key(row) not in booked]


def book_refunds(reservation: SpendEntry, rows: list[bill.Row]) -> list[SpendEntry]:
    """Each row once, and none that gives back more than was charged: its deduct row is not in the books."""
    entries = []
    for row in rows:
        with contextlib.suppress(spend.RefundExceedsCharge):
            reason = "The provider refunded it."
            entries.append(spend.refund(reservation, amount=row.amount, key=_refund_key(row), reason=reason))
    return entries


def _refund_key(row: bill.Row) -> str:
    return f"refund:{row.uuid}"


def pause_if_overcharged(generation: Generation, reservation: SpendEntry) -> None:
    """A charge always lands; one above its reservation stops further ones of that endpoint until an owner resumes it."""
    reserved, charged = reservation.reserved_delta, spend.charged(generation.pk)
    if charged <= reserved:
        return
    log.error("overcharged", generation=str(generation.pk), reserved=reserved, charged=charged)
    PausedEndpoint.objects.get_or_create(
        endpoint=generation.endpoint,
        defaults={
            "reason": f"The provider charged {shown(charged)} where {shown(reserved)} was reserved "
            f"(generation {generation.pk}). Check its price, then resume."
        },
    )
    alerts.overcharged(generation, reserved=reserved, charged=charged)


def _settle_later(generation: Generation) -> None:
    """Looks at the bill again: often at first, as it may lag, then every hour."""
    assert generation.submitted_at
    wait = min(max((timezone.now() - generation.submitted_at) / 4, timedelta(seconds=5)), timedelta(hours=1))
    Generation.objects.filter(pk=generation.pk, settle_at__isnull=False).update(settle_at=timezone.now() + wait)
