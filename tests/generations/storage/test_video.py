import io
import random
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image, ImageDraw, ImageStat

from generations.storage.video import MP4, QUICKTIME, WEBM, Probe, Unprobeable, last_frame, poster, probe
from projects import limited

Colour = tuple[int, int, int]
RED, GREEN, BLUE, BLACK = (200, 30, 30), (30, 160, 30), (30, 30, 200), (0, 0, 0)
CASES = Path(__file__).parent / "cases"
CUT_OFF = r"^The video is cut off: it needs at least [\d,]+ bytes and has [\d,]+\.$"
NOT_A_VIDEO = "This is not a video that can be read, or it is damaged."


def make_video(
    path: Path,
    colours: list[Colour],
    *,
    size: tuple[int, int] = (320, 180),
    fps: Fraction | int = 24,
    sound: bool = False,
    rotation: int = 0,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """One frame per colour, its top half lighter, so that one can see which side is up."""
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=fps)
        video.width, video.height = size
        video.pix_fmt = "yuv420p"
        if codec == "libx264":
            video.options = {"preset": "ultrafast", "crf": "10"}
        if codec == "libvpx":
            video.options = {"deadline": "realtime", "cpu-used": "8"}
        if rotation:
            video.set_display_rotation(rotation)
        audio: Any = container.add_stream("aac", rate=44100) if sound else None
        for colour in colours:
            image = Image.new("RGB", size, colour)
            lighter = tuple(min(255, channel + 50) for channel in colour) if any(colour) else colour
            ImageDraw.Draw(image).rectangle((0, 0, size[0], size[1] // 2 - 1), lighter)
            container.mux(video.encode(av.VideoFrame.from_image(image)))
        container.mux(video.encode())
        if sound:
            mux_silence(container, audio, len(colours) / float(fps))
    return path


def mux_silence(container: Any, audio: Any, seconds: float) -> None:
    for number in range(int(44100 * seconds / 1024) + 1):
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.sample_rate, frame.pts = 44100, number * 1024
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        container.mux(audio.encode(frame))
    container.mux(audio.encode())


def shown(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg))
    assert image.format == "JPEG"
    image.load()
    return image


def close(pixel: Any, colour: Colour, tolerance: int = 10) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=True))


