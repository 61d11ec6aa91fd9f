"""Predictions that no generation here is known to have asked for: candidates and orphans. What they made is stored at once."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from generations import alerts, catalog, counters, failures, provider
from generations.lifecycle import matching, outputs
from generations.lifecycle.adopt import adopt
from generations.lifecycle.timing import RESULTS_LAST, backoff, poll_interval
from generations.models import Generation, Lane, Status, UnassignedPrediction, Video
from generations.storage import room
from generations.storage.storing import OUR_FAULTS, StoreFailed, addresses, longest_seconds
from generations.wavespeed import errors
from generations.wavespeed.replies import FAILED, Prediction

log = structlog.get_logger(__name__)

FoundBy = UnassignedPrediction.FoundBy
# The provider's list goes back this far.
LISTED_FOR = timedelta(days=7)
# A younger one may be of a reply that is on its way.
ORPHANED_AFTER = timedelta(minutes=5)
# What the list shows late is found all the same: four times the lag that is reckoned with elsewhere (`matching.LAG`). It costs a page of
# the list for each hundred predictions of that time. What it shows later still, the nightly reconciliation finds on the bill.
LISTED_LATE = timedelta(hours=1)
IDS_A_QUERY = 500
MAX_DEPTH = 6
T = TypeVar("T")


# --- Finding ----------------------------------------------------------------------------------------------------------


def remember(
    prediction: Prediction, *, found_by: str, candidate_for: Generation | None = None
) -> UnassignedPrediction | None:
    """Keeps it, once, and that it may be this generation's; None: it belongs to somebody by now."""
    row, _ = UnassignedPrediction.objects.get_or_create(
        prediction_id=prediction.id,
        defaults={
            "endpoint": prediction.model[:120],
            "provider_status": prediction.status[:40],
            "made_at": prediction.created_at,
            # On an account that others use, too, what was asked for may be theirs.
            "inputs": {} if settings.WAVESPEED_ACCOUNT_IS_SHARED else _shown(prediction.input or {}),
            "found_by": found_by,
        },
    )
    if row.assigned_to_id or prediction.id not in unknown([prediction.id]):
        return None
    if candidate_for:
        row.candidate_for.add(candidate_for)
    return row


def unknown(prediction_ids: Iterable[str]) -> set[str]:
    """Those that no generation here has."""
    wanted = list(prediction_ids)
    known = Generation.objects.filter(prediction_id__in=wanted).values_list("prediction_id", flat=True)
    return set(wanted) - set(known)


def _shown(value: Any, depth: int = 0) -> Any:
    """Inputs as they may be kept: no signed address, no endless text."""
    if depth > MAX_DEPTH:
        return "…"
    match value:
        case str():
            return provider.redactor().text(value)
        case Mapping():
            return {provider.redactor().text(str(name))[:100]: _shown(each, depth + 1) for name, each in value.items()}
        case list():
            return [_shown(each, depth + 1) for each in value[:50]]
        case bool() | int() | None:
            return value
    return str(value)


def find_orphans() -> int:
    """Looks through the provider's list from before the last look; how many predictions were found that nobody here asked for.

    One that names the upload of a request whose reply was lost is adopted by it. Raises nothing: what can't be read now is looked at
    next time.
    """
    since = _last_look()
    if since is None:
        return 0
    until = timezone.now() - ORPHANED_AFTER
    found = 0
    try:
        listed = provider.client().all_predictions(created_after=since, include_inputs=True)
        for some in _chunks(listed, IDS_A_QUERY):
            new, sure_until = take_in(some, found_by=FoundBy.LIST)
            until = min(until, sure_until)
            found += new
    except errors.WaveSpeedError as error:
        log.warning("predictions_not_listed", reason=str(error))
        return found
    Lane.objects.filter(pk=Lane.WAVESPEED).update(orphans_until=until)
    if found:
        log.warning("orphans_found", count=found)
    return found


def take_in(predictions: Sequence[Prediction], *, found_by: str) -> tuple[int, datetime]:
    """Gives those that name a request's own upload to it, and keeps the others that are nobody's, so that they are stored.

    How many are kept that were not known before, and until when nothing was left out for being young, or perhaps of a submit under way.
    """
    until = timezone.now() - ORPHANED_AFTER
    strange, unsure_since = _adopt_or_collect(predictions, until)
    if settings.WAVESPEED_ACCOUNT_IS_SHARED:
        # They are somebody else's, as far as anybody here can tell.
        return 0, min([until, *unsure_since])
    kept = [each for each in strange if remember(each, found_by=found_by)]
    return len(kept), min([until, *unsure_since])


def _last_look() -> datetime | None:
    """From where to look; None where nothing was ever submitted."""
    first = Generation.objects.filter(submitted_at__isnull=False).order_by("submitted_at")
    first_at = first.values_list("submitted_at", flat=True).first()
    if first_at is None:
        return None
    Lane.objects.get_or_create(pk=Lane.WAVESPEED)
    last = Lane.objects.values_list("orphans_until", flat=True).get(pk=Lane.WAVESPEED)
    return max((last or first_at) - LISTED_LATE, timezone.now() - LISTED_FOR)


