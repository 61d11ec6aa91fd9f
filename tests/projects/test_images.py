import hashlib
import io
import random
import re
import struct
import zlib
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageDraw

from projects import limited
from projects.images import KEPT_PIXELS, KLING_LIMITS, ImageLimits, ImageRefused, NormalisedImage, normalise
from tests.projects.tiled_heic import tiled_heic

CASES = Path(__file__).parent / "cases"
PHOTOS = Path(__file__).parents[2] / "kling_studio" / "photos"
ORIENTATION, MAKE, GPS, GPS_LATITUDE_REF = 0x0112, 0x010F, 0x8825, 1
RED, GREEN, BLUE, YELLOW = (200, 30, 30), (30, 160, 30), (30, 30, 200), (220, 220, 40)


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def quarters(width: int = 400, height: int = 300) -> Image.Image:
    """Red and green above blue and yellow."""
    image = Image.new("RGB", (width, height), RED)
    draw = ImageDraw.Draw(image)
    draw.rectangle((width // 2, 0, width, height // 2), GREEN)
    draw.rectangle((0, height // 2, width // 2, height), BLUE)
    draw.rectangle((width // 2, height // 2, width, height), YELLOW)
    return image


def normalised(content: bytes, **options: Any) -> NormalisedImage:
    return normalise(io.BytesIO(content), **options)


def opened(result: NormalisedImage) -> Image.Image:
    image = Image.open(io.BytesIO(result.content))
    image.load()
    return image


def refused(content: bytes, **options: Any) -> tuple[str, str]:
    with pytest.raises(ImageRefused) as error:
        normalised(content, **options)
    return error.value.code, error.value.message


def changes(result: NormalisedImage) -> tuple[str, ...]:
    """What was changed beside that it was saved."""
    assert re.fullmatch(r"(Saved anew as|Converted from \w+ to) (JPEG|PNG)\.", result.notes[0])
    return result.notes[1:]


def corners(image: Image.Image) -> list[tuple[int, ...]]:
    """What lies in the middle of each quarter, row by row."""
    rgb = image.convert("RGB")
    return [
        rgb.getpixel((x * rgb.width // 4, y * rgb.height // 4))  # type: ignore[misc]
        for y in (1, 3)
        for x in (1, 3)
    ]


def close(one: tuple[int, ...], other: tuple[int, ...], tolerance: int = 12) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def same_corners(image: Image.Image, expected: list[tuple[int, ...]]) -> bool:
    return all(close(one, other) for one, other in zip(corners(image), expected, strict=True))


# What is accepted


@pytest.mark.parametrize(
    ("name", "size", "format", "content_type", "notes"),
    [
        ("astronaut.png", (512, 512), "PNG", "image/png", ("Saved anew as PNG.", "Removed: texts.")),
        ("chelsea.png", (451, 300), "PNG", "image/png", ("Saved anew as PNG.", "Removed: texts.")),
        ("coffee.png", (600, 400), "PNG", "image/png", ("Saved anew as PNG.",)),
        (
            "rocket.jpg",
            (640, 427),
            "JPEG",
            "image/jpeg",
            ("Saved anew as JPEG.", "Removed: texts.", "Colours converted from Adobe RGB (1998) to sRGB."),
        ),
    ],
)
def test_normalise_takes_real_photographs(
    name: str, size: tuple[int, int], format: str, content_type: str, notes: tuple[str, ...]
) -> None:
    original = (PHOTOS / name).read_bytes()

    result = normalised(original)

    assert (result.width, result.height) == opened(result).size == size
    assert (result.original_format, result.content_type, result.notes) == (format, content_type, notes)
    assert result.sha256 == hashlib.sha256(original).hexdigest()
    assert len(result.content) <= KLING_LIMITS.max_bytes


@pytest.mark.parametrize(
    ("pillow_name", "format", "extension"),
    [("JPEG", "JPEG", "jpg"), ("PNG", "PNG", "png"), ("WEBP", "WebP", "jpg"), ("HEIF", "HEIC", "jpg")],
)
def test_normalise_gives_jpeg_or_lossless_png(pillow_name: str, format: str, extension: str) -> None:
    result = normalised(encoded(quarters(), pillow_name))

    assert (result.original_format, result.extension) == (format, extension)
    assert opened(result).format == {"jpg": "JPEG", "png": "PNG"}[extension]
    assert result.content_type == f"image/{extension.replace('jpg', 'jpeg')}"
    assert same_corners(opened(result), [RED, GREEN, BLUE, YELLOW])


def test_normalise_keeps_every_pixel_of_a_png() -> None:
    image = Image.effect_noise((320, 310), 90).convert("RGB")

    assert opened(normalised(encoded(image))).tobytes() == image.tobytes()


def test_normalise_looks_at_the_content_and_not_at_the_name(tmp_path: Path) -> None:
    path = tmp_path / "holiday.gif"
    path.write_bytes(encoded(quarters(), "WEBP"))

    with path.open("rb") as file:
        assert normalise(file).original_format == "WebP"


def test_normalise_leaves_out_what_was_hidden_behind_the_picture() -> None:
    hidden = b"PK\x03\x04 <script>alert(1)</script>"

    for format in ("JPEG", "PNG", "WEBP"):
        assert b"script" not in normalised(encoded(quarters(), format) + hidden).content


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_normalise_turns_the_picture_upright(format: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    turn = {  # how the camera held it, the other way round
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    held = quarters().transpose(turn[orientation]) if orientation > 1 else quarters()
    if format == "HEIF":
        held = quarters()  # its encoder turns the picture by itself: the file says how to show it
        exif[ORIENTATION] = 1

    result = normalised(encoded(held, format, exif=exif))

    assert (result.width, result.height) == (400, 300)
    assert same_corners(opened(result), [RED, GREEN, BLUE, YELLOW])
    assert ORIENTATION not in opened(result).getexif()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_normalise_removes_all_metadata(format: str) -> None:
    exif = Image.Exif()
    exif[MAKE] = "SECRETCAMERA"
    exif.get_ifd(GPS)[GPS_LATITUDE_REF] = "SECRETPLACE"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options: dict[str, Any] = {"exif": exif, "icc_profile": profile, "xmp": b"<x:xmpmeta>SECRETXMP</x:xmpmeta>"}
    if format == "JPEG":
        options["comment"] = b"SECRETCOMMENT"
    original = encoded(quarters(), format, **options)
    assert original.count(b"SECRET") >= 2

    result = normalised(original)

    assert b"SECRET" not in result.content + result.thumbnail
    assert dict(opened(result).getexif()) == {}
    assert set(opened(result).info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_normalise_removes_the_text_of_a_png() -> None:
    chunk = b"tEXt" + b"Comment\0SECRET"
    whole = encoded(quarters())
    text = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))

    assert b"SECRET" not in normalised(whole[:33] + text + whole[33:]).content


@pytest.mark.filterwarnings("ignore:.*EXIF.*:UserWarning")
def test_normalise_takes_a_picture_with_broken_exif_data() -> None:
    result = normalised(encoded(quarters(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff garbage"))

    assert (result.width, result.height) == (400, 300)


def test_normalise_uses_the_main_picture_of_a_phone_s_multi_picture_file() -> None:
    original = encoded(quarters(), "MPO", save_all=True, append_images=[Image.new("RGB", (400, 300), "white")])

    result = normalised(original)

    assert (result.original_format, changes(result)) == ("JPEG", ())
    assert same_corners(opened(result), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_normalise_uses_the_first_frame_of_an_animation_and_says_so(format: str) -> None:
    more = [Image.new("RGB", (400, 300), colour) for colour in ("white", "black")]

    result = normalised(encoded(quarters(), format, save_all=True, append_images=more, duration=100))

    assert changes(result) == ("The file holds 3 pictures or frames; only the main one is used.",)
    assert same_corners(opened(result), [RED, GREEN, BLUE, YELLOW])


# Colours


def test_normalise_converts_from_the_embedded_profile() -> None:
    swapped = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    swapped[:] = swapped.replace(b"rXYZ", b"____").replace(b"gXYZ", b"rXYZ").replace(b"____", b"gXYZ")

    result = normalised(encoded(quarters(), "PNG", icc_profile=bytes(swapped)))

    assert close(corners(opened(result))[0], (30, 200, 30), 40)  # red, in a profile that calls it green
    assert "icc_profile" not in opened(result).info


def test_normalise_leaves_srgb_as_it_is() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.effect_noise((320, 310), 90).convert("RGB")

    assert opened(normalised(encoded(image, icc_profile=profile))).tobytes() == image.tobytes()


@pytest.mark.parametrize("profile", [b"no profile at all", b""])
def test_normalise_takes_a_picture_whose_profile_is_broken(profile: bytes) -> None:
    result = normalised(encoded(quarters(), "JPEG", icc_profile=profile))

    note = "The picture's colour profile can't be used: check its colours."
    assert changes(result) == ((note,) if profile else ())
    assert same_corners(opened(result), [RED, GREEN, BLUE, YELLOW])


def test_normalise_does_not_apply_a_profile_of_another_colour_space() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()

    result = normalised(encoded(quarters(), "PNG", icc_profile=lab))

    assert changes(result) == ("The picture's colour profile can't be used: check its colours.",)
    assert same_corners(opened(result), [RED, GREEN, BLUE, YELLOW])


def test_normalise_converts_cmyk_and_says_that_it_guessed() -> None:
    result = normalised(encoded(quarters().convert("CMYK"), "JPEG", quality=95))

    assert opened(result).mode == "RGB"
    assert changes(result) == ("The picture is CMYK without a colour profile: check its colours.",)
    assert same_corners(opened(result), [RED, GREEN, BLUE, YELLOW])


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
@pytest.mark.parametrize("with_profile", [False, True])
def test_normalise_takes_grayscale(format: str, with_profile: bool) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() if with_profile else None

    result = normalised(encoded(Image.new("L", (400, 300), 90), format, icc_profile=profile))

    assert (opened(result).mode, changes(result)) == ("RGB", ())
    assert close(corners(opened(result))[0], (90, 90, 90), 2)


def test_normalise_keeps_the_tones_of_16_bit_grayscale() -> None:
    image = Image.new("I;16", (400, 300), 0x8080)

    assert corners(opened(normalised(encoded(image))))[0] == (0x80, 0x80, 0x80)


def test_normalise_takes_16_bit_colour() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" + struct.pack(">HHH", 0xC8C8, 0x1E1E, 0x0000) * 400
    content = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 400, 300, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(row * 300))
        + chunk(b"IEND", b"")
    )

    assert corners(opened(normalised(content)))[0] == (0xC8, 0x1E, 0)


def test_normalise_takes_black_and_white_and_palettes() -> None:
    assert opened(normalised(encoded(Image.new("1", (400, 300), 1)))).getpixel((9, 9)) == (255, 255, 255)
    assert same_corners(opened(normalised(encoded(quarters().quantize(16)))), [RED, GREEN, BLUE, YELLOW])


# Transparency


def see_through(mode: str) -> Image.Image:
    image = quarters().convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 200, 150))
    if mode == "P":
        palette = image.quantize(16)
        assert palette.mode == "P"
        return palette
    return image.convert(mode)


@pytest.mark.parametrize(("mode", "format"), [("RGBA", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGBA", "WEBP")])
def test_normalise_keeps_transparency_as_png(mode: str, format: str) -> None:
    result = normalised(encoded(see_through(mode), format))

    image = opened(result)
    assert (result.content_type, image.mode) == ("image/png", "RGBA")
    assert [image.getpixel(at)[3] for at in ((50, 50), (350, 50))] == [0, 255]  # type: ignore[index]
    with Image.open(io.BytesIO(result.thumbnail)) as thumbnail:
        assert close(corners(thumbnail)[0], (255, 255, 255))


def test_normalise_keeps_the_transparent_colour_of_a_png() -> None:
    image = opened(normalised(encoded(quarters(), transparency=GREEN)))

    assert [image.getpixel(at)[3] for at in ((50, 50), (350, 50))] == [255, 0]  # type: ignore[index]


def test_normalise_drops_an_alpha_channel_that_hides_nothing() -> None:
    result = normalised(encoded(quarters().convert("RGBA"), "WEBP"))

    assert (result.content_type, opened(result).mode) == ("image/jpeg", "RGB")


# Limits


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((280, 500), ("too_small", "This picture is 280 × 500 px; each side must be at least 300 px.")),
        ((500, 299), ("too_small", "This picture is 500 × 299 px; each side must be at least 300 px.")),
        ((1, 1), ("too_small", "This picture is 1 × 1 px; each side must be at least 300 px.")),
        (
            (751, 300),
            ("bad_aspect", "This picture is 751 × 300 px, that is 2.50:1; it must be between 1:2.5 and 2.5:1."),
        ),
        (
            (300, 1000),
            ("bad_aspect", "This picture is 300 × 1000 px, that is 1:3.33; it must be between 1:2.5 and 2.5:1."),
        ),
    ],
)
def test_normalise_refuses_a_shape_that_the_provider_refuses(size: tuple[int, int], expected: tuple[str, str]) -> None:
    assert refused(encoded(Image.new("RGB", size))) == expected


@pytest.mark.parametrize("size", [(300, 300), (750, 300), (300, 750)])
def test_normalise_takes_a_shape_that_is_exactly_at_the_limit(size: tuple[int, int]) -> None:
    assert (
        normalised(encoded(Image.new("RGB", size))).width,
        normalised(encoded(Image.new("RGB", size))).height,
    ) == size


def test_normalise_measures_the_picture_as_it_is_seen() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6

    assert refused(encoded(Image.new("RGB", (290, 400)), "JPEG", exif=exif)) == (
        "too_small",
        "This picture is 400 × 290 px; each side must be at least 300 px.",
    )


def test_normalise_takes_the_limits_that_it_is_given() -> None:
    limits = ImageLimits(min_side=64, max_aspect=Fraction(4), max_bytes=1_000_000)

    assert normalised(encoded(Image.new("RGB", (256, 64))), limits=limits).width == 256
    assert refused(encoded(Image.new("RGB", (257, 64))), limits=limits)[0] == "bad_aspect"
    assert refused(encoded(Image.new("RGB", (63, 64))), limits=limits)[1].endswith("at least 64 px.")


def test_normalise_lowers_the_quality_to_meet_the_limit_and_says_so() -> None:
    noise = Image.merge("RGB", [Image.effect_noise((1000, 1000), 90) for _ in range(3)])
    limits = ImageLimits(max_bytes=1_000_000)

    result = normalised(encoded(noise, "WEBP", quality=100), limits=limits)

    assert len(result.content) <= limits.max_bytes
    assert opened(result).size == (result.width, result.height) == (1000, 1000)
    [note] = changes(result)
    assert re.fullmatch(r"Saved at JPEG quality \d\d: \d\.\d MB at full quality is over 1 MB\.", note)


def test_normalise_makes_a_jpeg_of_a_transparent_png_that_is_too_large_and_says_so() -> None:
    image = Image.merge("RGBA", [Image.effect_noise((400, 400), 90)] * 3 + [Image.new("L", (400, 400), 0)])

    result = normalised(encoded(image), limits=ImageLimits(max_bytes=100_000))

    assert (result.content_type, opened(result).mode) == ("image/jpeg", "RGB")
    *_, note = changes(result)
    assert re.fullmatch(
        r"As PNG the picture has \d\.\d MB, over 0\.1 MB: now JPEG, its transparent parts became white\.", note
    )
    assert corners(opened(result)) == [(255, 255, 255)] * 4


def test_normalise_refuses_what_no_quality_makes_small_enough() -> None:
    noise = encoded(Image.effect_noise((1000, 1000), 90).convert("RGB"), "JPEG")

    code, message = refused(noise, limits=ImageLimits(max_bytes=100_000))

    assert code == "too_large"
    assert re.fullmatch(
        r"This picture is 1000 × 1000 px and has \d\.\d MB even at low quality; at most 0\.1 MB can be sent\. Make it smaller\.",
        message,
    )


def test_normalise_refuses_an_empty_file() -> None:
    assert refused(b"") == ("empty", "The file is empty.")


def test_normalise_refuses_an_upload_over_the_limit_without_reading_on() -> None:
    class Endless(io.RawIOBase):
        read_so_far = 0

        def read(self, size: int = -1) -> bytes:
            assert size >= 0
            self.read_so_far += size
            return b"x" * size

    file = Endless()

    with pytest.raises(ImageRefused, match=r"^The file is over the limit of 2\.5 MB\.$") as error:
        normalise(file, max_upload_bytes=2_500_000)  # type: ignore[arg-type]

    assert error.value.code == "upload_too_large"
    assert file.read_so_far == 2_500_001


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"just some text", "no picture that is known here"),
        (b"\0" * 1000, "no picture that is known here"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\n<?xml version='1.0'?><svg/>", "SVG"),
        (b"%PDF-1.7\n", "PDF"),
        (encoded(quarters(), "GIF"), "GIF"),
        (encoded(quarters(), "TIFF"), "TIFF"),
        (encoded(quarters(), "BMP"), "BMP"),
        (encoded(quarters(), "AVIF"), "AVIF"),
        (b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41", "a video"),
    ],
)
def test_normalise_refuses_what_is_no_picture_of_the_accepted_kinds(content: bytes, what: str) -> None:
    assert refused(content) == ("unsupported_format", f"This is {what}: send a JPEG, PNG, WebP or HEIC picture.")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_normalise_refuses_a_truncated_picture(format: str, kept: float) -> None:
    content = encoded(Image.effect_noise((400, 300), 90).convert("RGB"), format)

    assert refused(content[: int(len(content) * kept)]) == (
        "damaged",
        "This picture is damaged or not complete: it can't be read to its end.",
    )


def test_normalise_refuses_a_signature_without_a_picture() -> None:
    for content in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"\0\0\0\x18ftypheic"):
        assert refused(content)[0] == "damaged"


def png_header(width: int, height: int) -> bytes:
    data = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + data + struct.pack(">I", zlib.crc32(data)) + b"\0\0\0\0IDAT"


@pytest.mark.parametrize(("side", "megapixels"), [(15_000, "225"), (60_000, "3,600")])
def test_normalise_refuses_a_decompression_bomb_by_its_header(side: int, megapixels: str) -> None:
    expected = f"This picture has {megapixels} megapixels; at most 220 can be read."

    assert refused(png_header(side, side)) == ("too_many_pixels", expected)
    assert refused(png_header(1_500, 1_500), max_pixels=2_000_000) == (
        "too_many_pixels",
        "This picture has 2 megapixels; at most 2 can be read.",
    )


def test_normalise_never_decodes_what_it_can_refuse_by_the_header() -> None:
    assert refused(png_header(8_000, 299))[0] == "too_small"
    assert refused(png_header(8_000, 8_000))[0] == "damaged"  # allowed by the header, and then nothing is there


# What cameras and programs make of pictures, and what is made to hurt


@pytest.mark.parametrize("format", ["JPEG", pytest.param("PNG", marks=pytest.mark.slow)])
def test_normalise_scales_what_has_more_pixels_than_can_be_worked_with(format: str) -> None:
    width, height = 12_000, 9_000
    assert width * height > KEPT_PIXELS
    original = encoded(quarters().resize((width, height), Image.Resampling.NEAREST), format)

    result = normalised(original)

    assert (result.width, result.height) == opened(result).size == (6_000, 4_500)
    assert "Scaled from 12000 × 9000 to 6000 × 4500 px: it has more than 64 megapixels." in changes(result)
    assert same_corners(opened(result), [RED, GREEN, BLUE, YELLOW])


def test_normalise_refuses_more_scans_than_a_picture_needs() -> None:
    assert refused((CASES / "jpg-1200-scans.jpg").read_bytes()) == (
        "too_many_scans",
        "This JPEG draws its picture in 1,206 scans; at most 100 can be read. Save it anew.",
    )
    assert changes(normalised(encoded(quarters(), "JPEG", progressive=True))) == ()


def test_scans_of_the_pictures_inside_a_jpeg_are_not_counted() -> None:
    """Phones put a film behind it, cameras a preview into its head."""
    inside = b"\xff\xe5\x01\x92" + b"\xff\xda\x00\x02" * 100
    whole = encoded(quarters(), "JPEG")

    assert changes(normalised(whole[:2] + inside + whole[2:] + b"\xff\xda\x00\x02" * 1000)) == ()


def test_normalise_takes_a_jpeg_without_its_end_marker() -> None:
    assert changes(normalised((CASES / "jpg-no-eoi.jpg").read_bytes())) == ()
    for options in ({}, {"progressive": True}):
        whole = encoded(quarters(), "JPEG", **options)
        assert whole.endswith(b"\xff\xd9")
        assert same_corners(opened(normalised(whole[:-2])), [RED, GREEN, BLUE, YELLOW])


def noise(seed: int) -> Image.Image:
    return Image.frombytes("L", (400, 300), random.Random(seed).randbytes(400 * 300)).convert("RGB")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [3, 10, 100, 1_000])
def test_normalise_refuses_a_jpeg_that_ends_before_its_picture(progressive: bool, missing: int) -> None:
    """The last byte of some of them holds a single bit of the picture."""
    wholes = [encoded(noise(seed), "JPEG", progressive=progressive) for seed in range(30)]

    assert any(whole.endswith(b"\x7f\xff\xd9") for whole in wholes)
    assert {refused(whole[:-missing])[0] for whole in wholes} == {"damaged"}


def test_normalise_refuses_a_jpeg_that_ends_between_two_scans() -> None:
    whole = encoded(noise(1), "JPEG", progressive=True)
    scans = [at.start() for at in re.finditer(rb"\xff\xda", whole)]

    assert len(scans) > 5
    assert {refused(whole[:at])[0] for at in scans[1:]} == {"damaged"}


def test_normalise_refuses_a_jpeg_that_ends_before_a_restart() -> None:
    whole = encoded(noise(1), "JPEG", restart_marker_rows=1)
    restarts = [at.start() for at in re.finditer(rb"\xff[\xd0-\xd7]", whole)]

    assert len(restarts) > 8
    assert {refused(whole[: at + length])[0] for at in restarts for length in (0, 2)} == {"damaged"}
    assert changes(normalised(whole[:-2])) == ()


@pytest.mark.parametrize(("name", "note"), [("png-ztxt-2mb.png", ("Removed: texts.",)), ("png-iccp-1.5mb.png", ())])
def test_normalise_takes_a_png_with_much_beside_its_picture(name: str, note: tuple[str, ...]) -> None:
    result = normalised((CASES / name).read_bytes())

    assert (result.width, result.height, changes(result)) == (400, 320, note)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize(
    ("chunk", "notes"),
    [
        (png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000), 1)), ("Removed: texts.",)),
        (png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(50_000_000))), ("Removed: texts.",)),
        (
            png_chunk(b"iCCP", b"much\0\0" + zlib.compress(bytes(50_000_000))),
            ("The picture's colour profile can't be used: check its colours.",),
        ),
    ],
    ids=["text", "xmp", "profile"],
)
@pytest.mark.parametrize("behind", [False, True])
def test_normalise_takes_a_png_whatever_its_texts_unpack_to(chunk: bytes, notes: tuple[str, ...], behind: bool) -> None:
    whole = encoded(quarters())
    at = whole.index(b"IEND") - 4 if behind else 33

    result = normalised(whole[:at] + chunk + whole[at:])

    assert changes(result) == notes
    assert same_corners(opened(result), [RED, GREEN, BLUE, YELLOW])


def test_normalise_still_reads_from_a_png_s_text_which_side_is_up() -> None:
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    whole = encoded(quarters())
    text = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)

    result = normalised(whole[:33] + text + whole[33:])

    assert (result.width, result.height) == (300, 400)
    assert changes(result) == ("Turned upright.", "Removed: texts.")


@pytest.mark.parametrize(
    ("name", "colour", "notes"),
    [
        (
            "jpg-adobergb-exif-only.jpg",
            (0, 160, 0),
            ("Removed: camera data (EXIF).", "Colours converted from Adobe RGB to sRGB."),
        ),
        ("heic-p3-nclx-srgb-red.heic", (255, 0, 0), ("Colours converted from Display P3 to sRGB.",)),
        ("png-cicp-p3.png", (3, 3, 255), ("Colours converted from Display P3 to sRGB.",)),
        (
            "heic-hlg.heic",
            (0, 0, 254),
            (
                "It is made for very bright screens (HDR) and was brought to the usual range: check its brightness.",
                "Colours converted from BT.2020 with HLG to sRGB.",
            ),
        ),
    ],
)
def test_normalise_converts_colours_that_are_told_without_a_profile(
    name: str, colour: tuple[int, ...], notes: tuple[str, ...]
) -> None:
    result = normalised((CASES / name).read_bytes())

    assert changes(result) == notes
    assert close(opened(result).convert("RGB").getpixel((5, 5)), colour, 3)  # type: ignore[arg-type]


def test_white_grey_and_black_stay_what_they_are_in_every_space_of_colours() -> None:
    greys = [Image.new("RGB", (400, 300), (level,) * 3) for level in (0, 128, 255)]
    for primaries, transfer in ((12, 13), (9, 14), (11, 13), (9, 18)):
        code = png_chunk(b"cICP", bytes((primaries, transfer, 0, 1)))
        for grey in greys:
            whole = encoded(grey)
            shown = opened(normalised(whole[:33] + code + whole[33:]))
            assert close(shown.getpixel((9, 9)), grey.getpixel((9, 9)), 2)  # type: ignore[arg-type]


def test_colours_that_nobody_knows_are_told() -> None:
    code, whole = png_chunk(b"cICP", bytes((22, 13, 0, 1))), encoded(quarters())

    assert changes(normalised(whole[:33] + code + whole[33:])) == (
        "The picture tells of colours that are not known here (primaries 22): check its colours.",
    )


def test_notes_tell_all_that_was_changed() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(GPS)[GPS_LATITUDE_REF] = "N"

    assert normalised(encoded(quarters(300, 400), "WEBP", exif=exif)).notes == (
        "Converted from WebP to JPEG.",
        "Turned upright.",
        "Removed: location data, camera data (EXIF).",
    )
    assert normalised(encoded(see_through("RGBA"), "WEBP")).notes == (
        "Converted from WebP to PNG.",
        "It has transparent parts: models differ in what they make of them; a background of your own is sure.",
    )
    assert normalised(encoded(Image.new("I;16", (400, 300)))).notes == (
        "Saved anew as PNG.",
        "Reduced from 16 to 8 bits.",
    )


def test_no_notes_mean_that_the_bytes_are_the_same() -> None:
    once = normalised(encoded(quarters()))

    again = normalised(once.content)

    assert (again.content, again.notes) == (once.content, ())


def test_a_picture_over_the_limits_of_its_process_is_refused_in_a_sentence(tmp_path: Path) -> None:
    before = limited.limits()
    limited.configure(limited.Limits(home=tmp_path / "reading", seconds=20, megabytes=500))
    try:
        code, message = refused(encoded(Image.new("RGB", (9_000, 9_000))))
    finally:
        limited.configure(before)

    assert (code, message) == (
        "over_limits",
        "This file can't be read within the studio's limits of 20 seconds and 500 MB of memory.",
    )


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "HEIF"])
def test_normalise_stands_any_damage(format: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    whole = encoded(quarters(), format, exif=exif)
    chance = random.Random(20)

    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 3, 20))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with suppress(ImageRefused):  # and nothing else
            result = normalised(bytes(damaged))
            assert opened(result).size == (result.width, result.height)


