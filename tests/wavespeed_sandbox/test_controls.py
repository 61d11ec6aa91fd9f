import pytest
import requests

from tests.sandbox import SandboxControl
from tests.wavespeed_sandbox.conftest import IMAGE_TO_VIDEO, Provider
from wavespeed_sandbox import Sandbox
from wavespeed_sandbox.faults import KINDS


def test_info_tells_where_and_how(control: SandboxControl, sandbox: Sandbox) -> None:
    info = control.info()
    assert (info["api_url"], info["files_url"], info["data_dir"]) == (
        sandbox.url,
        sandbox.files_url,
        str(sandbox.data_dir),
    )
    assert (info["resolution"], info["speed"], info["balance"]) == ("180p", 400.0, 1000.0)
    assert list(info["fault_kinds"]) == list(KINDS)


def test_predictions_are_shown_in_full(provider: Provider, control: SandboxControl, image: str) -> None:
    provider.create(webhook="http://127.0.0.1:9/hook", image=image, prompt="first", duration=3)
    prediction = provider.create(image=image, prompt="pan", duration=3)
    url = provider.finished(prediction)["outputs"][0]
    newest, oldest = control.predictions()
    assert (oldest["inputs"]["prompt"], oldest["webhook"]) == ("first", "http://127.0.0.1:9/hook")
    assert (newest["id"], newest["model"], newest["status"]) == (prediction, IMAGE_TO_VIDEO, "completed")
    assert newest["output_url"] == url
    assert newest["output_bytes"] > 1000


def test_reset_forgets_everything_but_the_clock(provider: Provider, control: SandboxControl, image: str) -> None:
    control.advance(100)
    control.arm("task_endless", times=None)
    provider.create(image=image, prompt="pan")
    control.reset()
    assert (control.predictions(), control.bill()["rows"], control.faults(), control.uploads()) == ([], [], [], [])
    assert control.posts() == {"count": 0, "by_image": {}, "posts": []}
    assert control.info()["clock"]["offset_seconds"] == 100
    assert requests.get(image, timeout=5).status_code == 404


def test_controls_refuse_what_they_do_not_understand(control: SandboxControl) -> None:
    def refusal(path: str, body: object) -> tuple[int, str]:
        answer = requests.post(f"{control.url}/_sandbox/{path}", json=body, timeout=5)
        return answer.status_code, answer.json()["error"]

    assert refusal("clock", {"advance": 5}) == (
        400,
        'advance_seconds must be a number, for example {"advance_seconds": 60}',
    )
    assert refusal("speed", {"speed": 0}) == (400, "speed must be above 0")
    assert refusal("clock", [1]) == (400, "the body must be a JSON object")
    assert refusal("tea", {}) == (404, "no control POST /_sandbox/tea")


@pytest.mark.parametrize("path", ["", "bill", "predictions", "posts", "faults", "uploads", "webhooks"])
def test_controls_need_no_key(sandbox: Sandbox, path: str) -> None:
    assert requests.get(f"{sandbox.url}/_sandbox/{path}", timeout=5).status_code == 200
