"""Submit: lets a queued generation into the lane and POSTs it once; what is unclear stays unconfirmed, never POSTed again."""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, BinaryIO, cast

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from generations import alerts, catalog, failures, provider
from generations.lifecycle.evidence import keep
from generations.lifecycle.poll import poll_interval
from generations.lifecycle.timing import MARGIN, backoff
from generations.models import Exchange, Generation, Lane, PausedEndpoint, Status
from generations.wavespeed import errors
from projects import spend
from projects.models import SourceImage

log = structlog.get_logger(__name__)

UPLOADS_LAST = timedelta(days=6)
UNCONFIRMED_OCCUPIES = timedelta(minutes=15)
REFUSALS_UNTIL_FAILED = 3


@dataclass(frozen=True)
class Lease:
    """A queued generation that was let into the lane, for one submit."""

    pk: uuid.UUID
    token: uuid.UUID


@transaction.atomic
def admit() -> Lease | None:
    """Leases the queued generation whose turn it is, if the lane is open and has a slot."""
    Lane.objects.get_or_create(pk=Lane.WAVESPEED)
    lane = Lane.objects.select_for_update().get(pk=Lane.WAVESPEED)
    now = timezone.now()
    if lane.paused_at or (lane.slowed_until and lane.slowed_until > now):
        return None
    uploading = Q(status=Status.QUEUED, lease_until__gt=now)
    at_once = Generation.objects.filter(
        uploading
        | Q(status__in=(Status.SUBMITTING, Status.PROCESSING))
        | Q(status=Status.UNCONFIRMED, submitted_at__gt=now - UNCONFIRMED_OCCUPIES)
    ).count()
    this_minute = Generation.objects.filter(uploading | Q(submitted_at__gt=now - timedelta(minutes=1))).count()
    if at_once >= settings.WAVESPEED_VIDEOS_AT_ONCE or this_minute >= settings.WAVESPEED_VIDEOS_PER_MINUTE:
        return None
    turn = (
        Generation.objects.filter(
            Q(lease_until=None) | Q(lease_until__lt=now), status=Status.QUEUED, next_action_at__lte=now
        )
        .exclude(endpoint__in=PausedEndpoint.objects.values("endpoint"))
        .order_by("queued_at", "pk")
        .values_list("pk", flat=True)
        .first()
    )
    if turn is None:
        return None
    # Two uploads of two calls each, every call within the client's deadline.
    token = Generation.objects.lease(turn, 4 * settings.WAVESPEED_DEADLINE + MARGIN, status=Status.QUEUED)
    return Lease(turn, token) if token else None


def submit(lease: Lease) -> None:
    """Uploads what is needed, commits `submitting` with the exact body, and POSTs once; whatever comes back, never twice."""
    generation = Generation.objects.select_related("image", "end_image").get(pk=lease.pk)
    try:
        body = request_body(generation, _uploads(generation, lease))
    except errors.WaveSpeedError as error:
        _pause_if_account_problem(error)
        _postpone(generation, lease, error, give_up=isinstance(error, errors.Rejected))
        return
    except FileNotFoundError as error:
        _fail_unbilled(generation, Status.QUEUED, lease, failures.Failure("picture_missing", str(error)))
        return
    except catalog.InvalidInputs as error:
        _fail_unbilled(generation, Status.QUEUED, lease, failures.Failure("rejected", str(error)))
        return
    except Exception as error:
        # Storages raise what their vendor's library raises. Nothing was asked for yet, so it is safe to come back.
        log.exception("upload_failed", generation=str(lease.pk))
        _postpone(generation, lease, error, give_up=False)
        return
    submitting = Generation.objects.move(
        lease.pk,
        Status.QUEUED,
        Status.SUBMITTING,
        token=lease.token,
        reason="Handed to the provider.",
        request_body=body,
        submitted_at=timezone.now(),
        attempts=generation.attempts,
        next_action_at=None,
        lease_token=lease.token,
        lease_until=timezone.now() + timedelta(seconds=settings.WAVESPEED_DEADLINE + MARGIN),
    )
    if not submitting:
        return
    try:
        prediction = provider.client().submit(generation.endpoint, body)
    except errors.NotCreated as error:
        keep(lease.pk, Exchange.Kind.SUBMIT, error.exchange, summary=f"Not created: {error}")
        _refused(generation, lease, error)
    except errors.WaveSpeedError as error:
        keep(lease.pk, Exchange.Kind.SUBMIT, error.exchange, summary=f"Unclear: {error}")
        unconfirm(lease.pk, token=lease.token, reason=f"The provider gave no clear answer: {error}")
    else:
        # Evidence first, whatever has become of the lease: this reply is the sure match of the request.
        keep(lease.pk, Exchange.Kind.SUBMIT, prediction.exchange, summary="Accepted", prediction_id=prediction.id)
        adopt(lease.pk, prediction.id)


