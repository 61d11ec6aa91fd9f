"""Pictures and videos of one project by the addresses of another: an address opens one file, for a while, and can't be made up."""

import re
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.files.storage import default_storage
from django.core.signing import TimestampSigner
from django.test import Client
from django.utils import timezone

from projects.models import SourceImage
from tests.projects.api.client import API, client_of
from tests.security.world import CONTENT, OUTSIDER, VIEWER, World, build


@pytest.fixture
def world(db: None) -> World:
    return build()


def read(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


def addresses(world: World) -> dict[str, str]:
    image, video = world.rows["projects.sourceimage"], world.rows["generations.video"]
    other = world.rows["other image"]
    files = {"picture": image.file, "original": image.original, "thumbnail": image.thumbnail}
    files |= {"video": video.file, "poster": video.poster, "other project's": other.file}
    return {name: file.url for name, file in files.items()}


def test_an_address_opens_its_own_file_and_no_other(world: World, client: Client) -> None:
    found = addresses(world)
    for name, url in found.items():
        _, _, signature, path = url.split("/", 3)
        assert read(client.get(url)), name
        for other, their_url in found.items():
            _, _, _, their_path = their_url.split("/", 3)
            if their_path != path:
                assert client.get(f"/media/{signature}/{their_path}").status_code == 403, (name, other)


def test_no_name_can_be_guessed(world: World) -> None:
    """Each holds a random UUID, not the row's id: ids are in addresses of pages, and shared."""
    ids = {str(row.pk) for row in world.rows.values() if hasattr(row, "pk")} | {str(world.project.pk)}
    for name, url in addresses(world).items():
        path = url.split("/", 3)[3]
        assert re.search(
            r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|[A-Za-z0-9_-]{16,}", path
        ), (
            name,
            path,
        )
        # An id in it is no way in: without the signature it opens nothing.
        assert not any(path == f"{each}.mp4" for each in ids)


@pytest.mark.parametrize(
    "path",
    [
        "../../secret_key",
        "..%2f..%2fsecret_key",
        "%2e%2e/%2e%2e/secret_key",
        "....//secret_key",
        "/etc/passwd",
        "videos/../../secret_key",
        "videos\\..\\..\\secret_key",
        "a%00.mp4",
        "",
    ],
)
def test_no_path_leads_out_of_the_folder(world: World, client: Client, path: str) -> None:
    signature = addresses(world)["video"].split("/")[2]
    response = client.get(f"/media/{signature}/{path}")

    assert response.status_code in (400, 403, 404, 301)
    assert b"tests-only" not in read(response)


@pytest.mark.parametrize("signature", ["x", ":", "1:2", "%00", "a" * 500, "'", "1abc:" + "A" * 43])
def test_a_made_up_signature_opens_nothing(world: World, client: Client, signature: str) -> None:
    path = addresses(world)["video"].split("/", 3)[3]

    assert client.get(f"/media/{signature}/{path}").status_code in (403, 404)


def test_a_signature_of_something_else_opens_nothing(world: World, client: Client) -> None:
    """Signed with the same key, for another purpose."""
    path = world.rows["generations.video"].file.name
    for salt in ("django.core.signing", "kling_studio.other"):
        signature = TimestampSigner(salt=salt).sign(path).removeprefix(f"{path}:")
        assert client.get(f"/media/{signature}/{path}").status_code == 403


def test_an_address_ends(world: World, client: Client, settings: Any) -> None:
    url = addresses(world)["video"]
    assert read(client.get(url)) == CONTENT
    with time_machine.travel(timezone.now() + timedelta(seconds=settings.MEDIA_URL_SECONDS + 2)):
        assert client.get(url).status_code == 410


def test_who_is_no_member_gets_no_address(world: World) -> None:
    outsider = client_of(world.people[OUTSIDER])
    video = world.rows["generations.video"].pk
    for path in (
        f"videos/{video}/",
        f"videos/{video}/download/",
        f"source-images/{world.rows['projects.sourceimage'].pk}/",
    ):
        response = outsider.get(f"{API}/{path}")
        assert response.status_code == 404
        assert b"/media/" not in response.content
    assert "/media/" in client_of(world.people[VIEWER]).get(f"{API}/videos/{video}/").json()["url"]


def test_two_pictures_of_the_same_name_have_names_of_their_own(world: World) -> None:
    names = [name for image in SourceImage.objects.all() for name in (image.file.name, image.original.name)]

    assert len(set(names)) == len(names)
    assert default_storage.get_available_name(names[0]) != names[0]
