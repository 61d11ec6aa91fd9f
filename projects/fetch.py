"""Downloads from addresses that outsiders gave: guarded against SSRF, in size and in time, and streamed.

FetchError
├── FetchRefused  this address is never fetched; nothing was asked of it
└── FetchFailed   it was tried; `code` says what happened, `status` is the HTTP status if one came

Messages name the host and nothing else of an address: the rest may be a signature that opens a file.
"""

import gzip
import io
import ipaddress
import logging
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests_hardened.ip_filter import InvalidIPAddress, filter_host
from requests_hardened.ip_filter_adapter import IPFilterAdapter

MAX_REDIRECTS = 5
CHUNK_BYTES = 64 * 1024
CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 30.0
EXPIRED = {HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
# What says that it went well, and brings no file: not yet, nothing, nothing to show.
WITHOUT_FILE = {HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT}
IPV6_INTERNET = ipaddress.ip_network("2000::/3")
UNSAFE_CHARACTERS = re.compile(r"[\x00-\x1f\x7f\\]")  # parsers disagree about these: two hosts in one address
QUERY = re.compile(r"\?[^\s'\"]*")
# Mail servers and the like can be made to understand parts of an HTTP request.
WEB_PORTS, FIRST_FREE_PORT = frozenset({80, 443}), 1024
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.ASCII)
GZIP = b"\x1f\x8b"
# How a chunk of an upload to S3 begins: what was kept as it was sent has it in its bytes. A signature leaves no doubt.
AWS_CHUNK = re.compile(rb"([0-9a-fA-F]{1,16})(;chunk-signature=[0-9a-f]+)?\r\n")
LONGEST_CHUNK_LINE = 300
UNPACKED = frozenset({"identity", "gzip", "x-gzip", "deflate", "aws-chunked"})


