"""Real MP4s: H.264 (yuv420p, 24 frames a second, faststart), AAC when there is sound, nothing when there is none."""

import io
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from PIL import Image, ImageOps

from wavespeed_sandbox import scenes

FPS = 24
SAMPLE_RATE = 48_000
_AUDIO_FRAME = 1024
_THREADS = 2
_AHEAD = 4  # frames that are prepared while one is encoded; bounds the memory
_BT709 = 1
_ROOMS = 7  # each has its chord; a sound takes longer to make than a small picture, so few are kept for all clips
_CANVAS = 1.08  # pictures are kept a little larger than the clip, so that a close view stays sharp

Planes = list[Image.Image]


@dataclass(frozen=True)
class Clip:
    """Everything that decides how a clip looks: the same Clip renders to the same bytes."""

    long_side: int
    durations: list[int]  # seconds of each shot
    sound: bool
    seed: int
    comment: str  # kept in the file's metadata, so that no two predictions have the same bytes
    start: bytes | None = None  # an image file; None: a backdrop
    end: bytes | None = None
    aspect: tuple[int, int] = (16, 9)  # of a backdrop


class Abandoned(Exception):
    """The clip was given up half-way, because `abandoned` said so."""


def render(clip: Clip, path: Path, *, abandoned: Callable[[], bool] = lambda: False) -> None:
    """Write the clip to `path`; `abandoned` is asked before each frame."""
    start = _opened(clip.start) if clip.start else None
    size = scenes.output_size(start.size if start else clip.aspect, clip.long_side)
    picture = start or scenes.backdrop(size, clip.seed)
    end = _opened(clip.end) if clip.end else None
    with (
        av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container,
        _sound_of(clip) as sound,
    ):
        container.metadata["comment"] = clip.comment
        video = _video_stream(container, size)
        audio = container.add_stream_from_template(sound.streams.audio[0]) if sound else None
        for number, frame in enumerate(_frames(clip, picture, end, size)):
            if abandoned():
                raise Abandoned
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound and audio:
            _write_sound(container, sound, audio)


