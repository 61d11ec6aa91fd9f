"""An error that nobody expected, in any step: counted on its row, told, and tried again ever later; in the end people look at it."""

import re
import uuid
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.utils import timezone

from generations import alerts
from generations.lifecycle.evidence import accepted
from generations.lifecycle.needs_look import NO_LOOK, TRIES_UNTIL_LOOK, ask_for_look
from generations.lifecycle.submit import adopt_or_unconfirm, unconfirm
from generations.lifecycle.timing import backoff
from generations.models import Generation, Status, UnassignedPrediction
from generations.wavespeed.redaction import Redactor

log = structlog.get_logger(__name__)

CODE = "unexpected"
LONGEST_TEXT = 200
LONGEST_WAIT = 600  # seconds
MOST_ATTEMPTS = 30_000
WAITING = (Status.QUEUED, Status.PROCESSING, Status.UNCONFIRMED, Status.STORING)
SECRETS = ("SECRET_KEY", "WAVESPEED_API_KEY", "WAVESPEED_WEBHOOK_SECRET", "METRICS_TOKEN")
PASSWORD = re.compile(r"(?<=://)[^\s/@]+@")


def of_step(pk: uuid.UUID, step: str, error: BaseException) -> None:
    """Counts an error of a generation's step, tells owners, and says when it is tried again.

    A submit that may have been sent is `unconfirmed`, and never sent again.
    """
    generation = Generation.objects.select_related("project").filter(pk=pk).first()
    if generation is None:
        return
    why = _sentence(step, error)
    alerts.unexpected(step, type(error).__name__, why, generation=generation)
    if step == "settle":
        tries = _settle_later(generation)
    elif generation.status == Status.SUBMITTING:
        _recover(generation, why)
        return
    else:
        tries = _try_later(generation, why)
    if tries >= TRIES_UNTIL_LOOK:
        ask_for_look(
            pk,
            f"{why} That happened {tries} times in a row, so it may never pass by itself. See the log of the workers.",
        )


def of_unassigned(pk: uuid.UUID, error: BaseException) -> None:
    """As `of_step`, of a prediction that belongs to nobody yet."""
    row = UnassignedPrediction.objects.filter(pk=pk, stored_at=None, next_action_at__isnull=False).first()
    why = _sentence("store_unassigned", error)
    alerts.unexpected("store_unassigned", type(error).__name__, why)
    if row:
        UnassignedPrediction.objects.filter(pk=pk, next_action_at=row.next_action_at).update(
            error_message=why, **_again(row.attempts, row.lease_until)
        )


def of_job(step: str, error: BaseException) -> None:
    """Of work that belongs to no row: it is done again at its time."""
    alerts.unexpected(step, type(error).__name__, _sentence(step, error))


def settled(pk: uuid.UUID) -> None:
    """A comparison with the bill went well: what earlier ones ran into is over."""
    rows = Generation.objects.filter(pk=pk, settle_attempts__gt=0)
    rows.filter(status__in=(Status.COMPLETED, Status.FAILED)).update(**NO_LOOK)
    rows.update(settle_attempts=0)


def _try_later(generation: Generation, why: str) -> int:
    """How often it happened in a row. What has failed keeps the reason why; what has moved on meanwhile is left alone."""
    is_again = generation.error_code == CODE or generation.status == Status.FAILED
    tries = generation.attempts if is_again else 0
    changes = _again(tries, generation.lease_until)
    if generation.status in WAITING:
        changes |= {"error_code": CODE, "error_message": why}
    elif generation.status != Status.FAILED or generation.next_action_at is None:
        return 0
    Generation.objects.filter(pk=generation.pk, status=generation.status).update(**changes)
    return tries + 1


def _settle_later(generation: Generation) -> int:
    tries = generation.settle_attempts
    wait = backoff(tries, most=LONGEST_WAIT)
    Generation.objects.filter(pk=generation.pk, settle_at__isnull=False).update(
        settle_attempts=min(tries + 1, MOST_ATTEMPTS), settle_at=timezone.now() + wait, settle_sent_at=None
    )
    return tries + 1


def _recover(generation: Generation, why: str) -> None:
    """Whether it was sent nobody can say, unless the answer was kept."""
    if prediction_id := accepted(generation.pk):
        adopt_or_unconfirm(generation.pk, prediction_id)
    else:
        unconfirm(generation.pk, reason=f"{why} Whether the provider accepted it is unknown.")


def _again(tries: int, lease_until: datetime | None) -> dict[str, Any]:
    """Ever later, and after the lease of the step that ended so has run out. Its worker lives, so that lease is not a lost one."""
    now = timezone.now()
    leased = (lease_until or now) - now
    wait = max(backoff(tries, most=LONGEST_WAIT), leased + timedelta(seconds=1))
    return {"attempts": min(tries + 1, MOST_ATTEMPTS), "next_action_at": now + wait, "lost_leases": 0}


def _sentence(step: str, error: BaseException) -> str:
    """For people: the kind of error and its first line, without secrets."""
    secrets = [value for name in SECRETS if (value := getattr(settings, name, ""))]
    lines = PASSWORD.sub("", Redactor(*secrets).text(str(error))).strip().splitlines()
    text = f": {lines[0][:LONGEST_TEXT]}" if lines else ""
    return f"An unexpected error in the step “{step}” ({type(error).__name__}{text}). It is tried again, ever later."
