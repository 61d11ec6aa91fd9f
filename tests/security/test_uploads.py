"""Files that pretend to be pictures, and pictures that carry more than a picture: what is kept, and how it is handed out."""

import io
import struct
import zlib
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image
from rest_framework.test import APIClient

from projects.models import Project, SourceImage
from tests import factories
from tests.projects.api.client import API, client_of, errors

IMAGES = f"{API}/source-images/"
SCRIPT = b"<html><script>alert(1)</script></html>"
GPS = 0x8825


@pytest.fixture
def api(editor: User) -> APIClient:
    return client_of(editor)


def upload(api: APIClient, project: Project, content: bytes, name: str = "a.jpg", kind: str = "image/jpeg") -> Any:
    file = SimpleUploadedFile(name, content, kind)
    return api.post(IMAGES, {"project": str(project.pk), "file": file}, format="multipart")


def served(client: Client, url: str) -> tuple[Any, bytes]:
    response = client.get(url.removeprefix("http://testserver"))
    return response, b"".join(response.streaming_content)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_metadata() -> bytes:
    """A JPEG with a place, a camera, a script in its comment and a page behind its end."""
    exif = Image.Exif()
    exif[0x010F] = "Camera of Jane Doe"
    exif[GPS] = {1: "N", 2: (52.0, 31.0, 12.0)}
    out = io.BytesIO()
    Image.new("RGB", (640, 360), (200, 90, 40)).save(out, "JPEG", exif=exif, comment=SCRIPT)
    return out.getvalue() + SCRIPT


def test_a_page_inside_a_picture_is_handed_out_as_a_picture(api: APIClient, client: Client, project: Project) -> None:
    answer = upload(api, project, with_metadata())
    assert answer.status_code == 201
    row = answer.json()

    for field in ("url", "original_url", "thumbnail_url"):
        response, content = served(client, row[field])
        assert response["Content-Type"] == "image/jpeg"
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["Content-Disposition"].startswith("inline; filename=")
        assert "default-src 'none'" in response["Content-Security-Policy"]
        # The original is kept as it came, for the members of the project; nothing else holds more than the picture.
        assert (SCRIPT in content) == (field == "original_url"), field
        assert (b"Jane Doe" in content) == (field == "original_url"), field
    with SourceImage.objects.get().file.open("rb") as file, Image.open(file) as picture:
        assert dict(picture.getexif()) == {}


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "a.svg", "image/svg+xml"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "a.jpg", "image/jpeg"),
        (b"\xef\xbb\xbf<svg onload='alert(1)'/>", "a.png", "image/png"),
        (b"<!-- -->" + SCRIPT, "a.png", "image/png"),
        (SCRIPT, "a.jpg", "image/jpeg"),
        (b"GIF89a/*" + SCRIPT, "a.gif", "image/gif"),
        (b"%PDF-1.7 /JS (app.alert(1))", "a.jpg", "image/jpeg"),
        (b"PK\x03\x04" + b"\0" * 100, "a.jpg", "image/jpeg"),
        (b"#!/bin/sh\nid\n", "a.png", "image/png"),
        (b"\xff\xd8\xff" + SCRIPT, "a.jpg", "image/jpeg"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a.jpg", "image/jpeg"),
    ],
    ids=range(11),
)
def test_what_is_no_picture_is_refused_whatever_it_says_it_is(
    api: APIClient, project: Project, content: bytes, name: str, kind: str
) -> None:
    answer = upload(api, project, content, name, kind)

    assert answer.status_code == 400
    assert {code for code, _, _ in errors(answer)} <= {"unsupported_format", "damaged"}
    assert SourceImage.objects.count() == 0


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/x-php", "", "image/png; charset=x"])
def test_the_type_that_is_claimed_does_not_matter(api: APIClient, client: Client, project: Project, kind: str) -> None:
    row = upload(api, project, factories.jpeg(), "a.html", kind).json()

    assert row["content_type"] == "image/jpeg"
    response, _ = served(client, row["original_url"])
    assert response["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/passwd.jpg",
        "..\\..\\windows\\system32\\a.jpg",
        "/etc/cron.d/a.jpg",
        "a.php.jpg",
        "a.jpg.html",
        "a\x00.html",
        ".htaccess",
        "con.jpg",
        "a" * 900 + ".jpg",
        "\u202egpj.exe",
        '"><script>.jpg',
        "a\r\nX-Header: 1.jpg",
        "%2e%2e%2f%2e%2e%2fa.jpg",
        "~root.jpg",
    ],
    ids=range(14),
)
def test_a_file_s_name_says_nothing_about_where_it_is_kept(
    api: APIClient, client: Client, project: Project, name: str
) -> None:
    answer = upload(api, project, factories.jpeg(), name)
    if answer.status_code == 400:
        assert {attr for _, attr, _ in errors(answer)} == {"file"}
        return

    image = SourceImage.objects.get()
    for file in (image.file, image.original, image.thumbnail):
        assert ".." not in file.name
        assert not file.name.startswith("/")
        assert file.name.endswith(".jpg")
        assert file.name.isascii()
        assert not set(file.name) & set("\r\n\0\"'<>\\~% ")
        response, _ = served(client, file.url)
        assert response.status_code == 200


