"""Checks a picture that somebody gave, and makes of it what the provider takes: upright, sRGB, without metadata.

It is decoded in a process with limits (projects/limited.py); `notes` says all that was changed.
"""

import hashlib
import io
import math
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
from PIL import Image, ImageChops, ImageCms, PngImagePlugin, UnidentifiedImageError

from projects import colours, limited

MAX_UPLOAD_BYTES = 50_000_000
MAX_PIXELS = 220_000_000  # some phones take 200 megapixels
KEPT_PIXELS = 64_000_000  # what has more is scaled while it is decoded
MAX_SCANS = 100  # of a JPEG; each is a walk over all of its pixels, and a dozen are usual
MAX_PNG_TEXT = 1_000_000  # bytes, unpacked
MAX_PNG_PROFILE = 16_000_000
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
ORIENTATION_TAG, GPS_IFD, EXIF_IFD, INTEROP_IFD = 0x0112, 0x8825, 0x8769, 0xA005
COLOR_SPACE_TAG, UNCALIBRATED, ADOBE_RGB = 0xA001, 0xFFFF, 2
JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # others stand for data, or restart it
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
START_OF_FRAME = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# What is whole looks the same whatever comes after it; where a bit is missing, one of these draws something else.
CONTINUATIONS = (b"\x55", b"\xaa", b"\x33")
ZLIB = b"\x78"
PNG_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
MAX_UNPACKED = {**dict.fromkeys(PNG_TEXTS, MAX_PNG_TEXT), b"iCCP": MAX_PNG_PROFILE}
PNG_ORIENTATIONS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")
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
NO_MEMORY = "Memory allocation error"  # libheif's words for it

pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
PngImagePlugin.MAX_TEXT_CHUNK = MAX_PNG_PROFILE
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
    """`sha256` is that of the original upload, so that the same file again is known before it is decoded.

    `notes` are sentences: all that was changed, which is nothing only if the bytes are the same, and what to look at.
    """

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

    `code` is empty, upload_too_large, unsupported_format, damaged, over_limits, too_many_pixels, too_many_scans, too_small, bad_aspect or
    too_large; `message` says what was measured and what the limit is.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["ImageRefused"], tuple[str, str]]:
        """It comes out of another process."""
        return ImageRefused, (self.code, self.message)


def normalise(
    file: BinaryIO,
    *,
    limits: ImageLimits = KLING_LIMITS,
    max_upload_bytes: int = MAX_UPLOAD_BYTES,
    max_pixels: int = MAX_PIXELS,
) -> NormalisedImage:
    """The picture in `file` as the provider takes it; ImageRefused if there is none that meets the limits.

    Names and declared types are not looked at: the content decides.
    """
    original = _read(file, max_upload_bytes)
    _recognised(original)
    try:
        return limited.call(_normalised, original, limits, max_pixels)
    except limited.OverLimits as error:
        raise ImageRefused("over_limits", error.message) from error


def _normalised(original: bytes, limits: ImageLimits, max_pixels: int) -> NormalisedImage:
    """In a process of its own, whose Pillow takes this file's limit."""
    Image.MAX_IMAGE_PIXELS = max_pixels
    original_format = _recognised(original)
    notes: list[str] = []
    with _refusing_damage(max_pixels):
        image = _decoded(original, original_format, limits, max_pixels, notes)
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
        notes=tuple(notes if content == original else [_saved(original_format, extension), *notes]),
    )


def _saved(original_format: str, extension: str) -> str:
    format = {"png": "PNG", "jpg": "JPEG"}[extension]
    return f"Saved anew as {format}." if format == original_format else f"Converted from {original_format} to {format}."


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
def _refusing_damage(max_pixels: int) -> Iterator[None]:
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        pixels = int(re.findall(r"\d+", str(error))[0])
        message = f"This picture has {pixels / 1e6:,.0f} megapixels; at most {max_pixels // 10**6} can be read."
        raise ImageRefused("too_many_pixels", message) from error
    except (UnidentifiedImageError, *DECODER_ERRORS) as error:
        if str(error).startswith(NO_MEMORY):
            raise MemoryError from error
        raise _damaged() from error