class FetchError(Exception):
    """An outside file that we don't have; `code` is for programs, `message` for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class FetchRefused(FetchError):
    """The address is one that is never fetched: bad_url, scheme, credentials, port or private_address."""


class FetchFailed(FetchError):
    """The fetch was tried.

    connection, timeout, slow, redirects, http_status, too_large, truncated, encoded, bad_range, or `expired`: 403, 404
    or 410, since a signed address may end in any of them.
    """

    def __init__(self, code: str, message: str, *, status: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status


@dataclass(frozen=True)
class Pace:
    """The least that has to come: so many bytes in every so many seconds."""

    bytes: int
    seconds: float


def check_url(url: str, *, allow_loopback: bool = False) -> None:
    """Raise FetchRefused unless the address may be fetched, or FetchFailed if its name can't be resolved now.

    Early feedback only: `stream` checks again, on the very address that it connects to.
    """
    address = urlsplit(str(_request(url).url))
    host = str(address.hostname)
    try:
        _refuse_unless_public(filter_host(host, address.port, allow_loopback=allow_loopback), allow_loopback)
    except (InvalidIPAddress, requests.ConnectionError) as error:
        raise _explained(error, host) from None


@contextmanager
def stream(
    url: str,
    *,
    max_bytes: int,
    deadline: float,
    allow_loopback: bool = False,
    start: int = 0,
    if_range: str | None = None,
    pace: Pace | None = None,
    ca_bundle: str | None = None,
) -> Iterator["Download"]:
    """Open one file for reading in chunks: `max_bytes` at most, until `deadline` seconds from now, and no slower than `pace`.

    The bytes are those that come: `unpack` takes off what a server packed them in.

    `start` asks for the rest of a file of which so many bytes are here, provided that its ETag (or date) still is
    `if_range`; the server may send all of it instead, so look at the download's own `start`. `ca_bundle` is a file of
    certificates to trust in place of certifi's; proxies and other settings in the environment are not used.
    """
    headers = {"User-Agent": "kling-studio", "Accept": "*/*", "Accept-Encoding": "identity", "Connection": "close"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if if_range:
            headers["If-Range"] = if_range
    with ExitStack() as stack:
        watchdog = stack.enter_context(Watchdog(deadline, pace))
        for _ in range(MAX_REDIRECTS + 1):
            request = _request(url, headers)
            adapter = stack.enter_context(closing(GuardedAdapter(request, allow_loopback, watchdog)))
            response = stack.enter_context(closing(_send(adapter, request, watchdog, ca_bundle)))
            if not response.is_redirect:
                break
            url = _redirected(response)
        else:
            raise FetchFailed("redirects", f"{_host(response)} redirected more than {MAX_REDIRECTS} times.")
        yield Download(response, asked_start=start, max_bytes=max_bytes, watchdog=watchdog)


class Download:
    """One open answer; iterate it, once, for its bytes.

    `start` is the offset in the file of the first byte that comes; `content_length` how many come, None if unsaid.
    """

    def __init__(self, response: requests.Response, *, asked_start: int, max_bytes: int, watchdog: "Watchdog") -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.final_url = str(response.url)
        self._host = _host(response)
        self._raw: urllib3.BaseHTTPResponse = response.raw
        self._max_bytes = max_bytes
        self._watchdog = watchdog
        self._check_status()
        self.encoding = response.headers.get("content-encoding", "").strip().lower()
        self.content_length: int | None = self._raw.length_remaining
        self.start = self._checked_start(asked_start) if self.status == HTTPStatus.PARTIAL_CONTENT else 0
        self._check_size(self.start + (self.content_length or 0))

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        try:
            for chunk in self._raw.stream(CHUNK_BYTES, decode_content=False):
                received += len(chunk)
                self._watchdog.received += len(chunk)
                self._check_size(self.start + received)
                yield chunk
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._broken(error, received) from None
        if self._watchdog.expired or (self.content_length is not None and received != self.content_length):
            raise self._broken(None, received)

    def _check_status(self) -> None:
        if self.status in EXPIRED:
            message = f"{self._host} no longer gives this file, or never did (HTTP {self.status})."
            raise FetchFailed("expired", message, status=self.status)
        if not HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES or self.status in WITHOUT_FILE:
            message = f"{self._host} answered HTTP {self.status} instead of the file."
            raise FetchFailed("http_status", message, status=self.status)

    def _checked_start(self, asked_start: int) -> int:
        """Where a part begins. Only the rest of the file is taken, to its last byte: a hole would go unseen until playback.

        A server may also call the whole file a part, whether it was asked for one or not.
        """
        match = CONTENT_RANGE.fullmatch(self.headers.get("content-range", "").strip())
        if not match and not asked_start:
            return 0
        first, last, total = (int(number) for number in match.groups()) if match else (-1, -1, -1)
        rest = total - first
        if first not in (0, asked_start) or last != total - 1 or self.content_length not in (None, rest):
            message = f"{self._host} sent another part of the file than the one that was asked for."
            raise FetchFailed("bad_range", message, status=self.status)
        self.content_length = rest
        return first

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            message = f"The file at {self._host} is over the limit of {self._max_bytes:,} bytes."
            raise FetchFailed("too_large", message, status=self.status)

    def _broken(self, error: Exception | None, received: int) -> FetchFailed:
        if self._watchdog.expired:
            return self._watchdog.failure(self._host)
        if isinstance(error, (urllib3.exceptions.ReadTimeoutError, TimeoutError)):
            return FetchFailed(
                "timeout", f"{self._host} sent nothing for {SILENCE_SECONDS:g} seconds.", status=self.status
            )
        expected = "" if self.content_length is None else f" of {self.content_length:,}"
        message = f"The connection to {self._host} ended early, after about {received:,}{expected} bytes."
        return FetchFailed("truncated", message, status=self.status)


class Watchdog:
    """Cuts the connections that it watches when `seconds` have passed, or when less comes than `pace` asks for.

    A socket's own time-out starts again with every byte, in the TLS handshake and the headers as in the body: a server
    that drips could hold a worker for days.
    """

    def __init__(self, seconds: float, pace: Pace | None = None) -> None:
        self.seconds = seconds
        self.received = 0
        self.expired = False
        self._pace = pace
        self._is_slow = False
        self._ends = time.monotonic() + seconds
        self._lines: list[socket.socket] = []
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        with self._lock:
            for line in self._lines:
                line.close()

    @property
    def left(self) -> float:
        return max(0.001, self._ends - time.monotonic())

    def watch(self, line: socket.socket) -> None:
        """Watch a duplicate of the socket: TLS takes the original's descriptor over, and its number may be reused."""
        with self._lock:
            self._lines.append(line.dup())
            if self.expired:
                self._lines[-1].shutdown(socket.SHUT_RDWR)

    def failure(self, host: str) -> FetchFailed:
        if self._is_slow and self._pace:
            least = f"less than {self._pace.bytes:,} bytes came in {self._pace.seconds:g} seconds"
            return FetchFailed("slow", f"{host} sends too slowly: {least}.")
        return FetchFailed("timeout", f"{host} did not send the whole file within {self.seconds:g} seconds.")

    def _watch(self) -> None:
        before = 0
        while not self._done.wait(min(self.left, self._pace.seconds) if self._pace else self.left):
            self._is_slow = bool(self._pace) and time.monotonic() < self._ends and self._lags(before)
            if self._is_slow or time.monotonic() >= self._ends:
                self._cut()
                return
            before = self.received

    def _lags(self, before: int) -> bool:
        return self._pace is not None and self.received - before < self._pace.bytes

    def _cut(self) -> None:
        with self._lock:
            self.expired = True
            for line in self._lines:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)


