import json
import time
from typing import Any

import pytest
import requests

from tests.sandbox import ROOT, SandboxControl
from tests.wavespeed_sandbox.conftest import IMAGE_TO_VIDEO, Provider
from wavespeed_sandbox.faults import KINDS

CREDITS = "Insufficient credits. Please top up your account to continue."


def test_every_kind_stands_in_the_documentation() -> None:
    rows = [line.split("|") for line in (ROOT / "docs/sandbox.md").read_text().splitlines() if line.startswith("| `")]
    documented = {row[1].strip(" `"): (row[2].strip(), row[3].strip()) for row in rows if row[1].strip(" `") in KINDS}
    told = {
        name: (
            kind.description,
            ", ".join(f"`{key}` {json.dumps(value)}" for key, value in kind.parameters.items() if key != "route"),
        )
        for name, kind in KINDS.items()
    }
    assert documented == told


# Arming


def test_a_fault_strikes_as_often_as_it_was_armed(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("submit_500", times=2)
    answers = [provider.submit(image=image, prompt="pan").status_code for _ in range(3)]
    assert answers == [500, 500, 200]
    assert [(fault["kind"], fault["times"], fault["taken"]) for fault in control.faults()] == [("submit_500", 2, 2)]


def test_a_fault_without_end_strikes_until_it_is_disarmed(
    provider: Provider, control: SandboxControl, image: str
) -> None:
    control.arm("submit_429", times=None)
    assert [provider.submit(image=image, prompt="pan").status_code for _ in range(3)] == [429] * 3
    control.disarm()
    assert provider.submit(image=image, prompt="pan").status_code == 200


def test_faults_keep_to_their_filters(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("submit_500", model="kwaivgi/kling-elements")
    control.arm("submit_503", prompt="red")
    assert provider.submit(image=image, prompt="blue").status_code == 200
    assert provider.submit(image=image, prompt="a red car").status_code == 503
    prediction, other = (provider.create(image=image, prompt="blue") for _ in range(2))
    control.arm("result_404", prediction=prediction)
    assert provider.call("GET", f"predictions/{other}/result").status_code == 200
    assert provider.call("GET", f"predictions/{prediction}/result").status_code == 404


def test_a_fault_with_chance_zero_never_strikes(provider: Provider, control: SandboxControl) -> None:
    control.arm("free_500", times=None, chance=0)
    assert [provider.call("GET", "balance").status_code for _ in range(5)] == [200] * 5


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("submit_tea", {}, "There is no fault kind 'submit_tea'; the kinds are submit_drop_before, "),
        ("submit_500", {"secs": 3}, "submit_500 does not take secs; its parameters are: status, message, created, "),
        ("submit_slow", {"seconds": "3"}, "submit_slow: seconds must be like 30.0; not '3'."),
        ("submit_500", {"times": 0}, "times must be a whole number from 1, or null for always; not 0."),
        ("submit_500", {"chance": 2}, "chance must be a number from 0 to 1; not 2."),
    ],
)
def test_arming_refuses(control: SandboxControl, kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        control.arm(kind, **options)
    assert str(refused.value).startswith(message)


# The paid POST


@pytest.mark.parametrize(
    ("kind", "status", "message", "created"),
    [
        ("submit_400", 400, "invalid request", 0),
        ("submit_insufficient_credits", 400, CREDITS, 0),
        ("submit_401", 401, "Unauthorized", 0),
        ("submit_403", 403, "Forbidden", 0),
        ("submit_404", 404, "Not Found", 0),
        ("submit_408", 408, "Request Timeout", 0),
        ("submit_409", 409, "Conflict", 0),
        ("submit_413", 413, "Payload Too Large", 0),
        ("submit_422", 422, "Unprocessable Entity", 0),
        ("submit_429", 429, "Too Many Requests", 0),
        ("submit_concurrency", 429, "You have reached your concurrency limit", 0),
        ("submit_500", 500, "Internal Server Error", 0),
        ("submit_500_created", 500, "Internal Server Error", 1),
        ("submit_503", 503, "Service Unavailable", 0),
        ("submit_504", 504, "Gateway Timeout", 0),
        ("submit_504_created", 504, "Gateway Timeout", 1),
    ],
)
def test_submit_is_answered_with_a_status(
    provider: Provider, control: SandboxControl, image: str, kind: str, status: int, message: str, created: int
) -> None:
    control.arm(kind)
    answer = provider.submit(image=image, prompt="pan")
    assert (answer.status_code, answer.json()) == (status, {"code": status, "message": message})
    assert_made(control, created)


def assert_made(control: SandboxControl, tasks: int) -> None:
    """One POST came in, so many tasks were made, and each is billed."""
    assert control.posts()["count"] == 1
    assert len(control.predictions()) == tasks
    assert control.bill()["total_micros"] == tasks * 2_100_000


def test_submit_can_say_when_to_come_back(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("submit_429", retry_after=7)
    assert provider.submit(image=image, prompt="pan").headers["Retry-After"] == "7"


@pytest.mark.parametrize(("kind", "created"), [("submit_drop_before", 0), ("submit_drop_after", 1)])
def test_submit_is_dropped(provider: Provider, control: SandboxControl, image: str, kind: str, created: int) -> None:
    control.arm(kind)
    with pytest.raises(requests.ConnectionError, match="Remote end closed connection without response"):
        provider.submit(image=image, prompt="pan")
    assert_made(control, created)


@pytest.mark.parametrize("created", [True, False])
def test_submit_is_answered_after_the_client_gave_up(
    provider: Provider, control: SandboxControl, image: str, created: bool
) -> None:
    control.arm("submit_slow", seconds=30, created=created)
    with pytest.raises(requests.ReadTimeout):
        provider.call("POST", IMAGE_TO_VIDEO, {"image": image, "prompt": "pan"}, timeout=1)
    assert_made(control, int(created))


def test_slow_submit_is_answered_in_the_end(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("submit_slow", seconds=0.4)
    started = time.monotonic()
    prediction = provider.create(image=image, prompt="pan")
    assert time.monotonic() - started >= 0.4
    assert control.predictions()[0]["id"] == prediction


@pytest.mark.parametrize(("status", "created"), [(301, False), (307, False), (308, True)])
def test_submit_is_redirected(
    provider: Provider, control: SandboxControl, image: str, status: int, created: bool
) -> None:
    control.arm("submit_redirect", status=status, created=created)
    answer = provider.submit(image=image, prompt="pan")
    assert (answer.status_code, answer.headers["Location"]) == (status, f"{provider.url}/api/v3/{IMAGE_TO_VIDEO}")
    assert_made(control, int(created))


@pytest.mark.parametrize(("kind", "created"), [("submit_garbage", 0), ("submit_garbage_created", 1)])
def test_submit_is_answered_with_garbage(
    provider: Provider, control: SandboxControl, image: str, kind: str, created: int
) -> None:
    control.arm(kind)
    answer = provider.submit(image=image, prompt="pan")
    assert (answer.status_code, answer.text) == (200, "<html><body>upstream said: ok")
    assert_made(control, created)


def test_submit_is_answered_with_an_error_code(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("submit_error_code", code=5000, message="odd")
    answer = provider.submit(image=image, prompt="pan")
    assert (answer.status_code, answer.json()) == (200, {"code": 5000, "message": "odd", "data": None})
    assert_made(control, 0)


def test_submit_is_answered_without_id(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("submit_no_id")
    answer = provider.submit(image=image, prompt="pan").json()
    assert (answer["code"], answer["data"]["status"], "id" in answer["data"]) == (200, "created", False)
    assert_made(control, 1)


# The task


@pytest.mark.parametrize(
    ("kind", "options", "ending"),
    [
        *[("task_failed", {"code": code}, ("failed", code)) for code in (1200, 1400, 1401, 1402, 1403, 1405)],
        *[("task_failed", {"code": code}, ("failed", code)) for code in (1406, 1407, 5000, 5003, 5004)],
        ("task_nsfw", {}, ("failed", 1200)),
        ("task_cancelled", {}, ("cancelled", 0)),
        ("task_timeout", {}, ("timeout", 5004)),
        ("task_deleted", {}, ("deleted", 0)),
    ],
)
def test_task_ends_without_output(
    provider: Provider, control: SandboxControl, image: str, kind: str, options: dict[str, Any], ending: tuple[str, int]
) -> None:
    control.arm(kind, **options)
    found = provider.finished(provider.create(image=image, prompt="pan"))
    assert (found["status"], found["code"]) == ending
    assert found["error"] != ""
    assert found["outputs"] == []
    assert found["has_nsfw_contents"] == ([True] if kind == "task_nsfw" else [])


def test_task_fails_with_the_asked_text(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("task_failed", code=1405, error="no luck")
    assert provider.finished(provider.create(image=image, prompt="pan"))["error"] == "no luck"


def test_task_is_flagged(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("task_nsfw_flagged")
    found = provider.finished(provider.create(image=image, prompt="pan", duration=3))
    assert (found["status"], found["has_nsfw_contents"], len(found["outputs"])) == ("completed", [True], 1)


def test_task_never_ends(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("task_endless")
    prediction = provider.create(image=image, prompt="pan")
    control.advance(6 * 24 * 3600)
    assert provider.result(prediction)["status"] == "processing"


def test_task_takes_longer(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("task_slow", factor=100)
    prediction = provider.create(image=image, prompt="pan")
    control.advance(20)
    assert provider.result(prediction)["status"] == "processing"
    control.advance(20)
    assert provider.finished(prediction)["status"] == "completed"


# Money


@pytest.mark.parametrize(("options", "price"), [({"price": 3.5}, 3.5), ({"factor": 0.5}, 1.05)])
def test_charge_differs_from_the_catalogue(
    provider: Provider, control: SandboxControl, image: str, options: dict[str, float], price: float
) -> None:
    control.arm("charge_price", **options)
    provider.create(image=image, prompt="pan")
    assert [item["price"] for item in provider.data("POST", "billings/search", {})["items"]] == [price]


def test_charge_is_seen_late(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("charge_late", seconds=100)
    provider.create(image=image, prompt="pan")
    assert provider.data("POST", "billings/search", {})["total"] == 0
    control.advance(101)
    assert provider.data("POST", "billings/search", {})["total"] == 1


def test_refund_never_comes(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("refund_never")
    control.arm("task_failed")
    provider.finished(provider.create(image=image, prompt="pan"))
    control.advance(5 * 24 * 3600)
    assert control.bill()["refunded"] == 0


def test_refund_comes_late(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("refund_late", seconds=5000)
    control.arm("task_failed")
    provider.finished(provider.create(image=image, prompt="pan"))
    control.advance(4900)
    assert control.bill()["refunded"] == 0
    control.advance(200)
    assert control.bill()["refunded"] == 2.1
