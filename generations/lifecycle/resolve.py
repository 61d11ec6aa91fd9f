"""Resolve: finds out what became of a request whose reply was lost. One sure match goes on; what is only perhaps, owners decide."""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.utils import timezone

from generations import alerts, provider
from generations.lifecycle import evidence, matching, unassigned
from generations.lifecycle.adopt import adopt, adopt_announced
from generations.lifecycle.needs_look import NO_LOOK
from generations.lifecycle.timing import call_lease
from generations.models import Exchange, Generation, Look, Status, UnassignedPrediction
from generations.provider import bill
from generations.wavespeed import errors
from generations.wavespeed.replies import Prediction

log = structlog.get_logger(__name__)

FoundBy = UnassignedPrediction.FoundBy
# How many predictions that only the bill names are asked for in one look.
ASKED_AT_MOST = 20
MOST_CANDIDATES = 50
# How long a list or bill that could not be read waits for the next try.
SOON = timedelta(minutes=5)


class _Overtaken(Exception):
    """Somebody else has the row."""


@dataclass
class Found:
    """What one look found: predictions that surely are of this request, and those that may be, by where they were found."""

    sure: dict[str, Prediction] = field(default_factory=dict)
    weak: dict[str, tuple[Prediction, str]] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)


def resolve(pk: uuid.UUID) -> Status | None:
    """Looks once for what became of an unconfirmed request; `processing` if it was surely found. Never sends it again."""
    token = Generation.objects.lease(pk, call_lease(), status=Status.UNCONFIRMED)
    if token is None:
        return None
    generation = Generation.objects.get(pk=pk)
    try:
        if _adopt_for_sure(generation, token):
            return Status.PROCESSING
    except _Overtaken:
        return None
    _tell_owners(generation)
    _look_again(generation, token)
    return None


def _adopt_for_sure(generation: Generation, token: uuid.UUID) -> bool:
    """Evidence first, then the provider's list, then its bill. What can't be read now is looked at next time."""
    accepted = evidence.accepted(generation.pk)
    if accepted and adopt(generation.pk, accepted, reason="The provider's answer came late: accepted."):
        return True
    try:
        if adopt_announced(generation.pk):
            return True
    except errors.WaveSpeedError as error:
        log.warning("webhook_not_confirmed", generation=str(generation.pk), reason=str(error))
    found = Found()
    with _noted(generation, Look.Source.LIST):
        _look_in_list(generation, token, found)
    if not found.sure:
        # Also where the list fails: the bill may name it, and people decide by both.
        with _noted(generation, Look.Source.BILL):
            _look_in_bill(generation, token, found)
    if len(found.sure) == 1:
        reason = "The provider's list names this request's own picture: accepted."
        if adopt(generation.pk, next(iter(found.sure)), reason=reason):
            return True
    _keep_candidates(generation, found)
    return False


@contextmanager
def _noted(generation: Generation, source: Look.Source) -> Iterator[None]:
    """Keeps when it was last read, or why it could not be, which people decide by. It is read again at the next look."""
    now = timezone.now()
    try:
        yield
    except errors.WaveSpeedError as error:
        log.warning("not_resolved", generation=str(generation.pk), source=source.value, reason=str(error))
        outcome: dict[str, Any] = {"error": str(error)[:300]}
    else:
        outcome = {"error": "", "read_at": now}
    Look.objects.update_or_create(generation=generation, source=source, defaults={"tried_at": now, **outcome})


def _look_in_list(generation: Generation, token: uuid.UUID, found: Found) -> None:
    """All pages of its endpoint, from just before it was sent until its prediction can't come into being any more."""
    made_within = matching.window(generation)
    if made_within is None:
        return
    listed: list[Prediction] = []
    after, before = made_within
    for prediction in provider.client().all_predictions(
        model=generation.endpoint, created_after=after, created_before=before, include_inputs=True
    ):
        listed.append(prediction)
        if len(listed) % 100 == 0 and not Generation.objects.renew(generation.pk, token, call_lease()):
            raise _Overtaken
    found.listed.update(prediction.id for prediction in listed)
    _sort(generation, listed, found, FoundBy.LIST)


def _look_in_bill(generation: Generation, token: uuid.UUID, found: Found) -> None:
    """What was billed then, is not on the list (yet), and nobody here has."""
    made_within = matching.window(generation)
    if made_within is None:
        return
    billed = bill.between(*made_within)
    strange = unassigned.unknown(each for each in billed if each) - found.listed
    asked: list[Prediction] = []
    for prediction_id in _nearest(generation, [billed[each] for each in strange]):
        if not Generation.objects.renew(generation.pk, token, call_lease()):
            raise _Overtaken
        try:
            asked.append(provider.client().result(prediction_id))
        except (errors.NotFound, ValueError):
            continue
    _sort(generation, asked, found, FoundBy.BILL)


def _nearest(generation: Generation, billed: list[bill.Bill]) -> list[str]:
    """Those that were billed closest to the request, as a deduct comes with it: where others use the account, there may be many."""
    sent = generation.submitted_at or generation.created_at
    ordered = sorted(billed, key=lambda each: (abs((each.first_at or sent) - sent), each.prediction_id))
    return [each.prediction_id for each in ordered[:ASKED_AT_MOST]]


