"""What a stored video lacks of what was ordered, by the order and the probe: it is shorter, smaller, or silent."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from generations import catalog
from generations.models import Generation, Video

# Clips end a frame or two before their time.
TOLERANCE = Decimal("0.1")
# Sides are rounded to what codecs take.
OF_A_SIDE = Decimal("0.98")


@dataclass(frozen=True)
class Shortcoming:
    """`code` is unreadable, shorter, smaller or silent; `text` a sentence for people."""

    code: str
    text: str


def of(video: Video) -> list[Shortcoming]:
    """None for a video that belongs to no order yet. Reads `video.generation`."""
    return list(_found(video, video.generation)) if video.generation else []


def _found(video: Video, ordered: Generation) -> Iterator[Shortcoming]:
    if video.probe_error:
        yield Shortcoming("unreadable", "It can’t be read as a video.")
        return
    if video.duration is not None and video.duration < ordered.duration - TOLERANCE:
        yield Shortcoming(
            "shorter", f"It lasts {video.duration.normalize():f} s, and {ordered.duration} s were ordered."
        )
    if is_small := _smaller(video, ordered):
        yield Shortcoming("smaller", is_small)
    if ordered.sound and video.has_audio is False:
        yield Shortcoming("silent", "It has no sound, and sound was ordered.")


def _smaller(video: Video, ordered: Generation) -> str:
    """A picture counts as full where one of its sides is, as its shape is that of the source image."""
    endpoint = catalog.ENDPOINTS.get(ordered.endpoint)
    if endpoint is None or not video.width or not video.height:
        return ""
    long_side, short_side = endpoint.picture
    if (
        max(video.width, video.height) >= long_side * OF_A_SIDE
        or min(video.width, video.height) >= short_side * OF_A_SIDE
    ):
        return ""
    return f"Its picture has {video.width} × {video.height} pixels, and the model makes {long_side} × {short_side}."