def _damaged() -> ImageRefused:
    return ImageRefused("damaged", "This picture is damaged or not complete: it can't be read to its end.")


def _decoded(content: bytes, format: str, limits: ImageLimits, max_pixels: int, notes: list[str]) -> Image.Image:
    if format == "JPEG":
        content = _with_end(content)
    has_texts = format == "PNG" and any(kind in PNG_TEXTS for kind, _ in _chunks(content))
    readable = _readable_png(content, notes) if format == "PNG" else content
    source = Image.open(io.BytesIO(readable), formats=ACCEPTED[format])
    exif = _exif(source)
    orientation = exif.get(ORIENTATION_TAG, 1) if exif.get(ORIENTATION_TAG, 1) in UPRIGHT else 1
    _check_dimensions(source.size, orientation, limits, max_pixels)
    frames = getattr(source, "n_frames", 1)
    if frames > 1 and source.format != "MPO":  # in an MPO, phones keep depth and gain maps beside the picture
        notes.append(f"The file holds {frames} pictures or frames; only the main one is used.")
    if orientation != 1 or source.info.get("original_orientation") not in (None, 1):
        notes.append("Turned upright.")
    notes += _removed(source, exif, has_texts=has_texts)
    space = _space(source, exif, content)
    image = _within(limits, _scaled(source, notes))
    return _upright(_in_srgb(image, space, notes), orientation)


def _exif(image: Image.Image) -> Image.Exif:
    """Empty if it is broken: the picture is still one, the right way up for all that we know."""
    try:
        return image.getexif()
    except DECODER_ERRORS:
        return Image.Exif()


def _ifd(exif: Image.Exif, tag: int) -> dict[int, object]:
    try:
        return exif.get_ifd(tag)
    except DECODER_ERRORS:
        return {}


def _removed(source: Image.Image, exif: Image.Exif, *, has_texts: bool) -> list[str]:
    """What the file said beside the picture: whoever gives it away wants to know that it is gone."""
    texts = [source.info.get(name) for name in ("xmp", "XML:com.adobe.xmp", "comment", "photoshop")]
    is_located = bool(_ifd(exif, GPS_IFD)) or any("GPSLatitude" in str(text) for text in texts)
    removed = [
        *(["location data"] if is_located else []),
        *(["camera data (EXIF)"] if source.info.get("exif") else []),
        *(["texts"] if has_texts or any(texts) else []),
    ]
    return [f"Removed: {', '.join(removed)}."] if removed else []


def _check_dimensions(size: tuple[int, int], orientation: int, limits: ImageLimits, max_pixels: int) -> None:
    """From the header alone, before anything is decoded."""
    width, height = reversed(size) if orientation in SIDEWAYS else size
    measured = f"This picture is {width} × {height} px"
    if width * height > max_pixels:
        raise ImageRefused("too_many_pixels", f"{measured}; at most {max_pixels // 10**6} megapixels can be read.")
    if min(width, height) < limits.min_side:
        raise ImageRefused("too_small", f"{measured}; each side must be at least {limits.min_side} px.")
    if max(width, height) > limits.max_aspect * min(width, height):
        aspect = f"{width / height:.2f}:1" if width > height else f"1:{height / width:.2f}"
        widest = f"{float(limits.max_aspect):g}"
        message = f"{measured}, that is {aspect}; it must be between 1:{widest} and {widest}:1."
        raise ImageRefused("bad_aspect", message)


# --- Files that are odd, and whole ------------------------------------------------------------------------------------


def _with_end(content: bytes) -> bytes:
    """A JPEG with its end marker, if all of its picture is there; some cameras and transfers leave the marker out."""
    scans, has_end = _structure(content)
    if scans > MAX_SCANS:
        message = f"This JPEG draws its picture in {scans:,} scans; at most {MAX_SCANS} can be read. Save it anew."
        raise ImageRefused("too_many_scans", message)
    if has_end:
        return content
    one, *others = (_continued(content, bits) for bits in CONTINUATIONS)
    if not _draws_all(content) or any(_differ(one, other) for other in others):
        raise _damaged()
    return content + bytes((0xFF, END_OF_IMAGE))


