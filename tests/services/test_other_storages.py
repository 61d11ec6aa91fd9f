"""Google's and Azure's storages, against servers that speak their protocols: they start, store, read back, list, delete and sign."""

import hashlib
import json
import os
import tracemalloc
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from azure.storage.blob import BlobServiceClient
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage

from generations import lifecycle
from generations.models import Generation, Status
from generations.storage import inventory
from generations.storage.storing import measured
from kling_studio import object_storage
from tests.generations.conftest import budget, control, draft, make_sandbox, processing, queued, sandbox, wavespeed
from tests.pipeline import file_sha256, poll_to_end
from tests.sandbox import SandboxControl

__all__ = ["budget", "control", "draft", "make_sandbox", "processing", "queued", "sandbox", "wavespeed"]

pytestmark = [pytest.mark.services, pytest.mark.django_db]

# Azurite's own account, which its documentation gives.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
LARGE = 40_000_000


@pytest.fixture
def token_server() -> Iterator[str]:
    """Where the service account of the tests gets its tokens."""

    class Tokens(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"access_token": "token", "token_type": "Bearer", "expires_in": 3600}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Tokens)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/token"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def service_account(tmp_path: Path, token_server: str) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    file = tmp_path / "service-account.json"
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "studio",
                "private_key_id": "1",
                "private_key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
                "client_email": "studio@example.com",
                "token_uri": token_server,
            }
        )
    )
    return file


@pytest.fixture
def google(settings: object, service_account: Path) -> Iterator[str]:
    endpoint = os.environ["TEST_GCS_ENDPOINT_URL"]
    bucket = f"studio-{uuid.uuid4().hex[:12]}"
    url = f"gs://{bucket}/media/of-ours?credentials_file={quote(str(service_account))}&api_endpoint={quote(endpoint)}"
    settings.STORAGES = {**settings.STORAGES, "default": object_storage.entry(url, url_seconds=60)}
    default_storage.client.create_bucket(bucket)
    yield bucket
    default_storage.client.close()


@pytest.fixture
def azure(settings: object) -> Iterator[str]:
    container = f"studio-{uuid.uuid4().hex[:12]}"
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        f"BlobEndpoint={os.environ['TEST_AZURE_ENDPOINT_URL']}/{ACCOUNT};"
    )
    with BlobServiceClient.from_connection_string(connection) as client:
        client.create_container(container)
        url = f"azure://{container}/media/of-ours?connection_string={quote(connection)}"
        settings.STORAGES = {**settings.STORAGES, "default": object_storage.entry(url, url_seconds=60)}
        yield container
        default_storage.service_client.close()
        client.delete_container(container)


@pytest.fixture(params=["google", "azure"])
def bucket(request: pytest.FixtureRequest) -> str:
    name: str = request.getfixturevalue(request.param)
    return name


def test_what_is_saved_is_read_back_listed_and_deleted(bucket: str) -> None:
    first = default_storage.save("projects/a/videos/one.mp4", ContentFile(b"one"))
    default_storage.save("projects/b/two.mp4", ContentFile(b"second"))
    default_storage.save("projects-of-others/three.mp4", ContentFile(b"3"))

    assert first == "projects/a/videos/one.mp4"
    assert measured(first, lambda: None) == (3, hashlib.sha256(b"one").hexdigest())
    assert {name: file.size for name, file in inventory.files_under("projects").items()} == {
        "projects/a/videos/one.mp4": 3,
        "projects/b/two.mp4": 6,
    }
    assert sorted(inventory.folders_in("projects")) == ["a", "b"]
    assert default_storage.listdir("projects/a/videos") == ([], ["one.mp4"])
    assert inventory.unfinished_uploads() == []
    inventory.delete(first)
    inventory.delete(first)
    assert (inventory.size(first), inventory.sha256(first), inventory.size("projects/b/two.mp4")) == (None, None, 6)
    assert list(inventory.files_under("projects")) == ["projects/b/two.mp4"]


def test_a_name_that_is_taken_is_never_written_over(bucket: str) -> None:
    first = default_storage.save("checks/a.txt", ContentFile(b"first"))
    second = default_storage.save("checks/a.txt", ContentFile(b"second"))

    assert first != second
    with default_storage.open(first) as file:
        assert file.read() == b"first"


def test_a_large_file_goes_up_in_pieces_each_of_which_renews_the_lease(bucket: str, tmp_path: Path) -> None:
    local = tmp_path / "large.mp4"
    local.write_bytes(os.urandom(1_000_000) * (LARGE // 1_000_000))
    reads: list[int] = []

    class Counted(File):
        def read(self, *args: int) -> bytes:
            data: bytes = self.file.read(*args)
            reads.append(len(data))
            return data

    default_storage.exists("so that the library is loaded before it is measured")
    with local.open("rb") as opened:
        tracemalloc.start()
        name = default_storage.save("videos/large.mp4", Counted(opened))
        length, sha256 = measured(name, lambda: None)
        length, sha256 = measured(name, lambda: None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert (length, sha256) == (LARGE, hashlib.sha256(local.read_bytes()).hexdigest())
    assert sum(1 for size in reads if size) >= LARGE // (8 * 1024 * 1024)
    assert peak < LARGE


def test_a_video_is_stored_and_checked(processing: Generation, wavespeed: SandboxControl, bucket: str) -> None:
    poll_to_end(processing)

    assert lifecycle.store(processing.pk) == Status.COMPLETED

    assert file_sha256(processing) == wavespeed.predictions()[0]["output_sha256"]


def test_azure_serves_what_is_signed_and_nothing_else(azure: str) -> None:
    name = default_storage.save("videos/a b.mp4", ContentFile(b"0123456789"))

    address = default_storage.url(name)

    with urllib.request.urlopen(default_storage.download_url(name, "Frühling.mp4"), timeout=10) as answer:
        assert answer.headers["Content-Disposition"] == "attachment; filename*=utf-8''Fr%C3%BChling.mp4"
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert (answer.read(), answer.headers["Content-Type"]) == (b"0123456789", "video/mp4")
    sources = object_storage.sources(
        f"azure://{azure}?connection_string={quote(default_storage.connection_string, safe='')}"
    )
    assert any(address.startswith(source) for source in sources)
    for wrong in (address.partition("?")[0], address.replace("sp=r", "sp=rw")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(wrong, timeout=10)
        assert refused.value.code in (403, 404)
        refused.value.close()


def test_google_signs_addresses_that_end(google: str) -> None:
    name = default_storage.save("videos/a b.mp4", ContentFile(b"0123456789"))

    signed = urlsplit(default_storage.url(name))

    told = parse_qs(signed.query)
    assert signed.path == f"/{google}/media/of-ours/videos/a%20b.mp4"
    assert told["X-Goog-Expires"] == ["60"]
    assert told["X-Goog-Credential"][0].startswith("studio@example.com/")
    assert len(told["X-Goog-Signature"][0]) == 512
    kept = parse_qs(urlsplit(default_storage.download_url(name, "a.mp4")).query)
    assert kept["response-content-disposition"] == ['attachment; filename="a.mp4"']


def test_a_missing_bucket_is_told_and_no_missing_file(settings: object, bucket: str) -> None:
    entry = settings.STORAGES["default"]
    elsewhere = {"bucket_name" if "bucket_name" in entry["OPTIONS"] else "azure_container": "none-such-here"}
    settings.STORAGES = {**settings.STORAGES, "default": {**entry, "OPTIONS": entry["OPTIONS"] | elsewhere}}

    with pytest.raises(inventory.StorageUnreadable):
        inventory.files_under("projects")
