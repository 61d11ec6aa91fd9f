"""Faults of everything but the paid POST and its task: results, downloads, uploads, free calls."""

import hashlib
import http.client
import time
from pathlib import Path
from typing import Any

import av
import pytest
import requests

from tests.sandbox import SandboxControl
from tests.wavespeed_sandbox.conftest import Provider

# The result


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("result_404", 404, '{"code": 404, "message": "prediction not found"}'),
        ("result_429", 429, '{"code": 429, "message": "Too Many Requests"}'),
        ("result_500", 500, '{"code": 500, "message": "Internal Server Error"}'),
        ("result_garbage", 200, "<html><body>bad gateway"),
        ("result_error_code", 200, '{"code": 500, "message": "internal error", "data": null}'),
    ],
)
def test_result_is_answered_badly_once(
    provider: Provider, control: SandboxControl, image: str, kind: str, status: int, text: str
) -> None:
    prediction = provider.create(image=image, prompt="pan")
    control.arm(kind)
    answer = provider.call("GET", f"predictions/{prediction}/result")
    assert (answer.status_code, answer.text) == (status, text)
    assert provider.result(prediction)["id"] == prediction


def test_result_is_dropped_or_late(provider: Provider, control: SandboxControl, image: str) -> None:
    prediction = provider.create(image=image, prompt="pan")
    control.arm("result_drop")
    with pytest.raises(requests.ConnectionError):
        provider.result(prediction)
    control.arm("result_timeout", seconds=5)
    with pytest.raises(requests.ReadTimeout):
        provider.call("GET", f"predictions/{prediction}/result", timeout=0.2)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("result_null_outputs", "outputs", None),
        ("result_null_nsfw", "has_nsfw_contents", None),
        ("result_no_timings", "timings", None),
        ("result_extra_fields", "executionTime", 1234),
        ("result_unknown_status", "status", "paused"),
        ("result_false_failure", "status", "failed"),
    ],
)
def test_result_is_disfigured(
    provider: Provider, control: SandboxControl, image: str, kind: str, field: str, value: Any
) -> None:
    prediction = provider.create(image=image, prompt="pan", duration=3)
    whole = provider.finished(prediction)
    control.arm(kind)
    assert provider.result(prediction).get(field) == value
    assert provider.result(prediction) == whole


def test_outputs_are_objects(provider: Provider, control: SandboxControl, image: str) -> None:
    prediction = provider.create(image=image, prompt="pan", duration=3)
    url = provider.finished(prediction)["outputs"][0]
    control.arm("result_object_outputs")
    assert provider.result(prediction)["outputs"] == [{"url": url, "type": "video"}]


# The download


@pytest.fixture
def output(provider: Provider, image: str) -> str:
    return str(provider.finished(provider.create(image=image, prompt="pan", duration=3))["outputs"][0])


@pytest.mark.parametrize("kind", ["download_truncated", "download_reset"])
def test_download_breaks_off(output: str, control: SandboxControl, kind: str) -> None:
    control.arm(kind)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        requests.get(output, timeout=5)
    assert len(requests.get(output, timeout=5).content) == control.predictions()[0]["output_bytes"]


@pytest.mark.parametrize("kind", ["download_truncated", "download_reset"])
def test_broken_download_brings_its_first_part(output: str, control: SandboxControl, kind: str) -> None:
    whole = requests.get(output, timeout=5).content
    control.arm(kind, fraction=0.25)
    host, path = output.removeprefix("http://").split("/", 1)
    connection = http.client.HTTPConnection(host, timeout=5)
    connection.request("GET", f"/{path}")
    answer = connection.getresponse()
    first, got = len(whole) // 4, b""
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)) as broken:  # noqa: PT012 - it breaks midway
        while True:
            got += answer.read1(1000) or answer.read(1)
            if len(got) >= first:
                got += answer.read()
    connection.close()
    assert got == whole[: len(got)]
    assert broken.type is (ConnectionResetError if kind == "download_reset" else http.client.IncompleteRead)


def test_download_is_slow(output: str, control: SandboxControl) -> None:
    size = control.predictions()[0]["output_bytes"]
    control.arm("download_slow", bytes_per_second=size * 2)
    started = time.monotonic()
    assert len(requests.get(output, timeout=5).content) == size
    assert time.monotonic() - started >= 0.4


