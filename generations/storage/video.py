"""Reads finished videos: what they are, a poster, and the last frame to go on from.

Each is read in a process with limits (projects/limited.py), as a file may say of itself what it likes.
"""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TypeVar

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image, ImageStat

from projects import limited

T = TypeVar("T")

# Demuxers and protocols by name: ffmpeg also reads playlists, which name other files and addresses.
CONTAINER_OPTIONS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm", "protocol_whitelist": "file"}
AV_TIME_BASE = 1_000_000  # ffmpeg counts a container's time in microseconds
MAX_PIXELS = 8192 * 8192
MAX_FRAMES = 3_000
THREADS = 4  # each holds frames of its own
# What a file says of itself beyond these can't be, whatever its columns would hold.
MAX_SECONDS = 24 * 3600
MAX_FPS = 1_000
MAX_CODEC = 40  # characters, as the column has them
MAX_NOTE = 300
BLACK = 16  # mean luma, 0 to 255
BLACK_FRAMES = 24
ROTATIONS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
MILLI = Decimal("0.001")
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
PIECES = {b"moov", b"moof", b"mdat"}


class Unprobeable(Exception):
    """The file is not a video that can be read; `message` says why, for people."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Container:
    """How the bytes are packed: what a server calls them, and what ends their names (without a dot)."""

    name: str
    content_type: str
    extension: str


MP4 = Container("mp4", "video/mp4", "mp4")
QUICKTIME = Container("quicktime", "video/quicktime", "mov")
WEBM = Container("webm", "video/webm", "webm")
MATROSKA = Container("matroska", "video/x-matroska", "mkv")


@dataclass(frozen=True)
class Probe:
    """Width and height are those of the picture as it is shown, `duration` is in seconds.

    A number is None if the file doesn't tell it, or tells what can't be; then `note` says so, for people.
    """

    container: Container
    width: int
    height: int
    duration: Decimal | None
    fps: Decimal | None
    codec: str
    has_audio: bool
    audio_codec: str
    frames: int | None
    note: str = ""

    @property
    def content_type(self) -> str:
        return self.container.content_type

    @property
    def extension(self) -> str:
        return self.container.extension


def probe(path: Path) -> Probe:
    """What the video is, and that it is whole: its first frame can be shown, and every sample that it lists is in the file.

    Raises Unprobeable.
    """
    return _read(_probe, path)


def poster(path: Path, *, max_side: int = 960, at: float = 0.0) -> bytes:
    """A JPEG of the first frame at or after `at` seconds; of one soon after it if that one is black. Raises Unprobeable."""
    return _read(_poster, path, max_side, at)


def last_frame(path: Path) -> bytes:
    """A JPEG of the very last frame in full size, to start the next video from. Raises Unprobeable."""
    return _read(_last_frame, path)


def _read(reader: Callable[..., T], path: Path, *args: object) -> T:
    """A missing file stays an OSError."""
    if not path.stat().st_size:
        raise Unprobeable("The file is empty.")
    try:
        return limited.call(reader, path.resolve(), *args)
    except limited.OverLimits as error:
        raise Unprobeable(error.message) from error


# --- In a process of its own ------------------------------------------------------------------------------------------


def _probe(path: Path) -> Probe:
    with _opened(path) as (container, stream):
        _check_complete(container, path)
        frame = next(_frames(container, stream), None)
        if frame is None:
            raise Unprobeable("The video holds no frame that can be shown.")
        sideways = frame.rotation % 180 == 90
        audio = [_codec(track) for track in container.streams.audio]
        notes: list[str] = []
        return Probe(
            container=_container(path),
            width=frame.height if sideways else frame.width,
            height=frame.width if sideways else frame.height,
            duration=_bounded(_durations(container, stream), MAX_SECONDS, "seconds", notes),
            fps=_bounded((stream.average_rate, stream.guessed_rate), MAX_FPS, "frames a second", notes),
            codec=_codec(stream),
            has_audio=bool(audio),
            audio_codec=audio[0] if audio else "",
            frames=stream.frames if 0 < stream.frames <= MAX_SECONDS * MAX_FPS else None,
            note=" ".join(notes)[:MAX_NOTE],
        )


def _poster(path: Path, max_side: int, at: float) -> bytes:
    with _opened(path) as (container, stream):
        if at > 0:
            container.seek(int(at * AV_TIME_BASE))
        frames = (frame for frame in _frames(container, stream) if at <= 0 or frame.time is None or frame.time >= at)
        images = (_image(frame, max_side) for frame in islice(frames, BLACK_FRAMES))
        first = next(images, None)
        if first is None:
            raise Unprobeable(f"The video has no frame at {at:g} seconds.")
        return _jpeg(next((image for image in chain([first], images) if not _is_black(image)), first), quality=85)


def _last_frame(path: Path) -> bytes:
    with _opened(path) as (container, stream):
        _check_complete(container, path)
        stream.thread_type = "AUTO"
        container.seek(container.duration or 0)
        last = deque(_frames(container, stream), maxlen=1)
        if not last:
            raise Unprobeable("The video holds no frame that can be shown.")
        return _jpeg(_image(last[0]), quality=95, subsampling="4:4:4")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file and its video stream; ffmpeg's errors inside become Unprobeable."""
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
    stream.codec_context.thread_count = THREADS
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}  # the frames may say more than the header did
    return stream