def _opened(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _video_stream(container: "av.container.OutputContainer", size: scenes.Size) -> VideoStream:
    stream = container.add_stream("libx264", rate=FPS)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.options = {"preset": "ultrafast", "crf": "21", "threads": str(_THREADS), "colorprim": "bt709"}
    context = stream.codec_context
    context.color_range, context.colorspace = ColorRange.MPEG, _BT709
    context.color_primaries, context.color_trc = _BT709, _BT709
    return stream


def _frames(clip: Clip, picture: Image.Image, end: Image.Image | None, size: scenes.Size) -> Iterator[av.VideoFrame]:
    """The clip's frames in order, prepared a few ahead on all cores (Pillow lets go of the GIL)."""
    waiting: deque[Future[av.VideoFrame]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for shot in scenes.shots(clip.durations, FPS, clip.seed):
            canvas = _planes(scenes.graded(_canvas(picture, size), shot.look))
            final = _planes(_canvas(end, size)) if end else None
            for index in range(shot.frames):
                waiting.append(pool.submit(_frame, shot, index / max(1, shot.frames - 1), canvas, final, size))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _canvas(picture: Image.Image, size: scenes.Size) -> Image.Image:
    return scenes.covering(picture, (round(size[0] * _CANVAS / 2) * 2, round(size[1] * _CANVAS / 2) * 2))


def _planes(picture: Image.Image) -> Planes:
    """Y, U and V as grey pictures: moving the camera over them costs half of what RGB would."""
    frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]
    frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
    return [
        Image.frombytes("L", (plane.width, plane.height), bytes(plane), "raw", "L", plane.line_size)
        for plane in frame.planes
    ]


def _frame(
    shot: scenes.Shot, progress: float, canvas: Planes, final: Planes | None, size: scenes.Size
) -> av.VideoFrame:
    box = shot.box(progress)
    weight = min(1.0, max(0.0, (progress - 0.4) / 0.35)) if final else 0.0
    planes = _looked_at(final if final and weight == 1 else canvas, box, size)
    if final and 0 < weight < 1:
        arriving = _looked_at(final, box, size)
        planes = [Image.blend(a, b, weight * weight * (3 - 2 * weight)) for a, b in zip(planes, arriving, strict=True)]
    frame = av.VideoFrame(*size, "yuv420p")
    for plane, picture in zip(frame.planes, planes, strict=True):
        plane.update(_padded(picture, plane.line_size))
    return frame


def _looked_at(canvas: Planes, box: scenes.Box, size: scenes.Size) -> Planes:
    left, top, width, height = box
    sizes = (size, (size[0] // 2, size[1] // 2), (size[0] // 2, size[1] // 2))
    return [
        plane.resize(
            wanted,
            Image.Resampling.BILINEAR,
            box=(
                left * plane.width,
                top * plane.height,
                (left + width) * plane.width,
                (top + height) * plane.height,
            ),
        )
        for plane, wanted in zip(canvas, sizes, strict=True)
    ]


def _padded(picture: Image.Image, line_size: int) -> bytes:
    if picture.width == line_size:
        return picture.tobytes()
    padded = Image.new("L", (line_size, picture.height))
    padded.paste(picture)
    return padded.tobytes()


def _sound_of(clip: Clip) -> AbstractContextManager["av.container.InputContainer | None"]:
    return av.open(io.BytesIO(_sound(sum(clip.durations), clip.seed % _ROOMS)), "r") if clip.sound else nullcontext()


def _write_sound(
    container: "av.container.OutputContainer", source: "av.container.InputContainer", stream: AudioStream
) -> None:
    for packet in source.demux(audio=0):
        if packet.dts is not None:
            packet.stream = stream
            container.mux(packet)


@lru_cache(maxsize=64)
def _sound(seconds: int, seed: int) -> bytes:
    """A soft room, as AAC: low wind that comes and goes under a quiet chord. It ends with the picture, not a frame later."""
    made = io.BytesIO()
    with av.open(made, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE, layout="stereo")
        for frame in _ambience(seconds * SAMPLE_RATE // _AUDIO_FRAME, seed):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return made.getvalue()


def _ambience(frames: int, seed: int) -> Iterator[av.AudioFrame]:
    root = 110 * 2 ** (seed / 12)
    chord = "+".join(
        f"{loudness}*sin(2*PI*{root * ratio:.3f}*t)*(0.6+0.4*sin(2*PI*{pace}*t))"
        for loudness, ratio, pace in ((0.030, 1, 0.11), (0.022, 1.5, 0.17), (0.014, 2.02, 0.23))
    )
    graph = av.filter.Graph()
    wind = graph.add("anoisesrc", f"color=brown:seed={seed}:amplitude=0.25:sample_rate={SAMPLE_RATE}")
    low = graph.add("lowpass", "f=500")
    swell = graph.add("tremolo", "f=0.15:d=0.6")
    tones = graph.add("aevalsrc", f"exprs={chord}|{chord}:sample_rate={SAMPLE_RATE}")
    mix = graph.add("amix", "inputs=2:normalize=0")
    shape = graph.add("aformat", f"sample_fmts=fltp:sample_rates={SAMPLE_RATE}:channel_layouts=stereo")
    blocks = graph.add("asetnsamples", f"n={_AUDIO_FRAME}")
    sink = graph.add("abuffersink")
    wind.link_to(low)
    low.link_to(swell)
    swell.link_to(mix, 0, 0)
    tones.link_to(mix, 0, 1)
    mix.link_to(shape)
    shape.link_to(blocks)
    blocks.link_to(sink)
    graph.configure()
    for number in range(frames):
        frame = graph.pull()
        assert isinstance(frame, av.AudioFrame)
        frame.pts = number * _AUDIO_FRAME
        yield frame
