"""Reads finished videos: what they are, a poster, and the last frame to go on from."""

import io
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageStat

# Demuxers and protocols by name: ffmpeg also reads playlists, which name other files and addresses.
CONTAINER_OPTIONS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm", "protocol_whitelist": "file"}
AV_TIME_BASE = 1_000_000  # ffmpeg counts a container's time in microseconds
MAX_PIXELS = 8192 * 8192
MAX_FRAMES = 3_000
BLACK = 16  # mean luma, 0 to 255
BLACK_FRAMES = 24
ROTATIONS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
MILLI = Decimal("0.001")


class Unprobeable(Exception):
    """The file is not a video that can be read; `message` says why, for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Probe:
    """Width and height are those of the picture as it is shown; `duration` is in seconds, `frames` None if unsaid."""

    width: int
    height: int
    duration: Decimal
    fps: Decimal
    codec: str
    has_audio: bool
    audio_codec: str
    frames: int | None


def probe(path: Path) -> Probe:
    """What the video is, by its header and its first frame; Unprobeable if either can't be read."""
    with _opened(path) as (container, stream):
        _check_complete(container, stream)
        duration, rate = _duration(container, stream), stream.average_rate or stream.guessed_rate
        if not duration or not rate:
            raise Unprobeable("The video doesn't say how long it is, or how many frames it shows in a second.")
        frame = next(_frames(container, stream), None)
        if frame is None:
            raise Unprobeable("The video holds no frame that can be shown.")
        sideways = frame.rotation % 180 == 90
        audio = [_codec(track) for track in container.streams.audio]
        return Probe(
            width=frame.height if sideways else frame.width,
            height=frame.width if sideways else frame.height,
            duration=_decimal(duration),
            fps=_decimal(rate),
            codec=_codec(stream),
            has_audio=bool(audio),
            audio_codec=audio[0] if audio else "",
            frames=stream.frames or None,
        )


def poster(path: Path, *, max_side: int = 960, at: float = 0.0) -> bytes:
    """A JPEG of the first frame at or after `at` seconds; of one soon after it if that one is black."""
    with _opened(path) as (container, stream):
        if at > 0:
            container.seek(int(at * AV_TIME_BASE))
        frames = (frame for frame in _frames(container, stream) if at <= 0 or frame.time is None or frame.time >= at)
        images = (_image(frame, max_side) for frame in islice(frames, BLACK_FRAMES))
        first = next(images, None)
        if first is None:
            raise Unprobeable(f"The video has no frame at {at:g} seconds.")
        return _jpeg(next((image for image in chain([first], images) if not _is_black(image)), first), quality=85)


def last_frame(path: Path) -> bytes:
    """A JPEG of the very last frame in full size, to start the next video from."""
    with _opened(path) as (container, stream):
        _check_complete(container, stream)
        stream.thread_type = "AUTO"
        container.seek(container.duration or 0)
        last = deque(_frames(container, stream), maxlen=1)
        if not last:
            raise Unprobeable("The video holds no frame that can be shown.")
        return _jpeg(_image(last[0]), quality=95, subsampling="4:4:4")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its video stream; ffmpeg's errors inside become Unprobeable, a missing file stays an OSError."""
    if not path.stat().st_size:
        raise Unprobeable("The file is empty.")
    try:
        with av.open(f"file:{path}", "r", container_options=CONTAINER_OPTIONS, metadata_errors="replace") as container:
            yield container, _video_stream(container)
    except av.FFmpegError as error:
        raise Unprobeable("This is not a video that can be read, or it is damaged.") from error


def _video_stream(container: InputContainer) -> VideoStream:
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not streams:
        raise Unprobeable(
            "The file holds no video, only " + (", ".join({s.type for s in container.streams}) or "data") + "."
        )
    stream = streams[0]
    if not _codec(stream):
        raise Unprobeable("The video is coded in a way that is not known here.")
    if stream.width * stream.height > MAX_PIXELS:
        raise Unprobeable(f"The video says that it has {stream.width} × {stream.height} px: more than can be read.")
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # the frames may say more than the header did
    return stream


def _codec(stream: VideoStream | AudioStream) -> str:
    """Its name, "" for a codec that ffmpeg doesn't know: then there is no context, whatever PyAV's types say."""
    return getattr(stream.codec_context, "name", "")


def _check_complete(container: InputContainer, stream: VideoStream) -> None:
    """By the index: the header of a cut file can be whole, and still tell of frames that are not there."""
    count = len(stream.index_entries)
    if count:
        last = stream.index_entries[count - 1]
        if last.pos + last.size > container.size:
            message = (
                f"The video is cut off: it needs at least {last.pos + last.size:,} bytes and has {container.size:,}."
            )
            raise Unprobeable(message)


def _duration(container: InputContainer, stream: VideoStream) -> Fraction:
    """Seconds; the stream's own if it has one, as sound may run on a little."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    return Fraction(container.duration or 0, AV_TIME_BASE)


def _frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    for count, frame in enumerate(container.decode(stream)):
        if count == MAX_FRAMES:
            raise Unprobeable(f"The video has more than {MAX_FRAMES:,} frames to read at once.")
        yield frame


def _image(frame: VideoFrame, max_side: int | None = None) -> Image.Image:
    """The frame as it is shown, upright, scaled down by ffmpeg (the full picture in RGB is never made for a poster)."""
    scale = min(1.0, max_side / max(frame.width, frame.height)) if max_side else 1.0
    width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    scaled = frame.reformat(width, height, "rgb24", interpolation="AREA" if scale < 1 else None)
    image: Image.Image = scaled.to_image()  # type: ignore[no-untyped-call]
    turn = ROTATIONS.get(frame.rotation % 360)
    return image if turn is None else image.transpose(turn)


def _is_black(image: Image.Image) -> bool:
    return ImageStat.Stat(image.convert("L")).mean[0] <= BLACK


def _jpeg(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _decimal(number: Fraction) -> Decimal:
    return (Decimal(number.numerator) / number.denominator).quantize(MILLI)
