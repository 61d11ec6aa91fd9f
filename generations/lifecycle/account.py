"""What the provider's account means for the lane: it pauses when the key or the money is refused, and resumes when they are back."""

from datetime import datetime

import structlog
from django.db import transaction

from generations import alerts, provider
from generations.lifecycle.lane import first_in_turn, queued
from generations.models import Lane, PauseCause, PauseEvent
from generations.wavespeed import errors
from projects.money import shown

log = structlog.get_logger(__name__)


def pause_if_account_problem(error: errors.WaveSpeedError, *, needed: int = 0) -> bool:
    """Pauses the lane unless a call that costs nothing says that it is not the account; True if it is paused.

    `needed` is what the refused request costs, in micro-dollars: a balance that covers it is not what it lacks.
    """
    match error:
        case errors.KeyRefused():
            if provider.balance() is not None:
                return False
            return _pause(
                PauseCause.KEY_REFUSED,
                "The provider refuses the studio's API key. Check WAVESPEED_API_KEY; submitting goes on by itself once it is accepted.",
            )
        case errors.InsufficientCredits():
            balance = provider.balance()
            if balance is not None and balance >= needed > 0:
                return False
            return _pause(
                PauseCause.NO_CREDITS,
                "The provider's account has not enough credits. Top it up; submitting goes on by itself once they cover the next video.",
            )
    return False


def resume_if_account_is_back() -> bool:
    """Ends a pause for the account's sake when a call that costs nothing says that it may; True if it did.

    What a person paused, or a restored backup, waits for a person.
    """
    causes = (PauseCause.KEY_REFUSED, PauseCause.NO_CREDITS)
    lane = Lane.objects.filter(pk=Lane.WAVESPEED, paused_at__isnull=False, paused_cause__in=causes).first()
    balance = provider.balance() if lane else None
    if lane is None or balance is None:
        return False
    if lane.paused_cause == PauseCause.KEY_REFUSED:
        return _resume(lane, "The provider accepts the studio's API key again.")
    turn = first_in_turn(queued())
    if balance <= 0 or (turn and balance < (turn.quote or 0)):
        return False
    return _resume(lane, f"The provider's account has credits again: {shown(balance)}.")


def last_pause_or_resume() -> datetime | None:
    """Of all submitting: since then the account is as it is now."""
    events = PauseEvent.objects.filter(project=None, endpoint="").order_by("-at")
    return events.values_list("at", flat=True).first()


@transaction.atomic
def _pause(cause: PauseCause, reason: str) -> bool:
    """True also when somebody was faster: the lane is paused."""
    if Lane.pause(cause, reason):
        log.error("lane_paused", reason=reason)
        alerts.lane_paused(reason)
    elif cause == PauseCause.KEY_REFUSED and Lane.current().paused_cause != cause:
        alerts.key_refused()
    return True


@transaction.atomic
def _resume(lane: Lane, reason: str) -> bool:
    """False if it is another pause by now."""
    paused_at, resumed = lane.paused_at, lane.resume(reason)
    if resumed:
        log.warning("lane_resumed", reason=reason)
        alerts.lane_resumed(paused_at, reason)
    return resumed
