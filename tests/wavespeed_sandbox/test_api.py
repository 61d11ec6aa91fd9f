import http.client
from collections.abc import Callable
from typing import Any

import pytest
import requests

from tests.sandbox import SandboxControl
from tests.wavespeed_sandbox.conftest import IMAGE_TO_VIDEO, Provider, picture
from wavespeed_sandbox import Sandbox

DAY = 24 * 3600


def test_unknown_routes_and_predictions_are_404(provider: Provider) -> None:
    for path in ("nothing", f"predictions/{'0' * 32}/result"):
        answer = provider.call("GET", path)
        assert (answer.status_code, answer.json()["code"]) == (404, 404)


def test_connections_are_kept_alive(provider: Provider) -> None:
    connection = http.client.HTTPConnection(provider.url.removeprefix("http://"), timeout=5)
    sockets = []
    for _ in range(3):
        connection.request("GET", "/api/v3/balance", headers=provider.headers)
        assert connection.getresponse().read() == b'{"code": 200, "message": "success", "data": {"balance": 1000.0}}'
        sockets.append(connection.sock)
    connection.close()
    assert sockets == [sockets[0]] * 3
    assert sockets[0] is not None


def test_a_body_that_is_no_json_is_refused(provider: Provider) -> None:
    answer = requests.post(f"{provider.url}/api/v3/predictions", data=b"{", headers=provider.headers, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["message"].startswith("invalid JSON: ")


# Uploads


def test_upload_by_ticket_can_be_read_back(provider: Provider, photo: bytes) -> None:
    url = provider.upload(photo, "my photo.jpg")
    answer = requests.get(url, timeout=5)
    assert (answer.content, answer.headers["Content-Type"]) == (photo, "image/jpeg")
    assert url.endswith("/my%20photo.jpg")


def test_ticket_says_how_to_upload(provider: Provider, sandbox: Sandbox) -> None:
    ticket = provider.data("POST", "media/uploads", {"filename": "a.png", "size": 10, "content_type": "image/png"})
    assert (ticket["type"], ticket["filename"], ticket["size"]) == ("image", "a.png", 10)
    assert ticket["upload"]["method"] == "PUT"
    assert ticket["upload"]["url"].startswith(sandbox.files_url + "/uploads/")
    assert requests.get(ticket["download_url"], timeout=5).status_code == 404


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"size": 3}, 'field "filename" is required and must not be empty'),
        ({"filename": "a.png"}, 'field "size" is required and must be a positive integer'),
        ({"filename": "a.png", "size": "3"}, 'field "size" is required and must be a positive integer'),
    ],
)
def test_ticket_refuses(provider: Provider, body: dict[str, Any], message: str) -> None:
    answer = provider.call("POST", "media/uploads", body)
    assert (answer.status_code, answer.json()["message"]) == (400, message)


def test_put_wants_exactly_the_headers_of_the_ticket(provider: Provider) -> None:
    put = provider.data("POST", "media/uploads", {"filename": "a.png", "size": 3, "content_type": "image/png"})[
        "upload"
    ]
    headers = put["headers"]

    def status(content: bytes = b"abc", url: str = put["url"], **other: str) -> int:
        return requests.put(url, data=content, headers=headers | other, timeout=5).status_code

    assert status(Authorization="Bearer key") == 400
    assert status(**{"Content-Type": "image/jpeg"}) == 403
    assert status(**{"x-upload-token": "other"}) == 403
    assert status(url=put["url"].split("?")[0]) == 403
    assert status(content=b"abcd") == 400
    assert status() == 200


def test_ticket_is_good_for_an_hour(provider: Provider, control: SandboxControl) -> None:
    put = provider.data("POST", "media/uploads", {"filename": "a.png", "size": 3})["upload"]
    control.advance(3601)
    assert requests.put(put["url"], data=b"abc", headers=put["headers"], timeout=5).status_code == 403


def test_legacy_upload_can_be_read_back(provider: Provider, photo: bytes) -> None:
    answer = provider.call("POST", "media/upload/binary", files={"file": ("b.jpg", photo, "image/jpeg")}).json()
    data = answer["data"]
    assert set(data) == {"type", "download_url", "filename", "size"}
    assert (data["type"], data["filename"], data["size"]) == ("image", "b.jpg", len(photo))
    assert requests.get(data["download_url"], timeout=5).content == photo


