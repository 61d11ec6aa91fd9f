"""The one-process studio behind a proxy that does TLS: it believes what it is told to believe, and nothing else."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.studio_process import PATIENCE, Studio

pytestmark = pytest.mark.slow
LOGIN = "/admin/login/"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    behind = {
        "PUBLIC_URL": "https://studio.example.com",
        "ALLOWED_HOSTS": "127.0.0.1,studio.example.com",
        "TRUST_FORWARDED_PROTO": "true",
        "TRUSTED_PROXIES": "1",
        "LOGIN_FAILURES": "2",
    }
    with Studio(tmp_path / "studio", **behind) as studio:
        studio.manage("migrate")
        studio.launch()
        ends = time.monotonic() + PATIENCE
        while not answers(studio):
            assert time.monotonic() < ends, studio.log.read_text()
            time.sleep(0.1)
        yield studio
        studio.stop()


def answers(studio: Studio) -> bool:
    try:
        return ask(studio, "GET", LOGIN).ok
    except requests.ConnectionError:
        return False


def ask(studio: Studio, method: str, path: str, **headers: str) -> requests.Response:
    told = {"X-Forwarded-Proto": "https", "Referer": "https://studio.example.com/", **headers}
    told = {name: value for name, value in told.items() if value}
    cookies = {"csrftoken": "a" * 32}
    form = {"username": "nobody", "password": "wrong", "csrfmiddlewaretoken": "a" * 32} if method == "POST" else None
    return requests.request(
        method, f"{studio.url}{path}", headers=told, data=form, cookies=cookies, allow_redirects=False, timeout=60
    )


def test_it_sees_https_and_the_client_s_address(studio: Studio) -> None:
    page = ask(studio, "GET", LOGIN)
    assert page.status_code == 200
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert "upgrade-insecure-requests" in page.headers["Content-Security-Policy"]
    assert "Secure" in page.headers["Set-Cookie"]

    plain = ask(studio, "GET", LOGIN, **{"X-Forwarded-Proto": ""})
    assert (plain.status_code, plain.headers["Location"][:8]) == (301, "https://")

    host = {"Host": "studio.example.com"}
    tries = [ask(studio, "POST", LOGIN, **{"X-Forwarded-For": f"{n}.9.9.9, 203.0.113.1"}, **host) for n in range(2)]
    assert [each.status_code for each in tries] == [200, 429]
    elsewhere = ask(studio, "POST", LOGIN, **{"X-Forwarded-For": "203.0.113.1, 203.0.113.2"}, **host)
    assert elsewhere.status_code == 200
