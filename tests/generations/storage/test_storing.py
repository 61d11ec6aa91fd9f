"""Taking a large file from the provider: resumed where it broke, never held in memory, and refused by no disk in silence."""

import gzip
import hashlib
import io
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import IO

import pytest
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.test import Client
from PIL import Image

from generations.models import Video
from generations.storage import storing
from generations.storage.storing import Came, StoreFailed, fetch_and_store
from projects import fetch
from tests.sandbox import ROOT
from wavespeed_sandbox.render import Clip, render


def _clip() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        render(Clip(long_side=320, durations=[1], sound=True, seed=1, comment="of these tests"), path)
        return path.read_bytes()


def padded(size: int) -> bytes:
    """A video with so much in it that players skip."""
    filling = hashlib.sha256(b"not repeating").digest() * (size // 32)
    return CLIP + struct.pack(">I4s", 8 + len(filling), b"free") + filling


CLIP = _clip()
SMALL = padded(640_000)
HALF = len(SMALL) // 2
PAGE = b"<html>We are back soon</html>"


@dataclass
class Server:
    """What a files server does: `cuts` are the bytes after which it ends each answer in turn; the ranges that it was asked for."""

    content: bytes = SMALL
    etags: list[str | None] = field(default_factory=lambda: ['"one"'])
    modified: str | None = None
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    minds_if_range: bool = True
    wrong_part: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        etag = self.etags.pop(0) if len(self.etags) > 1 else self.etags[0]
        asked, if_range = request.headers.get("Range"), request.headers.get("If-Range")
        self.asked.append((asked, if_range))
        if self.statuses and (status := self.statuses.pop(0)) != 200:
            request.send_error(status)
            return
        is_same = not self.minds_if_range or if_range in (None, etag, self.modified)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.knows_ranges and is_same else 0
        if start and start >= len(self.content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        if start:
            first = start - 1 if self.wrong_part else start
            request.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        for name, value in self.headers.items():
            request.send_header(name, value)
        if etag:
            request.send_header("ETag", etag)
        if self.modified:
            request.send_header("Last-Modified", self.modified)
        request.send_header("Content-Length", str(len(self.content) - start))
        request.end_headers()
        body = self.content[start:][: self.cuts.pop(0) if self.cuts else None]
        if not self.pause:
            request.wfile.write(body)
            return
        for offset in range(0, len(body), 1000):
            request.wfile.write(body[offset : offset + 1000])
            time.sleep(self.pause)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[tuple[ThreadingHTTPServer, Thread]] = []

    def start(**options: object) -> Server:
        described = Server(**options)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with suppress(ConnectionError):  # a client that hangs up
                    described.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        described.url = f"http://127.0.0.1:{server.server_port}/video.mp4"
        return described

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def stored(url: str, **options: object) -> Video:
    folder = f"tests/{uuid.uuid4()}"
    return fetch_and_store(
        url,
        **{"folder": folder, "attempt": uuid.uuid4(), "renew": nobody, "allow_loopback": True, "seconds": 5} | options,
    )


def nobody() -> None:
    """No lease to renew."""


def content(video: Video) -> bytes:
    with default_storage.open(video.file.name) as file:
        return bytes(file.read())


def test_at_most_8_mb_of_a_file_are_in_memory(serve: Callable[..., Server]) -> None:
    large = padded(48_000_000)
    server = serve(content=large)
    tracemalloc.start()

    video = stored(server.url)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (video.bytes, video.sha256) == (len(large), hashlib.sha256(large).hexdigest())
    assert video.file.size == len(large)
    assert peak < 8_000_000
    default_storage.delete(video.file.name)


# --- Resuming ---------------------------------------------------------------------------------------------------------


def test_a_broken_download_goes_on_where_it_broke(serve: Callable[..., Server]) -> None:
    server = serve(cuts=[HALF, 1000])

    assert content(stored(server.url)) == SMALL

    assert server.asked == [(None, None), (f"bytes={HALF}-", '"one"'), (f"bytes={HALF + 1000}-", '"one"')]


def test_a_date_serves_where_there_is_no_strong_etag(serve: Callable[..., Server]) -> None:
    date = "Sun, 01 Nov 2026 10:00:00 GMT"
    server = serve(etags=['W/"weak"'], modified=date, cuts=[HALF])

    assert content(stored(server.url)) == SMALL

    assert server.asked == [(None, None), (f"bytes={HALF}-", date)]


@pytest.mark.parametrize("etags", [[None], ['W/"weak"']])
def test_what_nothing_names_is_begun_anew(serve: Callable[..., Server], etags: list[str | None]) -> None:
    server = serve(etags=etags, cuts=[HALF])

    assert content(stored(server.url)) == SMALL

    assert server.asked == [(None, None), (None, None)]


def test_a_server_without_ranges_gives_all_of_it_again(serve: Callable[..., Server]) -> None:
    server = serve(knows_ranges=False, cuts=[HALF])

    assert content(stored(server.url)) == SMALL

    assert len(server.asked) == 2


def test_a_file_that_changed_meanwhile_is_begun_anew(serve: Callable[..., Server]) -> None:
    server = serve(etags=['"one"', '"two"'], cuts=[HALF])

    assert content(stored(server.url)) == SMALL

    assert server.asked == [(None, None), (f"bytes={HALF}-", '"one"')]


def test_the_rest_of_another_file_is_never_taken(serve: Callable[..., Server]) -> None:
    """A server that has never heard of If-Range sends the rest of whatever it has now."""
    server = serve(etags=['"one"', '"two"'], cuts=[HALF], minds_if_range=False)

    assert content(stored(server.url)) == SMALL

    assert [asked for asked, _ in server.asked] == [None, f"bytes={HALF}-", None]


def test_another_part_than_the_one_that_was_asked_for_is_not_taken(serve: Callable[..., Server]) -> None:
    server = serve(cuts=[HALF], wrong_part=True)

    assert content(stored(server.url)) == SMALL

    assert [asked for asked, _ in server.asked] == [None, f"bytes={HALF}-", None]


def test_a_range_that_the_server_can_not_satisfy_begins_anew(serve: Callable[..., Server]) -> None:
    server = serve(cuts=[HALF], statuses=[200, 416])

    assert content(stored(server.url)) == SMALL

    assert [asked for asked, _ in server.asked] == [None, f"bytes={HALF}-", None]


def test_a_server_in_trouble_is_asked_again_for_the_rest(serve: Callable[..., Server]) -> None:
    server = serve(cuts=[HALF], statuses=[200, 503, 429])

    assert content(stored(server.url)) == SMALL

    assert [asked for asked, _ in server.asked] == [None, *[f"bytes={HALF}-"] * 3]


def test_it_gives_up_when_nothing_new_comes(serve: Callable[..., Server]) -> None:
    server = serve(statuses=[500] * 9)

    with pytest.raises(StoreFailed) as failed:
        stored(server.url)

    assert (failed.value.code, len(server.asked)) == ("http_status", 4)


@pytest.mark.parametrize(
    ("status", "code"), [(403, "expired"), (404, "expired"), (410, "expired"), (401, "http_status")]
)
def test_a_dead_url_is_asked_once(serve: Callable[..., Server], status: int, code: str) -> None:
    server = serve(statuses=[status])

    with pytest.raises(StoreFailed) as failed:
        stored(server.url)

    assert (failed.value.code, len(server.asked)) == (code, 1)


# --- What is a video --------------------------------------------------------------------------------------------------


def refused(server: Server, **options: object) -> StoreFailed:
    with pytest.raises(StoreFailed) as failed:
        stored(server.url, **options)
    return failed.value


def test_an_empty_file_is_no_video(serve: Callable[..., Server]) -> None:
    assert "an empty file" in str(refused(serve(content=b"")))


def test_what_can_not_be_read_is_refused_with_what_came(serve: Callable[..., Server]) -> None:
    kept: list[tuple[Came, bytes]] = []

    error = refused(serve(content=PAGE), keep=lambda came, file: kept.append((came, _all(file))))

    assert (error.code, str(error)) == (
        "damaged",
        "What came is no video that can be read: 29 bytes, which begin with “<html>We are back soon</html>”. "
        "This is not a video that can be read, or it is damaged.",
    )
    ((came, content),) = kept
    assert (came.sha256, content, came.extension) == (hashlib.sha256(PAGE).hexdigest(), PAGE, "bin")


def _all(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def test_what_came_shows_no_signature_and_no_control_character(serve: Callable[..., Server]) -> None:
    came = refused(serve(content=b"see\x1b[2J https://cdn.example/a?Signature=abc")).came

    assert came is not None
    assert came.beginning == "see [2J https://cdn.example/a?[hidden]"


@pytest.mark.parametrize("cut", [len(CLIP) // 2, len(CLIP) - 1, 40])
def test_half_a_file_whose_length_agrees_is_refused(cut: int, serve: Callable[..., Server]) -> None:
    assert refused(serve(content=CLIP[:cut])).code == "damaged"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_a_picture_is_known_as_one(kind: str, serve: Callable[..., Server]) -> None:
    content = io.BytesIO()
    Image.new("RGB", (320, 180)).save(content, kind)

    came = refused(serve(content=content.getvalue())).came

    assert came is not None
    assert came.is_picture


def test_what_was_packed_is_stored_unpacked(serve: Callable[..., Server]) -> None:
    video = stored(serve(content=gzip.compress(SMALL), headers={"Content-Encoding": "gzip"}, cuts=[1000]).url)

    assert content(video) == SMALL
    assert (video.bytes, video.sha256) == (len(SMALL), hashlib.sha256(SMALL).hexdigest())


def test_what_came_in_an_encoding_that_is_not_unpacked_here_is_told_with_its_name(serve: Callable[..., Server]) -> None:
    error = refused(serve(content=b"packed" * 100, headers={"Content-Encoding": "gzip, br"}))

    assert error.code == "damaged"
    assert str(error).endswith(
        "It came with the Content-Encoding “br”, which the studio did not ask for and can’t unpack."
    )


def test_plain_bytes_are_a_video_whatever_encoding_their_server_tells(serve: Callable[..., Server]) -> None:
    assert content(stored(serve(content=SMALL, headers={"Content-Encoding": "br"}).url)) == SMALL


def test_a_bomb_is_not_unpacked(serve: Callable[..., Server], settings: object) -> None:
    settings.STORE_MOST_MEGABYTES_PER_SECOND = 1
    bomb = gzip.compress(bytes(50_000_000))

    assert "over the limit of 10,000,000 bytes" in str(refused(serve(content=bomb)))


def test_what_is_larger_than_any_such_video_is_ended(serve: Callable[..., Server], settings: object) -> None:
    settings.STORE_MOST_MEGABYTES_PER_SECOND = 1

    error = refused(serve(content=padded(10_000_000)), seconds=3)

    assert (error.code, str(error)) == ("too_large", "The file at 127.0.0.1 is over the limit of 8,000,000 bytes.")


def test_what_takes_more_than_a_video_needs_leaves_the_room_of_others(
    serve: Callable[..., Server], settings: object
) -> None:
    settings.STORAGE_ROOM_MEGABYTES = 10**9

    assert content(stored(serve(content=padded(9_000_000)).url, seconds=1))
    error = refused(serve(content=padded(20_000_000)), seconds=1)
    assert error.code == "too_large"
    assert "there is no room for more of it" in str(error)


def test_what_comes_too_slowly_is_ended(serve: Callable[..., Server], settings: object) -> None:
    settings.STORE_LEAST_KILOBYTES_PER_SECOND = 100
    settings.STORE_SLOW_SECONDS = 0.5
    server = serve(pause=0.2)

    error = refused(server)

    assert (error.code, str(error)) == (
        "slow",
        "127.0.0.1 sends too slowly: less than 50,000 bytes came in 0.5 seconds.",
    )
    assert len(server.asked) == 1


def test_a_server_that_ends_each_answer_after_a_byte_is_too_slow_as_well(
    serve: Callable[..., Server], settings: object
) -> None:
    settings.STORE_SLOW_SECONDS = 1.0
    server = serve(cuts=[1] * 1000)

    assert refused(server).code == "slow"


def test_a_lease_that_is_lost_meanwhile_ends_it_and_leaves_nothing(
    serve: Callable[..., Server], settings: object
) -> None:
    settings.STORE_LEASE_SECONDS = 0.0  # renewed at each piece

    def lost() -> None:
        raise StoreFailed("lease_lost", "Another worker took over.")

    with pytest.raises(StoreFailed, match="Another worker"):
        stored(serve().url, folder="tests/lost", renew=lost)

    assert not Path(default_storage.path("tests/lost")).exists() or default_storage.listdir("tests/lost")[1] == []


def test_the_lease_is_renewed_while_it_downloads_uploads_and_reads_back(
    serve: Callable[..., Server], settings: object
) -> None:
    settings.STORE_LEASE_SECONDS = 0.0  # renewed at each piece
    renewed = []

    stored(serve().url, renew=lambda: renewed.append(True))

    pieces = (len(SMALL) // fetch.CHUNK_BYTES, len(SMALL) // File.DEFAULT_CHUNK_SIZE, len(SMALL) // storing.READ_BYTES)
    assert len(renewed) >= sum(pieces)


# --- Disks ------------------------------------------------------------------------------------------------------------

FULL_DISK = """
import resource, sys, uuid
import django
django.setup()
from generations.storage.storing import StoreFailed, fetch_and_store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    fetch_and_store(
        sys.argv[1], seconds=5, folder="tests/full", attempt=uuid.uuid4(), renew=lambda: None, allow_loopback=True
    )
except StoreFailed as error:
    print(error.code, error)
"""


def test_a_full_disk_for_temporary_files_is_told_as_our_own_fault(serve: Callable[..., Server]) -> None:
    """The kernel refuses each byte beyond the limit, as a full disk would."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, serve().url], cwd=ROOT, capture_output=True, text=True, timeout=120
    )

    assert done.stdout.strip() == "disk The disk of a worker did not take the download: it is full.", done.stderr


def test_a_webm_is_stored_and_named_as_what_it_is(serve: Callable[..., Server]) -> None:
    video = stored(serve(content=(Path(__file__).parent / "cases" / "webm-vp9.webm").read_bytes()).url)

    assert Path(video.file.name).suffix == ".webm"
    assert (video.content_type, video.probe_error) == ("video/webm", "")
    served = Client().get(default_storage.url(video.file.name), headers={"host": "localhost"})
    assert hashlib.sha256(b"".join(served)).hexdigest() == video.sha256
    assert (served.status_code, served["Content-Type"]) == (200, "video/webm")