class GuardedAdapter(IPFilterAdapter):
    """Connects to public addresses only, to the very one that was checked, and lets the watchdog cut the connection."""

    def __init__(self, request: requests.PreparedRequest, allow_loopback: bool, watchdog: Watchdog) -> None:
        super().__init__(is_https_proto=str(request.url).startswith("https:"), allow_loopback=allow_loopback)
        self._watchdog = watchdog

    def build_connection_pool_key_attributes(self, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        host_params, pool_kwargs = super().build_connection_pool_key_attributes(*args, **kwargs)
        _refuse_unless_public(host_params["host"], self._allow_loopback)
        return host_params, pool_kwargs

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> urllib3.HTTPConnectionPool:
        pool: urllib3.HTTPConnectionPool = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _watched(pool.ConnectionCls, self._watchdog)
        return pool


def _watched(connection_class: Any, watchdog: Watchdog) -> Any:
    class WatchedConnection(connection_class):
        def _new_conn(self) -> socket.socket:
            line: socket.socket = super()._new_conn()
            watchdog.watch(line)
            return line

    return WatchedConnection


def _request(url: str, headers: Mapping[str, str] | None = None) -> requests.PreparedRequest:
    """The request as it will be sent, its address checked in the form that will be used."""
    url = url.strip()
    if UNSAFE_CHARACTERS.search(url):
        raise FetchRefused("bad_url", "The address holds a backslash or a control character.")
    if not url.lower().startswith(("https://", "http://")):
        raise FetchRefused("scheme", "Only addresses that start with https:// or http:// are fetched.")
    try:
        request = requests.Request("GET", url, headers=headers).prepare()
        address = urlsplit(str(request.url))
        str(address.hostname).encode("idna")  # what the resolver will do, and may choke on
        port = address.port
    except (requests.RequestException, ValueError):
        raise FetchRefused("bad_url", "This is not a complete web address.") from None
    if "@" in address.netloc:
        raise FetchRefused("credentials", "The address holds a user name or password: give one without.")
    if port is not None and port < FIRST_FREE_PORT and port not in WEB_PORTS:
        raise FetchRefused("port", f"Port {port} is not one of web servers: never fetched.")
    return request


def unpack(packed: IO[bytes], encoding: str, into: IO[bytes], *, max_bytes: int) -> bool:
    """Writes what `packed` holds to `into`, if a server packed it, asked or not; False: it is what it is.

    By its first bytes rather than by its `encoding`: servers say gzip, deflate or aws-chunked of plain files, too, and some keep an
    upload to S3 with the chunks that it was sent in. Raises `FetchFailed` (encoded, truncated, too_large).
    """
    size = 0
    try:
        pieces = _unpacked(packed, encoding)
        if pieces is None:
            return False
        for piece in pieces:
            size += len(piece)
            if size > max_bytes:
                raise FetchFailed(
                    "too_large", f"What the file was packed from is over the limit of {max_bytes:,} bytes."
                )
            into.write(piece)
    except EOFError:
        raise FetchFailed("truncated", "The file was packed by its server, and its end is missing.") from None
    except (zlib.error, gzip.BadGzipFile):
        raise FetchFailed("encoded", "The file was packed by its server, and can't be unpacked.") from None
    into.flush()
    return True


def not_unpacked(encoding: str) -> str:
    """A sentence about a `Content-Encoding` that `unpack` does not know, for what then could not be read; empty if it knows it."""
    unknown = [each for each in re.findall(r"[\w.+-]{1,40}", encoding) if each not in UNPACKED]
    if not unknown:
        return ""
    return f"It came with the Content-Encoding “{', '.join(unknown[:3])}”, which the studio did not ask for and can’t unpack."


def _unpacked(packed: IO[bytes], encoding: str) -> Iterator[bytes] | None:
    """The pieces of what was packed, up to twice: in chunks, and compressed before that. None: it is what it is."""
    beginning = _without_chunks(packed, encoding).read(CHUNK_BYTES)
    source = _without_chunks(packed, encoding)
    if beginning.startswith(GZIP):
        return _pieces(gzip.GzipFile(fileobj=source))
    # There are two kinds of deflate, with and without zlib's header.
    kinds = (zlib.MAX_WBITS, -zlib.MAX_WBITS) if "deflate" in encoding else ()
    if kind := next((kind for kind in kinds if _is_deflated(beginning, kind)), None):
        return _inflated(source, kind)
    return None if source is packed else _pieces(source)


def _pieces(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    return iter(partial(file.read, CHUNK_BYTES), b"")


def _without_chunks(packed: IO[bytes], encoding: str) -> IO[bytes]:
    """The file from its start: itself, or what is in its chunks."""
    packed.seek(0)
    line = AWS_CHUNK.fullmatch(packed.readline(LONGEST_CHUNK_LINE))
    packed.seek(0)
    is_chunked = line is not None and (line[2] is not None or "aws-chunked" in encoding)
    return io.BufferedReader(_Chunks(packed)) if is_chunked else packed


class _Chunks(io.RawIOBase):
    """What is in the chunks of an `aws-chunked` file; after the last one, which is empty, come sums that the probe is stricter than."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed = packed
        self._left = self._next_length()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            return 0
        piece = self._packed.read(min(self._left, len(buffer)))
        if not piece:
            raise EOFError
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        if not self._left:
            self._end_chunk()
            self._left = self._next_length()
        return len(piece)

    def _next_length(self) -> int:
        line = self._packed.readline(LONGEST_CHUNK_LINE)
        if match := AWS_CHUNK.fullmatch(line):
            return int(match[1], 16)
        raise EOFError if not line.endswith(b"\n") and len(line) < LONGEST_CHUNK_LINE else self._broken()

    def _end_chunk(self) -> None:
        end = self._packed.read(2)
        if end != b"\r\n":
            raise EOFError if len(end) < 2 else self._broken()

    def _broken(self) -> FetchFailed:
        return FetchFailed("encoded", "The file came in chunks of an upload, which don't follow each other.")


def _is_deflated(beginning: bytes, kind: int) -> bool:
    try:
        return bool(zlib.decompressobj(kind).decompress(beginning, CHUNK_BYTES))
    except zlib.error:
        return False


def _inflated(packed: IO[bytes], kind: int) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(kind)
    while not unpacker.eof:
        chunk = unpacker.unconsumed_tail or packed.read(CHUNK_BYTES)
        piece = unpacker.decompress(chunk, CHUNK_BYTES)
        if not chunk and not piece and not unpacker.eof:
            raise EOFError
        yield piece


def _send(
    adapter: GuardedAdapter, request: requests.PreparedRequest, watchdog: Watchdog, ca_bundle: str | None
) -> requests.Response:
    """Send through the adapter alone: a Session would read the environment, and the whole body of each redirect."""
    timeout = (min(CONNECT_SECONDS, watchdog.left), SILENCE_SECONDS)
    try:
        response: requests.Response = adapter.send(request, stream=True, timeout=timeout, verify=ca_bundle or True)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        host = str(urlsplit(str(request.url)).hostname)
        if watchdog.expired:
            raise watchdog.failure(host) from None
        raise _explained(error, host) from None
    return response


def _redirected(response: requests.Response) -> str:
    try:
        return urljoin(str(response.url), response.headers["location"].encode("latin-1").decode("utf-8", "replace"))
    except ValueError:
        raise FetchRefused("bad_url", f"{_host(response)} redirected to what is no web address.") from None


def _refuse_unless_public(address: str, allow_loopback: bool) -> None:
    """Stricter than the library's own filter, which knows what is private but not what is merely unallocated."""
    ip = ipaddress.ip_address(address.strip("[]"))
    if allow_loopback and ip.is_loopback:
        return
    if not ip.is_global or ip.is_multicast or (ip.version == 6 and ip not in IPV6_INTERNET):
        raise InvalidIPAddress(ip)


def _explained(error: Exception, host: str) -> FetchError:
    """Our error in place of the library's, whose text holds the whole URL."""
    match error:
        case InvalidIPAddress():
            return FetchRefused("private_address", f"{host} is in a private or reserved network: never fetched.")
        case requests.Timeout():
            return FetchFailed("timeout", f"{host} did not answer in time.")
        case requests.exceptions.SSLError():
            return FetchFailed("connection", f"{host} made no secure connection (TLS), or could not prove who it is.")
        case requests.ConnectionError(__cause__=socket.gaierror()):
            return FetchFailed("connection", f"{host} was not found: no such name is known.")
        case _:
            return FetchFailed("connection", f"{host} could not be reached, or gave no answer.")


def _host(response: requests.Response) -> str:
    return str(urlsplit(response.url).hostname)


def _without_queries(record: logging.LogRecord) -> bool:
    record.msg, record.args = QUERY.sub("?[hidden]", record.getMessage()), ()
    return True


for _name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_without_queries)