def test_legacy_upload_without_a_file_is_refused(provider: Provider) -> None:
    answer = provider.call("POST", "media/upload/binary", files={"image": ("b.jpg", b"abc", "image/jpeg")})
    assert (answer.status_code, answer.json()["message"]) == (400, 'field "file" is required and must not be empty')


# Lists


def test_predictions_are_listed_newest_first_in_pages(provider: Provider, image: str) -> None:
    ids = [provider.create(image=image, prompt=f"take {number}") for number in range(5)]
    pages = [provider.data("POST", "predictions", {"page": page, "page_size": 2}) for page in (1, 2, 3, 4)]
    assert [[item["id"] for item in page["items"]] for page in pages] == [
        [ids[4], ids[3]],
        [ids[2], ids[1]],
        [ids[0]],
        [],
    ]
    assert [page["page"] for page in pages] == [1, 2, 3, 4]
    assert "input" not in pages[0]["items"][0]


def test_predictions_are_filtered(provider: Provider, control: SandboxControl, image: str) -> None:
    control.arm("task_endless", model=IMAGE_TO_VIDEO)
    endless = provider.create(image=image, prompt="one")
    done = provider.create("kwaivgi/kling-elements", name="A", description="B", image=image, element_refer_list=[image])
    finished = provider.finished(done)

    def listed(**filters: Any) -> list[str]:
        return [item["id"] for item in provider.data("POST", "predictions", filters)["items"]]

    assert listed(model=IMAGE_TO_VIDEO) == [endless]
    assert listed(status="completed") == [done]
    assert listed(status="processing", model="kwaivgi/kling-elements") == []
    assert listed(created_after=finished["created_at"]) == [done]
    assert listed(created_before=provider.result(endless)["created_at"]) == [endless]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"page": 0}, 'field "page" must be greater than or equal to 1'),
        ({"page_size": 101}, 'field "page_size" must be between 1 and 100'),
        ({"created_after": "yesterday"}, "yesterday is no RFC 3339 time"),
    ],
)
def test_predictions_refuse(provider: Provider, image: str, body: dict[str, Any], message: str) -> None:
    provider.create(image=image, prompt="one")
    answer = provider.call("POST", "predictions", body)
    assert (answer.status_code, answer.json()["message"]) == (400, message)


@pytest.mark.parametrize("list_inputs", [True, False])
def test_inputs_are_listed_unless_hidden(make_sandbox: Callable[..., Sandbox], list_inputs: bool) -> None:
    provider = Provider(make_sandbox(list_inputs=list_inputs).url)
    image = provider.upload(picture())
    provider.create(image=image, prompt="one")
    item = provider.data("POST", "predictions", {"include_inputs": True})["items"][0]
    assert item.get("input", {}).get("image") == (image if list_inputs else None)


def test_deleted_predictions_are_gone(provider: Provider, image: str) -> None:
    one, two = (provider.create(image=image, prompt="pan") for _ in range(2))
    url = provider.finished(one)["outputs"][0]
    assert provider.data("POST", "predictions/delete", {"ids": [one, "unknown"]}) == {"deleted_count": 1}
    assert [item["id"] for item in provider.data("POST", "predictions")["items"]] == [two]
    assert (provider.result(one)["status"], provider.result(one)["outputs"]) == ("deleted", [])
    assert requests.get(url, timeout=5).status_code == 404


def test_everything_expires_after_seven_days(
    provider: Provider, control: SandboxControl, image: str, photo: bytes
) -> None:
    prediction = provider.create(image=image, prompt="pan")
    url = provider.finished(prediction)["outputs"][0]
    control.advance(7 * DAY - 60)
    assert requests.get(url, timeout=5).status_code == 200
    assert requests.get(image, timeout=5).content == photo
    control.advance(120)
    assert requests.get(url, timeout=5).status_code == 403
    assert requests.get(image, timeout=5).status_code == 404
    assert provider.call("GET", f"predictions/{prediction}/result").status_code == 404
    assert provider.data("POST", "predictions")["items"] == []


# Money and models


def test_price_costs_nothing_and_knows_the_defaults(provider: Provider, control: SandboxControl) -> None:
    wanted = {"model_id": IMAGE_TO_VIDEO, "inputs": {"duration": 10, "colour": "red"}}
    price = {"price": 4.2, "discounted_price": 4.2, "discount_rate": 0, "currency": "USD"}
    assert provider.data("POST", "model/price", wanted) == price
    assert provider.data("POST", "model/price", {"model_id": IMAGE_TO_VIDEO})["price"] == 2.1
    assert control.posts()["count"] == 0


