import io
from datetime import timedelta

import pytest
import time_machine
from django.conf import settings
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from projects.models import Project, Role, SourceImage
from tests import factories
from tests.projects.api.client import API, client_of, errors, ids

ADDRESS = f"{API}/source-images/"


def upload(client: APIClient, project: Project, content: bytes, **fields: object):
    file = SimpleUploadedFile("cup.jpg", content, "image/jpeg")
    headers = fields.pop("headers", {})
    return client.post(
        ADDRESS, {"file": file, "project": str(project.pk), **fields}, format="multipart", headers=headers
    )


def test_image_is_uploaded_and_served(api: APIClient, project: Project) -> None:
    response = upload(api, project, factories.jpeg(), title="Cup", tags=["autumn", "hero"])

    assert response.status_code == 201
    row = response.json()
    assert (row["title"], row["tags"], row["width"], row["height"]) == ("Cup", ["autumn", "hero"], 640, 360)
    assert (row["project"], row["original_name"], row["created_by"]) == (str(project.pk), "cup.jpg", "eddie")
    assert row["note"] == ""
    assert row["url"].startswith("http://testserver/media/")
    served = api.get(row["url"].removeprefix("http://testserver"))
    with SourceImage.objects.get().file.open() as stored:
        assert b"".join(served.streaming_content) == stored.read()


def test_same_image_again_gives_the_one_that_exists_and_says_so(api: APIClient, project: Project) -> None:
    first = upload(api, project, factories.jpeg())

    second = upload(api, project, factories.jpeg(), title="Another title")

    assert (second.status_code, second.json()["id"]) == (200, first.json()["id"])
    assert second.json()["note"] == "The project has this picture already; this is the one that it has."
    assert SourceImage.objects.count() == 1


@pytest.mark.parametrize(
    ("content", "status", "code", "detail"),
    [
        (b"", 400, "empty", "The file is empty."),
        (factories.jpeg(200, 200), 400, "too_small", None),
        (factories.jpeg(1000, 300), 400, "bad_aspect", None),
        (b"%PDF-1.7 not a picture", 400, "unsupported_format", None),
        (factories.jpeg()[:2000], 400, "damaged", None),
    ],
)
def test_image_that_cannot_be_used_is_refused(
    api: APIClient, project: Project, content: bytes, status: int, code: str, detail: str | None
) -> None:
    response = upload(api, project, content)

    [error] = errors(response)
    assert (response.status_code, error[:2]) == (status, (code, "file"))
    assert error[2] == (detail or error[2])
    assert not SourceImage.objects.exists()


def test_image_over_the_limit_is_refused_before_it_is_read(api: APIClient, project: Project, settings) -> None:
    settings.MAX_UPLOAD_BYTES = 500_000

    response = upload(api, project, b"\0" * 2_000_000)

    assert response.status_code == 413
    assert errors(response) == [("too_large", None, "The body of this request is too large: at most 1.5 MB.")]


def test_image_just_over_the_limit_is_refused(api: APIClient, project: Project, settings) -> None:
    settings.MAX_UPLOAD_BYTES = 500_000

    response = upload(api, project, b"\xff\xd8\xff" * 200_000)

    assert response.status_code == 413
    assert errors(response) == [("upload_too_large", "file", "The file is over the limit of 0.5 MB.")]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("file:///etc/passwd", "scheme"),
        ("http://127.0.0.1/cup.jpg", "private_address"),
        ("http://169.254.169.254/latest/meta-data", "private_address"),
        ("http://user:password@example.com/cup.jpg", "credentials"),
        ("cup.jpg", "scheme"),
    ],
)
def test_image_from_a_forbidden_address_is_refused(api: APIClient, project: Project, url: str, code: str) -> None:
    response = api.post(ADDRESS, {"project": str(project.pk), "url": url})

    assert (response.status_code, [error[:2] for error in errors(response)]) == (400, [(code, "url")])
    assert not SourceImage.objects.exists()


@pytest.mark.parametrize("body", [{}, {"url": "https://example.com/a.jpg", "file": "text"}])
def test_image_needs_a_file_or_a_url(api: APIClient, project: Project, body: dict) -> None:
    response = api.post(ADDRESS, {"project": str(project.pk), **body})

    assert response.status_code == 400
    assert len(errors(response)) == 1


def test_image_in_a_project_that_one_may_not_see_is_404(project: Project) -> None:
    response = upload(client_of(factories.UserFactory()), project, factories.jpeg())

    assert response.status_code == 404
    assert not SourceImage.objects.exists()


def test_viewer_sees_images_and_changes_none(project: Project) -> None:
    viewer = client_of(factories.member(project, Role.VIEWER))
    image = factories.source_image(project)

    assert ids(viewer.get(ADDRESS)) == [str(image.pk)]
    assert upload(viewer, project, factories.jpeg()).status_code == 403
    assert viewer.patch(f"{ADDRESS}{image.pk}/", {"title": "Mine"}).status_code == 403
    assert viewer.delete(f"{ADDRESS}{image.pk}/").status_code == 403
    image.refresh_from_db()
    assert (image.title.startswith("Picture"), image.archived_at) == (True, None)


