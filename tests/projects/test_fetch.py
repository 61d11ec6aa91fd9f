import datetime
import gzip
import io
import logging
import socket
import socketserver
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from projects import fetch

FILE = bytes(range(256)) * 4096  # 1 MiB
Answer = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        self.server.answers[self.path.partition("?")[0]](self)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content_length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 50

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    def url(self, path: str, answer: Answer | None = None) -> str:
        if answer:
            self.answers[path] = answer
        return f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what these tests are about."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the operating system's resolver give these addresses for any name, one per call; the last one stays."""

    def answer_with(*addresses: str) -> None:
        answers, getaddrinfo = list(addresses), socket.getaddrinfo

        def resolver(host: str, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host.replace(".", "").isdigit() or ":" in host:
                return getaddrinfo(host, port, *args, **kwargs)
            return getaddrinfo(answers.pop(0) if len(answers) > 1 else answers[0], port, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", resolver)

    return answer_with


def download(url: str, **options: Any) -> bytes:
    options = {"max_bytes": 10_000_000, "deadline": 20, "allow_loopback": True} | options
    with fetch.stream(url, **options) as file:
        return b"".join(file)


def refusal(url: str, **options: Any) -> str:
    with pytest.raises(fetch.FetchRefused) as refused:
        download(url, **options)
    return refused.value.code


def failure(url: str, **options: Any) -> tuple[str, str, int | None]:
    with pytest.raises(fetch.FetchFailed) as failed:
        download(url, **options)
    return failed.value.code, failed.value.message, failed.value.status


# What comes back


def test_stream_gives_the_file_and_what_the_server_said_of_it(server: Server) -> None:
    url = server.url("/a.mp4", lambda http: http.answer(200, FILE, content_type="video/mp4; x=1", etag='"1"'))

    with fetch.stream(url, max_bytes=len(FILE), deadline=20, allow_loopback=True) as file:
        chunks = list(file)

    assert b"".join(chunks) == FILE
    assert max(map(len, chunks)) <= 1024 * 1024
    assert (file.status, file.start, file.content_length, file.content_type) == (200, 0, len(FILE), "video/mp4")
    assert (file.final_url, file.headers["ETag"]) == (url, '"1"')


def test_stream_asks_for_the_file_as_it_is_and_sends_nothing_of_ours(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    assert download(server.url("/a", lambda http: http.answer(200, b"whole"))) == b"whole"

    [(_, headers)] = server.requests
    assert headers == {
        "Host": f"127.0.0.1:{server.server_port}",
        "User-Agent": "kling-studio",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


def test_stream_gives_a_file_without_a_length(server: Server) -> None:
    def chunked(http: Handler) -> None:
        http.send_response(200)
        http.send_header("Transfer-Encoding", "chunked")
        http.end_headers()
        http.wfile.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    def until_closed(http: Handler) -> None:
        http.send_response(200)
        http.end_headers()
        http.wfile.write(b"abcde")
        http.close_connection = True

    assert download(server.url("/chunked", chunked)) == b"abcde"
    assert download(server.url("/until-closed", until_closed)) == b"abcde"


SIGNATURE = ";chunk-signature=" + "a" * 64


def in_chunks(content: bytes, *, signature: str = "", end: str = "\r\n") -> bytes:
    """As a client of S3 sends it up (the `aws-chunked` encoding): its end may hold sums."""
    parts = [content[start : start + 65_536] for start in range(0, len(content), 65_536)]
    chunks = (f"{len(part):x}{signature}\r\n".encode() + part + b"\r\n" for part in parts)
    return b"".join(chunks) + f"0{signature}\r\n{end}".encode()


PACKINGS = {
    "chunks": (in_chunks(FILE), "aws-chunked"),
    "chunks with sums": (in_chunks(FILE, end="x-amz-checksum-crc32:AAAAAA==\r\n\r\n"), "aws-chunked"),
    "signed chunks": (in_chunks(FILE, signature=SIGNATURE), "aws-chunked"),
    "signed chunks that nothing says": (in_chunks(FILE, signature=SIGNATURE), ""),
    "gzip in chunks": (in_chunks(gzip.compress(FILE)), "aws-chunked,gzip"),
    "deflate in signed chunks": (in_chunks(zlib.compress(FILE), signature=SIGNATURE), "aws-chunked, deflate"),
    "gzip": (gzip.compress(FILE), "gzip"),
    "gzip in two parts": (gzip.compress(FILE[:1000]) + gzip.compress(FILE[1000:]), "gzip"),
    "gzip that nothing says": (gzip.compress(FILE), ""),
    "deflate": (zlib.compress(FILE), "deflate"),
    "deflate without a header": (zlib.compress(FILE, wbits=-15), "deflate"),
    "plain, said to be aws-chunked": (FILE, "aws-chunked"),
    "plain, said to be gzip": (FILE, "gzip"),
    "plain, said to be deflate": (FILE, "deflate"),
    "plain, said to be br": (FILE, "br"),
}


def unpacked(content: bytes, encoding: str, *, max_bytes: int = 10_000_000) -> bytes:
    packed, plain = io.BytesIO(content), io.BytesIO()
    return (plain if fetch.unpack(packed, encoding, plain, max_bytes=max_bytes) else packed).getvalue()


@pytest.mark.parametrize("packing", PACKINGS)
def test_what_a_server_packed_is_unpacked_whatever_it_says_of_it(server: Server, packing: str) -> None:
    body, encoding = PACKINGS[packing]
    url = server.url("/a", lambda http: http.answer(200, body, content_encoding=encoding))

    with fetch.stream(url, max_bytes=10_000_000, deadline=20, allow_loopback=True) as file:
        came = b"".join(file)

    assert (came, file.encoding) == (body, encoding)
    assert unpacked(came, encoding) == FILE


@pytest.mark.parametrize(
    ("content", "encoding", "code"),
    [
        (gzip.compress(bytes(50_000_000)), "gzip", "too_large"),
        (zlib.compress(bytes(50_000_000)), "deflate", "too_large"),
        (gzip.compress(FILE)[:-100], "gzip", "truncated"),
        (zlib.compress(FILE)[:-100], "deflate", "truncated"),
        (gzip.compress(FILE)[:-8] + bytes(8), "gzip", "encoded"),
        (in_chunks(bytes(11_000_000)), "aws-chunked", "too_large"),
        (in_chunks(gzip.compress(bytes(50_000_000))), "aws-chunked", "too_large"),
        (in_chunks(FILE)[:1000], "aws-chunked", "truncated"),
        (in_chunks(FILE)[:-5], "aws-chunked", "truncated"),
        (b"f" * 16 + b"\r\n" + FILE, "aws-chunked", "truncated"),
        (b"10\r\n" + FILE, "aws-chunked", "encoded"),
    ],
    ids=[
        "a bomb",
        "a bomb of deflate",
        "cut",
        "cut deflate",
        "broken",
        "many chunks",
        "a bomb in chunks",
        "a cut chunk",
        "no last chunk",
        "a chunk that says too much",
        "a chunk that says too little",
    ],
)
def test_what_can_not_be_unpacked_within_the_limit_fails(content: bytes, encoding: str, code: str) -> None:
    with pytest.raises(fetch.FetchFailed) as failed:
        unpacked(content, encoding)

    assert failed.value.code == code


@pytest.mark.parametrize("status", [200, 201, 203])
def test_stream_takes_the_file_whatever_the_word_for_success(server: Server, status: int) -> None:
    assert download(server.url("/a", lambda http: http.answer(status, FILE))) == FILE


@pytest.mark.parametrize("content_range", [f"bytes 0-{len(FILE) - 1}/{len(FILE)}", f"bytes 0-{len(FILE) - 1}/*", ""])
def test_stream_takes_the_whole_file_that_is_called_a_part(server: Server, content_range: str) -> None:
    url = server.url("/a", lambda http: http.answer(206, FILE, content_range=content_range))

    assert download(url) == FILE


def test_stream_takes_the_whole_file_instead_of_the_rest(server: Server) -> None:
    whole = f"bytes 0-{len(FILE) - 1}/{len(FILE)}"
    url = server.url("/a", lambda http: http.answer(206, FILE, content_range=whole))

    with fetch.stream(url, max_bytes=10_000_000, deadline=20, allow_loopback=True, start=700, if_range='"v1"') as file:
        assert (file.start, b"".join(file)) == (0, FILE)


def test_stream_takes_no_part_for_the_whole(server: Server) -> None:
    url = server.url("/a", lambda http: http.answer(206, FILE[:10], content_range=f"bytes 0-9/{len(FILE)}"))

    assert failure(url)[0] == "bad_range"


def test_stream_takes_an_address_with_space_around_it(server: Server) -> None:
    url = server.url("/a", lambda http: http.answer(200, FILE))

    assert download(f" {url}\r\n") == FILE


@pytest.mark.parametrize("status", [403, 404, 410])
def test_stream_calls_a_file_that_is_gone_expired(server: Server, status: int) -> None:
    url = server.url("/a", lambda http: http.answer(status, b"<html>"))

    assert failure(url) == ("expired", f"127.0.0.1 no longer gives this file, or never did (HTTP {status}).", status)


@pytest.mark.parametrize("status", [202, 204, 205, 304, 401, 416, 429, 500, 503])
def test_stream_takes_no_other_answer_for_the_file(server: Server, status: int) -> None:
    code, message, reported = failure(server.url("/a", lambda http: http.answer(status)))

    assert (code, reported) == ("http_status", status)
    assert "127.0.0.1" in message


# Size and time


def test_stream_stops_before_a_file_that_says_it_is_too_large(server: Server) -> None:
    url = server.url("/a", lambda http: http.answer(200, b"", content_length="1001"))

    assert failure(url, max_bytes=1000) == ("too_large", "The file at 127.0.0.1 is over the limit of 1,000 bytes.", 200)


def test_stream_stops_in_a_file_that_does_not_say_its_size(server: Server) -> None:
    def endless(http: Handler) -> None:
        http.send_response(200)
        http.end_headers()
        while True:
            http.wfile.write(FILE)

    got: list[bytes] = []
    with (
        fetch.stream(server.url("/a", endless), max_bytes=3_000_000, deadline=20, allow_loopback=True) as file,
        pytest.raises(fetch.FetchFailed, match="over the limit of 3,000,000 bytes") as failed,
    ):
        got.extend(file)

    assert failed.value.code == "too_large"
    assert 2_000_000 < sum(map(len, got)) <= 3_000_000


def test_stream_notices_a_truncated_file(server: Server) -> None:
    def truncated(http: Handler) -> None:
        http.answer(200, FILE[:1000], content_length="5000")
        http.close_connection = True

    code, message, status = failure(server.url("/a", truncated))

    assert (code, status) == ("truncated", 200)
    assert message.startswith("The connection to 127.0.0.1 ended early, after about ")
    assert message.endswith(" of 5,000 bytes.")


def test_stream_notices_a_truncated_chunked_file(server: Server) -> None:
    def truncated(http: Handler) -> None:
        http.send_response(200)
        http.send_header("Transfer-Encoding", "chunked")
        http.end_headers()
        http.wfile.write(b"3\r\nabc\r\n")
        http.close_connection = True

    assert failure(server.url("/a", truncated))[0] == "truncated"


def drip(write: Callable[[bytes], Any], first: bytes, drop: bytes) -> None:
    write(first)
    for _ in range(200):
        write(drop)
        time.sleep(0.05)


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n000",
    ],
    ids=["status line", "headers", "body until the end", "body", "chunk size"],
)
def test_stream_cuts_a_slow_drip_at_the_deadline(server: Server, first: bytes) -> None:
    url = server.url("/a", lambda http: drip(http.wfile.write, first, b"0"))
    began = time.monotonic()

    assert failure(url, deadline=0.5)[:2] == ("timeout", "127.0.0.1 did not send the whole file within 0.5 seconds.")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("first", [b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["headers", "body"])
def test_stream_cuts_what_comes_too_slowly_and_says_so(server: Server, first: bytes) -> None:
    url = server.url("/a", lambda http: drip(http.wfile.write, first, b"0"))
    began = time.monotonic()

    assert failure(url, pace=fetch.Pace(1000, 0.5))[:2] == (
        "slow",
        "127.0.0.1 sends too slowly: less than 1,000 bytes came in 0.5 seconds.",
    )
    assert time.monotonic() - began < 5


def test_stream_lets_what_is_fast_enough_take_its_time(server: Server) -> None:
    def steady(http: Handler) -> None:
        http.send_response(200)
        http.end_headers()
        for _ in range(6):
            http.wfile.write(bytes(fetch.CHUNK_BYTES * 2))
            time.sleep(0.2)

    url = server.url("/a", steady)

    assert len(download(url, pace=fetch.Pace(1000, 0.5))) == 12 * fetch.CHUNK_BYTES


def test_stream_cuts_a_slow_tls_handshake_at_the_deadline() -> None:
    class Dripping(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with pytest.raises(OSError):  # noqa: PT011 -- whatever the platform calls a hang-up
                drip(self.request.sendall, b"\x16\x03\x03\x3f\xff\x02", b"\x00")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dripping) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            began = time.monotonic()
            assert failure(f"https://127.0.0.1:{server.server_address[1]}/", deadline=0.5)[0] == "timeout"
            assert time.monotonic() - began < 5
        finally:
            server.shutdown()
            thread.join()


def test_stream_cuts_a_silent_server_at_the_deadline(server: Server) -> None:
    silence = threading.Event()
    url = server.url("/a", lambda http: (http.answer(200, b"some", content_length="9"), silence.wait(10))[0])

    assert failure(url, deadline=0.3)[0] == "timeout"
    silence.set()


def test_stream_leaves_no_connection_behind(server: Server) -> None:
    url = server.url("/a", lambda http: http.answer(200, FILE))
    before = len(list(Path("/proc/self/fd").iterdir()))

    for _ in range(5):
        with fetch.stream(url, max_bytes=10_000_000, deadline=20, allow_loopback=True) as file:
            next(iter(file))

    deadline = time.monotonic() + 5
    while len(list(Path("/proc/self/fd").iterdir())) > before and time.monotonic() < deadline:
        time.sleep(0.01)  # the server's side closes in its own threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_stream_says_that_nobody_answers() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"

        assert failure(url) == ("connection", "127.0.0.1 could not be reached, or gave no answer.", None)


def test_stream_says_that_a_name_is_unknown(resolve: Callable[..., None]) -> None:
    resolve("no-such-name.invalid")

    assert failure("http://typo.example/a") == (
        "connection",
        "typo.example was not found: no such name is known.",
        None,
    )


@pytest.mark.parametrize(
    "answer",
    [b"garbage\r\n\r\n", b"", b"HTTP/1.1 99999 ?\r\n\r\n"],
)
def test_stream_fails_on_what_is_not_http(server: Server, answer: bytes) -> None:
    def garbage(http: Handler) -> None:
        http.wfile.write(answer)
        http.close_connection = True

    assert failure(server.url("/a", garbage))[0] == "connection"


# Resuming


def ranged(http: Handler) -> None:
    start = int(http.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    if http.headers.get("If-Range") not in (None, '"v1"'):
        http.answer(200, FILE)
    else:
        http.answer(206, FILE[start:], content_range=f"bytes {start}-{len(FILE) - 1}/{len(FILE)}")


def test_stream_resumes_where_it_was(server: Server) -> None:
    url = server.url("/a", ranged)

    with fetch.stream(url, max_bytes=len(FILE), deadline=20, allow_loopback=True, start=700, if_range='"v1"') as file:
        rest = b"".join(file)

    assert (file.status, file.start, file.content_length) == (206, 700, len(FILE) - 700)
    assert rest == FILE[700:]


def test_stream_starts_again_when_the_file_has_changed(server: Server) -> None:
    url = server.url("/a", ranged)

    with fetch.stream(url, max_bytes=len(FILE), deadline=20, allow_loopback=True, start=7, if_range='"v0"') as file:
        assert b"".join(file) == FILE

    assert (file.status, file.start, file.content_length) == (200, 0, len(FILE))


def test_stream_counts_what_is_already_here_against_the_limit(server: Server) -> None:
    assert failure(server.url("/a", ranged), start=700, max_bytes=len(FILE) - 1)[0] == "too_large"


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-9/10",  # from the start
        "bytes 6-9/10",  # a hole
        "bytes 5-8/10",  # without the end
        "bytes 5-8/9",  # another length than Content-Length
        "bytes 5-9/*",  # no total
        "bytes 5-9/10, 0-4/10",
        "items 5-9/10",
        "bytes -5-9/10",
        "",
    ],
)
def test_stream_takes_no_other_range_than_the_rest(server: Server, content_range: str) -> None:
    url = server.url("/a", lambda http: http.answer(206, b"56789", content_range=content_range))

    assert failure(url, start=5) == (
        "bad_range",
        "127.0.0.1 sent another part of the file than the one that was asked for.",
        206,
    )


def test_stream_notices_a_resumed_file_without_its_end(server: Server) -> None:
    def short(http: Handler) -> None:
        http.send_response(206)
        http.send_header("Content-Range", "bytes 5-9/10")
        http.end_headers()
        http.wfile.write(b"567")
        http.close_connection = True

    assert failure(server.url("/a", short), start=5) == (
        "truncated",
        "The connection to 127.0.0.1 ended early, after about 3 of 5 bytes.",
        206,
    )


# Addresses

PRIVATE = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.255.255.254:8000/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://%31%32%37.0.0.1/",
    "http://localhost/",
    "http://LOCALHOST:80/",
    "http://[::1]/",
    "http://[0:0:0:0:0:0:0:1]:443/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://0/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://2852039166/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:10.0.0.1]/",
    "http://100.64.0.1/",
    "http://192.0.0.8/",
    "http://192.0.2.1/",
    "http://192.88.99.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://239.255.255.250/",
    "http://240.0.0.1/",
    "http://255.255.255.255/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/",
    "http://[ff02::1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[64:ff9b:1::1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    "http://[2001:db8::1]/",
    "http://[4000::1]/",
    "HTTP://127.0.0.1/",
]
OTHERS = [
    ("file:///etc/passwd", "scheme"),
    ("gopher://127.0.0.1:70/_x", "scheme"),
    ("ftp://example.com/a", "scheme"),
    ("data:image/png;base64,AAAA", "scheme"),
    ("javascript:alert(1)", "scheme"),
    ("httpx://example.com/", "scheme"),
    ("//example.com/a", "scheme"),
    ("example.com/a.png", "scheme"),
    ("", "scheme"),
    ("http:/example.com/a", "scheme"),
    ("http://", "bad_url"),
    ("http:///a", "bad_url"),
    ("http://:80/", "bad_url"),
    ("http://[::1/", "bad_url"),
    ("http://a..b/", "bad_url"),
    ("http://①②⑦.⓪.⓪.①/", "bad_url"),
    ("http://127。0。0。1/", "bad_url"),
    (f"http://{'a' * 64}.com/", "bad_url"),
    ("http://example.com:99999/", "bad_url"),
    ("http://example.com:http/", "bad_url"),
    ("http://example.com\\@127.0.0.1/", "bad_url"),
    ("http://example.com/\r\nX-Injected: 1", "bad_url"),
    ("http://exa\tmple.com/", "bad_url"),
    ("http://example.com/\x00", "bad_url"),
    ("http://user:secret@example.com/", "credentials"),
    ("http://user@example.com/", "credentials"),
    ("http://127.0.0.1@example.com/", "credentials"),
    ("http://example.com@127.0.0.1/", "credentials"),
    ("http://example.com:25/", "port"),
    ("https://example.com:22/", "port"),
    ("http://[2606:4700::1111]:587/", "port"),
]


@pytest.mark.parametrize("url", PRIVATE)
def test_check_url_and_stream_refuse_private_addresses(url: str) -> None:
    with pytest.raises(fetch.FetchRefused) as refused:
        fetch.check_url(url)

    assert refused.value.code == "private_address"
    assert refused.value.message.endswith(" is in a private or reserved network: never fetched.")
    assert refusal(url, allow_loopback=False) == "private_address"


@pytest.mark.parametrize(("url", "code"), OTHERS)
def test_check_url_and_stream_refuse_what_is_no_plain_web_address(url: str, code: str) -> None:
    with pytest.raises(fetch.FetchRefused) as refused:
        fetch.check_url(url)

    assert refused.value.code == code
    assert refusal(url) == code


@pytest.mark.parametrize("url", ["https://93.184.215.14/a?b=c", "http://1.1.1.1:8080", "https://[2606:4700::1111]/"])
def test_check_url_lets_public_addresses_through(url: str) -> None:
    fetch.check_url(url)


def test_check_url_resolves_names(resolve: Callable[..., None]) -> None:
    resolve("93.184.215.14", "10.0.0.7")
    fetch.check_url("https://bücher.example/a")

    with pytest.raises(fetch.FetchRefused) as refused:
        fetch.check_url("https://intranet.example/a")

    assert refused.value.message == "intranet.example is in a private or reserved network: never fetched."


def test_check_url_says_that_a_name_is_unknown(resolve: Callable[..., None]) -> None:
    resolve("no-such-name.invalid")

    with pytest.raises(fetch.FetchFailed, match=r"^typo\.example was not found: no such name is known\.$"):
        fetch.check_url("http://typo.example/a")


@pytest.mark.parametrize("url", PRIVATE)
def test_allow_loopback_allows_only_loopback(url: str, resolve: Callable[..., None]) -> None:
    resolve("127.0.0.1")
    host = url.split("/")[2].lower()
    is_loopback = any(
        spelling in host
        for spelling in ("127", "2130706433", "0x7f", "0177", "%31", "localhost", "[::1]", "0:0:1", "ffff:7f00:1")
    ) and not host.startswith(("[::127", "[64", "[2001"))

    if is_loopback:
        fetch.check_url(url, allow_loopback=True)
    else:
        with pytest.raises(fetch.FetchRefused):
            fetch.check_url(url, allow_loopback=True)


# Redirects and DNS


def redirect(location: str, status: int = 302) -> Answer:
    return lambda http: http.answer(status, b"moved", location=location)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_stream_follows_redirects(server: Server, status: int) -> None:
    server.answers["/b"] = redirect("c?d=e f", status)
    server.answers["/c"] = lambda http: http.answer(200, b"here")

    with fetch.stream(
        server.url("/a", redirect("/b")), max_bytes=10, deadline=20, allow_loopback=True, start=0
    ) as file:
        assert b"".join(file) == b"here"

    assert file.final_url == server.url("/c?d=e%20f")
    assert [path for path, _ in server.requests] == ["/a", "/b", "/c?d=e%20f"]


def test_stream_gives_up_after_five_redirects(server: Server) -> None:
    url = server.url("/loop", redirect("/loop"))

    assert failure(url) == ("redirects", "127.0.0.1 redirected more than 5 times.", None)
    assert len(server.requests) == 6


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://169.254.169.254/latest/meta-data/", "private_address"),
        ("http://10.0.0.1/", "private_address"),
        ("//192.168.0.1/", "private_address"),
        ("http://[::ffff:10.0.0.1]/", "private_address"),
        ("http://0.0.0.0/", "private_address"),
        ("file:///etc/passwd", "scheme"),
        ("ftp://127.0.0.1/", "scheme"),
        ("http://user:secret@127.0.0.1/", "credentials"),
        ("http://[", "bad_url"),
        ("http://127.0.0.1:25/", "port"),
    ],
)
def test_stream_checks_each_redirect(server: Server, location: str, code: str) -> None:
    assert refusal(server.url("/a", redirect(location))) == code
    assert len(server.requests) == 1