@pytest.mark.parametrize("extra", [500, -500])
def test_download_has_the_wrong_length(output: str, control: SandboxControl, extra: int) -> None:
    size = control.predictions()[0]["output_bytes"]
    control.arm("download_wrong_length", extra=extra)
    with requests.get(output, stream=True, timeout=5) as answer:
        assert answer.headers["Content-Length"] == str(size + extra)


def test_download_is_noise_that_can_not_be_probed(output: str, control: SandboxControl, tmp_path: Path) -> None:
    made = control.predictions()[0]
    control.arm("download_corrupt")
    content = requests.get(output, timeout=5).content
    assert len(content) == made["output_bytes"]
    assert hashlib.sha256(content).hexdigest() != made["output_sha256"]
    (tmp_path / "noise.mp4").write_bytes(content)
    with pytest.raises(av.FFmpegError):
        av.open(str(tmp_path / "noise.mp4"))


@pytest.mark.parametrize("status", [403, 404, 410])
def test_expired_url_is_replaced_by_a_fresh_result(
    provider: Provider, output: str, control: SandboxControl, status: int
) -> None:
    control.arm("download_expired", status=status)
    assert requests.get(output, timeout=5).status_code == status
    assert requests.get(output, timeout=5).status_code == 403
    fresh = provider.result(control.predictions()[0]["id"])["outputs"][0]
    assert fresh != output
    assert requests.get(fresh, timeout=5).status_code == 200


def test_download_gets_500(output: str, control: SandboxControl) -> None:
    control.arm("download_500")
    assert [requests.get(output, timeout=5).status_code for _ in range(2)] == [500, 200]


def test_a_download_that_is_cut_goes_on_where_it_was_cut(output: str, control: SandboxControl) -> None:
    whole = requests.get(output, timeout=5).content
    control.arm("download_truncated", fraction=0.5)
    with requests.get(output, headers={"Range": "bytes=100-"}, stream=True, timeout=5) as answer:
        assert (answer.status_code, answer.headers["Content-Length"]) == (206, str(len(whole) - 100))
        assert answer.raw.read(200) == whole[100:300]


def test_download_knows_no_ranges(output: str, control: SandboxControl) -> None:
    control.arm("download_no_range")
    answer = requests.get(output, headers={"Range": "bytes=100-"}, timeout=5)
    assert (answer.status_code, len(answer.content)) == (200, control.predictions()[0]["output_bytes"])
    assert not {"ETag", "Accept-Ranges", "Content-Range"} & set(answer.headers)


def test_download_has_changed_since(output: str, control: SandboxControl) -> None:
    etag = requests.get(output, timeout=5).headers["ETag"]
    control.arm("download_changed")
    answer = requests.get(output, headers={"Range": "bytes=100-", "If-Range": etag}, timeout=5)
    assert answer.status_code == 200
    assert answer.headers["ETag"] != etag


# Uploads and free calls


def test_uploads_fail(provider: Provider, control: SandboxControl, photo: bytes) -> None:
    wanted = {"filename": "a.jpg", "size": len(photo)}
    control.arm("upload_ticket_500")
    assert provider.call("POST", "media/uploads", wanted).status_code == 500
    control.arm("upload_ticket_drop")
    with pytest.raises(requests.ConnectionError):
        provider.call("POST", "media/uploads", wanted)
    put = provider.data("POST", "media/uploads", wanted)["upload"]
    control.arm("upload_put_500")
    assert requests.put(put["url"], data=photo, headers=put["headers"], timeout=5).status_code == 500
    control.arm("upload_put_drop")
    with pytest.raises(requests.ConnectionError):
        requests.put(put["url"], data=photo, headers=put["headers"], timeout=5)
    control.arm("upload_binary_500")
    assert provider.call("POST", "media/upload/binary", files={"file": photo}).status_code == 500
    assert all(upload["stored_at"] is None for upload in control.uploads())


@pytest.mark.parametrize(("kind", "status"), [("free_500", 500), ("free_401", 401), ("free_429", 429)])
def test_free_calls_fail(provider: Provider, control: SandboxControl, kind: str, status: int) -> None:
    control.arm(kind, route="billings")
    assert provider.call("GET", "balance").status_code == 200
    assert [provider.call("POST", "billings/search", {}).status_code for _ in range(2)] == [status, 200]


def test_free_calls_are_garbage_or_late(provider: Provider, control: SandboxControl) -> None:
    control.arm("free_garbage")
    assert provider.call("GET", "models").text == "<html><body>maintenance"
    control.arm("free_timeout", seconds=5)
    with pytest.raises(requests.ReadTimeout):
        provider.call("GET", "webhook/secret", timeout=0.2)