def _codec(stream: VideoStream | AudioStream) -> str:
    """Its name, whoever decodes it (av1, not libdav1d); "" for one that ffmpeg doesn't know: then there is no context, whatever
    PyAV's types say."""
    codec = getattr(stream.codec_context, "codec", None)
    return codec.canonical_name[:MAX_CODEC] if codec else ""


def _container(path: Path) -> Container:
    """By the first bytes, as ffmpeg calls all of a family by one name."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(EBML):
        return WEBM if b"webm" in start else MATROSKA
    return QUICKTIME if start[4:12] == b"ftypqt  " else MP4


# --- Whether it is whole ----------------------------------------------------------------------------------------------


def _check_complete(container: InputContainer, path: Path) -> None:
    """The header of a cut file can be whole, and still tell of sound and frames that are not there."""
    fragmented, end = _packed(path)
    if fragmented and any(packet.is_corrupt for packet in container.demux()):  # reads all of it, and decodes nothing
        end = max(end, container.size + 1)
    if fragmented:
        container.seek(0)
    samples = (entry.pos + entry.size for stream in container.streams for entry in stream.index_entries)
    end = max(end, max(samples, default=0))
    if end > container.size:
        raise Unprobeable(f"The video is cut off: it needs at least {end:,} bytes and has {container.size:,}.")


def _packed(path: Path) -> tuple[bool, int]:
    """Whether its samples are listed piece by piece, all over the file, and where the last piece says that it ends."""
    with path.open("rb") as file:
        if file.read(4) == EBML:
            return True, _end_of_segment(file)
        boxes = list(_boxes(file))
    fragmented = any(kind == b"moof" for kind, _ in boxes)
    pieces = PIECES if fragmented else {b"moov"}  # what else is missing, its list of samples tells
    return fragmented, max((end for kind, end in boxes if kind in pieces), default=0)


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """The type of each of an MP4's outermost boxes, and where it ends (ISO/IEC 14496-12, 4.2)."""
    start = 0
    while len(header := _at(file, start, 16)) >= 8:
        size = int.from_bytes(header[:4])
        if size == 1:
            size = int.from_bytes(header[8:])
        if size < 8:  # 0: to the end of the file
            return
        start += size
        yield header[4:8], start


def _end_of_segment(file: BinaryIO) -> int:
    """Where WebM's one segment, which holds everything, says that it ends; 0 if it doesn't (RFC 8794, RFC 9559)."""
    _, length, start = _element(file, 0)
    identity, length, start = _element(file, start + (length or 0))
    return start + length if identity == SEGMENT and length is not None else 0


def _element(file: BinaryIO, start: int) -> tuple[bytes, int | None, int]:
    """An element's id, its length (None: unknown) and where its content starts. Numbers begin with zeros that tell their width."""
    header = _at(file, start, 12) + bytes(12)
    width = 9 - header[0].bit_length()
    number = header[width:]
    digits = 9 - number[0].bit_length()
    length = int.from_bytes(number[:digits]) - (1 << 7 * digits)
    return header[:width], None if length == (1 << 7 * digits) - 1 else length, start + width + digits


def _at(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


# --- Numbers ----------------------------------------------------------------------------------------------------------


def _durations(container: InputContainer, stream: VideoStream) -> Iterator[Fraction]:
    """Seconds; the stream's own first, as sound may run on a little."""
    if stream.duration and stream.time_base:
        yield stream.duration * stream.time_base
    if container.duration:
        yield Fraction(container.duration, AV_TIME_BASE)


def _bounded(said: Iterable[Fraction | None], most: int, what: str, notes: list[str]) -> Decimal | None:
    """The first number that can be, in thousandths."""
    numbers = [number for number in said if number]
    for number in numbers:
        if MILLI <= number <= most:
            return _decimal(number)
    if numbers:
        notes.append(f"The file tells of {float(numbers[0]):,.6g} {what}, which can't be.")
    else:
        notes.append(f"The file doesn't tell of how many {what} it is.")
    return None


# --- Frames -----------------------------------------------------------------------------------------------------------


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
