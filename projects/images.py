"""Checks a picture that somebody gave, and makes of it what the provider takes: upright, sRGB, without metadata."""

import hashlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

import pillow_heif
from PIL import Image, ImageCms, UnidentifiedImageError

MAX_UPLOAD_BYTES = 50_000_000
MAX_PIXELS = 64_000_000  # decoding takes 4 bytes for each, two or three times over
THUMBNAIL_SIDE = 480
JPEG_QUALITIES = (95, 90, 85, 75, 65, 50)
ACCEPTED = {"JPEG": ("JPEG",), "PNG": ("PNG",), "WebP": ("WEBP",), "HEIC": ("HEIF",)}
SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WebP": rb"RIFF....WEBP",
    "AVIF": rb"....ftyp.{0,32}avi[fs]",
    "HEIC": rb"....ftyp(hei[cxms]|hev[cxms]|mif1|msf1)",
    "GIF": rb"GIF8",
    "TIFF": rb"II\*\0|MM\0\*",
    "BMP": rb"BM....\0\0\0\0",
    "PDF": rb"%PDF-",
    "SVG": rb"\s*<(\?xml|svg)",
    "a video": rb"....ftyp|\x1a\x45\xdf\xa3",
}
UPRIGHT = {  # EXIF orientation → what turns the picture so that its first pixel is top left
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
ORIENTATION_TAG = 0x0112
SIDEWAYS = {5, 6, 7, 8}
DECODER_ERRORS = (  # what Pillow's decoders raise on damaged files; fuzzing met no other
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    RuntimeError,
    OverflowError,
    struct.error,
    zlib.error,
)

pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)


@dataclass(frozen=True)
class ImageLimits:
    """What a model takes: each side in pixels, long side : short side, the file in bytes."""

    min_side: int = 300
    max_aspect: Fraction = Fraction(5, 2)
    max_bytes: int = 10_000_000


KLING_LIMITS = ImageLimits()


@dataclass(frozen=True)
class NormalisedImage:
    """`sha256` is that of the original upload, so that the same file again is known before it is decoded."""

    content: bytes
    content_type: str
    extension: str
    width: int
    height: int
    sha256: str
    original_format: str
    thumbnail: bytes
    notes: tuple[str, ...]


