"""Tells people what concerns the pipeline, each thing once: charges above what was reserved, the paused lane, the provider's
balance, and to who asked for them the generations that have ended."""

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from generations import failures, provider
from generations.models import Generation, Lane, Status
from generations.wavespeed import errors
from projects import alerts, forecast, permissions
from projects.models import AlertKind, SpendEntry
from projects.money import MICRO, shown

log = structlog.get_logger(__name__)

BATCH = 200
LINKS_SHOWN = 50
# An end that somebody waits for: the word for one, and the words for one and for several.
ENDS = {
    Status.COMPLETED: ("Ready", "video is ready", "videos are ready"),
    Status.FAILED: ("Failed", "failed", "failed"),
    Status.UNCONFIRMED: ("Unconfirmed", "is unconfirmed", "are unconfirmed"),
}
UNCONFIRMED = (
    "Nobody knows yet whether the provider accepted it. Its money stays held, and it is not sent again; "
    "you hear more when its outcome is known."
)


def overcharged(generation: Generation, *, reserved: int, charged: int) -> None:
    """Tells that the provider took more than was reserved; amounts in micro-dollars."""
    with alerts.never_failing(AlertKind.OVERCHARGED):
        alerts.tell(
            AlertKind.OVERCHARGED,
            f"overcharged:{generation.pk}:{charged}",
            people=alerts.responsible_for(generation.project),
            title=f"{generation.project}: charged {shown(charged)}, {shown(charged - reserved)} more than was reserved",
            text=f"“{generation}” on {generation.endpoint}: {shown(reserved)} was reserved, and the provider took {shown(charged)}. "
            "Nothing more is submitted to this endpoint until a studio owner has looked at its price and resumes it.",
            project=generation.project,
            path=_page(generation),
        )


def lane_paused(reason: str) -> None:
    """Tells the studio owners, once per pause, that nothing is submitted any more. Call it when the lane is paused."""
    with alerts.never_failing(AlertKind.LANE_PAUSED):
        paused_at = Lane.objects.values_list("paused_at", flat=True).get(pk=Lane.WAVESPEED)
        if paused_at is None:
            return
        alerts.tell(
            AlertKind.LANE_PAUSED,
            f"lane_paused:{paused_at:%Y-%m-%dT%H:%M:%S.%f}",
            people=permissions.studio_owners(),
            title="Submitting is paused",
            text=reason,
            path=reverse("admin:generations_lane_changelist"),
        )


def check_balance() -> None:
    """Tells the studio owners, once a day, that the provider's balance won't last; one that can't be read tells nothing."""
    try:
        balance = int(provider.client().balance() * MICRO)
    except errors.WaveSpeedError as error:
        log.warning("balance_not_read", reason=str(error))
        return
    now = timezone.now()
    net, span = forecast.recent_spend(SpendEntry.objects.all(), now)
    if net <= 0 or balance >= forecast.at_pace(net, span, timedelta(days=settings.ALERT_BALANCE_DAYS)):
        return
    lasts = forecast.duration(max(balance, 0) * (span // forecast.SECOND) // net * forecast.SECOND)
    daily = shown(forecast.at_pace(net, span, forecast.DAY))
    alerts.tell(
        AlertKind.PROVIDER_BALANCE,
        f"provider_balance:{now:%Y-%m-%d}",
        people=permissions.studio_owners(),
        title=f"The provider's balance lasts about {lasts}",
        text=f"{shown(balance)} is left, and the mean spend of the last {forecast.duration(span)} is {daily} a day. "
        "Top up the account at the provider: without credits, submitting pauses.",
        path=reverse("admin:generations_lane_changelist"),
    )


def announce_ended() -> None:
    """Tells who asked how their generations ended, grouped by person: completed, failed, or unconfirmed."""
    people = _unannounced().order_by("requested_by").values_list("requested_by", flat=True).distinct()
    for user in User.objects.filter(pk__in=list(people[:BATCH])):
        _announce(user)


def _unannounced() -> QuerySet[Generation]:
    ended = Q(completed_at__isnull=False) | Q(status=Status.UNCONFIRMED)
    return Generation.objects.filter(ended, status__in=ENDS, announced_at=None)


@transaction.atomic
def _announce(user: User) -> None:
    """Marks what is told in the transaction that tells it; rows that another dispatcher has are left to it."""
    rows = _unannounced().filter(requested_by=user).select_related("project").order_by("completed_at", "pk")
    if connection.features.has_select_for_update_skip_locked:
        rows = rows.select_for_update(skip_locked=True, of=("self",), no_key=True)
    ended = list(rows[:BATCH])
    now = timezone.now()
    Generation.objects.filter(pk__in=[generation.pk for generation in ended]).update(announced_at=now)
    wanted = [generation for generation in ended if generation.result_ignored_at is None]
    if wanted and user.is_active:
        alerts.tell(AlertKind.ENDED, f"ended:{user.pk}:{now:%Y-%m-%dT%H:%M:%S.%f}", people=[user], **_told(wanted))


def _told(ended: Sequence[Generation]) -> dict[str, Any]:
    if len(ended) == 1:
        generation = ended[0]
        return {
            "title": _line(generation),
            "text": _sentence(generation),
            "path": _page(generation),
            "project": generation.project,
        }
    counts = Counter(generation.status for generation in ended)
    parts = [
        f"{counts[status]} {one if counts[status] == 1 else several}"
        for status, (_, one, several) in ENDS.items()
        if counts[status]
    ]
    left_out = len(ended) - LINKS_SHOWN
    return {
        "title": ", ".join(parts),
        "text": f"The first {LINKS_SHOWN} of them:" if left_out > 0 else "",
        "links": [[_line(generation), _page(generation)] for generation in ended[:LINKS_SHOWN]],
        "path": reverse("admin:generations_generation_changelist"),
    }


def _line(generation: Generation) -> str:
    return f"{ENDS[Status(generation.status)][0]}: “{generation}” in {generation.project}"


def _sentence(generation: Generation) -> str:
    match generation.status:
        case Status.COMPLETED:
            return f"It cost {shown(generation.charged or 0)}."
        case Status.UNCONFIRMED:
            return UNCONFIRMED
    return failures.Failure(generation.error_code).sentence


def _page(generation: Generation) -> str:
    return reverse("admin:generations_generation_change", args=[generation.pk])
