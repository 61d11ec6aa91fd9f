"""Tells who asked for them that generations have ended, several in one message."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils import timezone

from generations import failures
from generations.alerts import LINKS_SHOWN, page_of
from generations.models import Generation, Status
from projects import alerts
from projects.models import AlertKind
from projects.money import shown

BATCH = 200
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
            "path": page_of(generation),
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
        "links": [[_line(generation), page_of(generation)] for generation in ended[:LINKS_SHOWN]],
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