def request_body(generation: Generation, uploads: dict[str, str]) -> dict[str, Any]:
    """The body that is POSTed: the catalogue's own parameter names, never free-form JSON, as unknown keys are dropped and billed."""
    values = {
        "prompt": generation.prompt,
        **{name: name for name in uploads},
        "duration": generation.duration,
        "sound": generation.sound,
        "shot_type": generation.shot_type,
        "multi_prompt": generation.multi_prompt,
        "element_list": [
            {"element_id": link.element.element_id} for link in generation.element_links.select_related("element")
        ],
    }
    endpoint = catalog.get(generation.endpoint)
    return endpoint.body({name: value for name, value in values.items() if name in endpoint.names}, uploads)


def _uploads(generation: Generation, lease: Lease) -> dict[str, str]:
    """The provider's URLs of this generation's own uploads, made anew when they would soon expire."""
    if generation.uploaded_at and generation.uploaded_at > timezone.now() - UPLOADS_LAST:
        return dict(generation.uploads)
    images = {"image": generation.image, "end_image": generation.end_image}
    uploads = {name: _upload(image, f"{generation.pk}-{name}") for name, image in images.items() if image}
    if not Generation.objects.save_leased(lease.pk, lease.token, uploads=uploads, uploaded_at=timezone.now()):
        log.info("lease_lost", step="upload", generation=str(lease.pk))
    return uploads


def _upload(image: SourceImage, name: str) -> str:
    extension = "png" if image.content_type == "image/png" else "jpg"
    with cast(BinaryIO, image.file.open("rb")) as file:
        return (
            provider.client()
            .upload(file, filename=f"{name}.{extension}", size=image.bytes, content_type=image.content_type)
            .download_url
        )


def _postpone(generation: Generation, lease: Lease, error: Exception, *, give_up: bool) -> None:
    """An upload failed: nothing was asked for yet, so it waits in the queue; what will never pass fails in the end."""
    if give_up and generation.attempts + 1 >= REFUSALS_UNTIL_FAILED:
        _fail_unbilled(generation, Status.QUEUED, lease, failures.Failure("rejected", str(error)))
        return
    Generation.objects.save_leased(
        lease.pk,
        lease.token,
        release=True,
        attempts=generation.attempts + 1,
        next_action_at=timezone.now() + backoff(generation.attempts),
    )


