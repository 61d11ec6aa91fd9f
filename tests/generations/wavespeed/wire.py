"""A raw HTTP server on loopback that answers exactly the bytes it is told to, when it is told to."""

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

# What an answer is made of: bytes to send, seconds to wait, or RESET (end the connection rudely).
RESET = object()
Step = Any
Answer = Callable[["Request"], Iterable[Step]]


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    connection: int  # 1 for the first one

    @property
    def path(self) -> str:
        return self.target.split("?")[0]

    def json(self) -> Any:
        return json.loads(self.body)


class RawServer:
    """Keeps connections open while answers are whole; counts what really arrived."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.requests: list[Request] = []
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def posts(self) -> list[Request]:
        return [request for request in self.requests if request.method == "POST"]

    def start(self) -> None:
        self._spawn(self._accept)

    def stop(self) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._spawn(self._serve, connection, self.connections)

    def _serve(self, connection: socket.socket, number: int) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                while (request := _read(stream, number)) and self._send(connection, request):
                    pass
            except (OSError, ValueError):  # it went away, or it does not speak HTTP
                pass

    def _send(self, connection: socket.socket, request: Request) -> bool:
        """Whether the connection stays open."""
        self.requests.append(request)
        sent = b""
        for step in self._answer(request):
            if step is RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
            if isinstance(step, bytes):
                sent += step
                connection.sendall(step)
            elif self._stopping.wait(step):
                return False
        return bool(sent) and b"Connection: close" not in sent


def _read(stream: Any, number: int) -> Request | None:
    line = stream.readline().decode()
    if not line.strip():
        return None
    method, target, _ = line.split()
    headers = {}
    while line := stream.readline().decode().strip():
        name, value = line.split(":", 1)
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))
    return Request(method, target, headers, body, number)


def http(
    status: int, body: bytes | object = b"", *, close: bool = False, length: int | None = None, **headers: str
) -> bytes:
    """A whole answer; `length` announces another length than the body's."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += ["Connection: close"] if close or length is not None else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def envelope(
    data: object = None, code: int = 200, message: str = "success", status: int = 200, **headers: str
) -> bytes:
    return http(status, {"code": code, "message": message, "data": data}, **headers)


@contextmanager
def serving(answer: Answer) -> Iterator[RawServer]:
    server = RawServer(answer)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def always(*steps: Step) -> Answer:
    return lambda request: steps


def in_turn(*answers: bytes) -> Answer:
    """Each answer once, the last one for ever."""
    left = list(answers)
    return lambda request: [left.pop(0) if len(left) > 1 else left[0]]
