import gzip
import hashlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.db import connection
from PIL import Image

from projects import source_images
from projects.fetch import FetchFailed, FetchRefused
from projects.images import ImageRefused
from projects.models import Project, Role, SourceImage
from tests import factories


def stored_files(project: Project) -> set[str]:
    folder = Path(default_storage.path(f"projects/{project.pk}"))
    return {str(path.relative_to(folder.parent.parent)) for path in folder.rglob("*") if path.is_file()}


def webp(width: int = 500, height: int = 400) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), (10, 90, 200)).save(out, "WEBP")
    return out.getvalue()


def test_add_stores_the_picture_its_original_and_a_thumbnail(project: Project, editor: User) -> None:
    content = webp()
    upload = SimpleUploadedFile("Frühling.webp", content, content_type="text/html")
    image, created = source_images.add(
        project, upload, filename="Frühling.webp", by=editor, title=" Spring ", tags=["hero", " hero", ""]
    )

    image.refresh_from_db()
    folder = f"projects/{project.pk}/source-images/{image.pk}"
    assert created
    assert (image.file.name, image.original.name, image.thumbnail.name) == (
        f"{folder}/picture.jpg",
        f"{folder}/original.webp",
        f"{folder}/thumbnail.jpg",
    )
    assert stored_files(project) == {image.file.name, image.original.name, image.thumbnail.name}
    with image.original.open() as original, image.file.open() as file, Image.open(file) as picture:
        assert original.read() == content
        assert (picture.format, picture.size) == ("JPEG", (500, 400))
    assert (image.width, image.height, image.content_type) == (500, 400, "image/jpeg")
    assert image.bytes == image.file.size
    assert image.sha256 == hashlib.sha256(content).hexdigest()
    assert (image.title, image.tags, image.original_name) == ("Spring", ["hero"], "Frühling.webp")
    assert (image.created_by, image.project, image.source_url) == (editor, project, "")


def test_add_reads_an_upload_that_is_on_disk_and_leaves_it_there(project: Project, editor: User) -> None:
    content = factories.jpeg()
    with TemporaryUploadedFile("a.jpg", "image/jpeg", len(content), None) as upload:
        upload.write(content)
        upload.seek(0)
        image, _ = source_images.add(project, upload, filename="a.jpg", by=editor)
        upload.seek(0)

        assert upload.read() == content
    assert image.original.size == len(content)


def test_add_of_the_same_picture_finds_the_one_that_exists(project: Project, editor: User) -> None:
    first, _ = source_images.add(project, io.BytesIO(factories.jpeg()), filename="a.jpg", by=editor, title="First")
    before = stored_files(project)
    again, created = source_images.add(
        project, io.BytesIO(factories.jpeg()), filename="b.jpg", by=editor, title="Second"
    )

    assert (again, created, again.title) == (first, False, "First")
    assert stored_files(project) == before


def test_add_of_the_same_picture_to_another_project_makes_another(project: Project, studio_owner: User) -> None:
    other = factories.ProjectFactory(created_by=studio_owner)
    added = [
        source_images.add(each, io.BytesIO(factories.jpeg()), filename="a.jpg", by=studio_owner)
        for each in (project, other)
    ]

    assert [created for _, created in added] == [True, True]


def test_add_brings_an_archived_picture_back(project: Project, editor: User) -> None:
    image, _ = source_images.add(project, io.BytesIO(factories.jpeg()), filename="a.jpg", by=editor)
    source_images.archive(image, by=editor)
    assert SourceImage.objects.get().archived_at is not None

    again, created = source_images.add(project, io.BytesIO(factories.jpeg()), filename="a.jpg", by=editor)

    assert (again, created) == (image, False)
    assert SourceImage.objects.get().archived_at is None


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_add_of_the_same_picture_by_many_at_once_makes_one() -> None:
    project = factories.ProjectFactory()
    editor = factories.member(project, Role.EDITOR)
    start = threading.Barrier(6)

    def upload(_: int) -> tuple[SourceImage, bool]:
        try:
            start.wait(timeout=30)
            return source_images.add(project, io.BytesIO(factories.jpeg()), filename="a.jpg", by=editor)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        added = list(pool.map(upload, range(6)))

    image = SourceImage.objects.get()
    assert {image.pk for image, _ in added} == {image.pk}
    assert sorted(created for _, created in added) == [False] * 5 + [True]
    assert stored_files(project) == {image.file.name, image.original.name, image.thumbnail.name}


@pytest.mark.parametrize(
    ("filename", "kept"),
    [
        ("C:\\Users\\me\\photo.jpg", "photo.jpg"),
        ("../../etc/passwd", "passwd"),
        ("a\x00b\nc.jpg", "abc.jpg"),
        ("x" * 300 + ".jpg", "x" * 251 + ".jpg"),
        ("", ""),
    ],
)
def test_add_keeps_of_the_name_only_what_is_harmless(project: Project, editor: User, filename: str, kept: str) -> None:
    image, _ = source_images.add(project, io.BytesIO(factories.jpeg()), filename=filename, by=editor)

    image.refresh_from_db()
    assert image.original_name == kept
    assert image.file.name.endswith("/picture.jpg")


