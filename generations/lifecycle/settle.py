"""Settle: brings the books in line with the provider's bill, and stops an endpoint that costs more than was reserved."""

import contextlib
import uuid
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from generations import alerts, failures, provider
from generations.lifecycle.evidence import keep
from generations.lifecycle.success import counted_rows, new_refunds, pause_if_overcharged, refund_key, succeeded
from generations.lifecycle.timing import RESULTS_LAST
from generations.models import Exchange, Generation, Status
from generations.provider import bill
from generations.wavespeed import errors
from projects.models import EntryKind, SpendEntry
from projects.money import shown, spend

log = structlog.get_logger(__name__)

STOP_LOOKING_FOR_BILL = timedelta(days=7)


def fail_until_billed(generation: Generation, failure: failures.Failure, *, token: uuid.UUID) -> Status | None:
    """Failed at once; its money stays held until `settle` has read the bill. None: somebody else moved it."""
    moved = Generation.objects.move(
        generation.pk,
        Status(generation.status),
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


def settle(pk: uuid.UUID) -> None:
    """Compares the books with the provider's bill: corrects a charge, or ends the hold of a failure as the provider billed it."""
    Generation.objects.filter(pk=pk, settle_sent_at__isnull=False).update(settle_sent_at=None)
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
    is_charged = reservation.entries.filter(kind=EntryKind.CHARGE).exists()
    if generation.status == Status.FAILED and not is_charged:
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
        if not _claim_settlement(generation) or not billed.deducts:
            return
        charged = spend.charged(generation.pk)
        # The refunds that are booked after this leave what the provider keeps.
        due = billed.net + sum(row.amount for row in new_refunds(generation.pk, billed))
        if due != charged:
            spend.adjust(
                reservation,
                amount=due - charged,
                key=f"settle:{generation.pk}:{charged}:{due}",
                reason="The provider billed another amount.",
            )
        booked_bill(generation, reservation, billed)
        if due > charged:
            pause_if_overcharged(generation, reservation)


def _settle_failure(generation: Generation, reservation: SpendEntry, billed: bill.Bill) -> None:
    """Refunds cover what was deducted → release. After the hours: the rest of what was deducted → charge; never deducted → release.

    Nothing else releases: no row of a kind that nobody knows, and none whose price is still to come. Until then the result is
    asked for again: a failure that was none becomes a late success.
    """
    assert generation.completed_at
    is_overdue = timezone.now() - generation.completed_at > timedelta(hours=settings.WAVESPEED_REFUND_HOURS)
    if not billed.is_refunded and not (_confirm_failure(generation) and is_overdue):
        _settle_later(generation)
        return
    with transaction.atomic():
        if not _claim_settlement(generation, status=Status.FAILED):
            return
        if billed.net > 0:
            spend.charge(
                reservation,
                amount=billed.deducted,
                key=f"charge:{generation.pk}",
                reason="It failed, and the provider billed it without a refund.",
            )
        elif spend.is_held(reservation):
            reason = (
                "The provider refunded it." if billed.is_refunded else "The provider never deducted anything for it."
            )
            spend.release(reservation, key=f"release:{generation.pk}", reason=reason)
        booked_bill(generation, reservation, billed)
        pause_if_overcharged(generation, reservation)


def _confirm_failure(generation: Generation) -> bool:
    """False: it is made, or may still be, or nobody can say now. What the provider knows no more has failed."""
    assert generation.prediction_id
    assert generation.submitted_at
    try:
        prediction = provider.client().result(generation.prediction_id)
    except (errors.NotFound, errors.NotUnderstood):
        return True
    except errors.WaveSpeedError as error:
        log.warning("failure_not_confirmed", generation=str(generation.pk), reason=str(error))
        return timezone.now() - generation.submitted_at > RESULTS_LAST
    if prediction.is_made:
        summary = "completed, after it was said to have failed"
        keep(generation.pk, Exchange.Kind.RESULT, prediction.exchange, summary=summary, prediction_id=prediction.id)
        succeeded(generation, provider.output_urls(prediction))
        return False
    if not prediction.is_pending or timezone.now() - generation.submitted_at > RESULTS_LAST:
        return True
    # It is still being made: poll follows it from here.
    Generation.objects.filter(pk=generation.pk, status=Status.FAILED).update(next_action_at=timezone.now())
    return False


def _claim_settlement(generation: Generation, **conditions: Status) -> bool:
    """False: another worker has settled it, or it does not fit `conditions` any more."""
    rows = Generation.objects.filter(pk=generation.pk, settle_at__isnull=False, **conditions)
    return rows.update(settle_at=None) == 1


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


def book_late_deducts(generation: Generation, reservation: SpendEntry, billed: bill.Bill) -> SpendEntry | None:
    """Charges what was deducted after the hold had been released, less what was given back of it. Needs a transaction.

    None where there is no such deduct, or there is a charge already: then a difference is for people.
    """
    if spend.is_held(reservation) or reservation.entries.filter(kind=EntryKind.CHARGE).exists():
        return None
    still_to_give_back = sum(row.amount for row in new_refunds(generation.pk, billed))
    amount = min(
        sum(row.amount for row in _new_deducts(generation.pk, billed)),
        billed.net + still_to_give_back - spend.charged(generation.pk),
    )
    if amount <= 0:
        return None
    entry = spend.charge(
        reservation,
        amount=amount,
        key=f"late-deduct:{generation.pk}",
        reason="It failed, and the provider deducted it after its hold was released.",
    )
    booked_bill(generation, reservation, billed)
    alerts.late_deduct(generation, amount=amount)
    pause_if_overcharged(generation, reservation)
    return entry


def _new_deducts(pk: uuid.UUID, billed: bill.Bill) -> list[bill.Row]:
    """The deduct rows that no settlement has counted."""
    counted = {row["uuid"] for row in counted_rows(pk) if row["kind"] == bill.DEDUCT and row["amount"]}
    return [row for row in billed.deducts if row.uuid not in counted]


def book_refunds(reservation: SpendEntry, rows: list[bill.Row]) -> list[SpendEntry]:
    """Each row once, and none that gives back more than was charged: its deduct row is not in the books."""
    entries = []
    for row in rows:
        with contextlib.suppress(spend.RefundExceedsCharge):
            reason = "The provider refunded it."
            entries.append(spend.refund(reservation, amount=row.amount, key=refund_key(row), reason=reason))
    return entries


def _settle_later(generation: Generation) -> None:
    """Looks at the bill again: often at first, as it may lag, then every hour."""
    assert generation.submitted_at
    wait = min(max((timezone.now() - generation.submitted_at) / 4, timedelta(seconds=5)), timedelta(hours=1))
    Generation.objects.filter(pk=generation.pk, settle_at__isnull=False).update(settle_at=timezone.now() + wait)