def test_stream_reads_nothing_of_a_redirect_s_own_body(server: Server) -> None:
    def endless(http: Handler) -> None:
        http.send_response(302)
        http.send_header("Location", "/b")
        http.end_headers()
        while True:
            http.wfile.write(FILE)

    server.answers["/b"] = lambda http: http.answer(200, b"here")

    assert download(server.url("/a", endless), deadline=5) == b"here"


def test_stream_connects_to_the_very_address_that_it_checked(server: Server, resolve: Callable[..., None]) -> None:
    server.answers["/a"] = lambda http: http.answer(200, b"here")
    resolve("127.0.0.1", "10.0.0.1")

    assert download(f"http://rebinding.example:{server.server_port}/a") == b"here"
    assert server.requests[0][1]["Host"] == f"rebinding.example:{server.server_port}"
    assert refusal(f"http://rebinding.example:{server.server_port}/a") == "private_address"
    assert len(server.requests) == 1


def test_stream_does_not_trust_an_earlier_check(server: Server, resolve: Callable[..., None]) -> None:
    resolve("93.184.215.14", "127.0.0.1")
    url = f"http://rebinding.example:{server.server_port}/a"

    fetch.check_url(url)

    assert refusal(url, allow_loopback=False) == "private_address"
    assert server.requests == []


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for files.example, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "files.example")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("files.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls_server(server: Server, certificate: Path) -> Server:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def test_stream_checks_the_certificate_of_the_name_not_of_the_address(
    tls_server: Server, certificate: Path, resolve: Callable[..., None]
) -> None:
    resolve("127.0.0.1")
    tls_server.answers["/a"] = lambda http: http.answer(200, FILE)
    port = tls_server.server_port

    assert download(f"https://files.example:{port}/a", ca_bundle=str(certificate)) == FILE
    for url, trusted in [
        (f"https://other.example:{port}/a", str(certificate)),
        (f"https://files.example:{port}/a", None),
    ]:
        code, message, _ = failure(url, ca_bundle=trusted)
        assert code == "connection"
        assert message.endswith(" made no secure connection (TLS), or could not prove who it is.")


