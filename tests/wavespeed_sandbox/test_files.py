import hashlib

import pytest
import requests

from tests.sandbox import SandboxControl
from tests.wavespeed_sandbox.conftest import Provider
from wavespeed_sandbox import Sandbox


@pytest.fixture
def output(provider: Provider, image: str) -> str:
    """The URL of a finished clip."""
    return str(provider.finished(provider.create(image=image, prompt="pan", duration=3))["outputs"][0])


def test_output_comes_whole_from_another_port(output: str, sandbox: Sandbox, control: SandboxControl) -> None:
    answer = requests.get(output, timeout=5)
    made = control.predictions()[0]
    assert output.startswith(sandbox.files_url)
    assert sandbox.files_url != sandbox.url
    assert hashlib.sha256(answer.content).hexdigest() == made["output_sha256"]
    assert answer.headers["Content-Length"] == str(made["output_bytes"]) == str(len(answer.content))
    assert answer.headers["Content-Type"] == "video/mp4"
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["ETag"] == f'"{made["output_sha256"]}"'


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-", 0, None), ("bytes=100-199", 100, 200), ("bytes=100-99999999", 100, None), ("bytes=-50", -50, None)],
)
def test_output_comes_in_ranges(output: str, asked: str, start: int, end: int | None) -> None:
    whole = requests.get(output, timeout=5).content
    answer = requests.get(output, headers={"Range": asked}, timeout=5)
    first = start if start >= 0 else len(whole) + start
    last = (end or len(whole)) - 1
    assert (answer.status_code, answer.content) == (206, whole[start:end])
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(whole)}"


def test_a_range_beyond_the_end_is_refused(output: str) -> None:
    size = requests.head(output, timeout=5).headers["Content-Length"]
    answer = requests.get(output, headers={"Range": f"bytes={size}-"}, timeout=5)
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, f"bytes */{size}")


def test_a_range_of_another_version_gets_the_whole(output: str) -> None:
    answer = requests.get(output, headers={"Range": "bytes=10-", "If-Range": '"other"'}, timeout=5)
    assert (answer.status_code, len(answer.content)) == (200, int(answer.headers["Content-Length"]))


def test_output_needs_its_signature(output: str) -> None:
    bare = output.split("?")[0]
    assert [
        requests.get(url, timeout=5).status_code
        for url in (bare, output[:-1] + "x", output.replace("Expires=", "Expires=9"), f"{bare}?Expires=soon")
    ] == [403, 403, 403, 403]


def test_each_prediction_has_bytes_of_its_own(provider: Provider, control: SandboxControl, image: str) -> None:
    for _ in range(2):
        provider.finished(provider.create(image=image, prompt="the same", duration=3))
    one, two = control.predictions()
    assert one["output_sha256"] != two["output_sha256"]