def _continued(content: bytes, bits: bytes) -> bytes:
    """With more of the picture, in this restart interval and in any that may be missing."""
    restarts = (bytes((0xFF, 0xD0 + number % 8)) for number in range(16))
    return b"".join((content, bits * 1000, *(restart + bits * 100 for restart in restarts), b"\xff\xd9"))


def _differ(one: bytes, other: bytes) -> bool:
    with Image.open(io.BytesIO(one)) as first, Image.open(io.BytesIO(other)) as second:
        return first.mode != second.mode or ImageChops.difference(first, second).getbbox(alpha_only=False) is not None


def _draws_all(content: bytes) -> bool:
    """Whether the scans of a JPEG come to the last bit of each coefficient; one that ends between two scans does not (T.81, G.1.1.1)."""
    components: set[int] = set()
    drawn: set[tuple[int, int]] = set()
    for code, segment in _segments(content):
        if code in START_OF_FRAME:
            components |= set(segment[6::3])
        elif code == START_OF_SCAN:
            first, last, bits = segment[-3:]
            if bits & 0x0F == 0:
                drawn |= {(each, number) for each in segment[1:-3:2] for number in range(first, last + 1)}
    return {(each, number) for each in components for number in range(64)} <= drawn


def _structure(content: bytes) -> tuple[int, bool]:
    """How many scans a JPEG has, and whether it comes to its end (ITU-T T.81, B.1.1)."""
    codes = [code for code, _ in _segments(content)]
    return codes.count(START_OF_SCAN), END_OF_IMAGE in codes


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The markers of a JPEG up to its end, and what each says."""
    at = 2
    while marker := JPEG_MARKER.search(content, at):
        at, code = marker.end(), content[marker.end() - 1]
        if code == END_OF_IMAGE:
            yield code, b""
            return
        length = int.from_bytes(content[at : at + 2])
        yield code, content[at + 2 : at + length]
        at += length


def _readable_png(content: bytes, notes: list[str]) -> bytes:
    """Without its texts, which may unpack to anything. Some of them tell which side is up, and stay if they are short."""
    chunks = list(_chunks(content))
    kept = [chunk for kind, chunk in chunks if _unpacks_to(kind, chunk) <= MAX_UNPACKED.get(kind, len(content))]
    if any(kind == b"iCCP" and chunk not in kept for kind, chunk in chunks):
        notes.append("The picture's colour profile can't be used: check its colours.")
    return content[:8] + b"".join(kept)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4])
        yield png[at + 4 : at + 8], png[at:end]
        at = end


def _unpacks_to(kind: bytes, chunk: bytes) -> int:
    """The bytes of what a chunk has packed; of a text that nobody needs, more than is allowed."""
    if kind in PNG_TEXTS and not chunk[8:].startswith(PNG_ORIENTATIONS):
        return MAX_PNG_TEXT + 1
    packed = chunk.find(ZLIB, chunk.find(b"\0", 8)) if kind in MAX_UNPACKED else -1
    try:
        return len(zlib.decompressobj().decompress(chunk[packed:-4], MAX_PNG_PROFILE + 1)) if packed > 0 else 0
    except zlib.error:
        return 0  # whoever reads it will see


def _scaled(source: Image.Image, notes: list[str]) -> Image.Image:
    """Decoded; what has too many pixels to work with is scaled on the way."""
    pixels, before = source.width * source.height, source.size
    if pixels > KEPT_PIXELS:
        factor = math.ceil(math.sqrt(pixels / KEPT_PIXELS))
        source.draft(None, (source.width // factor, source.height // factor))  # JPEG's decoder halves by itself
    source.load()
    image = source
    if image.width * image.height > KEPT_PIXELS:
        factor = math.ceil(math.sqrt(image.width * image.height / KEPT_PIXELS))
        image = _reducible(source).reduce(factor)
        image.info = source.info
    if image.size != before:
        sizes = " to ".join(f"{width} × {height}" for width, height in (before, image.size))
        notes.append(f"Scaled from {sizes} px: it has more than {KEPT_PIXELS // 10**6} megapixels.")
    return image


def _reducible(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _grey(image)
    if image.mode in ("1", "P", "PA"):
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image


def _within(limits: ImageLimits, image: Image.Image) -> Image.Image:
    """Scaling rounds, and may make a picture a pixel longer than its height allows."""
    width = min(image.width, int(limits.max_aspect * image.height))
    height = min(image.height, int(limits.max_aspect * image.width))
    if (width, height) == image.size:
        return image
    cropped = image.crop((0, 0, width, height))
    cropped.info = image.info
    return cropped


# --- Colours ----------------------------------------------------------------------------------------------------------


def _space(source: Image.Image, exif: Image.Exif, content: bytes) -> colours.Space | None:
    """Its colours, as it tells them beside a profile; in a PNG that counts more than its profile, else less."""
    code = (
        next((chunk[8:12] for kind, chunk in _chunks(content) if kind == b"cICP"), b"")
        if source.format == "PNG"
        else b""
    )
    if len(code) == 4:
        source.info.pop("icc_profile", None)
        return colours.by_code(code[0], code[1])
    if source.info.get("icc_profile"):
        return None
    nclx = source.info.get("nclx_profile")
    if nclx:
        return colours.by_code(nclx["color_primaries"], nclx["transfer_characteristics"])
    told = _ifd(exif, EXIF_IFD).get(COLOR_SPACE_TAG)
    is_adobe = told == ADOBE_RGB or (told == UNCALIBRATED and str(_ifd(exif, INTEROP_IFD).get(1, "")).startswith("R03"))
    return colours.adobe_rgb() if is_adobe and source.mode == "RGB" else None


def _in_srgb(image: Image.Image, space: colours.Space | None, notes: list[str]) -> Image.Image:
    """A decoded RGB picture, or RGBA if any of it is transparent, that carries nothing but its pixels."""
    alpha, profile = _alpha(image), image.info.get("icc_profile")
    image.info.pop("transparency", None)
    if image.mode.startswith("I"):
        image = _grey(image)
        notes.append("Reduced from 16 to 8 bits.")
    elif image.mode in ("1", "LA", "La"):
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "CMYK"):
        image = image.convert("RGB")
    image = _from_space(image, space, notes) if space else _from_profile(image, profile, notes)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha:
        image.putalpha(alpha)
        notes.append(
            "It has transparent parts: models differ in what they make of them; a background of your own is sure."
        )
    image.info.clear()
    return image


def _grey(image: Image.Image) -> Image.Image:
    return image.point(lambda value: value * (1 / 257)).convert("L")  # convert() alone would cut at 255


def _from_space(image: Image.Image, space: colours.Space, notes: list[str]) -> Image.Image:
    if space.profile is None:
        notes.append(f"The picture tells of colours that are not known here ({space.name}): check its colours.")
        return image
    if space.is_hdr:
        notes.append(
            "It is made for very bright screens (HDR) and was brought to the usual range: check its brightness."
        )
    return _converted(image, space.profile, space.name, notes)


def _alpha(image: Image.Image) -> Image.Image | None:
    if not image.has_transparency_data:
        return None
    alpha = (image if image.mode in ("RGBA", "LA", "PA") else image.convert("RGBA")).getchannel("A")
    return None if alpha.getextrema() == (255, 255) else alpha


def _from_profile(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    if profile:
        return _converted(image, profile, "", notes)
    if image.mode == "CMYK":
        notes.append("The picture is CMYK without a colour profile: check its colours.")
    return image


def _converted(image: Image.Image, profile: bytes, name: str, notes: list[str]) -> Image.Image:
    """By the profile; its own name is told if none is given."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "L" and source.profile.xcolor_space.strip() == "RGB":
            image = image.convert("RGB")
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        converted = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
        name = name or _printable(source.profile.profile_description or "") or "its own profile"
    except (ImageCms.PyCMSError, OSError):
        notes.append("The picture's colour profile can't be used: check its colours.")
        return image
    if not name.startswith("sRGB"):
        notes.append(f"Colours converted from {name} to sRGB.")
    return converted or image


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:60].strip()


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
