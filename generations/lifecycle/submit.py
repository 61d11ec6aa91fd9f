"""Submit: POSTs what the lane let in, once; what is unclear stays unconfirmed, never POSTed again."""

import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any, BinaryIO, cast

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from generations import alerts, catalog, counters, failures, provider
from generations.catalog.endpoint import InvalidInputs
from generations.lifecycle import account, lane, restored
from generations.lifecycle.adopt import adopt
from generations.lifecycle.evidence import accepted, announced, keep, last_post, times_refused
from generations.lifecycle.lane import Lease
from generations.lifecycle.needs_look import NO_LOOK, ask_for_look
from generations.lifecycle.timing import backoff, call_lease
from generations.models import Exchange, Generation, Status
from generations.wavespeed import errors
from projects.models import SourceImage
from projects.money import spend

log = structlog.get_logger(__name__)

UPLOADS_LAST = timedelta(days=6)
REFUSALS_UNTIL_FAILED = 3
# What a refusal means, and the code of the failure that it becomes when it comes again and again.
REFUSALS: dict[type[errors.WaveSpeedError], str] = {
    errors.Rejected: "rejected",
    errors.KeyRefused: "key_refused",
    errors.InsufficientCredits: "insufficient_credits",
}
# Of uploads that fail without end, the first tell enough.
UPLOAD_EVIDENCE = 5
MOST_ATTEMPTS = 30_000
ANNOUNCED = (
    "The provider's own message names a prediction of it, so it may be paid: it is looked for, and not sent again."
)


class _LeaseLost(Exception):
    """Somebody else has the row."""


def submit(lease: Lease) -> None:
    """Uploads what is needed, commits `submitting` with the exact body, and POSTs once; whatever comes back, never twice."""
    generation = Generation.objects.select_related("image", "end_image").get(pk=lease.pk)
    body = _body(generation, lease)
    if body is None:
        return
    number = _hand_over(generation, lease, body)
    if number is None or not _remember_or_put_back(number, generation, lease):
        return
    try:
        prediction = provider.client().submit(
            generation.endpoint, body, webhook_url=provider.webhook_url(generation.pk)
        )
    except errors.NotCreated as error:
        counters.submitted("not_created")
        keep(
            lease.pk,
            Exchange.Kind.SUBMIT,
            error.exchange,
            summary=f"Not created: {error}",
            refusal=REFUSALS.get(type(error), ""),
        )
        _refused(generation, lease, error)
    except errors.WaveSpeedError as error:
        counters.submitted("unclear")
        log.warning("submit_unclear", generation=str(lease.pk), reason=str(error))
        keep(lease.pk, Exchange.Kind.SUBMIT, error.exchange, summary=f"Unclear: {error}")
        unconfirm(lease.pk, token=lease.token, reason=f"The provider gave no clear answer: {error}")
    else:
        counters.submitted("accepted")
        # Evidence first, whatever has become of the lease: this reply is the sure match of the request.
        keep(lease.pk, Exchange.Kind.SUBMIT, prediction.exchange, summary="Accepted", prediction_id=prediction.id)
        adopt_or_unconfirm(lease.pk, prediction.id, token=lease.token)


def _body(generation: Generation, lease: Lease) -> dict[str, Any] | None:
    """What is to be POSTed, with its pictures uploaded; None: not now, or never."""
    try:
        return request_body(generation, _uploads(generation, lease))
    except _LeaseLost:
        log.info("lease_lost", step="upload", generation=str(lease.pk))
    except errors.WaveSpeedError as error:
        _not_uploaded(generation, lease, error)
    except FileNotFoundError as error:
        _fail_unbilled(generation, Status.QUEUED, lease, failures.Failure("picture_missing", str(error)))
    except InvalidInputs as error:
        _fail_unbilled(generation, Status.QUEUED, lease, failures.Failure("rejected", str(error)))
    except Exception as error:
        # Storages raise what their vendor's library raises. Nothing was asked for yet, so it is safe to come back.
        log.exception("picture_not_read", generation=str(lease.pk))
        why = f"The studio's storage did not give its picture, and will be asked again: {type(error).__name__}."
        _postpone(generation, lease, "picture_not_read", why, **_again(generation))
    return None