def test_equal_tags_are_kept_once_and_counted_once(api: APIClient, project: Project) -> None:
    many = ["neu", "Neu", "NEU"] * 20

    row = upload(api, project, factories.jpeg(), tags=many).json()

    assert row["tags"] == ["neu"]
    changed = api.patch(f"{ADDRESS}{row['id']}/", {"tags": [*many, "hero"]})
    assert (changed.status_code, changed.json()["tags"]) == (200, ["neu", "hero"])
    too_many = api.patch(f"{ADDRESS}{row['id']}/", {"tags": [str(number) for number in range(51)]})
    assert [(code, attr) for code, attr, _ in errors(too_many)] == [("max_length", "tags")]


def test_image_title_and_tags_are_changed(api: APIClient, project: Project) -> None:
    image = factories.source_image(project)

    response = api.patch(f"{ADDRESS}{image.pk}/", {"title": "Cup", "tags": ["hero"]})

    assert response.status_code == 200
    image.refresh_from_db()
    assert (image.title, image.tags) == ("Cup", ["hero"])


def test_archived_image_leaves_the_list_but_not_its_address(api: APIClient, project: Project) -> None:
    image, other = factories.source_image(project), factories.source_image(project)

    assert api.delete(f"{ADDRESS}{image.pk}/").status_code == 204
    assert ids(api.get(ADDRESS)) == [str(other.pk)]
    assert ids(api.get(f"{ADDRESS}?archived=true")) == [str(image.pk)]
    assert api.get(f"{ADDRESS}{image.pk}/").json()["archived_at"] is not None


@pytest.mark.both_databases
def test_images_are_filtered_by_project_and_tag(api: APIClient, editor: User, project: Project) -> None:
    other = factories.ProjectFactory()
    factories.Membership.objects.create(project=other, user=editor, role=Role.VIEWER)
    plain, tagged, elsewhere = (factories.source_image(each) for each in (project, project, other))
    SourceImage.objects.filter(pk=tagged.pk).update(tags=["50% off", "Herbst-Aktion “süß”"])

    assert ids(api.get(ADDRESS, {"project": str(other.pk)})) == [str(elsewhere.pk)]
    assert ids(api.get(ADDRESS, {"tag": "Herbst-Aktion “süß”"})) == [str(tagged.pk)]
    assert ids(api.get(ADDRESS, {"tag": "50% off"})) == [str(tagged.pk)]
    assert ids(api.get(ADDRESS, {"tag": "50"})) == []
    assert ids(api.get(ADDRESS, {"project": str(project.pk), "ordering": "created_at"})) == [
        str(plain.pk),
        str(tagged.pk),
    ]


@pytest.mark.parametrize("rows", [1, 30])
def test_images_list_with_few_queries(project: Project, editor: User, rows: int) -> None:
    for _ in range(rows):
        factories.source_image(project)
    client = client_of(editor)

    with CaptureQueriesContext(connection) as queries:
        assert client.get(ADDRESS).json()["count"] == rows

    # Token, its owner's tokens, group, count, rows.
    assert len(queries) == 5, [query["sql"] for query in queries]


def test_upload_with_a_key_is_replayed_whatever_the_boundary(api: APIClient, project: Project) -> None:
    headers = {"Idempotency-Key": "upload-1"}
    # In one moment: addresses of files are signed with the time.
    with time_machine.travel(timezone.now(), tick=False):
        first, again = (upload(api, project, factories.jpeg(), title="Cup", headers=headers) for _ in range(2))
    other = upload(api, project, factories.jpeg(700, 400), title="Cup", headers=headers)

    assert (first.status_code, again.status_code, again["Idempotency-Replayed"]) == (201, 201, "true")
    assert again.json() == first.json()
    assert (other.status_code, errors(other)[0][0]) == (422, "idempotency_key_reused")
    assert SourceImage.objects.count() == 1


def test_truncated_form_is_a_bad_request(api: APIClient) -> None:
    body = io.BytesIO(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n')

    response = api.generic("POST", ADDRESS, body.getvalue(), content_type="multipart/form-data; boundary=b")

    assert response.status_code == 400


def test_repeated_upload_holds_addresses_that_work_when_the_first_ones_have_expired(
    api: APIClient, project: Project
) -> None:
    first = upload(api, project, factories.jpeg(), headers={"Idempotency-Key": "upload-1"})
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.MEDIA_URL_SECONDS + 60)):
        again = upload(api, project, factories.jpeg(), headers={"Idempotency-Key": "upload-1"})

        assert again["Idempotency-Replayed"] == "true"
        for name in ("url", "original_url", "thumbnail_url"):
            assert Client().head(first.json()[name]).status_code == 410
            assert Client().head(again.json()[name]).status_code == 200
    assert {
        **again.json(),
        **{name: first.json()[name] for name in ("url", "original_url", "thumbnail_url")},
    } == first.json()