def test_price_refuses_what_it_can_not_price(provider: Provider) -> None:
    unknown = provider.call("POST", "model/price", {"model_id": "x"})
    assert (unknown.status_code, unknown.json()["message"]) == (404, "model x not found")
    invalid = provider.call("POST", "model/price", {"model_id": IMAGE_TO_VIDEO, "inputs": {"duration": 99}})
    assert invalid.status_code == 400
    assert invalid.json()["message"].startswith('field "duration" must be one of 3, 4, ')


def test_deduct_row_is_there_at_submit(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(speed=1)
    provider = Provider(sandbox.url)
    image = provider.upload(picture())
    prediction = provider.create(image=image, prompt="pan", duration=10)
    found = provider.data("POST", "billings/search", {"prediction_uuids": [prediction]})
    item = found["items"][0]
    assert (found["page"], found["total"]) == (1, 1)
    assert (item["billing_type"], item["price"], item["order"]) == ("deduct", 4.2, {"state": "pre"})
    assert item["prediction"] == {"uuid": prediction, "status": "created"}
    assert provider.data("GET", "balance") == {"balance": 995.8}
    SandboxControl(sandbox.url).advance(250)
    provider.finished(prediction)
    item = provider.data("POST", "billings/search", {"prediction_uuids": [prediction]})["items"][0]
    assert (item["order"], item["prediction"]["status"]) == ({"state": "done"}, "completed")


def test_deduct_row_is_seen_after_the_lag(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(billing_lag=300)
    provider, control = Provider(sandbox.url), SandboxControl(sandbox.url)
    provider.create(image=provider.upload(picture()), prompt="pan")
    assert provider.data("POST", "billings/search", {})["items"] == []
    assert [row["visible"] for row in control.bill()["rows"]] == [False]
    control.advance(301)
    assert [item["price"] for item in provider.data("POST", "billings/search", {})["items"]] == [2.1]


def test_failed_task_is_refunded(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(refund_after=100)
    provider, control = Provider(sandbox.url), SandboxControl(sandbox.url)
    image = provider.upload(picture())
    control.arm("task_failed")
    failed = provider.create(image=image, prompt="pan")
    provider.finished(failed)
    provider.finished(provider.create(image=image, prompt="pan"))
    assert control.bill()["total"] == 4.2
    control.advance(101)
    bill = control.bill()
    assert (bill["deducted"], bill["refunded"], bill["total_micros"], bill["balance"]) == (4.2, 2.1, 2_100_000, 997.9)
    refunds = provider.data("POST", "billings/search", {"billing_type": "refund"})["items"]
    assert [(item["price"], item["prediction"]["uuid"]) for item in refunds] == [(2.1, failed)]


def test_billings_are_paged_sorted_and_filtered_by_time(
    provider: Provider, control: SandboxControl, image: str
) -> None:
    for duration in (3, 4, 5):
        provider.create(image=image, prompt="pan", duration=duration)
        control.advance(10)

    def prices(**filters: Any) -> list[float]:
        return [item["price"] for item in provider.data("POST", "billings/search", filters)["items"]]

    assert prices() == [2.1, 1.68, 1.26]
    assert prices(sort="asc") == [1.26, 1.68, 2.1]
    assert prices(page=2, page_size=2) == [1.26]
    second = provider.data("POST", "billings/search", {})["items"][1]["created_at"]
    assert prices(start_time=second) == [2.1, 1.68]
    assert prices(end_time=second) == [1.68, 1.26]


def test_models_tell_their_schema(provider: Provider) -> None:
    models = {model["model_id"]: model for model in provider.data("GET", "models")}
    model = models[IMAGE_TO_VIDEO]
    schema = model["api_schema"]["api_schemas"][0]["request_schema"]
    assert (model["type"], model["base_price"], model["formula"]) == ("image-to-video", 2.1, "0.42 * duration")
    assert list(schema["properties"]) == [
        "image", "prompt", "end_image", "duration", "sound", "shot_type", "multi_prompt", "element_list",
    ]  # fmt: skip
    assert schema["required"] == ["image"]
    assert schema["properties"]["duration"]["enum"] == list(range(3, 16))
    assert len(models) == 7


def test_webhook_secret_stays_the_same(provider: Provider) -> None:
    secrets = {provider.data("GET", "webhook/secret")["secret"] for _ in range(2)}
    assert len(secrets) == 1
    assert secrets.pop().startswith("whsec_")
