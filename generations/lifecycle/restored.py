"""Finds out that the database is an earlier one than the last that submitted: what it shows as queued may be paid already.

Each request that is about to be sent gets a number: it is counted in the lane's row, in the transaction that makes the generation
`submitting`, and written to the storage before the POST. So a database that counts less than the storage was restored from a backup.
Nothing is submitted then until `manage.py after_restore` has compared it with the provider and an owner resumes.
"""

import contextlib

import structlog
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from generations import alerts
from generations.models import Lane, PauseCause, Process
from generations.models.lane import LESSER_CAUSES

log = structlog.get_logger(__name__)

FOLDER = "studio/admitted"
# How many numbers stay in the storage. One would do; with some, several processes at once never leave none.
KEPT = 20
REASON = (
    "The database is an earlier one: requests were sent that it does not know of, so what it shows as queued may be paid already. "
    "Run “manage.py after_restore”, which compares it with the provider, then resume."
)

THEN_RESUME = "Read the report of “manage.py after_restore”, decide what is unconfirmed, then resume."


class EarlierDatabase(Exception):
    """Requests were sent that this database does not know of: nothing may be submitted from it."""


@transaction.atomic
def count() -> int:
    """The number of the request that is about to be sent. Goes first into the transaction that makes the generation `submitting`."""
    Lane.objects.get_or_create(pk=Lane.WAVESPEED)
    Lane.objects.filter(pk=Lane.WAVESPEED).update(admitted=F("admitted") + 1)
    return Lane.objects.values_list("admitted", flat=True).get(pk=Lane.WAVESPEED)


def remember(number: int) -> None:
    """Writes the number to the storage, before the POST. Raises `EarlierDatabase`, or whatever the storage's library raises."""
    if is_earlier():
        raise EarlierDatabase(REASON)
    name = _name(number)
    stored = default_storage.save(name, ContentFile(f"Sent at {timezone.now():%Y-%m-%d %H:%M:%S} UTC.\n".encode()))
    if stored != name:
        # Another database has used the number.
        _delete(stored)
        raise EarlierDatabase(REASON)
    if number > KEPT:
        _delete(_name(number - KEPT))


def pause_if_earlier() -> bool:
    """Pauses the lane if this database is an earlier one; True then. Raises whatever the storage's library raises."""
    if not is_earlier():
        return False
    pause(REASON)
    return True


def is_earlier() -> bool:
    """The storage is read first: a number is counted before it is written, so no other process can make this look earlier."""
    return highest() > (Lane.objects.filter(pk=Lane.WAVESPEED).values_list("admitted", flat=True).first() or 0)


def highest() -> int:
    """The highest number in the storage; 0 where nothing was ever sent."""
    try:
        _, names = default_storage.listdir(FOLDER)
    except FileNotFoundError:
        return 0
    return max((int(name) for name in names if name.isdecimal()), default=0)


@transaction.atomic
def pause(reason: str) -> None:
    """Whatever it was paused for before, this comes first; the owners are told. It takes a comparison, also where there was one before."""
    Lane.objects.filter(pk=Lane.WAVESPEED).update(compared_at=None)
    if Lane.pause(PauseCause.RESTORED, reason, replaces=LESSER_CAUSES):
        # Who ran when the backup was made counts neither as alive nor as dead.
        Process.objects.dead().delete()
        log.error("lane_paused", reason=reason)
        alerts.lane_paused(reason)


def compared() -> None:
    """The database was compared with the provider: it counts on from where the storage is, and an owner may resume."""
    reached, now = highest(), timezone.now()
    Lane.objects.filter(pk=Lane.WAVESPEED, admitted__lt=reached).update(admitted=reached)
    at = f"{now:%Y-%m-%d %H:%M} UTC"
    reason = f"The database was restored from a backup, and compared with the provider at {at}. {THEN_RESUME}"
    restored_lane = Lane.objects.filter(pk=Lane.WAVESPEED, paused_cause=PauseCause.RESTORED)
    restored_lane.update(compared_at=now, paused_reason=reason)


def must_be_compared() -> bool:
    """Whether the lane is paused for a restored database that was not compared since. Raises whatever the storage's library raises."""
    lane = Lane.objects.filter(pk=Lane.WAVESPEED, paused_cause=PauseCause.RESTORED).first()
    return lane is not None and (lane.compared_at is None or is_earlier())


def _name(number: int) -> str:
    return f"{FOLDER}/{number:012d}"


def _delete(name: str) -> None:
    with contextlib.suppress(Exception):
        default_storage.delete(name)
