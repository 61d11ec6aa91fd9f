"""The provider's official SDK against the sandbox: where the two disagree, the sandbox is wrong."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from wavespeed.api.client import Client

from tests.sandbox import SandboxControl
from tests.wavespeed_sandbox.conftest import IMAGE_TO_VIDEO, picture
from wavespeed_sandbox import Sandbox


@pytest.fixture
def client(sandbox: Sandbox) -> Client:
    return Client("any-key", base_url=sandbox.url, max_connection_retries=1, retry_interval=0.05)


@pytest.fixture
def inputs(client: Client) -> dict[str, Any]:
    return {"image": client.upload(io.BytesIO(picture())), "prompt": "slow zoom", "duration": 3}


def run(client: Client, inputs: dict[str, Any], **how: Any) -> list[Any]:
    return list(client.run(IMAGE_TO_VIDEO, inputs, poll_interval=0.05, **how)["outputs"])


def test_upload_of_a_path_and_of_a_stream(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(picture(kind="PNG"))
    url = client.upload(str(path))
    assert url.endswith("/photo.png")
    assert requests.get(url, timeout=5).headers["Content-Type"] == "image/png"
    assert requests.get(client.upload(io.BytesIO(b"abc")), timeout=5).content == b"abc"


def test_run_brings_a_video(client: Client, control: SandboxControl, inputs: dict[str, Any]) -> None:
    (url,) = run(client, inputs)
    assert requests.get(url, timeout=5).content[4:8] == b"ftyp"
    assert (control.posts()["count"], control.bill()["total"]) == (1, 1.26)


def test_result_can_be_asked_for_again(client: Client, control: SandboxControl, inputs: dict[str, Any]) -> None:
    outputs = run(client, inputs)
    data = client.get_result(control.predictions()[0]["id"])["data"]
    assert (data["status"], data["outputs"]) == ("completed", outputs)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("task_failed", r"Prediction failed \(task_id: [0-9a-f]{32}\): task execution failed"),
        ("task_cancelled", r"Prediction cancelled \(task_id: .*\): task cancelled"),
        ("task_timeout", r"Prediction timeout \(task_id: .*\): task timed out"),
        ("task_deleted", r"Prediction deleted \(task_id: .*\): task deleted"),
        ("submit_no_id", r"No request ID in response"),
        ("submit_429", r"Failed to submit prediction: HTTP 429: .*Too Many Requests"),
        ("submit_504_created", r"Failed to submit prediction: HTTP 504"),
        ("submit_drop_after", r"Prediction submission did not return a response"),
        ("submit_insufficient_credits", r"HTTP 400: .*Insufficient credits. Please top up your account"),
    ],
)
def test_run_raises(client: Client, control: SandboxControl, inputs: dict[str, Any], kind: str, message: str) -> None:
    control.arm(kind)
    with pytest.raises(RuntimeError, match=message):
        run(client, inputs)
    assert control.posts()["count"] == 1


def test_run_raises_on_a_submit_that_is_not_answered(
    client: Client, control: SandboxControl, inputs: dict[str, Any]
) -> None:
    control.arm("submit_slow", seconds=30)
    with pytest.raises(RuntimeError, match="may already have been created"):
        run(client, inputs, timeout=1)
    assert (control.posts()["count"], len(control.predictions())) == (1, 1)


def test_run_gives_up_waiting_and_finds_the_task_again(
    client: Client, control: SandboxControl, inputs: dict[str, Any]
) -> None:
    control.arm("task_endless")
    told = client.run_no_throw(IMAGE_TO_VIDEO, inputs, timeout=2, poll_interval=0.1)
    assert (told["outputs"], told["task_id"]) == (None, control.predictions()[0]["id"])
    assert client.get_result(told["task_id"])["data"]["status"] == "processing"


def test_polls_are_retried(
    client: Client, control: SandboxControl, inputs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    control.arm("result_500")
    assert len(run(client, inputs)) == 1
    assert "Server error (HTTP 500)" in capsys.readouterr().out


def test_an_unknown_task_raises(client: Client) -> None:
    with pytest.raises(RuntimeError, match=r"HTTP 404: .*prediction not found"):
        client.get_result("0" * 32)


@pytest.mark.parametrize(
    ("kind", "message"),
    [("upload_ticket_500", "Failed to create upload: HTTP 500"), ("upload_put_500", "Failed to upload file: HTTP 500")],
)
def test_upload_raises(client: Client, control: SandboxControl, kind: str, message: str) -> None:
    control.arm(kind)
    with pytest.raises(RuntimeError, match=message):
        client.upload(io.BytesIO(b"abc"))


def test_a_wrong_key_raises(make_sandbox: Callable[..., Sandbox]) -> None:
    client = Client("wrong", base_url=make_sandbox(api_key="right").url)
    with pytest.raises(RuntimeError, match="HTTP 401"):
        client.upload(io.BytesIO(b"abc"))
    with pytest.raises(RuntimeError, match="HTTP 401"):
        run(client, {"image": "https://example.com/a.jpg", "prompt": "pan"})


def test_a_missing_field_raises(client: Client) -> None:
    with pytest.raises(RuntimeError, match=r'HTTP 400: .*field \\"image\\" is required and must not be empty'):
        run(client, {"prompt": "pan"})