def _refused(generation: Generation, lease: Lease, error: errors.NotCreated) -> None:
    """Surely not created: back into the queue where it can pass later, else failed and released."""
    if isinstance(error, errors.Rejected):
        _fail_unbilled(generation, Status.SUBMITTING, lease, failures.Failure("rejected", str(error)))
        return
    account_problem = isinstance(error, errors.KeyRefused | errors.InsufficientCredits)
    if account_problem and not _pause_if_account_problem(error) and generation.attempts + 1 >= REFUSALS_UNTIL_FAILED:
        code = "key_refused" if isinstance(error, errors.KeyRefused) else "insufficient_credits"
        _fail_unbilled(generation, Status.SUBMITTING, lease, failures.Failure(code, str(error)))
        return
    wait = max(backoff(generation.attempts), timedelta(seconds=error.retry_after or 0))
    if error.status == HTTPStatus.TOO_MANY_REQUESTS:
        Lane.objects.filter(pk=Lane.WAVESPEED).update(slowed_until=timezone.now() + wait)
    Generation.objects.move(
        lease.pk,
        Status.SUBMITTING,
        Status.QUEUED,
        token=lease.token,
        reason=f"Not accepted, and will be tried again: {error}",
        attempts=generation.attempts + 1,
        submitted_at=None,
        next_action_at=timezone.now() + wait,
    )


@transaction.atomic
def _fail_unbilled(generation: Generation, old: Status, lease: Lease, failure: failures.Failure) -> None:
    failed = Generation.objects.move(
        lease.pk,
        old,
        Status.FAILED,
        token=lease.token,
        reason=failure.sentence,
        error_code=failure.code,
        error_message=failure.provider_says,
        next_action_at=None,
        completed_at=timezone.now(),
    )
    if failed and (reservation := spend.reservation_of(lease.pk)):
        spend.release(reservation, key=f"refused:{lease.pk}", reason=failure.sentence)


def _pause_if_account_problem(error: errors.WaveSpeedError) -> bool:
    """Pauses the lane when the whole account is refused, which a call that costs nothing tells; True if it is paused."""
    if isinstance(error, errors.KeyRefused):
        reason = "The provider refuses the studio's API key. Check WAVESPEED_API_KEY, then resume."
        try:
            provider.client().balance()
        except errors.KeyRefused:
            return _pause(reason)
        except errors.WaveSpeedError:
            return False
    if isinstance(error, errors.InsufficientCredits):
        return _pause("The provider's account has not enough credits. Top it up, then resume.")
    return False


def _pause(reason: str) -> bool:
    log.error("lane_paused", reason=reason)
    paused = Lane.objects.filter(pk=Lane.WAVESPEED, paused_at=None).update(
        paused_at=timezone.now(), paused_reason=reason, paused_by=None
    )
    if paused:
        alerts.lane_paused(reason)
    return True


def adopt(pk: uuid.UUID, prediction_id: str) -> bool:
    """The prediction is surely the one of this generation: it goes on from there."""
    changes: dict[str, Any] = {"prediction_id": prediction_id, "next_action_at": timezone.now() + _first_poll(pk)}
    return Generation.objects.move(
        pk, Status.SUBMITTING, Status.PROCESSING, reason="Accepted by the provider.", **changes
    ) or Generation.objects.move(
        pk, Status.UNCONFIRMED, Status.PROCESSING, reason="The provider's answer came late: accepted.", **changes
    )


def _first_poll(pk: uuid.UUID) -> timedelta:
    endpoint = Generation.objects.values_list("endpoint", flat=True).get(pk=pk)
    return timedelta(seconds=poll_interval(0, provider.usual_seconds(endpoint)))


def unconfirm(pk: uuid.UUID, *, reason: str, **guard: Any) -> bool:
    """Nobody knows whether the request was accepted: the money stays held, and it is never POSTed again."""
    return Generation.objects.move(
        pk, Status.SUBMITTING, Status.UNCONFIRMED, reason=reason, next_action_at=None, **guard
    )


def recover_submit(pk: uuid.UUID) -> bool:
    """Takes up a submit whose worker died: adopts the reply if that was kept, else it is `unconfirmed`."""
    if not Generation.objects.filter(pk=pk, status=Status.SUBMITTING, lease_until__lt=timezone.now()).exists():
        return False
    kept = Exchange.objects.filter(generation_id=pk, kind=Exchange.Kind.SUBMIT).exclude(prediction_id="").first()
    if kept:
        return adopt(pk, kept.prediction_id)
    return unconfirm(pk, reason="The worker died while it submitted; whether the provider accepted is unknown.")