# Thumbnails


@pytest.mark.parametrize(
    ("size", "thumbnail_size"), [((1200, 800), (480, 320)), ((400, 1000), (192, 480)), ((320, 300), (320, 300))]
)
def test_thumbnail_is_a_small_jpeg_and_never_larger_than_the_picture(
    size: tuple[int, int], thumbnail_size: tuple[int, int]
) -> None:
    result = normalised(encoded(quarters(*size)))

    with Image.open(io.BytesIO(result.thumbnail)) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("JPEG", thumbnail_size)
        assert same_corners(thumbnail, [RED, GREEN, BLUE, YELLOW])


# All at once


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 900),
    height=st.integers(1, 900),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]),
    format=st.sampled_from(["JPEG", "PNG", "WEBP"]),
    orientation=st.integers(0, 9),
)
@example(width=300, height=750, mode="RGBA", format="PNG", orientation=6)
@example(width=299, height=300, mode="L", format="JPEG", orientation=1)
@example(width=751, height=300, mode="CMYK", format="JPEG", orientation=8)
def test_normalise_meets_every_limit_or_says_which_it_can_not(
    width: int, height: int, mode: str, format: str, orientation: int
) -> None:
    if (format, mode) in {("JPEG", "LA"), ("JPEG", "P"), ("JPEG", "RGBA"), ("JPEG", "I;16"), ("PNG", "CMYK")}:
        mode = "RGB"
    if format == "WEBP":
        mode = {"RGBA": "RGBA", "LA": "RGBA"}.get(mode, "RGB")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encoded(Image.new(mode, (width, height)), format, exif=exif)
    short, long = sorted((width, height))
    upright = (height, width) if orientation in (5, 6, 7, 8) else (width, height)

    if short < 300:
        assert refused(content)[0] == "too_small"
    elif long * 2 > short * 5:
        assert refused(content)[0] == "bad_aspect"
    else:
        result = normalised(content)
        image = opened(result)
        assert (result.width, result.height) == image.size == upright
        assert (image.format, image.mode) in {("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA")}
        assert len(result.content) <= KLING_LIMITS.max_bytes


def test_a_heic_of_108_megapixels_as_phones_make_it_is_taken() -> None:
    result = normalised(tiled_heic(6, 6), max_pixels=220_000_000)

    assert (result.width, result.height) == (6000, 4500)
    assert changes(result) == ("Scaled from 12000 × 9000 to 6000 × 4500 px: it has more than 64 megapixels.",)


def test_a_heic_that_takes_too_much_memory_is_refused_for_that_reason(tmp_path: Path) -> None:
    before = limited.limits()
    limited.configure(limited.Limits(home=tmp_path / "reading", seconds=20, megabytes=700))
    try:
        assert refused(tiled_heic(6, 6), max_pixels=220_000_000) == (
            "over_limits",
            "This file can't be read within the studio's limits of 20 seconds and 700 MB of memory.",
        )
    finally:
        limited.configure(before)
