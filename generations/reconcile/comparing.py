"""Reads the provider's bill and its list, and lays them beside our generations and our books."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import structlog
from django.db.models import Sum
from django.utils import timezone

from generations import provider
from generations.lifecycle import matching, unassigned
from generations.models import (
    WITHOUT_PREDICTION,
    Generation,
    Status,
)
from generations.provider import bill
from generations.provider.bill import Bill
from generations.wavespeed import errors
from generations.wavespeed.replies import Prediction
from projects.models import SpendEntry

log = structlog.get_logger(__name__)

IDS_A_QUERY = 1000
# How many predictions that the bill names and the list does not are asked for in one run.
ASKED_AT_MOST = 100
T = TypeVar("T")


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


def compare(since: datetime) -> Compared:
    window = bill.since(since)
    # In this order: a submit whose answer comes now is in one of the two, and never looks like an orphan.
    unknown = _of_unknown_outcome()
    accounts = _accounts(_generations(since, window), window)
    settled = [account for account in accounts if account.is_settled]
    known = {account.billed.prediction_id for account in accounts}
    answered = {account.generation for account in accounts}
    orphan_ids = [prediction_id for prediction_id in window if prediction_id not in known]
    orphans = _whole(orphan_ids, window)
    differing = read_again([account for account in settled if account.differs])
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
    rows = Generation.objects.filter(status__in=WITHOUT_PREDICTION)
    return list(rows.order_by("submitted_at"))


def _generations(since: datetime, window: Iterable[str]) -> list[Generation]:
    """Those submitted since then, and older ones that have rows on the bill."""
    recent = Generation.objects.filter(submitted_at__gte=since, prediction_id__isnull=False)
    found = {generation.prediction_id: generation for generation in recent}
    for some in chunks([prediction_id for prediction_id in window if prediction_id not in found]):
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
    for some in chunks(references):
        rows = SpendEntry.objects.filter(reference__in=some).order_by().values_list("reference")
        for reference, spent, held in rows.annotate(Sum("spent_delta"), Sum("reserved_delta")):
            figures[reference] = (spent, held)
    return figures


def read_again(accounts: Sequence[Account]) -> list[Account]:
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


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), IDS_A_QUERY):
        yield values[start : start + IDS_A_QUERY]
