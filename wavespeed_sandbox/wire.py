"""HTTP/1.1 on raw sockets: requests in, responses out, and the ways in which a connection can go wrong."""

import contextlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

MAX_BODY = 300 * 1024 * 1024


class BadRequest(Exception):
    """The request can't be read; the message says why."""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes

    def json(self) -> dict[str, Any]:
        """The body as a JSON object."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise BadRequest(f"invalid JSON: {error}") from error
        if not isinstance(value, dict):
            raise BadRequest("the body must be a JSON object")
        return value


@dataclass(frozen=True)
class Response:
    """What goes back. `ending` says what becomes of the connection when the body is out."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    chunks: Iterable[bytes] | None = None  # instead of body, with its `length`
    length: int | None = None  # the announced Content-Length, when it is not the body's
    is_announced: bool = True  # False: no Content-Length, the body goes on until the connection ends
    chunk_pause: float = 0.0
    ending: Literal["keep", "close", "reset"] = "keep"
    silent: bool = False  # end the connection without a single byte


Handle = Callable[[Request], Response]


def json_response(payload: Any, status: int = 200, **how: Any) -> Response:
    return Response(status=status, body=json.dumps(payload).encode(), **how)


class HttpServer(ThreadingHTTPServer):
    """A threaded server that answers with `handle` and can be stopped with connections open."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, host: str, port: int, handle: Handle) -> None:
        self.handle = handle
        self.stopping = threading.Event()
        self.resetting: set[socket.socket] = set()
        self._connections: set[socket.socket] = set()
        self._answering: set[threading.Thread] = set()
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)
        self._accepting = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def start(self) -> None:
        self._accepting.start()

    def stop(self) -> None:
        self.stopping.set()
        self.shutdown()
        self._accepting.join(timeout=5)
        self.server_close()
        with self._lock:
            connections, threads = list(self._connections), list(self._answering)
        for connection in connections:
            _end(connection)
        for thread in threads:
            thread.join(timeout=5)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
            self._answering.add(threading.current_thread())
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._connections.discard(request)
                self._answering.discard(threading.current_thread())

    def shutdown_request(self, request: Any) -> None:
        if request in self.resetting:  # an orderly shutdown would send FIN first
            self.resetting.discard(request)
            self.close_request(request)
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of ours; anything else is told on stderr."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client was faster
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "wavespeed-sandbox"
    sys_version = ""
    disable_nagle_algorithm = True
    server: HttpServer

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: they hold keys and prompts."""

    def _answer(self) -> None:
        try:
            request = self._read()
        except BadRequest as error:
            self.close_connection = True
            self._send(json_response({"code": 400, "message": str(error)}, 400))
            return
        self._send(self.server.handle(request))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _answer

    def _read(self) -> Request:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request(self.command, parts.path, dict(parse_qsl(parts.query)), headers, self._read_body(headers))

    def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._read_chunks()
        try:
            length = int(headers.get("content-length", "0"))
        except ValueError as error:
            raise BadRequest("Content-Length is no number") from error
        if not 0 <= length <= MAX_BODY:
            raise BadRequest(f"the body may have at most {MAX_BODY} bytes")
        body = self.rfile.read(length)
        if len(body) != length:
            raise BadRequest(f"the body has {len(body)} bytes, Content-Length says {length}")
        return body

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while size := int(self.rfile.readline(100).split(b";")[0] or b"0", 16):
            if len(body) + size > MAX_BODY:
                raise BadRequest(f"the body may have at most {MAX_BODY} bytes")
            body += self.rfile.read(size)
            self.rfile.readline(10)
        self.rfile.readline(10)
        return bytes(body)

    def _send(self, response: Response) -> None:
        if response.delay and self.server.stopping.wait(response.delay):
            self.close_connection = True
            return
        if not response.silent:
            self._send_head(response)
            self._send_body(response)
        if response.ending != "keep" or response.silent:
            self.close_connection = True
        if response.ending == "reset":
            linger = struct.pack("ii", 1, 0)  # close() then sends RST instead of FIN
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.server.resetting.add(self.connection)

    def _send_head(self, response: Response) -> None:
        length = len(response.body) if response.length is None else response.length
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        if response.is_announced:
            self.send_header("Content-Length", str(length))
        for name, value in response.headers.items():
            self.send_header(name, value)
        if response.ending == "close":
            self.send_header("Connection", "close")
        self.end_headers()

    def _send_body(self, response: Response) -> None:
        if self.command == "HEAD":
            return
        for chunk in response.chunks if response.chunks is not None else (response.body,):
            if response.chunk_pause and self.server.stopping.wait(response.chunk_pause):
                return
            self.wfile.write(chunk)
