"""Store: brings the outputs home before the provider drops them, and completes a generation with nothing but videos that can be read."""

import uuid
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from generations import alerts, counters, failures, provider
from generations.lifecycle import outputs, refused
from generations.lifecycle.needs_look import ask_for_look
from generations.lifecycle.outputs import SILENCE, Collected
from generations.lifecycle.settle import fail_until_billed
from generations.lifecycle.timing import RESULTS_LAST, backoff
from generations.lifecycle.unassigned import adopt_some, adopt_videos
from generations.models import Generation, Status, Video
from generations.storage.storing import OUR_FAULTS, StoreFailed, addresses
from generations.wavespeed import errors

log = structlog.get_logger(__name__)

ERROR_CODES = {**OUR_FAULTS, "damaged": "damaged"}
LONGEST_WAIT = 600
# Our own storage is asked again within a minute, as nothing is submitted until it takes what was made.
LONGEST_WAIT_FOR_OURS = 60


def store(pk: uuid.UUID) -> Status | None:
    """Downloads the outputs that are missing, checks and stores them; tries again later for as long as the provider has them."""
    token = Generation.objects.lease(pk, settings.STORE_LEASE_SECONDS, status=Status.STORING)
    if token is None:
        return None
    generation = Generation.objects.select_related("project").get(pk=pk)
    if adopt_videos(generation, token):
        return Status.COMPLETED
    adopt_some(generation, token)
    wanted = addresses(generation.outputs)
    collected, covers = _collect(generation, token, wanted)
    if collected.is_lost:
        return None
    here = set(generation.videos.values_list("position", flat=True))
    missing = set(range(len(wanted))) - here - covers
    if here and not missing:
        return _complete(generation, token, "Stored and checked.")
    return _not_stored(generation, token, collected, here=here, wanted=wanted)


def _collect(generation: Generation, token: uuid.UUID, wanted: list[str]) -> tuple[Collected, set[int]]:
    """What became of the missing ones, and the positions of pictures beside them. What was never refused is fetched first."""

    def renew() -> None:
        if not Generation.objects.renew(generation.pk, token, settings.STORE_LEASE_SECONDS):
            raise StoreFailed("lease_lost", "Another worker took over.")

    here = set(generation.videos.values_list("position", flat=True))
    known = dict(generation.refused_outputs.values_list("position", "is_picture"))
    covers = {position for position, is_picture in known.items() if is_picture and position < len(wanted)}
    if len(covers) == len(wanted):
        covers = set()
    order = sorted(set(range(len(wanted))) - here - covers, key=lambda position: (position in known, position))
    collected = outputs.collect(
        {position: wanted[position] for position in order},
        seconds=generation.duration,
        folder=f"projects/{generation.project_id}/videos/{generation.pk}",
        attempt=token,
        renew=renew,
        save=partial(_save, generation, token),
        keep=partial(refused.keep, generation, token),
    )
    covers = collected.without_covers(outputs=len(wanted), known=covers)
    refused.refuse(generation, token, [each for each in collected.failures.items() if each[1].code not in OUR_FAULTS])
    return collected, covers


@transaction.atomic
def _save(generation: Generation, token: uuid.UUID, video: Video) -> bool:
    """Makes it a video of the generation at once, whatever becomes of the other outputs; False: the row is somebody else's by now."""
    ours = Generation.objects.filter(pk=generation.pk, lease_token=token, status=Status.STORING)
    if not ours.select_for_update().exists():
        return False
    video.generation = generation
    video.save(force_insert=True)
    counters.stored("generation", videos=1, size=video.bytes)
    return True


def _complete(generation: Generation, token: uuid.UUID, reason: str) -> Status | None:
    with transaction.atomic():
        moved = Generation.objects.move(
            generation.pk,
            Status.STORING,
            Status.COMPLETED,
            token=token,
            reason=reason,
            next_action_at=None,
            completed_at=timezone.now(),
        )
        superseded = refused.forget(generation) if moved else []
    for name in superseded:
        refused.delete(name)
    return Status.COMPLETED if moved else None


