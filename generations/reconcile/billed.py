"""What the bill says that our books don't, and the other way round."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from generations import lifecycle
from generations.lifecycle import matching, unassigned
from generations.models import Generation, Reconciliation, Status, UnassignedPrediction
from generations.provider.bill import Bill
from generations.reconcile.comparing import Account, Compared, chunks
from generations.reconcile.findings import EXPLAINED, Finding, Kind, dollars
from generations.wavespeed.replies import Prediction
from projects.money import budgets, spend


def keep_orphans(compared: Compared) -> dict[str, str]:
    """What nobody here has is stored before it expires, or goes to the generation that it names after all; what was done, by prediction.

    What was made for an unconfirmed generation is left to `resolve`.
    """
    strange = [each for each in compared.predictions.values() if not _owner(each, compared)]
    done: dict[str, str] = {}
    for some in chunks(strange):
        unassigned.take_in(some, found_by=UnassignedPrediction.FoundBy.BILL)
        ids = [each.id for each in some]
        kept = UnassignedPrediction.objects.filter(prediction_id__in=ids, assigned_to=None)
        done |= dict.fromkeys(kept.values_list("prediction_id", flat=True), "kept as an unassigned video")
        given = Generation.objects.filter(prediction_id__in=ids).values_list("prediction_id", "pk")
        done |= {prediction_id: f"given to generation {pk}" for prediction_id, pk in given}
    return done


def check_bill(
    compared: Compared, kept: dict[str, str], reconciliation: Reconciliation, apply: bool
) -> Iterator[Finding]:
    for account in compared.differing:
        yield from _differing(account, reconciliation, apply)
    for reference, spent in compared.unbilled.items():
        why = "It was charged here, and no prediction is known that the provider could have billed."
        yield Finding(Kind.DRIFT, f"Generation {reference}", spent, 0, why, generation=str(reference))
    for orphan in compared.orphans:
        if settings.WAVESPEED_ACCOUNT_IS_SHARED and not _may_be_anybodys(orphan, compared):
            continue
        yield replace(_orphan(orphan, compared), done=kept.get(orphan.prediction_id, ""))
    for account in compared.waiting:
        yield _waiting(account)
    for generation in compared.unknown:
        yield _held(generation, compared)
    accounts = [*compared.equal, *compared.waiting, *compared.differing]
    for billed in [*(account.billed for account in accounts), *compared.orphans]:
        yield from _strange_rows(billed)


@transaction.atomic
def _differing(account: Account, reconciliation: Reconciliation, apply: bool) -> list[Finding]:
    """Books refunds and deducts that came after the settlement, and with `apply` the rest."""
    pk, billed = account.generation.pk, account.billed
    generation = Generation.objects.select_for_update().get(pk=pk)
    budgets.hold_till()
    reservation = spend.reservation_of(pk)
    if reservation is None:
        return [_about(account, Kind.DRIFT, 0, billed.net, "The provider billed it, and no money was ever reserved.")]
    if generation.settle_at or spend.charged(pk) != account.spent:
        why = "It moved while it was compared; the next reconciliation looks at it."
        return [_about(account, Kind.WAITING, account.spent, billed.net, why)]
    findings, spent = [], account.spent
    if lifecycle.book_late_deducts(generation, reservation, billed):
        why = "The provider deducted it after its hold was released."
        findings.append(_about(account, Kind.CHARGE, spent, spend.charged(pk), why, done="booked"))
        spent = spend.charged(pk)
    for entry in lifecycle.book_refunds(reservation, lifecycle.new_refunds(pk, billed)):
        why = "The provider refunded it after it was settled."
        after = spent + entry.spent_delta
        findings.append(_about(account, Kind.REFUND, spent, after, why, done="booked"))
        spent = after
    if billed.net != spent:
        why = _why(account, spent)
        done = ""
        if apply:
            key = f"drift:{reconciliation.pk}:{billed.prediction_id}"
            by = reconciliation.started_by
            spend.adjust(reservation, amount=billed.net - spent, key=key, reason=f"drift: {why}", by=by)
            lifecycle.booked_bill(generation, reservation, billed)
            if billed.net > spent:
                lifecycle.pause_if_overcharged(generation, reservation)
            done = "adjusted"
        findings.append(_about(account, Kind.DRIFT, spent, billed.net, why, done=done))
    Generation.objects.filter(pk=pk).update(charged=spend.charged(pk))
    return findings


def _why(account: Account, spent: int) -> str:
    billed = account.billed
    if not billed.rows:
        return "It was charged here, and is on no bill."
    if billed.net < 0:
        return "The provider refunded more than it deducted."
    if not spent:
        return "The provider billed it after its hold was released here."
    return f"The provider billed {'more' if billed.net > spent else 'less'} than was charged here."


def _about(account: Account, kind: Kind, ours: int, theirs: int, why: str, **more: Any) -> Finding:
    generation = account.generation
    return Finding(
        kind,
        f"Generation {generation.pk}",
        ours,
        theirs,
        why,
        generation=str(generation.pk),
        prediction=account.billed.prediction_id,
        is_difference=more.pop("is_difference", kind not in EXPLAINED),
        **more,
    )


def _waiting(account: Account) -> Finding:
    """Its settlement is still to come; one that should be long over is a difference."""
    since = account.generation.submitted_at or account.generation.created_at
    longest = lifecycle.RESULTS_LAST + timedelta(hours=settings.WAVESPEED_REFUND_HOURS) + timedelta(days=1)
    is_overdue = timezone.now() - since > longest
    status = account.generation.get_status_display().lower()
    why = f"It is {status}, and not settled yet" + (", which is long overdue." if is_overdue else ".")
    ours, theirs, held = account.spent, account.billed.net, account.held
    return _about(account, Kind.WAITING, ours, theirs, why, held=held, is_difference=is_overdue)


def _orphan(orphan: Bill, compared: Compared) -> Finding:
    """Billed there, unknown here, with what is known of it."""
    prediction = compared.predictions.get(orphan.prediction_id)
    owner = _owner(prediction, compared)
    perhaps = [owner] if owner else [each for each in compared.unknown if _may_be(each, orphan, prediction)]
    kind, why = Kind.ORPHAN, "The provider billed it, and nothing here asked for it."
    if owner:
        why = f"It was made for generation {owner.pk}, whose money is held until an owner confirms it."
    if any(each.status == Status.SUBMITTING for each in perhaps):
        kind, why = Kind.WAITING, "It may be of a request whose answer is on its way."
    return Finding(
        kind,
        f"Prediction {orphan.prediction_id or '(none named)'}",
        0,
        orphan.net,
        why,
        prediction=orphan.prediction_id,
        generation=str(owner.pk) if owner else "",
        details=_known_of(orphan, prediction),
        is_difference=kind == Kind.ORPHAN and owner is None,
    )


def _may_be_anybodys(orphan: Bill, compared: Compared) -> bool:
    prediction = compared.predictions.get(orphan.prediction_id)
    return any(_made_for(each, prediction) or _may_be(each, orphan, prediction) for each in compared.unknown)


def _known_of(orphan: Bill, prediction: Prediction | None) -> dict[str, Any]:
    inputs = (prediction.input if prediction else None) or {}
    return {
        "model": prediction.model if prediction else "",
        "status": prediction.status if prediction else orphan.rows[0].prediction_status,
        "billed_at": orphan.first_at.isoformat(timespec="seconds") if orphan.first_at else "",
        "deducted": orphan.deducted,
        "refunded": orphan.refunded,
        "prompt": "" if settings.WAVESPEED_ACCOUNT_IS_SHARED else str(inputs.get("prompt", ""))[:300],
    }


def _held(generation: Generation, compared: Compared) -> Finding:
    """Nobody knows whether it was made. What it may have become is counted; people decide, never code."""
    candidates = _candidates(generation, compared)
    why = f"Whether it was made is unknown; orphans that may be it: {len(candidates) or 'none'}."
    if generation.status == Status.SUBMITTING:
        why = "It is being handed to the provider."
    return Finding(
        Kind.HELD,
        f"Generation {generation.pk}",
        0,
        0,
        why,
        held=generation.quote or 0,
        generation=str(generation.pk),
        details={"candidates": candidates},
        is_difference=False,
    )


def _candidates(generation: Generation, compared: Compared) -> list[str]:
    """The orphan that is surely it, else those that may be, and are not surely another's."""
    known = [(orphan, compared.predictions.get(orphan.prediction_id)) for orphan in compared.orphans]
    sure = [orphan.prediction_id for orphan, prediction in known if _made_for(generation, prediction)]
    return sure or [
        orphan.prediction_id
        for orphan, prediction in known
        if _may_be(generation, orphan, prediction) and not _owner(prediction, compared)
    ]


def _owner(prediction: Prediction | None, compared: Compared) -> Generation | None:
    """Which of those of unknown outcome it was made for, if that is sure."""
    return next((each for each in compared.unknown if _made_for(each, prediction)), None)


def _made_for(generation: Generation, prediction: Prediction | None) -> bool:
    return matching.is_sure(generation, prediction.input if prediction else None)


def _may_be(generation: Generation, orphan: Bill, prediction: Prediction | None) -> bool:
    return matching.may_be(
        generation,
        endpoint=prediction.model if prediction else "",
        made_at=orphan.first_at,
        inputs=prediction.input if prediction else None,
    )


def _strange_rows(billed: Bill) -> Iterator[Finding]:
    for row in billed.strange:
        why = (
            f"The bill has a row of the unknown kind “{row.kind}” over {dollars(row.amount)}, which counts for nothing."
        )
        what = f"Prediction {billed.prediction_id or '(none named)'}"
        yield Finding(Kind.DRIFT, what, 0, 0, why, prediction=billed.prediction_id)
