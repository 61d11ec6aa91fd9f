"""`STORAGE_URL`: its options have types, what is wrong stops the start with a sentence, and foreign S3 servers get what they understand."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import quote

import pytest
from django.core.files.base import ContentFile
from environs import EnvError

from kling_studio.object_storage import entry, sources
from kling_studio.object_storage.s3 import S3

CONNECTION = "DefaultEndpointsProtocol=https;AccountName=studio;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"


def options(url: str, *, url_seconds: int = 60) -> dict[str, object]:
    told: dict[str, object] = entry(url, url_seconds=url_seconds)["OPTIONS"]
    return told


def refused(url: str, *, url_seconds: int = 60) -> str:
    with pytest.raises(EnvError) as error:
        entry(url, url_seconds=url_seconds)
    return str(error.value)


def test_each_option_of_s3_has_its_type() -> None:
    encrypted = quote('{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key"}')
    url = f"s3://videos/of-ours/2026?verify=false&querystring_auth=False&use_ssl=true&object_parameters={encrypted}"

    assert options(url) == {
        "location": "of-ours/2026",
        "bucket_name": "videos",
        "querystring_expire": 60,
        "file_overwrite": False,
        "signature_version": "s3v4",
        "request_checksum_calculation": "when_supported",
        "verify": False,
        "querystring_auth": False,
        "use_ssl": True,
        "object_parameters": {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "key"},
    }
    assert options("s3://videos?verify=/etc/ssl/ours.pem")["verify"] == "/etc/ssl/ours.pem"


def test_the_options_of_google_and_azure_have_theirs() -> None:
    assert options("gs://videos/of-ours?iam_sign_blob=true&project_id=studio") == {
        "location": "of-ours",
        "bucket_name": "videos",
        "expiration": 60,
        "file_overwrite": False,
        "iam_sign_blob": True,
        "project_id": "studio",
    }
    assert options(f"azure://videos?timeout=30&azure_ssl=true&connection_string={quote(CONNECTION)}") == {
        "location": "",
        "azure_container": "videos",
        "expiration_secs": 60,
        "overwrite_files": False,
        "timeout": 30,
        "azure_ssl": True,
        "connection_string": CONNECTION,
        "account_name": "studio",
        "account_key": "c2VjcmV0",
    }


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (
            "s3://videos?regionname=eu",
            "STORAGE_URL: s3:// has no option “regionname”. Did you mean region_name? It takes ",
        ),
        ("s3://videos?file_overwrite=true", "STORAGE_URL: s3:// has no option “file_overwrite”."),
        ("s3://videos?bucket_name=other", "STORAGE_URL: s3:// has no option “bucket_name”."),
        ("gs://videos?region_name=eu", "STORAGE_URL: gs:// has no option “region_name”."),
        ("s3://videos?verify=no", "STORAGE_URL: verify: Write true, false, or the absolute path"),
        ("s3://videos?querystring_auth=0", "STORAGE_URL: querystring_auth: Write true or false."),
        ("s3://videos?object_parameters=AES256", "STORAGE_URL: object_parameters: Write a JSON object, URL-encoded"),
        ("s3://videos?object_parameters=%5B1%5D", "STORAGE_URL: object_parameters: Write a JSON object, URL-encoded"),
        ("s3://videos?addressing_style=paths", "STORAGE_URL: addressing_style: Write auto or path or virtual."),
        ("s3://videos?endpoint_url=minio.example.com:9000", "STORAGE_URL: endpoint_url: Write a complete address"),
        ("s3://videos?access_key=hunter2", "STORAGE_URL: access_key and secret_key go together."),
        ("s3://videos?region_name=", "STORAGE_URL: region_name has no value."),
        ("s3://videos?region_name=a&region_name=b", "STORAGE_URL: region_name stands there twice."),
        ("s3://key:hunter2@videos", "STORAGE_URL: After s3:// comes the name of the bucket alone;"),
        ("azure://videos?timeout=soon&connection_string=x", "STORAGE_URL: timeout: Write a whole number."),
        ("azure://videos?account_key=hunter2", "STORAGE_URL: azure:// needs account_name"),
        ("azure://videos?account_name=studio", "STORAGE_URL: azure:// needs account_key"),
        ("file:///srv/media?verify=false", "STORAGE_URL: file:// takes no options."),
    ],
)
def test_what_would_fail_later_is_refused_at_the_start(url: str, told: str) -> None:
    sentence = refused(url)

    assert sentence.startswith(told)
    assert "hunter2" not in sentence


@pytest.mark.parametrize("url", ["s3://videos", "gs://videos"])
def test_links_that_no_signature_can_last_are_refused(url: str) -> None:
    week = 7 * 24 * 3600

    assert refused(url, url_seconds=week + 1).startswith("MEDIA_URL_SECONDS: At most 604800 (7 days) with ")
    assert options(url, url_seconds=week)["bucket_name"] == "videos"
    assert options(f"{url}?querystring_auth=false", url_seconds=week + 1)["querystring_auth"] is False


def test_azure_s_links_may_last_longer() -> None:
    url = f"azure://videos?connection_string={quote(CONNECTION)}"

    assert options(url, url_seconds=30 * 24 * 3600)["expiration_secs"] == 30 * 24 * 3600
    assert sources(url) == ["https://studio.blob.core.windows.net/videos/"]


# --- MinIO, R2, B2 and their like ---------------------------------------------------------------------------------------


@pytest.fixture
def captured() -> Iterator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """The address of a server that takes every PUT and POST, and what it was sent: method and path, headers, body."""
    seen: list[tuple[str, dict[str, str], bytes]] = []

    class Server(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            self._take()

        def do_POST(self) -> None:
            self._take()

        def do_HEAD(self) -> None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _take(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((f"{self.command} {self.path}", dict(self.headers.items()), body))
            answer = b""
            if self.path.endswith("?uploads"):
                answer = b"<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>"
            elif self.command == "POST":
                answer = b"<CompleteMultipartUploadResult><ETag>1</ETag></CompleteMultipartUploadResult>"
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("size", [1_000, 20_000_000])
def test_other_servers_than_amazon_s_get_plain_bytes(
    captured: tuple[str, list[tuple[str, dict[str, str], bytes]]], size: int
) -> None:
    """Checksum trailers (`aws-chunked`) are refused by some and stored as part of the file by others."""
    address, seen = captured
    encrypted = quote(json.dumps({"ServerSideEncryption": "AES256"}))
    url = (
        f"s3://videos/of-ours?endpoint_url={address}&addressing_style=path&region_name=auto"
        f"&access_key=key&secret_key=secret&object_parameters={encrypted}"
    )
    storage = S3(**options(url))

    storage.save("a.mp4", ContentFile(b"x" * size))
    storage.connection.meta.client.close()

    pieces = [(line, headers, body) for line, headers, body in seen if line.startswith("PUT")]
    assert b"".join(body for _, _, body in pieces) == b"x" * size
    for _, headers, _ in seen:
        names = {name.lower() for name in headers}
        assert not names & {"x-amz-trailer", "x-amz-sdk-checksum-algorithm", "x-amz-checksum-crc32"}
        assert "aws-chunked" not in headers.get("Content-Encoding", "")
        assert headers["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")
    told = {name.lower(): value for name, value in seen[0][1].items()}
    assert told["x-amz-server-side-encryption"] == "AES256"
    assert seen[0][0].split("?")[0].endswith(" /videos/of-ours/a.mp4")


def test_checksums_can_be_asked_for_where_a_server_knows_them() -> None:
    there = "s3://videos?endpoint_url=https://s3.example.com"

    assert options(there)["request_checksum_calculation"] == "when_required"
    asked = S3(
        **options(f"{there}&request_checksum_calculation=when_supported&region_name=eu&access_key=a&secret_key=b")
    )
    assert asked.client_config.request_checksum_calculation == "when_supported"
    assert options("s3://videos")["request_checksum_calculation"] == "when_supported"
