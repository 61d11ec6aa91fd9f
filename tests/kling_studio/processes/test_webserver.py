"""`gunicorn kling_studio.wsgi` as production runs it, from a checkout of its own that a test can upgrade."""

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.studio_process import ROOT, Studio
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

PARTS = ("gunicorn.conf.py", "kling_studio", "projects", "generations", "static", "templates")


@dataclass
class Server:
    checkout: Path
    studio: Studio
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> tuple[int, str]:
        try:
            answer = requests.get(f"{self.studio.url}/{path}", timeout=10)
        except (requests.ConnectionError, requests.Timeout):  # it listens before it has loaded the studio
            return 0, ""
        return answer.status_code, answer.text

    def connect(self, raw: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.studio.port), timeout=10)
        connection.sendall(raw)
        return connection

    def append(self, path: str, text: str) -> None:
        with (self.checkout / path).open("a") as file:
            file.write(text)

    def log(self) -> str:
        return self.studio.log.read_text()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, checkout / part)
    studio = Studio(tmp_path / "home", LOG_FORMAT="json", WEB_CONCURRENCY="1")
    with studio.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "kling_studio.wsgi", "--bind", f"127.0.0.1:{studio.port}"],
            cwd=checkout,
            env=studio.environment,
            stdout=log,
            stderr=log,
        )
    server = Server(checkout, studio, process)
    try:
        wait_until(lambda: server.get("livez")[0] == 200, why=server.log)
        yield server
    finally:
        process.kill()
        process.wait()


def test_a_reload_runs_new_code_with_new_settings(server: Server) -> None:
    """A release whose settings, and what they import, have something that its code needs."""
    assert server.get("release")[0] == 404
    server.append("kling_studio/logs.py", '\n\ndef release() -> str:\n    return "the new one"\n')
    server.append("kling_studio/settings.py", "\nRELEASE = logs.release()\n")
    server.append(
        "kling_studio/urls.py",
        "\nfrom django.conf import settings\nfrom django.http import HttpResponse\n"
        'urlpatterns = [path("release", lambda request: HttpResponse(settings.RELEASE)), *urlpatterns]\n',
    )

    server.process.send_signal(signal.SIGHUP)

    wait_until(lambda: server.get("release") == (200, "the new one"), seconds=30, why=lambda: server.log()[-2000:])
    assert server.process.poll() is None


def test_the_lines_of_gunicorn_are_those_of_the_studio(server: Server) -> None:
    assert server.get("join/s3cr3t/")[0] != 0
    server.process.terminate()
    assert server.process.wait(timeout=60) == 0

    lines = [json.loads(line) for line in server.log().splitlines()]

    assert all({"event", "level", "logger", "timestamp"} <= line.keys() for line in lines)
    told = {line["event"].split(":")[0] for line in lines if line["logger"] == "gunicorn.error"}
    assert {"Listening at", "Booting worker with pid", "Handling signal", "Shutting down"} <= told
    assert "/join/…/" in server.log()
    assert "s3cr3t" not in server.log()


HALF_SENT = {
    "a body": b"POST /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nusername=",
    "a chunk": b"POST /api/v1/webhooks/wavespeed/0/ HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{",
    "headers": b"POST /accounts/password-reset/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-",
    "nothing": b"",
    # Asked for, and never read.
    "an answer": b"GET /static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    * 3,
}


def test_who_sends_half_a_request_and_waits_holds_nobody_up(server: Server) -> None:
    with ExitStack() as stack:
        for raw in HALF_SENT.values():
            for _ in range(60):
                stack.enter_context(server.connect(raw))

        assert [server.get(path)[0] for path in ("livez", "admin/login/", "livez")] == [200, 200, 200]


def test_what_has_begun_is_ended_before_the_server_ends(server: Server) -> None:
    body = b"username=nobody"
    head = f"POST /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with server.connect(head + body[:5]) as slow, server.connect(b"") as idle:
        wait_until(lambda: server.get("livez")[0] == 200)
        server.process.terminate()
        wait_until(lambda: server.get("livez")[0] == 0, why=server.log)
        assert idle.recv(1) == b"", "who waits for nothing is let go"
        slow.sendall(body[5:])

        assert slow.recv(12) == b"HTTP/1.1 403", "refused for want of a CSRF token, and answered"
    assert server.process.wait(timeout=30) == 0


def test_a_body_that_is_too_large_for_anything_is_refused_before_it_is_sent(server: Server) -> None:
    head = b"POST /admin/login/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000000\r\n\r\n"
    with server.connect(head) as connection:
        assert connection.recv(12) == b"HTTP/1.1 413"
