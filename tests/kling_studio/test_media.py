"""Media over Django's own client for what is said, and over a real server for what is sent."""

import os
import re
import stat
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
import time_machine
import waitress
from django.core.files.base import ContentFile
from django.core.files.storage import Storage, default_storage
from django.core.wsgi import get_wsgi_application
from django.test import Client
from django.utils import timezone

from kling_studio.media import SignedFileSystemStorage, signer

CONTENT = bytes(range(256)) * 1024


@pytest.fixture
def storage() -> Storage:
    return default_storage


@pytest.fixture
def name(storage: Storage) -> str:
    return storage.save("tests/media/take one.mp4", ContentFile(CONTENT))


@pytest.fixture
def url(storage: Storage, name: str) -> str:
    return storage.url(name)


def test_storage_gives_a_signed_absolute_path(url: str) -> None:
    assert re.fullmatch(r"/media/[\w-]+:[\w-]+/tests/media/take%20one\w*\.mp4", url)


def test_storage_keeps_files_and_folders_from_other_users(tmp_path: Path) -> None:
    storage = SignedFileSystemStorage(location=str(tmp_path / "media"))
    storage.save("a/b/clip.mp4", ContentFile(b"clip"))

    modes = [stat.S_IMODE((tmp_path / "media" / part).stat().st_mode) for part in ("", "a", "a/b", "a/b/clip.mp4")]
    assert [oct(mode) for mode in modes] == ["0o700", "0o700", "0o700", "0o600"]


def test_storage_never_overwrites(tmp_path: Path) -> None:
    storage = SignedFileSystemStorage(location=str(tmp_path))
    first, second = (storage.save("clip.mp4", ContentFile(content)) for content in (b"first", b"second"))

    assert first != second
    assert (tmp_path / first).read_bytes() == b"first"
    assert (tmp_path / second).read_bytes() == b"second"


def test_storage_refuses_an_address_for_no_file(storage: Storage) -> None:
    with pytest.raises(ValueError, match="A file without a name has no URL"):
        storage.url("")


def test_media_serves_the_whole_file(client: Client, url: str) -> None:
    response = client.get(url)

    assert response.status_code == 200
    assert response.getvalue() == CONTENT
    assert response["Content-Type"] == "video/mp4"
    assert response["Content-Length"] == str(len(CONTENT))
    assert response["Content-Disposition"].startswith('inline; filename="take one')
    assert response["Accept-Ranges"] == "bytes"
    assert response["Cache-Control"] == "private"
    assert response["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-", 0, len(CONTENT) - 1),
        ("bytes=0-0", 0, 0),
        ("bytes=1000-1999", 1000, 1999),
        ("bytes=261000-", 261000, len(CONTENT) - 1),
        ("bytes=-100", len(CONTENT) - 100, len(CONTENT) - 1),
        ("bytes=-99999999", 0, len(CONTENT) - 1),
        ("bytes=262143-99999999", len(CONTENT) - 1, len(CONTENT) - 1),
        ("BYTES= 5-9 ", 5, 9),
    ],
)
def test_media_serves_one_range(client: Client, url: str, asked: str, first: int, last: int) -> None:
    response = client.get(url, headers={"range": asked})

    assert response.status_code == 206
    assert response["Content-Range"] == f"bytes {first}-{last}/{len(CONTENT)}"
    assert response["Content-Length"] == str(last - first + 1)
    assert response.getvalue() == CONTENT[first : last + 1]


@pytest.mark.parametrize("asked", ["bytes=262144-", "bytes=300000-300001", "bytes=-0"])
def test_media_refuses_a_range_beyond_the_end(client: Client, url: str, asked: str) -> None:
    response = client.get(url, headers={"range": asked})

    assert (response.status_code, response["Content-Range"]) == (416, f"bytes */{len(CONTENT)}")


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,5-6", "bytes=9-5", "bytes=a-b", "items=0-1", "bytes=-", "bytes=" + "9" * 5000 + "-"]
)
def test_media_serves_everything_when_it_does_not_understand_the_range(client: Client, url: str, asked: str) -> None:
    response = client.get(url, headers={"range": asked})

    assert (response.status_code, response.getvalue()) == (200, CONTENT)


def test_media_continues_a_download_of_the_same_file_only(client: Client, url: str) -> None:
    first = client.head(url)
    same = [{"range": "bytes=9-", "if-range": first[field]} for field in ("ETag", "Last-Modified")]
    other = [
        {"range": "bytes=9-", "if-range": value} for value in ('"other"', "Thu, 01 Jan 2026 00:00:00 GMT", "nonsense")
    ]

    assert [client.get(url, headers=headers).getvalue() for headers in same] == [CONTENT[9:]] * 2
    assert [client.get(url, headers=headers).getvalue() for headers in other] == [CONTENT] * 3