@transaction.atomic
def _hand_over(generation: Generation, lease: Lease, body: dict[str, Any]) -> int | None:
    """Commits `submitting` with the exact body; the number of the request that may be sent now, or None."""
    # First, as the lane is locked before generations: docs/architecture.md, “The order of locks”.
    number = restored.count()
    if _unconfirm_announced(lease, Status.QUEUED):
        return None
    if lane.is_held(generation):
        lane.put_back(lease)
        return None
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
        lease_until=timezone.now() + timedelta(seconds=call_lease()),
    )
    return number if submitting else None


def _remember_or_put_back(number: int, generation: Generation, lease: Lease) -> bool:
    """Whether the request may leave: the storage knows of it, so that a backup from before it will be found out."""
    try:
        restored.remember(number)
    except restored.EarlierDatabase as error:
        restored.pause(str(error))
        reason = "Not sent: the database was restored from a backup."
    except Exception:
        # Storages raise what their vendor's library raises. Nothing was sent, so it is safe to come back.
        log.exception("not_remembered", generation=str(lease.pk))
        reason = "Not sent, and will be tried again: the storage did not take the note that it is about to be."
    else:
        # The storage may have been slow: a row that was taken up meanwhile is not sent.
        return Generation.objects.renew(lease.pk, lease.token, call_lease())
    Generation.objects.move(
        lease.pk,
        Status.SUBMITTING,
        Status.QUEUED,
        token=lease.token,
        reason=reason,
        submitted_at=None,
        **_again(generation),
    )
    return False


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
    """The provider's URLs of this generation's own uploads, made anew when they would soon expire; each call has a fresh lease."""
    if generation.uploaded_at and generation.uploaded_at > timezone.now() - UPLOADS_LAST:
        return dict(generation.uploads)

    def renew() -> None:
        if not Generation.objects.renew(lease.pk, lease.token, call_lease()):
            raise _LeaseLost

    images = {"image": generation.image, "end_image": generation.end_image}
    uploads = {name: _upload(image, f"{generation.pk}-{name}", renew) for name, image in images.items() if image}
    # What an earlier try said is over.
    if not Generation.objects.save_leased(
        lease.pk, lease.token, uploads=uploads, uploaded_at=timezone.now(), error_code="", error_message="", **NO_LOOK
    ):
        raise _LeaseLost
    return uploads


def _upload(image: SourceImage, name: str, renew: Callable[[], None]) -> str:
    extension = "png" if image.content_type == "image/png" else "jpg"
    renew()
    with cast(BinaryIO, image.file.open("rb")) as file:
        return (
            provider.client()
            .upload(
                file,
                filename=f"{name}.{extension}",
                size=image.bytes,
                content_type=image.content_type,
                before_sending=renew,
            )
            .download_url
        )


def _not_uploaded(generation: Generation, lease: Lease, error: errors.WaveSpeedError) -> None:
    """Nothing was asked for yet, so it waits in the queue and says why; what is refused again and again fails in the end."""
    why = f"Not uploaded, and will be tried again: {error}"
    log.warning("not_uploaded", generation=str(lease.pk), reason=why)
    refusal = REFUSALS.get(type(error), "")
    if refusal or generation.attempts < UPLOAD_EVIDENCE:
        keep(lease.pk, Exchange.Kind.UPLOAD, error.exchange, summary=f"Not uploaded: {error}", refusal=refusal)
    if _pause_or_count_refusal(generation, error):
        _fail_unbilled(generation, Status.QUEUED, lease, failures.Failure(refusal, str(error)))
    else:
        _postpone(generation, lease, "not_uploaded", why, **_again(generation, error))


def _postpone(generation: Generation, lease: Lease, code: str, why: str, **again: Any) -> None:
    saved = Generation.objects.save_leased(
        lease.pk, lease.token, release=True, error_code=code, error_message=why, **again
    )
    if saved and again["attempts"] >= alerts.TRIES_UNTIL_TOLD:
        # Of pictures that do not reach the provider `alerts.check_not_sent` tells the studio owners, all of them at once.
        waits = f"{why} That is so for a long time. Nothing was sent, and nothing is paid."
        ask_for_look(lease.pk, waits, studio_knows=True)


def _refused(generation: Generation, lease: Lease, error: errors.NotCreated) -> None:
    """Surely not created: back into the queue where it can pass later, else failed and released."""
    if isinstance(error, errors.Rejected) or _pause_or_count_refusal(generation, error):
        failure = failures.Failure(REFUSALS[type(error)], str(error))
        _fail_unbilled(generation, Status.SUBMITTING, lease, failure)
        return
    if _unconfirm_announced(lease, Status.SUBMITTING):
        return
    Generation.objects.move(
        lease.pk,
        Status.SUBMITTING,
        Status.QUEUED,
        token=lease.token,
        reason=f"Not accepted, and will be tried again: {error}",
        submitted_at=None,
        **_again(generation, error),
    )


