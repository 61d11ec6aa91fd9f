"""Compares our books with themselves and with the provider's bill, and keeps a report of each difference.

Everything is read first, so that a provider who can't be reached changes nothing. Then each difference is booked by itself,
under the till, and only if its generation is still as it was when its bill was read.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from generations import bill, lifecycle, provider
from generations.bill import Bill
from generations.lifecycle import matching, unassigned
from generations.models import Generation, Reconciliation, Status, UnassignedPrediction
from generations.wavespeed import errors
from generations.wavespeed.replies import Prediction
from projects import books, budgets, spend
from projects.models import SpendEntry, Studio
from projects.money import to_dollars

log = structlog.get_logger(__name__)

OVERLAP = timedelta(days=8)
NIGHTLY_AT = time(3, 10)
RETRY_AFTER = timedelta(hours=1)
IDS_A_QUERY = 1000
# How many predictions that the bill names and the list does not are asked for in one run.
ASKED_AT_MOST = 100

T = TypeVar("T")


class Kind(StrEnum):
    BALANCE = "balance"
    LEDGER = "ledger"
    CHARGE = "charge"
    REFUND = "refund"
    DRIFT = "drift"
    ORPHAN = "orphan"
    WAITING = "waiting"
    HELD = "held"


# What is on its way, or held for an outcome that nobody knows, is explained.
EXPLAINED = frozenset({Kind.WAITING, Kind.HELD})


@dataclass(frozen=True)
class Finding:
    """One line of the report. Amounts are micro-dollars; `done` says what this run did about it."""

    kind: Kind
    what: str
    ours: int
    theirs: int
    why: str
    held: int = 0
    done: str = ""
    generation: str = ""
    prediction: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    is_difference: bool = True

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"difference": self.theirs - self.ours}


@dataclass(frozen=True)
class Account:
    """What the books and the bill say of one generation, in micro-dollars."""

    generation: Generation
    spent: int
    held: int
    billed: Bill

    @property
    def is_settled(self) -> bool:
        return not self.held and self.generation.settle_at is None and self.generation.status != Status.PROCESSING

    @property
    def differs(self) -> bool:
        return self.spent != self.billed.net


@dataclass(frozen=True)
class Compared:
    """All that was read: the generations of the window, and what is billed but not known here."""

    equal: list[Account]
    waiting: list[Account]
    differing: list[Account]
    unbilled: dict[UUID, int]
    orphans: list[Bill]
    predictions: dict[str, Prediction]
    unknown: list[Generation]

    @property
    def ours(self) -> int:
        compared = sum(account.spent for account in [*self.equal, *self.waiting, *self.differing])
        return compared + sum(self.unbilled.values())

    @property
    def theirs(self) -> int:
        known = sum(account.billed.net for account in [*self.equal, *self.waiting, *self.differing])
        return known + sum(orphan.net for orphan in self.orphans)


def dollars(micros: int) -> str:
    """With all its places: a difference of less than a cent is one."""
    return f"{'-' if micros < 0 else ''}${to_dollars(abs(micros)):,f}"


# --- Runs -------------------------------------------------------------------------------------------------------------


def begin(*, since: datetime | None = None, by: User | None = None) -> Reconciliation:
    """A reconciliation that is still to be run; without `since` it goes on from the last one that came to its end."""
    now = timezone.now()
    return Reconciliation.objects.create(started_at=now, since=since or _window(now), until=now, started_by=by)


def _window(now: datetime) -> datetime:
    """From where the good ones reach without a gap: one that began later than that has left something out."""
    first = Generation.objects.filter(submitted_at__isnull=False).order_by("submitted_at").first()
    compared_until = first.submitted_at if first and first.submitted_at else now
    good = Reconciliation.objects.filter(finished_at__isnull=False, error="").order_by("until")
    for since, until in good.values_list("since", "until"):
        if since <= compared_until:
            compared_until = max(compared_until, until)
    return compared_until - OVERLAP


def run(reconciliation: Reconciliation, *, apply: bool = False) -> Reconciliation:
    """Compares, books late refunds and late deducts, and with `apply` every other difference too; the report is stored in any case."""
    try:
        compared = _compare(reconciliation.since)
    except errors.WaveSpeedError as error:
        log.error("not_reconciled", reason=str(error))
        reconciliation.error = f"The provider's bill can't be read, so nothing was changed: {error}"[:500]
    else:
        kept = _keep_orphans(compared)
        findings = [*_own_books(apply), *_bill(compared, kept, reconciliation, apply)]
        reconciliation.applied = apply
        reconciliation.differences = sum(finding.is_difference for finding in findings)
        reconciliation.report = {
            "ours": compared.ours,
            "theirs": compared.theirs,
            "compared": len(compared.equal) + len(compared.waiting) + len(compared.differing),
            "findings": [finding.as_json() for finding in findings],
        }
        log.debug("reconciled", differences=reconciliation.differences, applied=apply)
    reconciliation.finished_at = timezone.now()
    reconciliation.save()
    return reconciliation


def tonight() -> Reconciliation | None:
    """Begins the night's reconciliation when it is due: from 03:10 in the studio's time zone on, every hour until one is done."""
    if not Generation.objects.filter(submitted_at__isnull=False).exists():
        return None
    with transaction.atomic():
        budgets.hold_till()
        now = timezone.now()
        since_due = Reconciliation.objects.filter(started_at__gte=_last_due(now))
        is_done = since_due.filter(finished_at__isnull=False, error="").exists()
        if is_done or since_due.filter(started_at__gt=now - RETRY_AFTER).exists():
            return None
        return begin()


def _last_due(now: datetime) -> datetime:
    local = now.astimezone(ZoneInfo(Studio.current().time_zone))
    day = local.date() if local.time() >= NIGHTLY_AT else local.date() - timedelta(days=1)
    return datetime.combine(day, NIGHTLY_AT, local.tzinfo)


# --- Reading ----------------------------------------------------------------------------------------------------------


def _compare(since: datetime) -> Compared:
    window = bill.since(since)
    # In this order: a submit whose answer comes now is in one of the two, and never looks like an orphan.
    unknown = _of_unknown_outcome()
    accounts = _accounts(_generations(since, window), window)
    settled = [account for account in accounts if account.is_settled]
    known = {account.billed.prediction_id for account in accounts}
    answered = {account.generation for account in accounts}
    orphan_ids = [prediction_id for prediction_id in window if prediction_id not in known]
    orphans = _whole(orphan_ids, window)
    differing = _read_again([account for account in settled if account.differs])
    return Compared(
        equal=[account for account in settled if not account.differs]
        + [account for account in differing if not account.differs],
        waiting=[account for account in accounts if not account.is_settled],
        differing=[account for account in differing if account.differs],
        unbilled=_charged_without_prediction(since),
        orphans=orphans,
        predictions=_predictions(orphans),
        unknown=[generation for generation in unknown if generation not in answered],
    )


def _of_unknown_outcome() -> list[Generation]:
    rows = Generation.objects.filter(status__in=(Status.SUBMITTING, Status.UNCONFIRMED))
    return list(rows.order_by("submitted_at"))


def _generations(since: datetime, window: Iterable[str]) -> list[Generation]:
    """Those submitted since then, and older ones that have rows on the bill."""
    recent = Generation.objects.filter(submitted_at__gte=since, prediction_id__isnull=False)
    found = {generation.prediction_id: generation for generation in recent}
    for some in _chunks([prediction_id for prediction_id in window if prediction_id not in found]):
        found |= {each.prediction_id: each for each in Generation.objects.filter(prediction_id__in=some)}
    return list(found.values())


def _accounts(generations: Sequence[Generation], bills: dict[str, Bill]) -> list[Account]:
    ledger = _ledger([generation.pk for generation in generations])
    accounts = []
    for generation in generations:
        prediction_id = generation.prediction_id or ""
        spent, held = ledger.get(generation.pk, (0, 0))
        accounts.append(Account(generation, spent, held, bills.get(prediction_id, Bill(prediction_id))))
    return accounts


def _ledger(references: Sequence[UUID]) -> dict[UUID, tuple[int, int]]:
    """What was spent and is held for each."""
    figures = {}
    for some in _chunks(references):
        rows = SpendEntry.objects.filter(reference__in=some).order_by().values_list("reference")
        for reference, spent, held in rows.annotate(Sum("spent_delta"), Sum("reserved_delta")):
            figures[reference] = (spent, held)
    return figures


def _read_again(accounts: Sequence[Account]) -> list[Account]:
    """Books first, then the whole bill: the window shows only a part of older ones, and both may have moved meanwhile."""
    fresh = Generation.objects.in_bulk([account.generation.pk for account in accounts])
    ledger = _ledger(list(fresh))
    bills = bill.of_many([account.billed.prediction_id for account in accounts])
    return [
        replace(
            account,
            generation=fresh[account.generation.pk],
            spent=ledger.get(account.generation.pk, (0, 0))[0],
            billed=bills[account.billed.prediction_id],
        )
        for account in accounts
    ]


def _whole(prediction_ids: list[str], window: dict[str, Bill]) -> list[Bill]:
    """Also the rows from before the window, of those that name a prediction at all."""
    named = bill.of_many([prediction_id for prediction_id in prediction_ids if prediction_id])
    return [named.get(prediction_id, window[prediction_id]) for prediction_id in prediction_ids]


def _predictions(orphans: Sequence[Bill]) -> dict[str, Prediction]:
    """What the provider tells of them: in its list, which goes back 7 days, or else one by one."""
    first_seen = [orphan.first_at for orphan in orphans if orphan.first_at]
    if not first_seen:
        return {}
    wanted = {orphan.prediction_id for orphan in orphans}
    found: dict[str, Prediction] = {}
    for prediction in provider.client().all_predictions(
        created_after=min(first_seen) - matching.SKEW, include_inputs=True
    ):
        if prediction.id in wanted:
            found[prediction.id] = prediction
        if len(found) == len(wanted):
            break
    return found | _unlisted(orphans, found)


def _unlisted(orphans: Sequence[Bill], listed: dict[str, Prediction]) -> dict[str, Prediction]:
    """Those that it may still have and its list does not show. What can't be had now is asked for in the next run."""
    since = timezone.now() - unassigned.LISTED_FOR
    young = [orphan.prediction_id for orphan in orphans if orphan.first_at and orphan.first_at > since]
    found = {}
    for prediction_id in [each for each in young if each and each not in listed][:ASKED_AT_MOST]:
        try:
            found[prediction_id] = provider.client().result(prediction_id)
        except (errors.NotFound, ValueError):
            continue
        except errors.WaveSpeedError as error:
            log.warning("orphans_not_read", reason=str(error))
            break
    return found


