"""What a clip shows: the shots, and for each of them the camera's way over a picture and the picture's look."""

import colorsys
import random
from dataclasses import dataclass

from PIL import Image, ImageEnhance, ImageFilter

Size = tuple[int, int]
Box = tuple[float, float, float, float]  # left, top, width, height; fractions of the picture

_WIDE: Box = (0.0, 0.0, 1.0, 1.0)
_MOVES: tuple[tuple[Box, Box], ...] = (
    (_WIDE, (0.10, 0.09, 0.81, 0.81)),  # push in
    ((0.0, 0.05, 0.88, 0.88), (0.12, 0.07, 0.88, 0.88)),  # pan right
    ((0.09, 0.09, 0.83, 0.83), _WIDE),  # pull out
    ((0.06, 0.12, 0.88, 0.88), (0.06, 0.0, 0.88, 0.88)),  # tilt up
    ((0.12, 0.10, 0.88, 0.88), (0.0, 0.02, 0.88, 0.88)),  # pan left
    ((0.02, 0.0, 0.92, 0.92), (0.12, 0.14, 0.80, 0.80)),  # push in to the lower right
)
_LOOKS: tuple[
    tuple[float, float, tuple[float, float, float]], ...
] = (  # saturation, contrast, gains of red, green, blue
    (1.05, 1.04, (1.00, 1.00, 1.00)),
    (1.10, 1.06, (1.08, 1.01, 0.90)),
    (0.85, 1.08, (0.93, 1.00, 1.10)),
    (1.25, 1.02, (1.03, 1.02, 0.97)),
    (0.25, 1.15, (1.04, 1.00, 0.94)),
    (1.00, 0.96, (1.05, 0.97, 1.06)),
)


@dataclass(frozen=True)
class Shot:
    frames: int
    move: int
    look: int

    def box(self, progress: float) -> Box:
        """Where the camera looks at `progress` (0–1) of this shot; it starts and stops softly."""
        eased = progress * progress * (3 - 2 * progress)
        start, end = _MOVES[self.move % len(_MOVES)]
        left, top, width, height = (a + (b - a) * eased for a, b in zip(start, end, strict=True))
        return left, top, width, height


def shots(durations: list[int], fps: int, seed: int) -> list[Shot]:
    """One shot for each duration (seconds), no two neighbours with the same move or look."""
    plain = len(durations) == 1
    first = seed % len(_MOVES)
    return [
        Shot(seconds * fps, move=first + index, look=0 if plain else index) for index, seconds in enumerate(durations)
    ]


def output_size(picture: Size, long_side: int) -> Size:
    """The clip's size: the picture's aspect, even numbers."""
    width, height = picture
    scale = long_side / max(width, height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)


def graded(picture: Image.Image, look: int) -> Image.Image:
    saturation, contrast, gains = _LOOKS[look % len(_LOOKS)]
    picture = ImageEnhance.Contrast(ImageEnhance.Color(picture).enhance(saturation)).enhance(contrast)
    table = [min(255, round(level * gain)) for gain in gains for level in range(256)]
    return picture.point(table)


def covering(picture: Image.Image, size: Size) -> Image.Image:
    """The middle of the picture at exactly `size`, nothing distorted."""
    width, height = picture.size
    aspect = size[0] / size[1]
    crop_width, crop_height = min(width, height * aspect), min(height, width / aspect)
    left, top = (width - crop_width) / 2, (height - crop_height) / 2
    box = (left, top, left + crop_width, top + crop_height)
    return picture.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)


def backdrop(size: Size, seed: int) -> Image.Image:
    """A soft sky of colours, for models that start from words: small blots, blown up and blurred."""
    dice = random.Random(seed)
    hue = dice.random()
    small = Image.new("RGB", (16, 16))
    for y in range(16):
        for x in range(16):
            shade = (hue + 0.16 * y / 15 + 0.05 * dice.random()) % 1.0
            red, green, blue = colorsys.hsv_to_rgb(
                shade, 0.35 + 0.4 * y / 15, 0.95 - 0.65 * y / 15 + 0.05 * dice.random()
            )
            small.putpixel((x, y), (round(red * 255), round(green * 255), round(blue * 255)))
    scale = 640 / max(size)
    middle = small.resize((max(2, round(size[0] * scale)), max(2, round(size[1] * scale))), Image.Resampling.BICUBIC)
    return middle.filter(ImageFilter.GaussianBlur(18)).resize(size, Image.Resampling.BICUBIC)
