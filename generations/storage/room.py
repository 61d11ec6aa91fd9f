"""Whether what is on its way has room: a video that is paid must have a place to go to."""

import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from django.conf import settings
from django.core.files.storage import FileSystemStorage, default_storage
from django.db.models import Count, Q
from django.utils import timezone

from generations import alerts
from generations.models import Generation, Status
from generations.storage import storing

MEGABYTE = storing.MEGABYTE
STORAGE, TEMPORARY = "storage", "temporary"


def shortage() -> str:
    """Why nothing may be submitted for want of room, in a sentence for people; empty while there is room.

    One query and one look at each disk: cheap enough for every submit, but a disk that hangs does, so hold no lock meanwhile.
    """
    counts = _counted()
    if refused := counts["refused"]:
        return (
            f"The studio's own storage does not take what was made ({refused} finished {_videos(refused)} waiting for it): "
            "nothing more is submitted until it does. See the generations that are storing."
        )
    return _shortage_on_disk(_expected(counts["on_their_way"]))


def shown_shortage() -> str:
    """`shortage`, for pages, which have to open when a disk can't be read: that may be what somebody looks for there."""
    try:
        return shortage()
    except OSError:
        return "How much room this machine’s disks have can’t be read; as long as a worker’s can’t, it submits nothing."


def tell_of_shortage() -> None:
    """Tells the studio owners when something waits for room on a disk; of a storage that refuses, they were told by its first refusal."""
    reason = _shortage_on_disk(_expected(_counted()["on_their_way"]))
    if reason and Generation.objects.filter(status=Status.QUEUED).exists():
        alerts.no_room(reason)


def _counted() -> dict[str, int]:
    refused = Q(status=Status.STORING, error_code__in=storing.OUR_FAULTS.values())
    return Generation.objects.filter(_on_their_way()).aggregate(
        on_their_way=Count("pk"), refused=Count("pk", filter=refused)
    )


def _expected(on_their_way: int) -> int:
    """Videos: those on their way, and the one that would be submitted. What nobody asked for waits for room (`is_scarce`)."""
    return on_their_way + 1


def is_scarce() -> bool:
    """Whether what nobody here asked for has to wait, so that it takes no room of what was asked for."""
    return bool(_shortage_on_disk(_expected(_counted()["on_their_way"]) + 1))


def largest_video() -> int:
    """The bytes of the longest video that the catalogue makes: a guess that is too high costs a pause, one that is too low a wait."""
    return storing.usual_bytes(storing.longest_seconds())


def _on_their_way() -> Q:
    """What may still bring a video: also what is leased to be submitted, and what nobody knows the outcome of."""
    unfinished = (Status.SUBMITTING, Status.PROCESSING, Status.UNCONFIRMED, Status.STORING)
    return Q(status__in=unfinished) | Q(status=Status.QUEUED, lease_until__gt=timezone.now())


def _shortage_on_disk(videos: int) -> str:
    """Each video is on the temporary disk and then in the storage; where both are one disk, it needs both at once."""
    places: dict[int, dict[str, Path]] = defaultdict(dict)
    for name, path in _places():
        places[os.stat(path).st_dev][name] = path
    for disk in places.values():
        path = next(iter(disk.values()))
        free = shutil.disk_usage(path).free
        needed = videos * len(disk) * largest_video() + settings.STORAGE_ROOM_MEGABYTES * MEGABYTE
        if free < needed:
            return _sentence(disk, free, needed, videos)
    return ""


def _places() -> list[tuple[str, Path]]:
    """The disks of this machine that a video passes; of an object storage nobody can say how much room it has."""
    places = [(TEMPORARY, Path(tempfile.gettempdir()))]
    if isinstance(default_storage, FileSystemStorage):
        places.insert(0, (STORAGE, _existing(Path(default_storage.location))))
    return places


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _sentence(disk: dict[str, Path], free: int, needed: int, videos: int) -> str:
    what = "The disk of the storage" if STORAGE in disk else "The disk for temporary files (TMPDIR)"
    path = next(iter(disk.values()))
    return (
        f"{what} at {path} has {_shown(free)} free, and {_shown(needed)} are needed for {videos} {_videos(videos)} "
        "on their way: nothing is submitted until there is room. Delete what nobody needs, or give the studio a larger disk."
    )


def _videos(count: int) -> str:
    return "video" if count == 1 else "videos"


def _shown(size: int) -> str:
    return f"{size // MEGABYTE:,} MB" if size < 10_000 * MEGABYTE else f"{size / 1_000_000_000:,.1f} GB"