def test_stream_cuts_a_slow_drip_under_tls(tls_server: Server, certificate: Path, resolve: Callable[..., None]) -> None:
    resolve("127.0.0.1")
    tls_server.answers["/a"] = lambda http: drip(http.wfile.write, b"HTTP/1.1 200 OK\r\n\r\n", b"0")
    began = time.monotonic()

    code, _, _ = failure(f"https://files.example:{tls_server.server_port}/a", ca_bundle=str(certificate), deadline=0.5)

    assert code == "timeout"
    assert time.monotonic() - began < 5


# Secrets


def test_a_signature_in_an_address_never_shows(
    server: Server, resolve: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    def bad_header(http: Handler) -> None:
        http.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nno colon here\r\n\r\nab")

    def gone(http: Handler) -> None:
        http.answer(404)

    def dropped(http: Handler) -> None:
        http.close_connection = True

    caplog.set_level(logging.DEBUG)
    messages = []
    for path, answer in {"/gone": gone, "/dropped": dropped, "/moved": redirect("http://10.0.0.1/?sig=hush")}.items():
        with pytest.raises(fetch.FetchError) as error:
            download(server.url(path, answer) + "?sig=hush&Expires=9")
        messages += [str(error.value), error.value.message, repr(error.value)]
        assert error.value.__suppress_context__ or error.value.__context__ is None
    download(server.url("/bad-header", bad_header) + "?sig=hush")

    assert "bad-header?[hidden]" in caplog.text
    assert [text for text in [*messages, caplog.text] if "hush" in text] == []