def _adopt_or_collect(listed: Sequence[Prediction], until: datetime) -> tuple[list[Prediction], list[datetime]]:
    """Those that are nobody's and not known as such, and from when those are that may be of a submit that is under way."""
    ours = [each for each in listed if each.model in catalog.ENDPOINTS]
    nobodys = unknown(each.id for each in ours)
    known = UnassignedPrediction.objects.filter(prediction_id__in=nobodys, assigned_to=None)
    nobodys -= set(known.values_list("prediction_id", flat=True))
    strangers, unsure_since = [], []
    waiting = list(without_prediction())
    for each in ours:
        if each.id not in nobodys or (each.created_at and each.created_at > until):
            continue
        if any(g.status == Status.SUBMITTING and _is_perhaps(g, each) for g in waiting):
            unsure_since.append(each.created_at or until)
        elif not adopt_owner(each, waiting):
            strangers.append(each)
    return strangers, unsure_since


def without_prediction() -> QuerySet[Generation]:
    """Those that were handed over and have no prediction: under way, unconfirmed, or said not to be made."""
    rows: QuerySet[Generation] = Generation.objects.filter(
        status__in=(Status.SUBMITTING, Status.UNCONFIRMED, Status.FAILED),
        prediction_id=None,
        submitted_at__gt=timezone.now() - LISTED_FOR - matching.SKEW,
    )
    return rows


def adopt_owner(prediction: Prediction, among: Iterable[Generation]) -> bool:
    """Gives it to the generation whose own upload it names, unless its submit is still under way."""
    owners = [
        each for each in among if prediction.model in ("", each.endpoint) and matching.is_sure(each, prediction.input)
    ]
    if len(owners) != 1 or owners[0].status == Status.SUBMITTING:
        return False
    return adopt(owners[0].pk, prediction.id, reason="The provider's list names this request's own picture: accepted.")


def _is_perhaps(generation: Generation, prediction: Prediction) -> bool:
    return matching.may_be(
        generation, endpoint=prediction.model, made_at=prediction.created_at, inputs=prediction.input
    )


def _chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, size)):
        yield some


# --- Storing ----------------------------------------------------------------------------------------------------------


def store_unassigned(pk: uuid.UUID) -> bool:
    """Asks for its result and stores the outputs, before they expire; True when they are stored. Ends when there is nothing to store."""
    token = UnassignedPrediction.objects.lease(
        pk, settings.STORE_LEASE_SECONDS, stored_at=None, assigned_to=None, next_action_at__isnull=False
    )
    if token is None:
        return False
    row = UnassignedPrediction.objects.get(pk=pk)
    try:
        prediction = provider.client().result(row.prediction_id)
    except errors.WaveSpeedError as error:
        gone_after = LISTED_FOR if isinstance(error, errors.NotFound) else None
        return _look_again(row, token, str(error), gone_after=gone_after)
    if prediction.input and adopt_owner(prediction, without_prediction()):
        return False
    UnassignedPrediction.objects.save_leased(
        pk,
        token,
        provider_status=prediction.status[:40],
        endpoint=row.endpoint or prediction.model[:120],
        made_at=row.made_at or prediction.created_at,
    )
    if prediction.is_made and not row.candidate_for.exists() and room.is_scarce():
        return _look_again(row, token, "It waits until there is room beside what was asked for.", gone_after=None)
    if prediction.is_made:
        return _store(row, token, provider.output_urls(prediction))
    if prediction.status in FAILED:
        failure = failures.of_task(prediction.status, prediction.code, prediction.error)
        return _end(row, token, f"It failed at the provider: {failure.provider_says or failure.code}")
    return _look_again(row, token, "", gone_after=RESULTS_LAST)


def _store(row: UnassignedPrediction, token: uuid.UUID, urls: list[str]) -> bool:
    def renew() -> None:
        if not UnassignedPrediction.objects.renew(row.pk, token, settings.STORE_LEASE_SECONDS):
            raise StoreFailed("lease_lost", "Another worker took over.")

    wanted = addresses(urls)
    here = set(row.videos.values_list("position", flat=True))
    collected = outputs.collect(
        {position: url for position, url in enumerate(wanted) if position not in here},
        seconds=longest_seconds(),
        folder=f"unassigned/{row.pk}",
        attempt=token,
        renew=renew,
        save=partial(_save, row, token),
    )
    if collected.is_lost:
        # It was assigned meanwhile, and its generation stores what it made.
        return False
    covers = collected.without_covers(outputs=len(wanted), known=set())
    here |= {video.position for video in collected.videos}
    if here and not set(range(len(wanted))) - here - covers:
        return _keep(row, token, urls)
    trouble = collected.trouble(len(wanted))
    if trouble is None:
        return _look_again(row, token, "", gone_after=None)
    if trouble.code in OUR_FAULTS:
        alerts.not_stored(trouble.code, str(trouble))
    gone_after = {"expired": LISTED_FOR}.get(trouble.code, RESULTS_LAST)
    is_silent = trouble.code in OUR_FAULTS or trouble.code in outputs.SILENCE
    return _look_again(row, token, str(trouble), gone_after=None if is_silent else gone_after)


