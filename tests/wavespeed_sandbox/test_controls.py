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


def test_the_bill_can_be_falsified(provider: Provider, control: SandboxControl, image: str) -> None:
    first = provider.create(image=image, prompt="pan", duration=3)
    second = provider.create(image=image, prompt="pan", duration=3)
    kept, removed = control.bill()["rows"]

    bill = control.doctor(
        add=[
            {"prediction_id": first, "billing_type": "deduct", "price": 0.5, "created_at": "2026-01-31T12:00:00Z"},
            {"prediction_id": "0" * 32, "billing_type": "refund", "price": 0.1},
        ],
        change=[{"uuid": kept["uuid"], "price": 1.5}],
        remove=[removed["uuid"]],
    )

    rows = {(row["prediction_id"], row["billing_type"], row["price_micros"]) for row in bill["rows"]}
    assert rows == {(first, "deduct", 500_000), (first, "deduct", 1_500_000), ("0" * 32, "refund", 100_000)}
    assert bill == control.bill()
    assert (bill["total_micros"], bill["balance"]) == (1_900_000, 998.1)
    seen = provider.data("POST", "billings/search", {"prediction_uuids": [first, second]})["items"]
    assert [(row["uuid"], row["price"]) for row in seen][:1] == [(kept["uuid"], 1.5)]
    assert seen[1]["created_at"] == "2026-01-31T12:00:00.000000000Z"


def test_a_refund_that_was_taken_out_of_the_bill_stays_out(
    provider: Provider, control: SandboxControl, image: str
) -> None:
    control.arm("task_failed")
    prediction = provider.create(image=image, prompt="pan", duration=3)
    provider.finished(prediction)
    control.advance(3600)
    refund = control.bill()["rows"][1]

    control.doctor(remove=[refund["uuid"]])

    assert [row["billing_type"] for row in control.bill()["rows"]] == ["deduct"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"insert": []}, "no 'insert': give add, change or remove"),
        ({"add": {}}, "add must be a list"),
        ({"add": [5]}, "each row must be a JSON object"),
        ({"add": [{"price": 1}]}, "a row needs prediction_id, billing_type, price"),
        ({"add": [{"cost": 1}]}, "a row has no 'cost': it has prediction_id, billing_type, price"),
        ({"add": [{"prediction_id": 5}]}, "prediction_id must be a text"),
        ({"add": [{"price": "1"}]}, "price must be a number of USD, for example 2.1"),
        (
            {"add": [{"prediction_id": "a", "billing_type": "refund", "price": 1, "created_at": "noon"}]},
            "created_at must be an RFC 3339 time, not noon",
        ),
        ({"change": [{"price": 1}]}, "uuid must be a text"),
        ({"remove": ["nothing"]}, "the bill has no row nothing"),
    ],
)
def test_the_bill_is_falsified_wholly_or_not_at_all(
    body: dict[str, object], error: str, provider: Provider, control: SandboxControl, image: str
) -> None:
    prediction = provider.create(image=image, prompt="pan", duration=3)
    bill = control.bill()
    body = {"add": [{"prediction_id": prediction, "billing_type": "deduct", "price": 9}]} | body

    answer = requests.post(f"{control.url}/_sandbox/bill", json=body, timeout=5)

    assert (answer.status_code, answer.json()) == (400, {"error": error})
    assert control.bill() == bill