def _charged_without_prediction(since: datetime) -> dict[UUID, int]:
    """What was spent on what the provider can't have billed, as there is no prediction."""
    billable = Generation.objects.filter(prediction_id__isnull=False).values("pk")
    charges = SpendEntry.objects.filter(created_at__gte=since).exclude(reference__in=billable)
    spent = charges.order_by().values_list("reference").annotate(spent=Sum("spent_delta"))
    return dict(spent.exclude(spent=0))


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), IDS_A_QUERY):
        yield values[start : start + IDS_A_QUERY]


# --- Our own books ----------------------------------------------------------------------------------------------------


def _own_books(apply: bool) -> list[Finding]:
    findings = [*_wrong_lines(), *_wrong_balances(), *_wrong_charges()]
    if not apply:
        return findings
    books.repair_balances()
    _repair_charges()
    return [replace(each, done="repaired") if each.kind == Kind.BALANCE else each for each in findings]


def _wrong_balances() -> Iterator[Finding]:
    for period in books.wrong_balances():
        for name in ("spent", "reserved"):
            column, lines = getattr(period, name), getattr(period, f"lines_{name}")
            if column != lines:
                why = f"Its column “{name}” is not the sum of its lines."
                yield Finding(Kind.BALANCE, str(period), column, lines, why)


