"""What a stored video is called in somebody's folder of downloads, and the address that hands it out under that name."""

import re
import unicodedata
from pathlib import PurePosixPath

from django.core.files.storage import default_storage
from django.db.models import Q

from generations.models import Generation, Video

# Bytes in UTF-8. Some file systems allow 143 in a name, and people add to it.
LONGEST_PROJECT, LONGEST_PICTURE = 40, 70
SHORT_ID = 4
KEPT = {"Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Nd", "Nl", "No"}
# They choose between two looks of the character before them, such as an emoji that is not kept itself.
VARIATION_SELECTORS = re.compile("[\ufe00-\ufe0f]")
PICTURE_ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".heic", ".heif", ".tif", ".tiff", ".gif", ".avif"}


def download_name(video: Video) -> str:
    """`autumn-launch_SKU-1005_front_take2_5s_3f2a.mp4`: project, picture, take, length, and the beginning of the video's id.

    Letters and digits of every script, `-` and `_`: what every file system takes. At most 140 bytes. It stays the same.
    """
    short_id = video.pk.hex[:SHORT_ID]
    ending = PurePosixPath(str(video.file.name)).suffix
    generation = video.generation
    if generation is None:
        return f"unassigned_{short_id}{ending}"
    seconds = round(video.duration) if video.duration is not None else generation.duration
    parts = [
        _words(str(generation.project).lower(), LONGEST_PROJECT),
        _words(_picture(generation), LONGEST_PICTURE),
        f"take{take(generation)}",
        f"{seconds}s",
        short_id,
    ]
    return f"{'_'.join(filter(None, parts))}{ending}"


def take(generation: Generation) -> int:
    """The how manieth it is of those that were queued in its project with its picture and its prompt."""
    same = Generation.objects.filter(
        project=generation.project_id,
        image=generation.image_id,
        prompt=generation.prompt,
        multi_prompt=generation.multi_prompt,
    )
    queued_at = generation.queued_at or generation.created_at
    # What was queued together has one time.
    return 1 + same.filter(Q(queued_at__lt=queued_at) | Q(queued_at=queued_at, pk__lt=generation.pk)).count()


def download_url(video: Video) -> str:
    """A signed address, from which browsers save the file under its `download_name` (RFC 6266)."""
    return str(default_storage.download_url(video.file.name, download_name(video)))  # type: ignore[attr-defined]


def _picture(generation: Generation) -> str:
    """What the picture is called; without one, what is to be seen."""
    if generation.image is None:
        return str(generation)
    title = PurePosixPath(str(generation.image).replace("/", "-"))
    return title.stem if title.suffix.lower() in PICTURE_ENDINGS else title.name


def _words(text: str, longest: int) -> str:
    """`text` with all but letters, their marks, digits and `_` as single hyphens, cut to so many bytes."""
    plain = VARIATION_SELECTORS.sub("", unicodedata.normalize("NFC", text))
    kept = (each if each == "_" or unicodedata.category(each) in KEPT else "-" for each in plain)
    words = re.sub(r"-*_[-_]*|--+", lambda found: "_" if "_" in found[0] else "-", "".join(kept))
    return words.encode()[:longest].decode(errors="ignore").strip("-_")