class ImageRefused(Exception):
    """A picture that can't be used.

    `code` is empty, upload_too_large, unsupported_format, damaged, too_many_pixels, too_small, bad_aspect or too_large;
    `message` says what was measured and what the limit is.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def normalise(
    file: BinaryIO, *, limits: ImageLimits = KLING_LIMITS, max_upload_bytes: int = MAX_UPLOAD_BYTES
) -> NormalisedImage:
    """The picture in `file` as the provider takes it; ImageRefused if there is none that meets the limits.

    Names and declared types are not looked at: the content decides.
    """
    original = _read(file, max_upload_bytes)
    original_format = _recognised(original)
    notes: list[str] = []
    with _refusing_damage():
        image = _decoded(original, original_format, limits, notes)
    lossless = original_format == "PNG" and len(original) <= limits.max_bytes
    content, extension = _encode(image, lossless, limits.max_bytes, notes)
    return NormalisedImage(
        content=content,
        content_type="image/png" if extension == "png" else "image/jpeg",
        extension=extension,
        width=image.width,
        height=image.height,
        sha256=hashlib.sha256(original).hexdigest(),
        original_format=original_format,
        thumbnail=_thumbnail(image),
        notes=tuple(notes),
    )


def _read(file: BinaryIO, max_upload_bytes: int) -> bytes:
    content = file.read(max_upload_bytes + 1)
    if not content:
        raise ImageRefused("empty", "The file is empty.")
    if len(content) > max_upload_bytes:
        raise ImageRefused("upload_too_large", f"The file is over the limit of {_megabytes(max_upload_bytes)}.")
    return content


def _recognised(content: bytes) -> str:
    names = (name for name, signature in SIGNATURES.items() if re.match(signature, content[:64], re.DOTALL))
    name = next(names, "no picture that is known here")
    if name not in ACCEPTED:
        raise ImageRefused("unsupported_format", f"This is {name}: send a JPEG, PNG, WebP or HEIC picture.")
    return name


@contextmanager
def _refusing_damage() -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        message = f"This picture has {pixels / 1e6:,.0f} megapixels; at most {MAX_PIXELS / 1e6:,.0f} can be read."
        raise ImageRefused("too_many_pixels", message) from error
    except (UnidentifiedImageError, *DECODER_ERRORS) as error:
        raise ImageRefused(
            "damaged", "This picture is damaged or not complete: it can't be read to its end."
        ) from error


def _decoded(content: bytes, format: str, limits: ImageLimits, notes: list[str]) -> Image.Image:
    source = Image.open(io.BytesIO(content), formats=ACCEPTED[format])
    orientation = _orientation(source)
    _check_dimensions(source.size, orientation, limits)
    frames = getattr(source, "n_frames", 1)
    if frames > 1 and source.format != "MPO":  # in an MPO, phones keep depth and gain maps beside the picture
        notes.append(f"The file holds {frames} pictures or frames; only the main one is used.")
    return _upright(_in_srgb(source, notes), orientation)


def _orientation(image: Image.Image) -> int:
    """1 to 8; a picture with broken EXIF data is still a picture, the right way up for all that we know."""
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except DECODER_ERRORS:
        return 1
    return orientation if orientation in UPRIGHT else 1


def _check_dimensions(size: tuple[int, int], orientation: int, limits: ImageLimits) -> None:
    """From the header alone, before anything is decoded."""
    width, height = reversed(size) if orientation in SIDEWAYS else size
    measured = f"This picture is {width} × {height} px"
    if width * height > MAX_PIXELS:
        raise ImageRefused("too_many_pixels", f"{measured}; at most {MAX_PIXELS // 10**6} megapixels can be read.")
    if min(width, height) < limits.min_side:
        raise ImageRefused("too_small", f"{measured}; each side must be at least {limits.min_side} px.")
    if max(width, height) > limits.max_aspect * min(width, height):
        aspect = f"{width / height:.2f}:1" if width > height else f"1:{height / width:.2f}"
        widest = f"{float(limits.max_aspect):g}"
        message = f"{measured}, that is {aspect}; it must be between 1:{widest} and {widest}:1."
        raise ImageRefused("bad_aspect", message)


def _in_srgb(image: Image.Image, notes: list[str]) -> Image.Image:
    """A decoded RGB picture, or RGBA if any of it is transparent, that carries nothing but its pixels."""
    image.load()
    alpha, profile = _alpha(image), image.info.get("icc_profile")
    image.info.pop("transparency", None)
    if image.mode.startswith("I"):
        image = image.point(lambda value: value * (1 / 257)).convert("L")  # convert() alone would cut at 255
    elif image.mode in ("1", "LA", "La"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    image = _from_profile(image, profile, notes)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha:
        image.putalpha(alpha)
    image.info.clear()
    return image


def _alpha(image: Image.Image) -> Image.Image | None:
    if not image.has_transparency_data:
        return None
    alpha = (image if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA")).getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def _from_profile(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if not profile:
        if image.mode == "CMYK":
            notes.append("The picture is CMYK without a colour profile: check its colours.")
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        notes.append("The picture's colour profile can't be used: check its colours.")
        return image
    return converted or image


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    return image if orientation == 1 else image.transpose(UPRIGHT[orientation])


def _encode(image: Image.Image, lossless: bool, max_bytes: int, notes: list[str]) -> tuple[bytes, str]:
    """As PNG if that keeps something and fits, else as JPEG, as good as fits."""
    if image.mode == "RGBA" or lossless:
        content = _encoded(image, "PNG")
        if len(content) <= max_bytes:
            return content, "png"
        lost = "its transparent parts became white" if image.mode == "RGBA" else "it is not lossless any more"
        notes.append(
            f"As PNG the picture has {_megabytes(len(content))}, over {_megabytes(max_bytes)}: now JPEG, {lost}."
        )
    image, largest = _opaque(image), 0
    for quality in JPEG_QUALITIES:
        content = _encoded(image, "JPEG", quality=quality, subsampling="4:4:4" if quality > 90 else "4:2:0")
        largest = largest or len(content)
        if len(content) <= max_bytes:
            if quality != JPEG_QUALITIES[0]:
                size = _megabytes(largest)
                notes.append(
                    f"Saved at JPEG quality {quality}: {size} at full quality is over {_megabytes(max_bytes)}."
                )
            return content, "jpg"
    message = (
        f"This picture is {image.width} × {image.height} px and has {_megabytes(len(content))} even at low quality; "
        f"at most {_megabytes(max_bytes)} can be sent. Make it smaller."
    )
    raise ImageRefused("too_large", message)


def _encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _thumbnail(image: Image.Image) -> bytes:
    scale = min(1.0, THUMBNAIL_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return _encoded(_opaque(small), "JPEG", quality=85)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image.getchannel("A"))
    return white


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f}".removesuffix(".0") + " MB"