def test_media_answers_304_to_who_has_the_file(client: Client, url: str) -> None:
    etag = client.head(url)["ETag"]
    response = client.get(url, headers={"if-none-match": etag})

    assert (response.status_code, response.content, response["ETag"]) == (304, b"", etag)


def test_media_etag_differs_between_files(client: Client, url: str, storage: Storage) -> None:
    other = storage.save("tests/media/take two.mp4", ContentFile(CONTENT))

    assert client.head(url)["ETag"] != client.head(storage.url(other))["ETag"]


def test_media_head_tells_the_length_and_ignores_the_range(client: Client, url: str) -> None:
    response = client.head(url, headers={"range": "bytes=0-9"})

    assert (response.status_code, response.content, response["Content-Length"]) == (200, b"", str(len(CONTENT)))


def test_media_serves_an_empty_file(client: Client, storage: Storage) -> None:
    empty = storage.url(storage.save("tests/media/empty.png", ContentFile(b"")))

    assert client.get(empty).getvalue() == b""
    assert client.get(empty, headers={"range": "bytes=0-"}).status_code == 416


@pytest.mark.parametrize(
    ("file_name", "disposition"),
    [("a.png", "inline"), ("a.jpg", "inline"), ("a.html", "attachment"), ("a.svg", "attachment"), ("a", "attachment")],
)
def test_media_shows_only_pictures_and_videos_in_the_page(
    client: Client, storage: Storage, file_name: str, disposition: str
) -> None:
    response = client.get(storage.url(storage.save(f"tests/media/{file_name}", ContentFile(b"<script>"))))

    assert response["Content-Disposition"].partition(";")[0] == disposition
    assert response.getvalue() == b"<script>"


@pytest.mark.parametrize(
    ("asked", "disposition"),
    [
        ("Coffee.mp4", 'attachment; filename="Coffee.mp4"'),
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ('a"\r\nSet-Cookie: x=1', 'attachment; filename="a\\"Set-Cookie: x=1"'),
        ("Café.mp4", "attachment; filename*=utf-8''Caf%C3%A9.mp4"),
    ],
)
def test_media_download_is_named_as_asked(client: Client, url: str, asked: str, disposition: str) -> None:
    response = client.head(url, {"download": asked})

    assert response["Content-Disposition"] == disposition


def test_media_address_expires(client: Client, url: str) -> None:
    with time_machine.travel(timezone.now() + timedelta(seconds=3590)):
        assert client.head(url).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(seconds=3700)):
        response = client.get(url)

    assert response.status_code == 410
    assert (
        response.content.decode() == "This address has expired. Open the page that it was on again to get a new one.\n"
    )


def test_media_refuses_another_name_under_the_same_signature(client: Client, url: str, storage: Storage) -> None:
    storage.save("tests/media/secret.mp4", ContentFile(b"secret"))
    signature = url.split("/")[2]
    response = client.get(f"/media/{signature}/tests/media/secret.mp4")

    assert response.status_code == 403
    assert response.content.decode() == "This address is not valid: part of it is missing or was changed.\n"
    assert client.get("/media/x/tests/media/secret.mp4").status_code == 403


def test_media_that_is_gone_is_not_found(client: Client, url: str, name: str, storage: Storage) -> None:
    storage.delete(name)
    response = client.get(url)

    assert (response.status_code, response.content) == (404, b"This file no longer exists.\n")


@pytest.mark.parametrize("outside", ["../../../etc/passwd", "/etc/passwd", "tests/../../outside", "tests"])
def test_media_serves_nothing_outside_its_folder_even_if_signed(client: Client, outside: str) -> None:
    signature = signer().sign(outside).removeprefix(f"{outside}:")

    assert client.get(f"/media/{signature}/{outside}").status_code == 404


def test_media_takes_get_and_head_only(client: Client, url: str) -> None:
    assert client.post(url).status_code == 405


@pytest.fixture
def server() -> Iterator[str]:
    server = waitress.create_server(get_wsgi_application(), host="127.0.0.1", port=0, threads=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    # In its own thread: closed from here, its loop may be waiting for a socket that is gone.
    server.trigger.pull_trigger(lambda: server.asyncore.close_all(server._map))
    thread.join(timeout=30)
    server.task_dispatcher.shutdown()
    assert not thread.is_alive()


def open_files() -> list[str]:
    folder = Path("/proc/self/fd")
    return [os.readlink(file) for file in folder.iterdir() if file.is_symlink()]


def test_media_over_a_real_server_sends_ranges_and_closes_its_file(
    server: str, url: str, name: str, storage: Storage
) -> None:
    whole = requests.get(server + url, timeout=10)
    part = requests.get(server + url, headers={"Range": "bytes=100000-200000"}, timeout=10)
    head = requests.head(server + url, timeout=10)

    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert (part.status_code, part.content) == (206, CONTENT[100000:200001])
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(CONTENT)))
    assert storage.path(name) not in open_files()
