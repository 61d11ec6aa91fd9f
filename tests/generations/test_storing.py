"""Taking a large file from the provider without holding it in memory."""

import hashlib
import threading
import tracemalloc
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from generations.models import Generation
from generations.storing import fetch_and_store

BLOCK = bytes(range(256)) * 4096
BLOCKS = 48
SIZE = len(BLOCK) * BLOCKS


class LargeFile(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(SIZE))
        self.end_headers()
        for _ in range(BLOCKS):
            self.wfile.write(BLOCK)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def large_file() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), LargeFile)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/video.mp4"
    server.shutdown()
    thread.join()
    server.server_close()


def test_at_most_8_mb_of_a_file_are_in_memory(draft: Generation, large_file: str) -> None:
    draft.outputs = [large_file]
    tracemalloc.start()

    (video,) = fetch_and_store(draft, attempt=uuid.uuid4(), renew=lambda: None, allow_loopback=True)

    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (video.bytes, video.sha256) == (SIZE, hashlib.sha256(BLOCK * BLOCKS).hexdigest())
    assert video.file.size == SIZE
    assert peak < 8_000_000
    video.file.storage.delete(video.file.name)