def lower(image: Image.Image) -> Any:
    return image.getpixel((image.width // 2, image.height * 3 // 4))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "video.mp4"


# Probe


def test_probe_tells_what_the_video_is(path: Path) -> None:
    make_video(path, [RED] * 48, sound=True)

    assert probe(path) == Probe(
        container=MP4,
        width=320,
        height=180,
        duration=Decimal("2.000"),
        fps=Decimal("24.000"),
        codec="h264",
        has_audio=True,
        audio_codec="aac",
        frames=48,
    )


def test_probe_tells_that_there_is_no_sound(path: Path) -> None:
    result = probe(make_video(path, [RED] * 3))

    assert (result.has_audio, result.audio_codec) == (False, "")


def test_probe_rounds_odd_rates_to_thousandths(path: Path) -> None:
    result = probe(make_video(path, [RED] * 30, fps=Fraction(30000, 1001)))

    assert (result.fps, result.duration) == (Decimal("29.970"), Decimal("1.001"))


def test_probe_reads_a_video_whose_header_comes_first(path: Path) -> None:
    assert probe(make_video(path, [RED] * 12, options={"movflags": "faststart"})).duration == Decimal("0.500")


def test_probe_reads_a_fragmented_video(path: Path) -> None:
    make_video(path, [RED] * 12, options={"movflags": "frag_keyframe+empty_moov"})

    assert (probe(path).duration, probe(path).width) == (Decimal("0.500"), 320)


def test_probe_reads_webm(tmp_path: Path) -> None:
    result = probe(make_video(tmp_path / "video.webm", [RED] * 12, codec="libvpx"))

    assert (result.codec, result.width, result.height, result.frames) == ("vp8", 320, 180, None)
    assert result.duration == Decimal("0.500")


def test_probe_names_the_codec_and_not_its_decoder() -> None:
    result = probe(CASES / "mp4-av1.mp4")

    assert (result.codec, result.content_type, result.extension) == ("av1", "video/mp4", "mp4")


def test_probe_tells_how_the_file_is_packed(tmp_path: Path) -> None:
    mov = make_video(tmp_path / "video.mov", [RED] * 12, sound=True)

    assert (probe(mov).container, probe(mov).extension) == (QUICKTIME, "mov")
    assert probe(CASES / "webm-vp9.webm").container == WEBM
    assert (WEBM.content_type, WEBM.extension) == ("video/webm", "webm")
    assert probe(make_video(tmp_path / "video.mkv", [RED] * 12)).content_type == "video/x-matroska"


def with_numbers(whole: bytes, numbers: dict[tuple[bytes, int], int]) -> bytes:
    """An MP4 with other numbers in its header, by their box and their place in it."""
    changed = bytearray(whole)
    for (box, at), number in numbers.items():
        start = changed.index(box) + 4 + at
        changed[start : start + 4] = number.to_bytes(4)
    return bytes(changed)


@pytest.mark.parametrize(
    ("numbers", "known", "note"),
    [
        (
            {(b"mdhd", 12): 200_000_000},
            (None, None),
            "The file tells of 6.144e-05 seconds, which can't be. The file tells of 390,625 frames a second, which can't be.",
        ),
        ({(b"mdhd", 16): 2**31 - 1}, (Decimal("1.000"), Decimal("24.000")), ""),  # another box tells the truth
    ],
)
def test_what_can_not_be_is_left_out_with_a_note(
    path: Path, numbers: dict[tuple[bytes, int], int], known: tuple[Decimal | None, Decimal | None], note: str
) -> None:
    path.write_bytes(with_numbers(make_video(path, [RED] * 24).read_bytes(), numbers))

    result = probe(path)

    assert ((result.duration, result.fps), result.note) == (known, note)
    assert (result.width, result.codec) == (320, "h264")


@pytest.mark.parametrize(("rotation", "size"), [(90, (180, 320)), (-90, (180, 320)), (180, (320, 180))])
def test_probe_gives_the_size_as_it_is_shown(path: Path, rotation: int, size: tuple[int, int]) -> None:
    result = probe(make_video(path, [RED] * 3, rotation=rotation))

    assert (result.width, result.height) == size


# Pictures


def test_poster_is_the_first_frame(path: Path) -> None:
    image = shown(poster(make_video(path, [RED, GREEN, BLUE] * 8)))

    assert image.size == (320, 180)
    assert close(lower(image), RED)


@pytest.mark.parametrize(
    ("size", "poster_size"), [((640, 360), (480, 270)), ((360, 640), (270, 480)), ((400, 400), (400, 400))]
)
def test_poster_is_scaled_down_but_never_up(path: Path, size: tuple[int, int], poster_size: tuple[int, int]) -> None:
    image = shown(poster(make_video(path, [RED], size=size), max_side=480 if size != (400, 400) else 960))

    assert image.size == poster_size
    assert close(lower(image), RED)


def test_poster_passes_over_black_at_the_start(path: Path) -> None:
    assert close(lower(shown(poster(make_video(path, [BLACK] * 10 + [GREEN] * 5)))), GREEN)


def test_poster_of_a_black_video_is_black(path: Path) -> None:
    assert close(lower(shown(poster(make_video(path, [BLACK] * 30)))), BLACK)


def test_poster_shows_the_frame_at_a_time(path: Path) -> None:
    make_video(path, [RED] * 24 + [GREEN] * 24 + [BLUE] * 24)

    assert close(lower(shown(poster(path, at=0.9))), RED)
    assert close(lower(shown(poster(path, at=1.0))), GREEN)
    assert close(lower(shown(poster(path, at=2.5))), BLUE)


def test_poster_says_that_the_video_is_shorter(path: Path) -> None:
    make_video(path, [RED] * 24)

    with pytest.raises(Unprobeable, match=r"^The video has no frame at 7\.5 seconds\.$"):
        poster(path, at=7.5)


@pytest.mark.parametrize("options", [None, {"movflags": "frag_keyframe+empty_moov"}])
def test_last_frame_is_the_very_last_in_full_size(path: Path, options: dict[str, str] | None) -> None:
    make_video(path, [RED] * 40 + [BLUE], size=(640, 360), sound=True, options=options)

    image = shown(last_frame(path))

    assert image.size == (640, 360)
    assert close(lower(image), BLUE)


def test_last_frame_of_a_video_of_one_frame(path: Path) -> None:
    assert close(lower(shown(last_frame(make_video(path, [GREEN])))), GREEN)


@pytest.mark.parametrize(("rotation", "lighter_side"), [(0, "top"), (90, "left"), (180, "bottom"), (-90, "right")])
@pytest.mark.parametrize("picture", [poster, last_frame])
def test_pictures_are_upright(path: Path, rotation: int, lighter_side: str, picture: Callable[[Path], bytes]) -> None:
    image = shown(picture(make_video(path, [RED] * 3, rotation=rotation)))

    assert image.size == ((180, 320) if rotation in (90, -90) else (320, 180))
    x, y = image.size
    halves = {
        "top": (0, 0, x, y // 2),
        "bottom": (0, y // 2, x, y),
        "left": (0, 0, x // 2, y),
        "right": (x // 2, 0, x, y),
    }
    assert max(halves, key=lambda half: ImageStat.Stat(image.crop(halves[half])).mean[0]) == lighter_side


# What is no video


def picture_file(path: Path, format: str) -> None:
    Image.new("RGB", (400, 300), RED).save(path, format)


@pytest.mark.parametrize("read", [probe, poster, last_frame])
@pytest.mark.parametrize(
    "content",
    [b"just some text\n" * 100, bytes(range(256)) * 400, b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41", b"\0" * 5000],
    ids=["text", "garbage", "a header", "zeros"],
)
def test_what_is_no_video_is_unprobeable(path: Path, content: bytes, read: Callable[[Path], object]) -> None:
    path.write_bytes(content)

    with pytest.raises(Unprobeable) as error:
        read(path)

    assert error.value.message == NOT_A_VIDEO


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_picture_is_no_video(path: Path, format: str) -> None:
    picture_file(path, format)

    with pytest.raises(Unprobeable, match=NOT_A_VIDEO):
        probe(path)


@pytest.mark.parametrize("read", [probe, poster, last_frame])
def test_an_empty_file_is_unprobeable(path: Path, read: Callable[[Path], object]) -> None:
    path.touch()

    with pytest.raises(Unprobeable, match=r"^The file is empty\.$"):
        read(path)


def test_sound_alone_is_no_video(path: Path) -> None:
    with av.open(str(path), "w") as container:
        mux_silence(container, container.add_stream("aac", rate=44100), 0.5)

    with pytest.raises(Unprobeable, match=r"^The file holds no video, only audio\.$"):
        probe(path)


@pytest.mark.parametrize("read", [probe, last_frame])
def test_a_video_that_is_cut_off_is_unprobeable(path: Path, read: Callable[[Path], object]) -> None:
    whole = make_video(path, [RED, GREEN, BLUE] * 16, options={"movflags": "faststart"}).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])

    with pytest.raises(Unprobeable, match=CUT_OFF):
        read(path)


@pytest.mark.parametrize(
    "movflags", ["faststart", "frag_keyframe+empty_moov", "frag_every_frame+empty_moov+default_base_moof"]
)
@pytest.mark.parametrize("missing", [1, 40, 5_000])
def test_a_video_is_whole_only_with_its_last_sample(path: Path, movflags: str, missing: int) -> None:
    """The last one is of the sound, which lies behind the last frame."""
    whole = make_video(path, [RED, GREEN, BLUE] * 16, sound=True, options={"movflags": movflags}).read_bytes()
    whole = (
        whole[: whole.rindex(b"mfra") - 4] if b"mfra" in whole else whole
    )  # an index at the end, which nothing needs
    path.write_bytes(whole)
    assert probe(path).has_audio

    path.write_bytes(whole[:-missing])

    with pytest.raises(Unprobeable, match=CUT_OFF):
        probe(path)


@pytest.mark.parametrize("extension", ["webm", "mkv"])
@pytest.mark.parametrize("missing", [1, 5_000])
def test_webm_is_whole_only_with_its_last_byte(tmp_path: Path, extension: str, missing: int) -> None:
    path = make_video(tmp_path / f"video.{extension}", [RED, GREEN, BLUE] * 16, codec="libvpx")
    path.write_bytes(path.read_bytes()[:-missing])

    with pytest.raises(Unprobeable, match=CUT_OFF):
        probe(path)


def test_what_stands_behind_a_whole_video_does_not_matter(path: Path) -> None:
    whole = make_video(path, [RED] * 12, sound=True, options={"movflags": "faststart"}).read_bytes()
    path.write_bytes(whole + b"\0\0\0\0 and some more, \xff\xff\xff\xff of what nobody knows")

    assert probe(path).duration == Decimal("0.500")


def test_a_video_without_its_header_is_unprobeable(path: Path) -> None:
    whole = make_video(path, [RED, GREEN, BLUE] * 16).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])

    with pytest.raises(Unprobeable, match=NOT_A_VIDEO):
        probe(path)


@pytest.mark.parametrize(
    "playlist",
    ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{other}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {other}\n"],
)
def test_a_playlist_is_not_followed(tmp_path: Path, path: Path, playlist: str) -> None:
    other = make_video(tmp_path / "other.mp4", [RED] * 3)
    path.write_text(playlist.format(other=other.name))

    with pytest.raises(Unprobeable, match=NOT_A_VIDEO):
        probe(path)


def test_a_codec_that_nobody_knows_is_unprobeable(path: Path) -> None:
    path.write_bytes(make_video(path, [RED] * 3).read_bytes().replace(b"avc1", b"zzzz"))

    with pytest.raises(Unprobeable, match=r"^The video is coded in a way that is not known here\.$"):
        probe(path)


def test_a_missing_file_is_an_error_of_another_kind(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        probe(path)


def test_damaged_videos_are_read_or_unprobeable(path: Path) -> None:
    whole = make_video(path, [RED, GREEN, BLUE] * 8, sound=True).read_bytes()
    chance = random.Random(20)

    for read in [probe, poster, last_frame] * 20:
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 5, 50))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        with suppress(Unprobeable):  # and nothing else
            assert read(path)


def test_reading_leaves_no_file_open(tmp_path: Path, path: Path) -> None:
    make_video(path, [RED, GREEN, BLUE] * 8, sound=True)
    garbage = tmp_path / "garbage.mp4"
    garbage.write_bytes(bytes(range(256)) * 400)

    def read_all() -> None:
        for read in (probe, poster, last_frame):
            read(path)
            with suppress(Unprobeable):
                read(garbage)

    read_all()
    before = sorted(entry.name for entry in Path("/proc/self/fd").iterdir())
    for _ in range(5):
        read_all()

    assert sorted(entry.name for entry in Path("/proc/self/fd").iterdir()) == before


def test_a_video_over_the_limits_of_its_process_is_refused_in_a_sentence(tmp_path: Path) -> None:
    before = limited.limits()
    limited.configure(limited.Limits(home=tmp_path / "reading", seconds=20, megabytes=100))
    try:
        with pytest.raises(Unprobeable, match="can't be read within the studio's limits"):
            probe(CASES / "mp4-av1.mp4")
    finally:
        limited.configure(before)