def _not_stored(
    generation: Generation, token: uuid.UUID, collected: Collected, *, here: set[int], wanted: list[str]
) -> Status | None:
    trouble = collected.trouble(len(wanted))
    if trouble is None:
        # There was no time for all of them.
        Generation.objects.save_leased(generation.pk, token, release=True, next_action_at=timezone.now())
        return None
    log.warning("not_stored", generation=str(generation.pk), code=trouble.code, reason=str(trouble))
    is_ours = trouble.code in OUR_FAULTS
    fresh, is_gone = ([], False) if is_ours else _fresh_outputs(generation)
    if not is_ours and _is_over(generation, collected, is_gone=is_gone):
        return _over(generation, token, trouble, here=here, outputs=len(wanted))
    changes: dict[str, Any] = {"outputs": fresh} if len(addresses(fresh)) >= len(wanted) else {}
    most = LONGEST_WAIT_FOR_OURS if is_ours else LONGEST_WAIT
    saved = Generation.objects.save_leased(
        generation.pk,
        token,
        release=True,
        attempts=min(generation.attempts + 1, 30_000),
        error_code=ERROR_CODES.get(trouble.code, "not_stored"),
        error_message=str(trouble),
        next_action_at=timezone.now() + backoff(generation.attempts, first=2, most=most),
        **changes,
    )
    if saved and is_ours:
        alerts.not_stored(trouble.code, str(trouble), generation=generation)
    elif saved:
        _tell(generation, trouble)
    return None


def _tell(generation: Generation, trouble: StoreFailed) -> None:
    """Tells the owners, once it is more than a moment's trouble."""
    since = _made_at(generation)
    if timezone.now() - since < timedelta(minutes=settings.STORE_MINUTES_UNTIL_TOLD):
        return
    ask_for_look(
        generation.pk,
        f"It is made and paid, and its video can’t be stored. {trouble} It is tried again by itself for as long as the provider has "
        f"it, 7 days. If it stays so, ask the provider; an owner can also take what came as it is.",
    )


def _made_at(generation: Generation) -> datetime:
    events = generation.events.filter(new_status=Status.STORING).order_by("-at")
    return events.values_list("at", flat=True).first() or generation.submitted_at or generation.created_at


def _is_over(generation: Generation, collected: Collected, *, is_gone: bool) -> bool:
    """Whether the provider can't have it any more, and says so or gives something else. Silence says nothing, however long it lasts."""
    assert generation.submitted_at
    if timezone.now() - generation.submitted_at <= RESULTS_LAST:
        return False
    return is_gone or all(error.code not in SILENCE for error in collected.failures.values())


def _over(
    generation: Generation, token: uuid.UUID, trouble: StoreFailed, *, here: set[int], outputs: int
) -> Status | None:
    """With the videos that are here, or without any; the bill says what it costs."""
    if here:
        reason = f"Stored and checked, but for {outputs - len(here)} of {outputs} outputs: {trouble}"
        return _complete(generation, token, reason)
    evidence = generation.refused_outputs.exclude(sha256="").first()
    failure = (
        failures.Failure("never_readable", evidence.why)
        if evidence
        else failures.Failure("result_expired", str(trouble))
    )
    return fail_until_billed(generation, failure, token=token)


def _fresh_outputs(generation: Generation) -> tuple[list[str], bool]:
    """The outputs of a fresh result, none when it can't be had now; and whether the provider says that it has none any more."""
    assert generation.prediction_id
    try:
        return provider.output_urls(provider.client().result(generation.prediction_id)), False
    except errors.WaveSpeedError as error:
        log.warning("no_fresh_result", generation=str(generation.pk), reason=str(error))
        return [], isinstance(error, errors.NotFound)
