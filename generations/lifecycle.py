"""The steps of a generation: admit, submit, poll, store, settle. Each does one thing, is safe to run twice, and enqueues nothing.

A step leases its row and commits, does the slow work without a transaction, then commits the outcome, guarded by its lease.
"""

import contextlib
import random
import uuid
from dataclasses import asdict, dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any, BinaryIO, cast

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from generations import alerts, bill, catalog, failures, provider
from generations.models import Exchange, Generation, Lane, PausedEndpoint, Status
from generations.storing import StoreFailed, delete_files, fetch_and_store
from generations.wavespeed import errors
from generations.wavespeed.replies import COMPLETED, Prediction
from generations.wavespeed.transport import Exchange as Evidence
from projects import spend
from projects.models import EntryKind, SourceImage, SpendEntry
from projects.money import shown

log = structlog.get_logger(__name__)

# Seconds. A lease outlives what it covers; a step that died is taken up again when it ends.
MARGIN = 10
STORE_LEASE = 60
# Rows that were sent to a worker look due again after this, in case the message is lost.
REDELIVERY = timedelta(seconds=30)
UPLOADS_LAST = timedelta(days=6)
# The provider keeps a result for 7 days; on the eighth there is nothing left to wait for.
RESULTS_LAST = timedelta(days=8)
UNCONFIRMED_OCCUPIES = timedelta(minutes=15)
REFUSALS_UNTIL_FAILED = 3
# What a fresh result with other URLs would not change.
OUR_OWN_FAULT = frozenset({"storage", "disk", "lease_lost"})
FIRST_SETTLEMENT = timedelta(seconds=30)
STOP_LOOKING_FOR_BILL = timedelta(days=7)


@dataclass(frozen=True)
class Lease:
    """A queued generation that was let into the lane, for one submit."""

    pk: uuid.UUID
    token: uuid.UUID


def _backoff(attempts: int, *, first: float = 5, most: float = 300) -> timedelta:
    """Doubling from `first` to `most` seconds, with jitter, so that many do not come back at once."""
    return timedelta(seconds=min(most, first * 2 ** min(attempts, 16)) * random.uniform(0.8, 1.2))


# --- Submit -----------------------------------------------------------------------------------------------------------


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
    # Two uploads and the POST, each within the client's deadline.
    token = Generation.objects.lease(turn, 3 * settings.WAVESPEED_DEADLINE + MARGIN, status=Status.QUEUED)
    return Lease(turn, token) if token else None


def submit(lease: Lease) -> None:
    """Uploads what is needed, commits `submitting` with the exact body, and POSTs once; whatever comes back, never twice."""
    generation = Generation.objects.select_related("image", "end_image").get(pk=lease.pk)
    try:
        uploads = _uploads(generation, lease)
    except errors.WaveSpeedError as error:
        _postpone(generation, lease, error)
        return
    body = request_body(generation, uploads)
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
        _keep(lease.pk, Exchange.Kind.SUBMIT, error.exchange, summary=f"Not created: {error}")
        _refused(generation, lease, error)
    except errors.WaveSpeedError as error:
        _keep(lease.pk, Exchange.Kind.SUBMIT, error.exchange, summary=f"Unclear: {error}")
        unconfirm(lease.pk, token=lease.token, reason=f"The provider gave no clear answer: {error}")
    else:
        # Evidence first, whatever has become of the lease: this reply is the sure match of the request.
        _keep(lease.pk, Exchange.Kind.SUBMIT, prediction.exchange, summary="Accepted", prediction_id=prediction.id)
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