def _pause_or_count_refusal(generation: Generation, error: errors.WaveSpeedError) -> bool:
    """Whether this request alone was refused three times in the same way. The account's fault does not count: it pauses the lane."""
    refusal = REFUSALS.get(type(error), "")
    if not refusal or account.pause_if_account_problem(error, needed=generation.quote or 0):
        return False
    return times_refused(generation.pk, refusal, since=account.last_pause_or_resume()) >= REFUSALS_UNTIL_FAILED


def _again(generation: Generation, error: errors.WaveSpeedError | None = None) -> dict[str, Any]:
    """When it is tried again. That others were faster is no failure of this one: then the whole lane slows."""
    asked = timedelta(seconds=(error.retry_after if error else None) or 0)
    # A request that was never sent passes later too, and is not too much.
    was_answered = isinstance(error, errors.TryLater) and error.status is not None
    if was_answered or isinstance(error, errors.TooMany):
        return {"attempts": generation.attempts, "next_action_at": lane.slow(asked)}
    return {
        "attempts": min(generation.attempts + 1, MOST_ATTEMPTS),
        "next_action_at": timezone.now() + max(backoff(generation.attempts), asked),
    }


@transaction.atomic
def _fail_unbilled(generation: Generation, old: Status, lease: Lease, failure: failures.Failure) -> None:
    """Failed, and its money released; unless the provider itself named a prediction of it, whatever else it said."""
    if _unconfirm_announced(lease, old):
        return
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


def unconfirm(pk: uuid.UUID, *, reason: str, **guard: Any) -> bool:
    """Nobody knows whether the request was accepted: the money stays held, and it is never POSTed again. `resolve` looks soon."""
    first_look = timezone.now() + timedelta(seconds=settings.WAVESPEED_POLL_SECONDS)
    return Generation.objects.move(
        pk, Status.SUBMITTING, Status.UNCONFIRMED, reason=reason, next_action_at=first_look, **guard
    )


def recover_submit(pk: uuid.UUID) -> bool:
    """Takes up a submit whose worker died: adopts the reply if that was kept, else it is `unconfirmed`."""
    if not Generation.objects.filter(pk=pk, status=Status.SUBMITTING, lease_until__lt=timezone.now()).exists():
        return False
    if prediction_id := accepted(pk):
        return adopt_or_unconfirm(pk, prediction_id)
    return unconfirm(pk, reason="The worker died while it submitted; whether the provider accepted is unknown.")


def adopt_or_unconfirm(pk: uuid.UUID, prediction_id: str, **guard: Any) -> bool:
    """An answer that names another generation's prediction, as one from a gateway's cache would, says nothing of this request."""
    return adopt(pk, prediction_id, reason="Accepted by the provider.") or unconfirm(
        pk,
        reason=f"The provider's answer names the prediction {prediction_id}, which is another generation's; "
        "whether it accepted this one is unknown.",
        **guard,
    )


# --- Announced, though it shows as queued -----------------------------------------------------------------------------


@transaction.atomic
def take_up_announced(pk: uuid.UUID) -> bool:
    """What is queued becomes `unconfirmed` where a signed webhook has named a prediction of it, so that `resolve` looks for that."""
    token = Generation.objects.lease(pk, call_lease(), status=Status.QUEUED) if announced(pk) else None
    return token is not None and _unconfirm_announced(Lease(pk, token), Status.QUEUED)


@transaction.atomic
def _unconfirm_announced(lease: Lease, old: Status) -> bool:
    """Whether a signed webhook has named a prediction of it: whatever else is said of it, it is `unconfirmed` then, as after a lost reply.

    So it is where the provider makes what it has refused, or where the database was restored from a backup.
    """
    if not announced(lease.pk):
        return False
    log.warning("announced_and_not_sent", generation=str(lease.pk), status=old.value)
    if old == Status.QUEUED:
        Generation.objects.move(
            lease.pk,
            Status.QUEUED,
            Status.SUBMITTING,
            token=lease.token,
            reason=ANNOUNCED,
            submitted_at=last_post(lease.pk),
            lease_token=lease.token,
        )
    unconfirm(lease.pk, token=lease.token, reason=ANNOUNCED)
    return True
