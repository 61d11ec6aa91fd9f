import time
from collections.abc import Callable

import pytest

from tests.sandbox import SandboxControl
from tests.wavespeed_sandbox.conftest import IMAGE_TO_VIDEO, Provider, picture
from wavespeed_sandbox import Sandbox


def test_submit_answers_with_the_created_prediction(provider: Provider, sandbox: Sandbox, image: str) -> None:
    answer = provider.submit(image=image, prompt="slow zoom").json()
    data = answer["data"]
    assert (answer["code"], answer["message"]) == (200, "success")
    assert len(data["id"]) == 32
    assert data == {
        "id": data["id"],
        "model": IMAGE_TO_VIDEO,
        "outputs": [],
        "urls": {"get": f"{sandbox.url}/api/v3/predictions/{data['id']}/result"},
        "has_nsfw_contents": [],
        "status": "created",
        "created_at": data["created_at"],
        "error": "",
        "code": 0,
        "timings": {"inference": 0},
    }
    assert data["created_at"].endswith("000Z")


def test_states_follow_the_clock(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(speed=1)
    provider, control = Provider(sandbox.url), SandboxControl(sandbox.url)
    prediction = provider.create(image=provider.upload(picture()), prompt="pan")
    assert provider.result(prediction)["status"] == "created"
    control.advance(60)
    assert provider.result(prediction)["status"] == "processing"
    control.advance(61)
    found = provider.finished(prediction)
    assert found["status"] == "completed"
    assert found["has_nsfw_contents"] == [False]
    assert found["timings"] == {"inference": 108_000}
    assert found["outputs"][0].startswith(f"{sandbox.files_url}/outputs/{prediction}/output.mp4?Expires=")


def test_speed_changes_what_is_left(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(speed=1)
    provider = Provider(sandbox.url)
    prediction = provider.create(image=provider.upload(picture()), prompt="pan")
    SandboxControl(sandbox.url).set_speed(1000)
    assert provider.finished(prediction, within=5)["status"] == "completed"


def test_unknown_keys_are_dropped_and_billed_with_defaults(
    provider: Provider, control: SandboxControl, image: str
) -> None:
    provider.create(image=image, prompt="pan", durations=15, sond=True)
    assert control.predictions()[0]["inputs"] == {
        "image": image,
        "prompt": "pan",
        "duration": 5,
        "sound": False,
        "shot_type": "customize",
    }
    assert control.bill()["total"] == 2.10


def test_invalid_input_is_refused_and_costs_nothing(provider: Provider, control: SandboxControl) -> None:
    answer = provider.submit(prompt="pan")
    assert answer.status_code == 400
    assert answer.json() == {"code": 400, "message": 'field "image" is required and must not be empty'}
    assert control.bill()["rows"] == []
    assert control.posts()["count"] == 1


def test_webhook_that_is_no_url_is_refused(provider: Provider, control: SandboxControl, image: str) -> None:
    answer = provider.submit(webhook="studio", image=image, prompt="pan")
    assert (answer.status_code, answer.json()["message"]) == (400, 'query "webhook" must be a valid URL')
    assert control.predictions() == []


def test_unknown_model_is_refused(provider: Provider, control: SandboxControl) -> None:
    answer = provider.submit("kwaivgi/kling-video-o9/image-to-video", prompt="pan")
    assert (answer.status_code, answer.json()["message"]) == (
        404,
        "model kwaivgi/kling-video-o9/image-to-video not found",
    )
    assert control.predictions() == []


def test_every_post_is_counted_by_its_image(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("submit_500")
    provider.submit(image=image, prompt="pan")
    prediction = provider.create(image=image, prompt="pan")
    Provider(provider.url, key=None).submit(image=image, prompt="pan")
    posts = control.posts()
    assert (posts["count"], posts["by_image"]) == (3, {image: 3})
    assert [(post["fault"], post["prediction_id"]) for post in posts["posts"]] == [
        ("submit_500", None),
        (None, prediction),
        (None, None),
    ]


@pytest.mark.parametrize(("key", "message"), [(None, "API key is missing"), ("wrong", "API key is invalid")])
def test_a_bad_key_is_refused(make_sandbox: Callable[..., Sandbox], key: str | None, message: str) -> None:
    sandbox = make_sandbox(api_key="right")
    stranger = Provider(sandbox.url, key)
    for answer in (
        stranger.call("GET", "balance"),
        stranger.submit(prompt="pan"),
        stranger.call("POST", "predictions"),
    ):
        assert (answer.status_code, answer.json()) == (401, {"code": 401, "message": f"Unauthorized: {message}"})
    assert Provider(sandbox.url, "right").data("GET", "balance") == {"balance": 1000.0}


def test_submit_without_credits_is_refused(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(balance="2.50")
    provider = Provider(sandbox.url)
    image = provider.upload(picture())
    provider.create(image=image, prompt="pan")
    answer = provider.submit(image=image, prompt="pan")
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "Insufficient credits. Please top up your account to continue.",
    )
    assert provider.data("GET", "balance") == {"balance": 0.4}


def test_limit_per_minute(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(per_minute=2)
    provider = Provider(sandbox.url)
    image = provider.upload(picture())
    answers = [provider.submit(image=image, prompt="pan") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json() == {"code": 429, "message": "Too Many Requests"}
    SandboxControl(sandbox.url).advance(61)
    assert provider.submit(image=image, prompt="pan").status_code == 200


def test_limit_at_once(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(concurrent=1, speed=1)
    provider = Provider(sandbox.url)
    image = provider.upload(picture())
    first = provider.create(image=image, prompt="pan")
    answer = provider.submit(image=image, prompt="pan")
    assert (answer.status_code, answer.json()["message"]) == (429, "You have reached your concurrency limit")
    SandboxControl(sandbox.url).advance(130)
    provider.finished(first)
    assert provider.submit(image=image, prompt="pan").status_code == 200


def test_latency_is_added_to_each_call(make_sandbox: Callable[..., Sandbox]) -> None:
    provider = Provider(make_sandbox(latency=0.3).url)
    started = time.monotonic()
    provider.data("GET", "balance")
    assert time.monotonic() - started >= 0.3


def test_elements_are_objects_with_a_number(provider: Provider, image: str) -> None:
    prediction = provider.create(
        "kwaivgi/kling-elements", name="Ana", description="a woman", image=image, element_refer_list=[image]
    )
    element = provider.finished(prediction)["outputs"][0]
    assert (element["element_name"], element["element_description"]) == ("Ana", "a woman")
    assert isinstance(element["element_id"], int)
    assert len(str(element["element_id"])) == 15