def _ours(row: UnassignedPrediction, token: uuid.UUID) -> QuerySet[UnassignedPrediction]:
    mine: QuerySet[UnassignedPrediction] = UnassignedPrediction.objects.filter(
        pk=row.pk, lease_token=token, assigned_to=None, stored_at=None
    )
    return mine


@transaction.atomic
def _save(row: UnassignedPrediction, token: uuid.UUID, video: Video) -> bool:
    if not _ours(row, token).select_for_update().exists():
        return False
    video.unassigned = row
    video.save(force_insert=True)
    counters.stored("unassigned", videos=1, size=video.bytes)
    return True


def _keep(row: UnassignedPrediction, token: uuid.UUID, urls: list[str]) -> bool:
    stored = _ours(row, token).update(
        stored_at=timezone.now(),
        outputs=urls,
        error_message="",
        next_action_at=None,
        lease_token=None,
        lease_until=None,
        lost_leases=0,
    )
    return stored == 1


def _look_again(row: UnassignedPrediction, token: uuid.UUID, why: str, *, gone_after: timedelta | None) -> bool:
    """Later, for as long as the provider may have it: from that age on its answer says that it has not. Silence says nothing (None)."""
    age = timezone.now() - (row.made_at or row.found_at)
    if gone_after is not None and age > gone_after:
        return _end(row, token, f"The provider does not have it any more. {why}".strip())
    if why:
        log.warning("unassigned_not_stored", prediction=row.prediction_id, reason=why)
        wait = backoff(row.attempts, first=settings.WAVESPEED_POLL_SECONDS)
    else:
        usual = provider.usual_seconds(row.endpoint) if row.endpoint in catalog.ENDPOINTS else 0.0
        wait = timedelta(seconds=poll_interval(age.total_seconds(), usual))
    UnassignedPrediction.objects.save_leased(
        row.pk,
        token,
        release=True,
        error_message=why,
        attempts=min(row.attempts + 1, 30_000) if why else 0,
        next_action_at=timezone.now() + wait,
    )
    return False


def _end(row: UnassignedPrediction, token: uuid.UUID, why: str) -> bool:
    UnassignedPrediction.objects.save_leased(row.pk, token, release=True, error_message=why, next_action_at=None)
    return False


@transaction.atomic
def adopt_videos(generation: Generation, token: uuid.UUID) -> bool:
    """Completes a generation that is `storing` with the videos that were stored before it was known to be theirs; False: there are none.

    They come out of the trash: what nobody needed then is paid for by somebody now, and its retention counts from here.
    """
    stored = stored_for(generation)
    # Locked, so that the trash deletes none of them meanwhile; in an order of their own, as theirs joins rows that can't be locked.
    if stored is None or any(video.purged_at for video in stored.videos.order_by("pk").select_for_update()):
        return False
    moved = Generation.objects.move(
        generation.pk,
        Status.STORING,
        Status.COMPLETED,
        token=token,
        reason="Stored and checked before it was known whose it was.",
        next_action_at=None,
        completed_at=timezone.now(),
    )
    if moved:
        stored.videos.update(
            generation=generation, unassigned=None, trashed_at=None, trashed_by=None, restored_at=timezone.now()
        )
    return moved


def stored_for(generation: Generation) -> UnassignedPrediction | None:
    """What was stored before it was known to be this generation's, if all its files are still here."""
    rows = UnassignedPrediction.objects.filter(assigned_to=generation, stored_at__isnull=False, videos__isnull=False)
    return rows.exclude(videos__purged_at__isnull=False).exclude(videos__probe_error__gt="").first()


@transaction.atomic
def adopt_some(generation: Generation, token: uuid.UUID) -> None:
    """Takes over those videos that were stored before it was known whose they are, where others of their outputs were not."""
    if not Generation.objects.filter(pk=generation.pk, lease_token=token).select_for_update().exists():
        return
    stored = Video.objects.filter(unassigned__assigned_to=generation, purged_at=None, probe_error="")
    here = Video.objects.filter(generation=generation).values("position")
    Video.objects.filter(pk__in=list(stored.exclude(position__in=here).values_list("pk", flat=True))).update(
        generation=generation, unassigned=None, trashed_at=None, trashed_by=None, restored_at=timezone.now()
    )


def candidates(generation: Generation) -> list[UnassignedPrediction]:
    """Those that may be its and are nobody's yet, in the order in which they were made."""
    return list(
        generation.candidates.filter(assigned_to=None)
        .order_by("made_at", "found_at", "pk")
        .prefetch_related("videos", "candidate_for")
    )