def _generations_charged_wrongly() -> QuerySet[Any]:
    entries = SpendEntry.objects.filter(reference=OuterRef("pk")).order_by().values("reference")
    booked = Coalesce(Subquery(entries.annotate(total=Sum("spent_delta")).values("total")), 0)
    rows: QuerySet[Any] = Generation.objects.filter(charged__isnull=False).annotate(booked=booked)
    return rows.exclude(charged=F("booked"))


@transaction.atomic
def _repair_charges() -> None:
    """Rows first, then the till, in the order of everybody who moves money."""
    wrong = list(_generations_charged_wrongly().values_list("pk", flat=True))
    list(Generation.objects.filter(pk__in=wrong).order_by("pk").select_for_update())
    budgets.hold_till()
    _generations_charged_wrongly().filter(pk__in=wrong).update(charged=F("booked"))


def _wrong_charges() -> Iterator[Finding]:
    for pk, charged, booked in _generations_charged_wrongly().values_list("pk", "charged", "booked"):
        why = "What it shows as charged is not the sum of its entries."
        yield Finding(Kind.BALANCE, f"Generation {pk}", charged, booked, why, generation=str(pk))


def _wrong_lines() -> Iterator[Finding]:
    for line in books.wrong_lines():
        entry = line.entry
        said, due = line.spent_delta + line.reserved_delta, entry.spent_delta + entry.reserved_delta
        why = f"A line of the entry “{entry.key}” says another amount than the entry."
        yield Finding(Kind.LEDGER, str(line.budget_period), said, due, why, generation=str(entry.reference))
    for entry in books.entries_with_wrong_lines():
        amount = entry.spent_delta + entry.reserved_delta
        why = f"The entry “{entry.key}” has {entry.own} lines, its reservation {entry.due}: each has one for each budget period."
        yield Finding(Kind.LEDGER, str(entry), amount, amount, why, generation=str(entry.reference))


# --- The provider's bill ----------------------------------------------------------------------------------------------


def _keep_orphans(compared: Compared) -> dict[str, str]:
    """What nobody here has is stored before it expires, or goes to the generation that it names after all; what was done, by prediction.

    What was made for an unconfirmed generation is left to `resolve`.
    """
    strange = [each for each in compared.predictions.values() if not _owner(each, compared)]
    done: dict[str, str] = {}
    for some in _chunks(strange):
        unassigned.take_in(some, found_by=UnassignedPrediction.FoundBy.BILL)
        ids = [each.id for each in some]
        kept = UnassignedPrediction.objects.filter(prediction_id__in=ids, assigned_to=None)
        done |= dict.fromkeys(kept.values_list("prediction_id", flat=True), "kept as an unassigned video")
        given = Generation.objects.filter(prediction_id__in=ids).values_list("prediction_id", "pk")
        done |= {prediction_id: f"given to generation {pk}" for prediction_id, pk in given}
    return done


def _bill(compared: Compared, kept: dict[str, str], reconciliation: Reconciliation, apply: bool) -> Iterator[Finding]:
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