def _postpone(generation: Generation, lease: Lease, error: errors.WaveSpeedError) -> None:
    """An upload failed: nothing was asked for yet, so the generation waits in the queue; refused uploads fail in the end."""
    _pause_if_account_problem(error)
    if isinstance(error, errors.Rejected) and generation.attempts + 1 >= REFUSALS_UNTIL_FAILED:
        _fail_unbilled(generation, Status.QUEUED, lease, failures.Failure("rejected", str(error)))
        return
    Generation.objects.save_leased(
        lease.pk,
        lease.token,
        release=True,
        attempts=generation.attempts + 1,
        next_action_at=timezone.now() + _backoff(generation.attempts),
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
    wait = max(_backoff(generation.attempts), timedelta(seconds=error.retry_after or 0))
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
        spend.release(
            reservation, key=f"refused:{lease.pk}", reason="The provider refused the request and made nothing."
        )


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


# --- Poll -------------------------------------------------------------------------------------------------------------


def poll(pk: uuid.UUID) -> Status | None:
    """Asks for the result once; the status that it moved to, if it moved. Only a clear terminal answer is a verdict."""
    token = Generation.objects.lease(pk, settings.WAVESPEED_DEADLINE + MARGIN, status=Status.PROCESSING)
    if token is None:
        return None
    generation = Generation.objects.get(pk=pk)
    assert generation.prediction_id
    try:
        prediction = provider.client().result(generation.prediction_id)
    except errors.WaveSpeedError as error:
        return _no_verdict(generation, token, str(error), error.exchange)
    if prediction.status == COMPLETED and output_urls(prediction):
        return _succeeded(generation, token, prediction)
    if prediction.is_terminal and prediction.status != COMPLETED:
        failure = failures.of_task(prediction.status, prediction.code, prediction.error)
        _keep(
            pk,
            Exchange.Kind.RESULT,
            prediction.exchange,
            summary=f"{prediction.status}: {prediction.error}",
            prediction_id=prediction.id,
        )
        return _failed(generation, token, failure)
    return _no_verdict(
        generation, token, prediction.status, prediction.exchange if prediction.status == COMPLETED else None
    )


def output_urls(prediction: Prediction) -> list[str]:
    """The URLs among the outputs, which are URLs or objects with one."""
    candidates = [output.get("url") if isinstance(output, dict) else output for output in prediction.outputs]
    return [url for url in candidates if isinstance(url, str) and url]


def _succeeded(generation: Generation, token: uuid.UUID, prediction: Prediction) -> Status | None:
    billed = _billed(prediction.id)
    amount = generation.quote or 0 if billed is None else billed
    _keep(generation.pk, Exchange.Kind.RESULT, prediction.exchange, summary="completed", prediction_id=prediction.id)
    with transaction.atomic():
        moved = Generation.objects.move(
            generation.pk,
            Status.PROCESSING,
            Status.STORING,
            token=token,
            reason=f"Made by the provider for {shown(amount)}.",
            outputs=output_urls(prediction),
            charged=amount,
            next_action_at=timezone.now() + REDELIVERY,
            settle_at=timezone.now() + FIRST_SETTLEMENT,
        )
        reservation = spend.reservation_of(generation.pk)
        if moved and reservation:
            spend.charge(reservation, amount=amount, key=f"charge:{generation.pk}", reason="Made by the provider.")
            pause_if_overcharged(generation, reservation)
    return Status.STORING if moved else None


def _failed(generation: Generation, token: uuid.UUID, failure: failures.Failure) -> Status | None:
    """Failed at once, but its money stays held until `settle` has read the bill."""
    moved = Generation.objects.move(
        generation.pk,
        Status.PROCESSING,
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


def _no_verdict(generation: Generation, token: uuid.UUID, why: str, exchange: Evidence | None) -> Status | None:
    """Still running, or no sense in the answer: ask again later, until the provider can't have a result any more."""
    assert generation.submitted_at
    if exchange is not None and generation.attempts < 5:
        _keep(
            generation.pk,
            Exchange.Kind.RESULT,
            exchange,
            summary=f"No verdict: {why}",
            prediction_id=generation.prediction_id or "",
        )
    elapsed = timezone.now() - generation.submitted_at
    if elapsed > RESULTS_LAST:
        return _failed(generation, token, failures.Failure("result_expired", why))
    wait = poll_interval(elapsed.total_seconds(), provider.usual_seconds(generation.endpoint))
    attempts = min(generation.attempts + 1, 30_000) if exchange is not None else generation.attempts
    Generation.objects.save_leased(
        generation.pk, token, release=True, attempts=attempts, next_action_at=timezone.now() + timedelta(seconds=wait)
    )
    return None


def poll_interval(elapsed: float, usual: float) -> float:
    """Seconds until the next poll: sparse before the usual duration, then every few seconds, then backing off to ten minutes."""
    often = settings.WAVESPEED_POLL_SECONDS
    if elapsed < usual:
        return min(max(often, (usual - elapsed) / 4), 30.0)
    return min(max(often, (elapsed - 2 * usual) / 10), 600.0)


def _first_poll(pk: uuid.UUID) -> timedelta:
    endpoint = Generation.objects.values_list("endpoint", flat=True).get(pk=pk)
    return timedelta(seconds=poll_interval(0, provider.usual_seconds(endpoint)))


# --- Store ------------------------------------------------------------------------------------------------------------


def store(pk: uuid.UUID) -> Status | None:
    """Downloads the outputs, checks them and stores them; tries again later for as long as the provider has them."""
    token = Generation.objects.lease(pk, STORE_LEASE, status=Status.STORING)
    if token is None:
        return None
    generation = Generation.objects.get(pk=pk)

    def renew() -> None:
        if not Generation.objects.renew(pk, token, STORE_LEASE):
            raise StoreFailed("lease_lost", "Another worker took over.")

    try:
        videos = fetch_and_store(generation, attempt=token, renew=renew, allow_loopback=provider.is_loopback())
    except StoreFailed as error:
        return _not_stored(generation, token, error)
    with transaction.atomic():
        moved = Generation.objects.move(
            pk,
            Status.STORING,
            Status.COMPLETED,
            token=token,
            reason="Stored and checked.",
            next_action_at=None,
            completed_at=timezone.now(),
        )
        if moved:
            for video in videos:
                video.save()
    if not moved:
        delete_files(videos)
        return None
    return Status.COMPLETED


def _not_stored(generation: Generation, token: uuid.UUID, error: StoreFailed) -> Status | None:
    log.warning("not_stored", generation=str(generation.pk), code=error.code, reason=str(error))
    assert generation.submitted_at
    if timezone.now() - generation.submitted_at > RESULTS_LAST and error.code == "expired":
        failure = failures.Failure("result_expired", str(error))
        moved = Generation.objects.move(
            generation.pk,
            Status.STORING,
            Status.FAILED,
            token=token,
            reason=failure.sentence,
            error_code=failure.code,
            error_message=failure.provider_says,
            next_action_at=None,
            completed_at=timezone.now(),
        )
        return Status.FAILED if moved else None
    changes: dict[str, Any] = {}
    if error.code not in OUR_OWN_FAULT and (outputs := _fresh_outputs(generation)):
        changes["outputs"] = outputs
    Generation.objects.save_leased(
        generation.pk,
        token,
        release=True,
        attempts=min(generation.attempts + 1, 30_000),
        error_code="not_stored",
        error_message=str(error),
        next_action_at=timezone.now() + _backoff(generation.attempts, first=2),
        **changes,
    )
    return None


def _fresh_outputs(generation: Generation) -> list[str]:
    """The output URLs of a fresh result; none when it can't be had now."""
    assert generation.prediction_id
    try:
        return output_urls(provider.client().result(generation.prediction_id))
    except errors.WaveSpeedError as error:
        log.warning("no_fresh_result", generation=str(generation.pk), reason=str(error))
        return []


# --- Settle -----------------------------------------------------------------------------------------------------------


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


def _billed(prediction_id: str) -> int | None:
    """What the provider has deducted by now, in micro-dollars; None where it can't be seen (yet)."""
    try:
        billed = bill.of(prediction_id)
    except errors.WaveSpeedError as error:
        log.warning("bill_not_read", prediction=prediction_id, reason=str(error))
        return None
    return billed.deducted if billed.deducts else None


def _keep(
    pk: uuid.UUID, kind: Exchange.Kind, exchange: Evidence | None, *, summary: str, prediction_id: str = ""
) -> None:
    """Saves evidence, unguarded by lease or status, and outside the transaction that acts on it."""
    Exchange.objects.create(
        generation_id=pk,
        kind=kind,
        prediction_id=prediction_id,
        summary=summary[:300],
        detail=asdict(exchange) if exchange else {},
    )
