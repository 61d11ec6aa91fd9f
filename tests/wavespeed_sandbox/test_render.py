import io
from pathlib import Path

import av
import pytest
from PIL import Image, ImageChops, ImageStat

from tests.wavespeed_sandbox.conftest import picture
from wavespeed_sandbox.render import Abandoned, Clip, render
from wavespeed_sandbox.scenes import output_size


def clip(**changes: object) -> Clip:
    values = {"long_side": 320, "durations": [3], "sound": False, "seed": 1, "comment": "c", "start": picture()}
    return Clip(**(values | changes))  # type: ignore[arg-type]


def frames(path: Path) -> list[Image.Image]:
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def difference(one: Image.Image, other: Image.Image) -> float:
    """Mean distance of the pixels, 0–255."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other.resize(one.size))).mean) / 3


def test_clip_is_h264_of_exactly_the_asked_length(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    render(clip(durations=[5]), path)
    with av.open(str(path)) as container:
        (video,) = container.streams
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (video.average_rate, video.frames) == (24, 120)
        assert (video.width, video.height) == (320, 240)
        assert container.duration == 5_000_000
        assert container.metadata["comment"] == "c"


def test_clip_starts_playing_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    render(clip(), path)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_sound_is_aac_stereo_and_can_be_heard(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    render(clip(sound=True), path)
    with av.open(str(path)) as container:
        audio = container.streams.audio[0]
        assert (audio.codec_context.name, audio.rate, audio.layout.name) == ("aac", 48000, "stereo")
        peaks = [max(memoryview(bytes(frame.planes[0])).cast("f")) for frame in container.decode(audio)]
        assert container.duration == 3_000_000
    assert 0.02 < max(peaks) < 0.9


def test_the_same_clip_has_the_same_bytes(tmp_path: Path) -> None:
    one, two, other = (tmp_path / name for name in ("1.mp4", "2.mp4", "3.mp4"))
    render(clip(sound=True), one)
    render(clip(sound=True), two)
    render(clip(sound=True, comment="d"), other)
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != other.read_bytes()


def test_the_camera_moves_over_the_start_image(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    render(clip(), path)
    shown = frames(path)
    start = Image.open(io.BytesIO(picture()))
    assert difference(shown[0], start) < 12
    assert difference(shown[0], shown[-1]) > 3


def test_the_clip_ends_at_the_end_image(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    render(clip(start=picture(colour="navy"), end=picture(colour="firebrick")), path)
    shown = frames(path)
    corner = [shown[index].getpixel((4, 4)) for index in (0, -1)]
    assert [max(range(3), key=lambda channel, pixel=pixel: pixel[channel]) for pixel in corner] == [2, 0]


def test_each_shot_has_a_look_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    render(clip(durations=[1, 2]), path)
    shown = frames(path)
    assert len(shown) == 72
    assert difference(shown[23], shown[24]) > 3 * difference(shown[22], shown[23])


def test_a_clip_without_image_has_a_backdrop_of_the_aspect(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    render(clip(start=None, aspect=(9, 16)), path)
    shown = frames(path)[0]
    assert shown.size == (180, 320)
    assert len(shown.getcolors(180 * 320) or []) > 500


def test_rendering_can_be_given_up(tmp_path: Path) -> None:
    with pytest.raises(Abandoned):
        render(clip(), tmp_path / "a.mp4", abandoned=lambda: True)


@pytest.mark.parametrize(
    ("shown", "long_side", "size"),
    [((1920, 1080), 3840, (3840, 2160)), ((1080, 1920), 3840, (2160, 3840)), ((640, 427), 320, (320, 214)),
     ((300, 750), 320, (128, 320)), ((500, 500), 1280, (1280, 1280))],
)  # fmt: skip
def test_output_keeps_the_aspect_in_even_numbers(shown: tuple[int, int], long_side: int, size: tuple[int, int]) -> None:
    assert output_size(shown, long_side) == size