def bomb(side: int) -> bytes:
    """A PNG of a few kilobytes with `side` × `side` pixels."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\0" * (side // 8 + 1)) * side, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def text_bomb() -> bytes:
    """A PNG whose comment unpacks to 100 MB."""
    whole = io.BytesIO()
    Image.new("RGB", (640, 360)).save(whole, "PNG")
    content = whole.getvalue()
    comment = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"\0" * 100_000_000, 9))
    return content[:33] + comment + content[33:]


def test_a_bomb_is_refused_before_it_goes_off(api: APIClient, project: Project) -> None:
    answer = upload(api, project, bomb(20_000), "a.png")

    assert (answer.status_code, errors(answer)[0][0]) == (400, "too_many_pixels")


def test_a_bomb_in_a_comment_does_not_go_off(api: APIClient, project: Project) -> None:
    answer = upload(api, project, text_bomb(), "a.png")

    assert answer.status_code in (201, 400)
    if answer.status_code == 201:
        assert SourceImage.objects.get().bytes < 100_000


def test_the_admin_refuses_the_same(editor_client: Client, project: Project) -> None:
    file = SimpleUploadedFile("a.svg", b"<svg onload='alert(1)'/>", "image/svg+xml")

    answer = editor_client.post(
        "/admin/projects/sourceimage/add/", {"project": str(project.pk), "pictures": [file], "title": "", "tags": ""}
    )

    assert "This is SVG: send a JPEG, PNG, WebP or HEIC picture." in answer.content.decode()
    assert SourceImage.objects.count() == 0


def test_a_picture_that_is_fetched_is_checked_like_one_that_is_sent(
    api: APIClient, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = api.post(IMAGES, {"project": str(project.pk), "url": "http://169.254.169.254/latest/meta-data/"})

    assert (answer.status_code, errors(answer)[0][0]) == (400, "private_address")
    assert SourceImage.objects.count() == 0


@pytest.mark.parametrize("name", ["Grüße.jpg".encode("latin-1"), b"\x93Foto\x94.jpg", b"\xff\xfe"])
def test_a_name_that_is_not_in_utf8_is_the_reason_that_is_given(api: APIClient, project: Project, name: bytes) -> None:
    disposition = b"--b\r\nContent-Disposition: form-data; name="
    body = (
        disposition + b'"project"\r\n\r\n' + str(project.pk).encode() + b"\r\n"
        + disposition + b'"file"; filename="' + name + b'"\r\n\r\n' + factories.jpeg() + b"\r\n--b--\r\n"
    )  # fmt: skip

    answer = api.generic("POST", IMAGES, body, content_type="multipart/form-data; boundary=b")

    reason = "The file's name is not in UTF-8: send it in UTF-8, or another name."
    assert (answer.status_code, errors(answer)) == (400, [("bad_file_name", "file", reason)])