def _sort(generation: Generation, predictions: Iterable[Prediction], found: Found, found_by: str) -> None:
    """Into sure and weak ones; what is another's, or may be of a submit that is under way, is neither."""
    some = [each for each in predictions if each.model in ("", generation.endpoint)]
    nobodys = unassigned.unknown(each.id for each in some)
    others = list(unassigned.without_prediction().filter(endpoint=generation.endpoint).exclude(pk=generation.pk))
    for each in some:
        if each.id not in nobodys:
            continue
        if matching.is_sure(generation, each.input):
            found.sure[each.id] = each
        elif _may_be(generation, each) and not any(_is_rather_of(other, each) for other in others):
            found.weak[each.id] = (each, found_by)


def _is_rather_of(other: Generation, prediction: Prediction) -> bool:
    return matching.is_sure(other, prediction.input) or (
        other.status == Status.SUBMITTING and _may_be(other, prediction)
    )


def _may_be(generation: Generation, prediction: Prediction) -> bool:
    return matching.may_be(
        generation, endpoint=prediction.model, made_at=prediction.created_at, inputs=prediction.input
    )


def _keep_candidates(generation: Generation, found: Found) -> None:
    """For an owner to decide. Evidence is kept only when what was found has changed."""
    several = {prediction_id: (prediction, FoundBy.LIST) for prediction_id, prediction in found.sure.items()}
    for prediction, found_by in _closest(generation, (found.weak | several).values()):
        unassigned.remember(prediction, found_by=found_by, candidate_for=generation)
    now = [
        {"id": each.prediction_id, "made_at": _text(each.made_at), "found_by": each.found_by}
        for each in unassigned.candidates(generation)
    ]
    kept = Exchange.objects.filter(generation=generation, kind=Exchange.Kind.LIST).order_by("-at", "-pk").first()
    before = kept.detail.get("candidates", []) if kept else []
    if now != before:
        count = len(now)
        summary = (
            f"{count} prediction{'s' if count != 1 else ''} at the provider may be it"
            if count
            else "Nothing may be it any more"
        )
        Exchange.objects.create(
            generation=generation, kind=Exchange.Kind.LIST, summary=summary, detail={"candidates": now}
        )


def _closest(generation: Generation, found: Iterable[tuple[Prediction, str]]) -> list[tuple[Prediction, str]]:
    """Those made closest to the request: nobody compares more, and each is fetched."""
    sent = generation.submitted_at or generation.created_at
    ordered = sorted(found, key=lambda each: (abs((each[0].created_at or sent) - sent), each[0].id))
    return ordered[:MOST_CANDIDATES]


def _text(moment: datetime | None) -> str:
    return moment.isoformat(timespec="seconds") if moment else ""


def _tell_owners(generation: Generation) -> None:
    """Once, when code has looked for long enough."""
    assert generation.submitted_at
    if timezone.now() - generation.submitted_at >= timedelta(minutes=settings.UNCONFIRMED_MINUTES):
        alerts.unconfirmed(generation, candidates=len(unassigned.candidates(generation)))


def _look_again(generation: Generation, token: uuid.UUID) -> None:
    assert generation.submitted_at
    wait = look_interval(timezone.now() - generation.submitted_at)
    if what_is_unread(generation):
        # Nobody may decide before it was read: so it is read soon, also when the list is over by then.
        wait = min(wait or SOON, SOON)
    changes: dict[str, Any] = {"error_code": "", "error_message": "", **NO_LOOK} if generation.error_code else {}
    Generation.objects.save_leased(
        generation.pk,
        token,
        release=True,
        attempts=0,
        next_action_at=timezone.now() + wait if wait else None,
        **changes,
    )


def may_settle_at(generation: Generation) -> datetime:
    """From when on an owner may say that it was not made: before that, the provider's list may lag."""
    return (generation.submitted_at or generation.created_at) + timedelta(minutes=settings.UNCONFIRMED_MINUTES)


def what_is_unread(generation: Generation) -> list[Look]:
    """What was not read since the lag was over, or not at all: nobody can say that it was not made. The list is over after 7 days."""
    lag_over = may_settle_at(generation)
    now = timezone.now()
    if now < lag_over:
        return []
    looks = {look.source: look for look in generation.looks.all()}
    is_listed = now - lag_over < unassigned.LISTED_FOR
    wanted = [Look.Source.LIST, Look.Source.BILL] if is_listed else [Look.Source.BILL]
    last = [looks.get(source) or Look(generation=generation, source=source) for source in wanted]
    return [look for look in last if look.read_at is None or look.read_at < lag_over]


def look_interval(age: timedelta) -> timedelta | None:
    """From every few seconds to a minute while the list may lag, then ever more rarely up to an hour; None once the list is over."""
    often = timedelta(seconds=settings.WAVESPEED_POLL_SECONDS)
    told_at = timedelta(minutes=settings.UNCONFIRMED_MINUTES)
    if age > unassigned.LISTED_FOR:
        return None
    if age < told_at:
        return min(max(age / 4, often), 12 * often, max(told_at - age, often))
    return min(max(age / 10, 120 * often), 720 * often)
