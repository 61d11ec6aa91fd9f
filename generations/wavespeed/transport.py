"""One HTTP exchange at a time: bounded in time and size, never repeated, never redirected, kept as redacted evidence.

A time-out of a socket is per read, so that a slow drip passes it for ever. Here each read of a call gets only what is
left until the call's deadline, while the head of the answer comes as well as the body.
"""

import io
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http.client import HTTPResponse
from http.cookiejar import DefaultCookiePolicy
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError, ReadTimeoutError

from generations.wavespeed.redaction import Redactor, WithoutQueries

MAX_BODY = 8 * 1024 * 1024
MAX_WAIT = 24 * 3600
POOL_SIZE = 32

log = logging.getLogger(__name__)

# urllib3 logs whole URLs when it debugs, retries, or meets strange headers.
for _name in ("urllib3.connection", "urllib3.connectionpool", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(WithoutQueries())


class Failure(StrEnum):
    """Why no whole answer came."""

    NOT_CONNECTED = "the connection was never made"
    TIMED_OUT = "no whole answer came in time"
    BROKEN = "the connection broke before a whole answer came"
    TOO_LARGE = "the answer is too large"


@dataclass(frozen=True)
class Exchange:
    """Evidence of one call, redacted: fit for a database row or an admin page."""

    method: str
    path: str  # without the query
    status: int | None  # None: no answer began
    body: str  # the beginning of the answer
    milliseconds: int
    failure: str = ""


@dataclass(frozen=True)
class Reply:
    exchange: Exchange
    failure: Failure | None
    content: bytes = field(repr=False)
    retry_after: float | None  # seconds

    @property
    def status(self) -> int | None:
        return self.exchange.status


class FileBody:
    """`size` bytes out of files, one after the other, as the body of a request; sending them ends at the deadline."""

    def __init__(self, files: Sequence[BinaryIO], size: int) -> None:
        self._files = list(files)
        self._left = self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(64 * 1024), b"")

    def read(self, amount: int) -> bytes:
        _time_left()
        while self._left and self._files:
            if block := self._files[0].read(min(amount, self._left)):
                self._left -= len(block)
                return block
            self._files.pop(0)
        if self._left:
            raise ValueError(f"The file is {self._left} bytes shorter than the {self._size} bytes it was said to have.")
        return b""


class Transport:
    """Sends requests over one pool of connections for each process; shared by threads."""

    def __init__(
        self, *, connect_timeout: float, read_timeout: float, observe: Callable[[str, float, str], None] | None = None
    ) -> None:
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._observe = observe
        self._session = _Session()
        self._process = os.getpid()

    def send(
        self,
        method: str,
        url: str,
        *,
        route: str,
        headers: Mapping[str, str],
        body: bytes | FileBody | None = None,
        deadline: float,
        redactor: Redactor,
        fresh: bool = False,
    ) -> Reply:
        """The answer or the failure, within `deadline` seconds; `fresh` takes a connection that nothing used before."""
        started = time.monotonic()
        token = _deadline.set(started + deadline)
        session = _Session() if fresh else self._pooled()
        content = bytearray()
        status, retry_after, failure = None, None, None
        try:
            timeout = (min(self._connect_timeout, deadline), min(self._read_timeout, deadline))
            with session.request(
                method, url, headers=dict(headers), data=body, timeout=timeout, stream=True, allow_redirects=False
            ) as response:
                status = response.status_code
                retry_after = _retry_after(response.headers.get("Retry-After"))
                failure = _read(response, content)
        except (requests.RequestException, HTTPError, OSError) as error:
            failure = _failure(error)
        finally:
            _deadline.reset(token)
            if fresh:
                session.close()
        seconds = time.monotonic() - started
        if failure is Failure.BROKEN and seconds >= deadline:
            failure = Failure.TIMED_OUT
        exchange = Exchange(
            method,
            urlsplit(url).path,
            status,
            redactor.excerpt(bytes(content)),
            round(seconds * 1000),
            failure.value if failure else "",
        )
        level = logging.DEBUG if status and status < 300 and not failure else logging.WARNING
        log.log(level, "%s %s: %s in %d ms", method, route, failure or status, exchange.milliseconds)
        if self._observe:
            self._observe(route, seconds, _trouble(failure, status))
        return Reply(exchange, failure, bytes(content), retry_after)

    def _pooled(self) -> requests.Session:
        # Two processes must not share sockets, and a fork copies them.
        if self._process != os.getpid():
            self._session, self._process = _Session(), os.getpid()
        return self._session


class _Session(requests.Session):
    """Nothing by itself: no headers, cookies, redirects, retries, and nothing out of the environment."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Adapter(max_retries=0, pool_maxsize=POOL_SIZE))

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


# The deadline of a call, at each read of its socket.

_deadline: ContextVar[float] = ContextVar("deadline")  # by time.monotonic()


def _time_left() -> float:
    left = _deadline.get() - time.monotonic()
    if left <= 0:
        raise TimeoutError("The deadline of this call has passed.")
    return left


class _TimedFile(io.RawIOBase):
    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._read_timeout = sock.gettimeout() or 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(min(_time_left(), self._read_timeout))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedFile(sock, self.fp.detach()))


class _TimedConnection(HTTPConnection):
    response_class = _TimedResponse

    def connect(self) -> None:
        super().connect()
        _still_in_time(self)


class _TimedSecureConnection(HTTPSConnection):
    response_class = _TimedResponse

    def connect(self) -> None:
        super().connect()
        _still_in_time(self)


def _still_in_time(connection: HTTPConnection) -> None:
    """A look-up of many addresses takes the connect time-out for each: too late, nothing is sent any more."""
    try:
        _time_left()
    except TimeoutError as error:
        connection.close()
        raise ConnectTimeoutError(connection, str(error)) from None


class _Pool(HTTPConnectionPool):
    ConnectionCls = _TimedConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _TimedSecureConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


def _read(response: requests.Response, content: bytearray) -> Failure | None:
    # Block by block as they come, so that what came before a break is kept: it may hold the id of what was created.
    while block := response.raw.read1(64 * 1024, decode_content=True):
        content += block
        if len(content) > MAX_BODY:
            return Failure.TOO_LARGE
    return None


def _trouble(failure: Failure | None, status: int | None) -> str:
    """One word for what went wrong, empty for a good answer."""
    if failure:
        return failure.name.lower()
    return f"http_{status}" if status is None or status >= 300 else ""


def _failure(error: Exception) -> Failure:
    cause = error.args[0] if error.args else None
    if isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError | ConnectTimeoutError):
        return Failure.NOT_CONNECTED
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return Failure.TIMED_OUT
    return Failure.BROKEN


def _retry_after(value: str | None) -> float | None:
    """Seconds, from either form of the header; None for nonsense."""
    if not value:
        return None
    try:
        seconds = float(value) if value.isdecimal() else _seconds_until(parsedate_to_datetime(value))
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds <= MAX_WAIT else None


def _seconds_until(moment: datetime) -> float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