def test_add_refused_leaves_nothing(project: Project, editor: User) -> None:
    with pytest.raises(ImageRefused, match=r"This picture is 200 × 200 px; each side must be at least 300 px\."):
        source_images.add(project, io.BytesIO(factories.jpeg(200, 200)), filename="a.jpg", by=editor)

    assert (SourceImage.objects.count(), stored_files(project)) == (0, set())


def test_add_with_too_long_a_title_leaves_nothing(project: Project, editor: User) -> None:
    with pytest.raises(ValidationError, match="at most 200 characters"):
        source_images.add(project, io.BytesIO(factories.jpeg()), filename="a.jpg", by=editor, title="t" * 201)

    assert (SourceImage.objects.count(), stored_files(project)) == (0, set())


def test_add_over_the_size_limit_says_the_limit(project: Project, editor: User) -> None:
    huge = factories.jpeg() + b"\0" * settings.MAX_UPLOAD_BYTES
    with pytest.raises(ImageRefused, match=r"The file is over the limit of 50 MB\."):
        source_images.add(project, io.BytesIO(huge), filename="a.jpg", by=editor)


def test_add_takes_the_role_of_an_editor(project: Project) -> None:
    viewer = factories.member(project, Role.VIEWER)
    with pytest.raises(PermissionDenied, match="This takes the role “Editor” or higher in Coffee"):
        source_images.add(project, io.BytesIO(factories.jpeg()), filename="a.jpg", by=viewer)


def test_add_to_an_archived_project_is_refused(project: Project, editor: User) -> None:
    project.archived_at = project.created_at
    with pytest.raises(ImageRefused, match=r"Coffee is archived: no pictures can be added to it\."):
        source_images.add(project, io.BytesIO(factories.jpeg()), filename="a.jpg", by=editor)


def test_archive_takes_the_role_of_an_editor(project: Project, editor: User) -> None:
    image = factories.source_image(project)
    with pytest.raises(PermissionDenied, match="Editor"):
        source_images.archive(image, by=factories.member(project, Role.VIEWER))

    source_images.archive(image, by=editor)
    image.refresh_from_db()
    assert image.archived_at is not None


class Pictures(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/Sch%C3%B6n%2Fes.jpg?token=secret")
            self.end_headers()
            return
        self.send_response(404 if path == "/gone.jpg" else 200)
        content = b"<html>" if path == "/page.html" else factories.jpeg()
        if path == "/packed.jpg":
            content = gzip.compress(content)
            self.send_header("Content-Encoding", "gzip")
        if path == "/brotli.jpg":
            content = b"packed"
            self.send_header("Content-Encoding", "br")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Pictures) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(timeout=10)


def test_import_url_stores_the_picture_and_where_it_is_from(project: Project, editor: User, host: str) -> None:
    image, created = source_images.import_url(
        project, f"{host}/photo.jpg?signature=secret#top", by=editor, title="Photo", allow_loopback=True
    )

    image.refresh_from_db()
    assert created
    assert (image.source_url, image.original_name, image.title) == (f"{host}/photo.jpg", "photo.jpg", "Photo")
    assert image.sha256 == hashlib.sha256(factories.jpeg()).hexdigest()


def test_import_url_follows_a_redirect_and_names_the_file_by_where_it_ended(
    project: Project, editor: User, host: str
) -> None:
    image, _ = source_images.import_url(project, f"{host}/moved", by=editor, allow_loopback=True)

    assert (image.source_url, image.original_name) == (f"{host}/moved", "es.jpg")


def test_import_url_takes_what_the_server_packed(project: Project, editor: User, host: str) -> None:
    image, _ = source_images.import_url(project, f" {host}/packed.jpg\n", by=editor, allow_loopback=True)

    assert (image.sha256, image.source_url) == (hashlib.sha256(factories.jpeg()).hexdigest(), f"{host}/packed.jpg")


def test_import_url_names_an_encoding_that_is_not_unpacked_here(project: Project, editor: User, host: str) -> None:
    with pytest.raises(ImageRefused, match="with the Content-Encoding “br”, which the studio did not ask for"):
        source_images.import_url(project, f"{host}/brotli.jpg", by=editor, allow_loopback=True)


def test_import_url_of_what_is_no_picture_is_refused(project: Project, editor: User, host: str) -> None:
    with pytest.raises(ImageRefused, match="send a JPEG, PNG, WebP or HEIC picture"):
        source_images.import_url(project, f"{host}/page.html", by=editor, allow_loopback=True)


def test_import_url_of_what_is_gone_says_so(project: Project, editor: User, host: str) -> None:
    with pytest.raises(FetchFailed, match="no longer gives this file"):
        source_images.import_url(project, f"{host}/gone.jpg", by=editor, allow_loopback=True)


def test_import_url_asks_nothing_of_private_addresses(project: Project, editor: User, host: str) -> None:
    with pytest.raises(FetchRefused, match="private or reserved network"):
        source_images.import_url(project, f"{host}/photo.jpg", by=editor)


def test_import_url_asks_for_permission_before_it_fetches(project: Project) -> None:
    with pytest.raises(PermissionDenied, match="Editor"):
        source_images.import_url(project, "not an address", by=factories.member(project, Role.VIEWER))
