import io
import logging
import socket
import threading
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from email.utils import format_datetime
from typing import Any

import pytest

from generations.wavespeed import errors
from generations.wavespeed.client import Client
from generations.wavespeed.replies import BillingRow, Page, Prediction, Price, Upload
from tests.generations.wavespeed.wire import RESET, Request, always, envelope, http, in_turn, serving
from tests.sandbox import SandboxControl
from wavespeed_sandbox import Sandbox

MODEL = "kwaivgi/kling-video-o3-4k/image-to-video"
KEY = "sk-very-secret-key"
PROMPT = "A fox leaps over “the lazy” dog"
BODY = {"image": "https://files.example/a.jpg?signature=abc", "prompt": PROMPT, "duration": 5, "sound": False}
ID = "0123456789abcdef0123456789abcdef"
WEBHOOK = "https://studio.example/webhooks/x/?token=hush"
CREATED = {"id": ID, "model": MODEL, "status": "created", "outputs": [], "urls": {"get": f"https://x/{ID}?sig=1"}}


def client(url: str, **options: Any) -> Client:
    quick = {"connect_timeout": 1, "read_timeout": 0.3, "deadline": 5, "backoff": 0.01}
    return Client(url, KEY, **(quick | options))


def submit(url: str, **options: Any) -> Prediction:
    return client(url, **options).submit(MODEL, BODY, webhook_url=WEBHOOK)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# Submit


def test_submit_sends_one_post_with_the_key_the_webhook_and_exactly_the_body() -> None:
    with serving(always(envelope(CREATED))) as server:
        prediction = submit(server.url)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", f"/api/v3/{MODEL}")
    assert request.target.endswith("?webhook=https%3A%2F%2Fstudio.example%2Fwebhooks%2Fx%2F%3Ftoken%3Dhush")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["connection"] == "close"
    assert request.json() == BODY
    assert (prediction.id, prediction.status, prediction.outputs) == (ID, "created", ())


def test_submit_sends_decimals_as_numbers() -> None:
    with serving(always(envelope(CREATED))) as server:
        client(server.url).submit(MODEL, {"guidance_scale": Decimal("0.35")})
    assert server.posts[0].body == b'{"guidance_scale": 0.35}'


def test_submit_refuses_what_is_no_model_before_it_sends() -> None:
    with serving(always(envelope(CREATED))) as server:
        for model in ("predictions/../x", "../balance", "model", "", "a/b?c=d", "/a/b"):
            with pytest.raises(ValueError, match="is not the id of a model"):
                client(server.url).submit(model, BODY)
    assert server.requests == []


CREATED_ANSWERS = {
    "200": envelope(CREATED),
    "201": envelope(CREATED, status=201),
    "an error status": envelope(CREATED, code=400, message="bad", status=400),
    "429": envelope(CREATED, code=429, status=429),
    "500": envelope(CREATED, code=500, status=500),
    "504": envelope(CREATED, status=504),
    "307": envelope(CREATED, status=307, Location="/elsewhere"),
    "an error code": envelope(CREATED, code=1407, message="Insufficient credits"),
    "no code": http(200, {"data": CREATED}),
    "an id of a documented sample": envelope({"id": ID}),
    "too few bytes": http(200, {"code": 200, "data": CREATED}, length=5000),
    "nulls": envelope({"id": ID, "outputs": None, "has_nsfw_contents": None, "urls": None, "timings": None}),
}


@pytest.mark.parametrize("answer", CREATED_ANSWERS.values(), ids=CREATED_ANSWERS)
def test_submit_with_a_readable_id_is_created_whatever_else_the_answer_says(answer: bytes) -> None:
    with serving(always(answer)) as server:
        assert submit(server.url).id == ID
    assert len(server.requests) == 1


def refusal(status: int, message: str = "no", code: int | None = None, **headers: str) -> bytes:
    return envelope(None, code=status if code is None else code, message=message, status=status, **headers)


NOT_CREATED = {
    "400": (refusal(400, 'field "image" is required'), errors.Rejected, 'field "image" is required'),
    "401": (refusal(401), errors.KeyRefused, "no"),
    "403": (refusal(403), errors.KeyRefused, "no"),
    "404": (refusal(404), errors.Rejected, "no"),
    "413": (refusal(413), errors.Rejected, "no"),
    "422": (refusal(422), errors.Rejected, "no"),
    "429": (refusal(429, "Too Many Requests"), errors.TryLater, "Too Many Requests"),
    "429 concurrency": (
        refusal(429, "You have reached your concurrency limit"),
        errors.TryLater,
        "You have reached your concurrency limit",
    ),
    "400 credits": (
        refusal(400, "Insufficient credits. Please top up your account to continue."),
        errors.InsufficientCredits,
        "Insufficient credits. Please top up your account to continue.",
    ),
    "400 code 1407": (refusal(400, "no", code=1407), errors.InsufficientCredits, "no"),
    "400 error_code 1407": (
        http(400, {"code": 400, "message": "x", "error_code": 1407}),
        errors.InsufficientCredits,
        "x",
    ),
    "403 HTML": (http(403, b"<html>no</html>"), errors.KeyRefused, ""),
    "404 empty": (http(404), errors.Rejected, ""),
    "400 null id": (http(400, {"code": 400, "message": "m", "data": {"id": ""}}), errors.Rejected, "m"),
    "code 400 on 200": (envelope(None, code=400, message="m"), errors.Rejected, "m"),
    "code 401 on 200": (envelope(None, code=401, message="m"), errors.KeyRefused, "m"),
    "code 429 on 200": (envelope(None, code=429, message="m"), errors.TryLater, "m"),
    "credits on 200": (
        envelope(None, code=400, message="Insufficient credits."),
        errors.InsufficientCredits,
        "Insufficient credits.",
    ),
}


@pytest.mark.parametrize(("answer", "kind", "message"), NOT_CREATED.values(), ids=NOT_CREATED)
def test_submit_that_was_refused_is_surely_not_created(
    answer: bytes, kind: type[errors.NotCreated], message: str
) -> None:
    with serving(always(answer)) as server, pytest.raises(errors.NotCreated) as caught:
        submit(server.url)
    assert type(caught.value) is kind
    assert caught.value.message == message
    assert len(server.requests) == 1


NOT_CLEAR = {
    **{str(status): [refusal(status)] for status in (402, 405, 408, 409, 410, 418, 425, 500, 502, 503, 504, 529)},
    **{str(status): [refusal(status, Location="/api/v3/other")] for status in (301, 302, 303, 307, 308)},
    "429 with a strange id": [http(429, {"code": 429, "data": {"id": {"a": 1}}})],
    "400 with an id that is too long": [http(400, {"code": 400, "data": {"id": "a" * 65}})],
    "200 without data": [envelope(None)],
    "200 without id": [envelope({"status": "created"})],
    "200 with a null id": [envelope({"id": None})],
    "200 empty": [http(200)],
    "200 HTML": [http(200, b"<html>Welcome</html>")],
    "200 half JSON": [http(200, b'{"code": 200, "data": {"id"')],
    "200 list": [http(200, [])],
    "200 null": [http(200, b"null")],
    "200 deep JSON": [http(200, b"[" * 100_000)],
    "200 NaN": [http(200, b'{"code": NaN}')],
    "200 number that is too large": [http(200, b'{"code": 1e99999999999999999999}')],
    "200 integer that is too long": [http(200, b'{"code": ' + b"1" * 5000 + b"}")],
    "200 not UTF-8": [http(200, b'{"code": 200, "message": "\xff"}')],
    "200 broken gzip": [http(200, b"nonsense", Content_Encoding="gzip")],
    "201 without id": [envelope({}, status=201)],
    "204": [b"HTTP/1.1 204 X\r\n\r\n"],
    "code 500 on 200": [envelope(None, code=500)],
    "code 1401 on 200": [envelope(None, code=1401)],
    "code 1407 on 200": [envelope(None, code=1407)],
    "code 0 on 200": [envelope(None, code=0)],
    "code as text": [http(200, {"code": "400"})],
    "dropped": [],
    "reset": [RESET],
    "dropped in the status line": [b"HTTP/1.1 4"],
    "dropped in the headers": [b"HTTP/1.1 400 X\r\nContent-Le"],
    "dropped in the body": [http(400, b'{"code": 400', length=500)],
    "reset in the body": [http(400, b'{"code": 400', length=500), RESET],
    "not HTTP": [b"SSH-2.0-OpenSSH\r\n\r\n"],
    "no answer": [30],
    "no body": [http(200, b"", length=10), 30],
    "bad length": [b"HTTP/1.1 200 X\r\nContent-Length: 1,2\r\n\r\n{}"],
    "too large": [http(400, b" " * (9 * 1024 * 1024))],
}


@pytest.mark.parametrize("steps", NOT_CLEAR.values(), ids=NOT_CLEAR)
def test_submit_without_a_clear_answer_is_ambiguous_and_sent_once(steps: list[object]) -> None:
    with serving(always(*steps)) as server:
        with pytest.raises(errors.Ambiguous) as caught:
            submit(server.url)
        assert str(caught.value).startswith("The request may have been accepted, and billed: ")
        assert len(server.requests) == 1
        assert server.connections == 1


def test_submit_does_not_follow_a_redirect_to_another_host() -> None:
    with (
        serving(always(envelope(CREATED))) as other,
        serving(always(refusal(307, Location=f"{other.url}/api/v3/{MODEL}"))) as server,
        pytest.raises(errors.Ambiguous),
    ):
        submit(server.url)
    assert len(server.requests) == 1
    assert other.requests == []


def test_submit_to_a_closed_port_is_to_be_tried_later() -> None:
    with pytest.raises(errors.TryLater) as caught:
        submit(f"http://127.0.0.1:{closed_port()}")
    assert str(caught.value) == "Nothing was sent: the connection was never made."
    assert caught.value.status is None


def test_submit_to_a_name_that_does_not_exist_is_to_be_tried_later() -> None:
    with pytest.raises(errors.TryLater, match=r"Nothing was sent: the connection was never made\."):
        submit("https://api.invalid")


def test_submit_whose_connection_is_not_accepted_in_time_is_to_be_tried_later() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        # Fill the queue of connections that nobody accepts; the next one waits for ever.
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        try:
            with pytest.raises(errors.TryLater):
                submit(f"http://127.0.0.1:{address[1]}", connect_timeout=0.2)
        finally:
            for filler in fillers:
                filler.close()


def test_submit_over_tls_that_is_no_tls_is_ambiguous() -> None:
    with serving(always(envelope(CREATED))) as server, pytest.raises(errors.Ambiguous):
        submit(server.url.replace("http:", "https:"))


def test_submit_uses_no_connection_that_went_stale() -> None:
    """The server closes the kept connection of a GET as soon as a second request comes over it."""

    def answer(request: Request) -> list[object]:
        first_on_connection = sum(other.connection == request.connection for other in server.requests) == 1
        data = {"balance": 1} if request.method == "GET" else CREATED
        return [envelope(data)] if first_on_connection else [RESET]

    with serving(answer) as server:
        studio = client(server.url)
        studio.balance()
        assert studio.submit(MODEL, BODY).id == ID
        assert studio.submit(MODEL, BODY).id == ID
    assert [request.connection for request in server.requests] == [1, 2, 3]


def test_submit_tells_how_long_to_wait() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    waits = []
    for value in ("7", soon, "-5", "1e9", "999999999", "soon", "²"):
        with serving(always(refusal(429, Retry_After=value))) as server, pytest.raises(errors.TryLater) as caught:
            submit(server.url)
        waits.append(caught.value.retry_after)
    assert waits[0] == 7
    assert waits[1] == pytest.approx(60, abs=3)
    assert waits[2:] == [None] * 5


# The deadline


def drip(head: bytes) -> Callable[[Request], Any]:
    def answer(request: Request) -> Any:
        yield head
        for _ in range(200):
            yield 0.05
            yield b"a"

    return answer


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 ",
        b"HTTP/1.1 200 X\r\nX-Header: ",
        http(200, b"", length=1000),
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["status line", "headers", "body", "chunk size"],
)
def test_a_slow_drip_does_not_pass_the_deadline(head: bytes) -> None:
    with serving(drip(head)) as server:
        started = time.monotonic()
        with pytest.raises(errors.Ambiguous) as caught:
            submit(server.url, deadline=2)
        assert time.monotonic() - started < 8
    assert "no whole answer came in time" in str(caught.value)
    assert len(server.requests) == 1


def test_a_read_time_out_ends_a_silent_submit_before_the_deadline() -> None:
    with serving(always(30)) as server:
        started = time.monotonic()
        with pytest.raises(errors.Ambiguous, match="no whole answer came in time"):
            submit(server.url, read_timeout=0.2, deadline=20)
        assert time.monotonic() - started < 3


# Reading calls


def test_result_reads_what_is_known_and_tolerates_the_rest() -> None:
    data = {
        "id": ID,
        "model": MODEL,
        "status": "completed",
        "outputs": ["https://cdn.example/a.mp4?sig=1", {"element_id": 307212335131305}, None, 5],
        "urls": {"get": f"https://api.example/{ID}"},
        "has_nsfw_contents": [False, True],
        "created_at": "2026-11-22T10:00:00.123456789+02:00",
        "error": "",
        "code": 0,
        "timings": {"inference": 123456},
        "input": {"prompt": PROMPT},
        "extra": {"field": [1]},
    }
    with serving(always(envelope(data))) as server:
        prediction = client(server.url).result(ID)
    assert server.requests[0].target == f"/api/v3/predictions/{ID}/result"
    assert prediction == Prediction(
        id=ID,
        model=MODEL,
        status="completed",
        outputs=("https://cdn.example/a.mp4?sig=1",),
        error="",
        code=0,
        has_nsfw=True,
        created_at=datetime(2026, 11, 22, 8, 0, 0, 123456, tzinfo=UTC),
        input={"prompt": PROMPT},
    )
    assert prediction.is_terminal


@pytest.mark.parametrize(
    ("data", "outputs"),
    [
        ({"outputs": None}, ()),
        ({"outputs": "https://x/a.mp4"}, ("https://x/a.mp4",)),
        ({"outputs": {"a": 1}}, ()),
        ({}, ()),
    ],
)
def test_result_reads_outputs_in_whatever_shape_they_come(data: dict[str, object], outputs: tuple[str, ...]) -> None:
    with serving(always(envelope({"id": ID, **data}))) as server:
        assert client(server.url).result(ID).outputs == outputs


@pytest.mark.parametrize(
    ("status", "terminal"),
    [("created", False), ("processing", False), ("paused", False), ("", False)]
    + [(status, True) for status in ("completed", "failed", "cancelled", "timeout", "deleted")],
)
def test_result_knows_which_statuses_are_terminal(status: str, terminal: bool) -> None:
    with serving(always(envelope({"id": ID, "status": status}))) as server:
        assert client(server.url).result(ID).is_terminal is terminal


@pytest.mark.parametrize("prediction_id", ["", "..", "a/b", "../balance", "a?b", "a b", "x" * 65])
def test_result_refuses_what_is_no_id_before_it_asks(prediction_id: str) -> None:
    with pytest.raises(ValueError, match="is not the id of a prediction"):
        client("http://127.0.0.1:9").result(prediction_id)


READ_ERRORS = {
    "401": ([refusal(401)], errors.KeyRefused, 1),
    "404": ([refusal(404)], errors.NotFound, 1),
    "410": ([refusal(410)], errors.NotFound, 1),
    "400": ([refusal(400)], errors.Rejected, 1),
    "credits": ([refusal(400, "Insufficient credits.")], errors.InsufficientCredits, 1),
    "429": ([refusal(429)], errors.TooMany, 3),
    "code 429 on 200": ([envelope(None, code=429)], errors.TooMany, 3),
    "500": ([refusal(500)], errors.Unavailable, 3),
    "504 HTML": ([http(504, b"<html>")], errors.Unavailable, 3),
    "code 500 on 200": ([envelope(None, code=500)], errors.Unavailable, 3),
    "code 404 on 200": ([envelope(None, code=404)], errors.NotFound, 1),
    "unknown code": ([envelope(None, code=1234)], errors.NotUnderstood, 1),
    "garbage": ([http(200, b"<html>")], errors.Unreadable, 1),
    "another prediction": ([envelope({"id": "f" * 32})], errors.NotUnderstood, 1),
    "no prediction": ([envelope(None)], errors.NotUnderstood, 1),
    "too large": ([http(200, b" " * (9 * 1024 * 1024))], errors.Unreadable, 1),
    "redirect": ([refusal(302, Location="/api/v3/balance")], errors.Unreadable, 1),
    "dropped": ([], errors.Unavailable, 3),
    "cut": ([http(200, b'{"code"', length=500)], errors.Unavailable, 3),
    "silent": ([30], errors.Unavailable, 3),
}


@pytest.mark.parametrize(("steps", "kind", "tries"), READ_ERRORS.values(), ids=READ_ERRORS)
def test_result_tells_why_there_is_none_and_asks_again_only_when_it_can_help(
    steps: list[object], kind: type[errors.WaveSpeedError], tries: int
) -> None:
    with serving(always(*steps)) as server:
        with pytest.raises(errors.WaveSpeedError) as caught:
            client(server.url, retries=2).result(ID)
        assert type(caught.value) is kind
        assert len(server.requests) == tries


def test_a_get_is_answered_after_errors_that_pass() -> None:
    with serving(
        in_turn(refusal(503), refusal(429, Retry_After="0"), envelope({"balance": 12.345678901234567}))
    ) as server:
        assert client(server.url).balance() == Decimal("12.345678901234567")
    assert len(server.requests) == 3


def test_a_get_to_a_closed_port_is_unavailable() -> None:
    with pytest.raises(errors.Unavailable, match=r"The connection was never made\."):
        client(f"http://127.0.0.1:{closed_port()}").balance()


def test_a_get_does_not_wait_beyond_its_deadline_for_what_retry_after_says() -> None:
    with serving(always(refusal(429, Retry_After="3600"))) as server:
        started = time.monotonic()
        with pytest.raises(errors.Unavailable) as caught:
            client(server.url).balance()
        assert time.monotonic() - started < 2
    assert caught.value.retry_after == 3600
    assert len(server.requests) == 1


def test_gets_reuse_one_connection() -> None:
    with serving(always(envelope({"balance": "3.50"}))) as server:
        studio = client(server.url)
        assert [studio.balance() for _ in range(3)] == [Decimal("3.50")] * 3
    assert server.connections == 1


def test_threads_share_one_client() -> None:
    with serving(lambda request: [envelope({"id": request.path.split("/")[-2]})]) as server:
        studio = client(server.url)
        found: list[str] = []
        threads = [threading.Thread(target=lambda n=n: found.append(studio.result(f"id{n}").id)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found) == sorted(f"id{n}" for n in range(16))


def test_a_cookie_of_the_provider_is_not_sent_back() -> None:
    with serving(always(envelope({"balance": 1}, Set_Cookie="session=1"))) as server:
        studio = client(server.url)
        studio.balance()
        studio.balance()
    assert ["cookie" in request.headers for request in server.requests] == [False, False]


@pytest.mark.parametrize(
    "data", [None, [], {}, {"balance": None}, {"balance": True}, {"balance": "much"}, {"balance": "NaN"}]
)
def test_a_balance_that_is_no_amount_is_unreadable(data: object) -> None:
    with serving(always(envelope(data))) as server, pytest.raises(errors.Unreadable):
        client(server.url).balance()


@pytest.mark.parametrize(
    "call",
    [lambda studio: studio.price(MODEL, {}), lambda studio: studio.predictions(), lambda studio: studio.billings()],
)
@pytest.mark.parametrize("steps", [[refusal(503)], []], ids=["503", "dropped"])
def test_a_post_is_never_sent_again_even_where_it_is_free(
    call: Callable[[Client], object], steps: list[object]
) -> None:
    with serving(always(*steps)) as server:
        with pytest.raises(errors.Unavailable):
            call(client(server.url))
        assert len(server.requests) == 1


def test_price_is_the_providers() -> None:
    data = {"price": 2.1, "discounted_price": 1.89, "discount_rate": 0.9, "currency": "USD"}
    with serving(always(envelope(data))) as server:
        price = client(server.url).price(MODEL, {"duration": 5})
    assert server.requests[0].json() == {"model_id": MODEL, "inputs": {"duration": 5}}
    assert price == Price(Decimal("2.1"), Decimal("1.89"), Decimal("0.9"), "USD")


def test_predictions_asks_for_a_page_with_its_filters() -> None:
    with serving(always(envelope({"page": 2, "items": [{"id": "a"}, {"id": None}, "junk", {"id": "b"}]}))) as server:
        page = client(server.url).predictions(
            page=2,
            page_size=50,
            model=MODEL,
            status="completed",
            created_after=datetime(2026, 11, 1, 12, tzinfo=timezone(timedelta(hours=2))),
            include_inputs=True,
        )
    assert server.requests[0].json() == {
        "page": 2,
        "page_size": 50,
        "model": MODEL,
        "status": "completed",
        "created_after": "2026-11-01T10:00:00Z",
        "include_inputs": True,
    }
    assert isinstance(page, Page)
    assert [item.id for item in page.items] == ["a", "b"]


def test_predictions_refuses_a_time_without_a_zone() -> None:
    with pytest.raises(ValueError, match="has no time zone"):
        client("http://127.0.0.1:9").predictions(created_after=datetime(2026, 1, 1))  # noqa: DTZ001


def pages(*ids: str) -> bytes:
    return envelope({"items": [{"id": name} for name in ids]})


def test_all_predictions_come_once_though_pages_shift_and_end() -> None:
    with serving(in_turn(pages("d", "c"), pages("c", "b"), pages("a"), envelope({"items": None}))) as server:
        assert [item.id for item in client(server.url).all_predictions(page_size=2)] == ["d", "c", "b", "a"]
    assert [request.json()["page"] for request in server.requests] == [1, 2, 3, 4]


def test_all_predictions_ends_when_the_provider_ignores_the_page() -> None:
    with serving(always(pages("a", "b"))) as server:
        assert [item.id for item in client(server.url).all_predictions()] == ["a", "b"]
    assert len(server.requests) == 2


def bill(uuid: str, **fields: object) -> dict[str, object]:
    return {
        "uuid": uuid,
        "billing_type": "deduct",
        "price": 2.1,
        "created_at": "2026-11-22T10:00:00Z",
        "order": {"state": "done"},
        "prediction": {"uuid": ID, "status": "completed"},
        **fields,
    }


def test_billings_reads_all_pages_exactly() -> None:
    first = envelope({"page": 1, "total": 3, "items": [bill("1"), bill("2", billing_type="refund", price="0.420001")]})
    second = envelope({"page": 2, "total": 3, "items": [bill("3", order=None, prediction=None, created_at=None)]})
    with serving(in_turn(first, second)) as server:
        rows = client(server.url).billings(prediction_ids=[ID], start=datetime(2026, 11, 1, tzinfo=UTC))
    assert server.requests[0].json() == {
        "page": 1,
        "page_size": 100,
        "prediction_uuids": [ID],
        "start_time": "2026-11-01T00:00:00Z",
    }
    assert len(server.requests) == 2
    at = datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert rows == [
        BillingRow("1", "deduct", Decimal("2.1"), at, "done", ID, "completed"),
        BillingRow("2", "refund", Decimal("0.420001"), at, "done", ID, "completed"),
        BillingRow("3", "deduct", Decimal("2.1"), None, "", "", ""),
    ]


@pytest.mark.parametrize("row", [bill("1", price=None), bill("1", price="two"), bill(""), "junk"])
def test_billings_leaves_no_row_out_silently(row: object) -> None:
    with serving(always(envelope({"items": [bill("0"), row]}))) as server, pytest.raises(errors.Unreadable):
        client(server.url).billings()


def test_a_bill_that_ends_before_its_total_is_not_read_as_whole() -> None:
    first = envelope({"page": 1, "total": 3, "items": [bill("1")]})
    end = pytest.raises(errors.Unreadable, match="the bill has 3 rows, and ends after 1")
    with serving(in_turn(first, envelope({"total": 3, "items": []}))) as server, end:
        client(server.url).billings()


def test_models_webhook_secret_and_delete() -> None:
    answers = {
        "/api/v3/models": [
            {
                "model_id": MODEL,
                "name": "Kling",
                "base_price": 2.1,
                "type": "image-to-video",
                "formula": "0.42 * duration",
                "api_schema": {"api_schemas": [None, {"request_schema": {"type": "object"}}]},
            },
            {"model_id": "a/b", "api_schema": None},
            {"name": "without an id"},
        ],
        "/api/v3/webhook/secret": {"secret": "whsec_abc"},
    }
    with serving(lambda request: [envelope(answers[request.path])]) as server:
        studio = client(server.url)
        kling, other = studio.models()
        assert (kling.model_id, kling.base_price, kling.request_schema) == (MODEL, Decimal("2.1"), {"type": "object"})
        assert (other.model_id, other.base_price, other.request_schema) == ("a/b", None, None)
        assert studio.webhook_secret() == "whsec_abc"


# Upload

PICTURE = bytes(range(256)) * 400


def upload(url: str, **options: Any) -> Upload:
    return client(url, **options).upload(io.BytesIO(PICTURE), "café “1”.jpg", len(PICTURE), "image/jpeg")


def ticket(put_url: str, download_url: str = "https://cdn.example/a.jpg", **changes: object) -> bytes:
    instruction = {"method": "PUT", "url": put_url, "headers": {"Content-Type": "image/jpeg", "x-amz-acl": "private"}}
    return envelope({"download_url": download_url, "filename": "a.jpg", "upload": instruction | changes})


def test_upload_puts_the_bytes_with_the_tickets_headers_and_no_key() -> None:
    with (
        serving(always(http(204))) as storage,
        serving(always(ticket(f"{storage.url}/a.jpg?X-Signature=s1"))) as server,
    ):
        uploaded = upload(server.url)
    assert uploaded == Upload("https://cdn.example/a.jpg", "a.jpg", len(PICTURE))
    assert server.requests[0].json() == {"filename": "café “1”.jpg", "size": len(PICTURE), "content_type": "image/jpeg"}
    (put,) = storage.requests
    assert (put.method, put.target, put.body) == ("PUT", "/a.jpg?X-Signature=s1", PICTURE)
    assert set(put.headers) == {"host", "content-length", "content-type", "x-amz-acl"}


@pytest.mark.parametrize("status", [404, 405, 501])
def test_upload_falls_back_to_the_form_where_there_are_no_tickets(status: int) -> None:
    def answer(request: Request) -> list[bytes]:
        if request.path == "/api/v3/media/uploads":
            return [refusal(status)]
        return [envelope({"download_url": "https://cdn.example/b.jpg", "filename": None})]

    with serving(answer) as server:
        assert upload(server.url).download_url == "https://cdn.example/b.jpg"
    form = server.requests[1]
    boundary = form.headers["content-type"].removeprefix("multipart/form-data; boundary=")
    assert form.path == "/api/v3/media/upload/binary"
    assert form.headers["authorization"] == f"Bearer {KEY}"
    assert (
        form.body
        == (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="caf___1_.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        + PICTURE
        + f"\r\n--{boundary}--\r\n".encode()
    )


@pytest.mark.parametrize(
    ("steps", "kind"),
    [
        ([refusal(500)], errors.Unavailable),
        ([refusal(401)], errors.KeyRefused),
        ([refusal(413)], errors.Rejected),
        ([], errors.Unavailable),
    ],
)
def test_upload_without_a_ticket_is_an_error_and_no_reason_for_the_form(
    steps: list[object], kind: type[Exception]
) -> None:
    with serving(always(*steps)) as server:
        with pytest.raises(kind):
            upload(server.url)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (http(403, b"<Error>expired</Error>"), errors.Unavailable),
        (http(413), errors.Rejected),
        (http(429), errors.TooMany),
        (http(500), errors.Unavailable),
        (http(307, Location="/elsewhere"), errors.Unavailable),
    ],
)
def test_upload_that_the_storage_refuses_is_told_and_not_repeated(answer: bytes, kind: type[Exception]) -> None:
    with (
        serving(always(answer)) as storage,
        serving(always(ticket(storage.url))) as server,
        pytest.raises(kind, match="HTTP"),
    ):
        upload(server.url)
    assert len(storage.requests) == 1


@pytest.mark.parametrize("tickets", [True, False])
def test_upload_says_when_it_begins_its_second_call(tickets: bool) -> None:
    seen: list[list[str]] = []

    def answer(request: Request) -> list[bytes]:
        if request.path == "/api/v3/media/uploads" and not tickets:
            return [refusal(404)]
        return [ticket(f"{server.url}/put")]

    with serving(answer) as server:
        client(server.url).upload(
            io.BytesIO(PICTURE),
            "a.jpg",
            len(PICTURE),
            "image/jpeg",
            before_sending=lambda: seen.append([request.path for request in server.requests]),
        )
    assert seen == [["/api/v3/media/uploads"]]
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        ticket("x", method="POST"),
        ticket(""),
        ticket("http://127.0.0.1/", headers={"a": 1}),
        ticket("http://127.0.0.1/", ""),
        envelope(None),
    ],
)
def test_upload_ticket_that_makes_no_sense_is_unreadable(answer: bytes) -> None:
    with serving(always(answer)) as server, pytest.raises(errors.Unreadable):
        upload(server.url)


@pytest.mark.parametrize(
    "url",
    ["http://storage.example/a?s=1", "ftp://127.0.0.1/a", "https://10.0.0.1/a", "https://[::ffff:10.0.0.1]/a", "a"],
)
def test_upload_goes_to_no_url_that_the_guard_refuses(url: str) -> None:
    for answer in (ticket(url), ticket("http://127.0.0.1:9/", url)):
        with serving(always(answer)) as server, pytest.raises(errors.UnsafeURL) as caught:
            upload(server.url)
        assert "s=1" not in str(caught.value)


def test_upload_asks_the_guard_it_was_given() -> None:
    asked = []

    def guard(url: str) -> None:
        asked.append(url)
        raise ValueError("not this one")

    with serving(always(ticket("https://a.example/"))) as server, pytest.raises(errors.UnsafeURL, match="not this one"):
        upload(server.url, guard=guard)
    assert asked == ["https://cdn.example/a.jpg"]


def test_upload_of_a_file_that_is_too_short_is_told() -> None:
    too_short = pytest.raises(ValueError, match="1 bytes shorter than the 5 bytes")
    with serving(always(http(200))) as storage, serving(always(ticket(storage.url))) as server, too_short:
        client(server.url).upload(io.BytesIO(b"1234"), "a.jpg", 5, "image/jpeg")


def test_upload_ends_at_its_deadline_though_the_file_comes_slowly() -> None:
    class Slow(io.BytesIO):
        def read(self, amount: int | None = -1, /) -> bytes:
            time.sleep(0.05)
            return super().read(1)

    with serving(always(http(200))) as storage, serving(always(ticket(storage.url))) as server:
        started = time.monotonic()
        with pytest.raises(errors.Unavailable, match="no whole answer came in time"):
            client(server.url, upload_deadline=0.3).upload(Slow(b"1" * 1000), "a.jpg", 1000, "image/jpeg")
        assert time.monotonic() - started < 2


# What a client may be made of


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://api.wavespeed.ai/api/v3", "has a path or a query"),
        ("https://api.wavespeed.ai?x=1", "has a path or a query"),
        ("http://api.wavespeed.ai", "in the clear"),
        ("api.wavespeed.ai", "not the base URL"),
        ("https://user:pass@api.wavespeed.ai", "not the base URL"),
        ("", "not the base URL"),
    ],
)
def test_client_refuses_a_base_url_that_can_not_be_right(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        Client(url, KEY)
    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "a b", "key\n", "ключ"])
def test_client_refuses_a_key_that_can_not_be_right_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="The API key is empty, or has spaces") as caught:
        Client("https://api.wavespeed.ai", key)
    assert not key or key not in str(caught.value)


# Nothing secret in logs, texts, evidence

SECRETS = (KEY, PROMPT, "fox leaps", "hush", "s1gned", "whsec_abc")


def echo(request: Request) -> list[object]:
    """A provider that repeats all it was told, in every way."""
    told = f"{KEY} sent “{PROMPT}” {PROMPT!r} to https://x.example/a?X-Signature=s1gned"
    match request.method, request.path.removeprefix("/api/v3"):
        case "POST", "/predictions":
            return [http(500, f'{{"input": {{"prompt": "{PROMPT}'.encode())]
        case "POST", "/media/uploads":
            return [ticket(f"http://{request.headers['host']}/put?X-Signature=s1gned")]
        case "PUT", _:
            return [http(403, f"<Error>{request.target} X-Signature=s1gned {KEY}</Error>".encode())]
        case "GET", "/webhook/secret":
            return [envelope({"secret": "whsec_abc"})]
        case "GET", "/balance":
            return [b"HTTP/1.1 500 X\r\nbroken header\r\n\r\n"]
        case "GET", _:
            return [
                envelope(
                    {"id": ID, "outputs": ["https://x/?X-Signature=s1gned"], "input": {"prompt": PROMPT}, "error": told}
                )
            ]
    return [envelope({"prompt": PROMPT, "said": told}, code=400, message=told, status=400)]


def test_no_secret_reaches_logs_reprs_errors_or_evidence(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    with serving(echo) as server:
        studio = client(server.url, retries=1)
        calls: list[Callable[[], object]] = [
            lambda: studio.submit(MODEL, BODY, webhook_url=WEBHOOK),
            lambda: submit(f"http://127.0.0.1:{closed_port()}"),
            lambda: studio.price(MODEL, {"multi_prompt": [{"prompt": PROMPT, "duration": 5}]}),
            lambda: studio.predictions(),
            lambda: studio.result(ID),
            lambda: studio.result(ID).exchange,
            lambda: studio.webhook_secret() and "",
            lambda: studio.balance(),
            lambda: upload(server.url),
        ]
        for call in calls:
            try:
                shown.append(repr(call()))
            except errors.WaveSpeedError as error:
                shown += [
                    str(error),
                    repr(error),
                    error.message,
                    repr(error.exchange),
                    *traceback.format_exception(error)[:-1],
                ]
                shown.append(repr(error.__context__))
    everything = "\n".join([caplog.text, *shown, repr(studio)])
    assert [secret for secret in SECRETS if secret in everything] == []
    assert "POST /{model}: 400 in" in caplog.text
    assert "GET /predictions/{id}/result: 200 in" in caplog.text
    assert "[hidden]" in everything


def test_submit_keeps_evidence_of_both_outcomes() -> None:
    with serving(in_turn(envelope(CREATED), refusal(400, "no such model"))) as server:
        exchange = submit(server.url).exchange
        with pytest.raises(errors.Rejected) as caught:
            submit(server.url)
    assert exchange is not None
    assert (exchange.method, exchange.path, exchange.status, exchange.failure) == ("POST", f"/api/v3/{MODEL}", 200, "")
    assert ID in exchange.body
    assert 0 <= exchange.milliseconds < 5000
    error = caught.value
    assert str(error) == "The request was not accepted: HTTP 400."
    assert (error.status, error.provider_code, error.message) == (400, 400, "no such model")
    assert error.exchange is not None
    assert error.exchange.body == '{"code": 400, "message": "no such model", "data": null}'


def test_evidence_is_short_and_can_be_stored_by_any_database() -> None:
    body = b'{"code": 500, "message": "nul \\u0000 half \\ud800", "data": "' + b"x" * 100_000 + b'"}'
    with serving(always(http(500, body))) as server, pytest.raises(errors.Ambiguous) as caught:
        submit(server.url)
    assert caught.value.message == "nul � half ?"
    assert caught.value.exchange is not None
    assert len(caught.value.exchange.body) == 2001


# The real sandbox


def test_client_runs_the_main_job_against_the_sandbox(
    sandbox: Sandbox, control: SandboxControl, picture: bytes
) -> None:
    studio = Client(sandbox.url, "sandbox-key")
    before = studio.balance()
    uploaded = studio.upload(io.BytesIO(picture), "start.jpg", len(picture), "image/jpeg")
    body = {"image": uploaded.download_url, "prompt": PROMPT, "duration": 3, "sound": False, "shot_type": "customize"}
    prediction = studio.submit(MODEL, body)
    ends = time.monotonic() + 30
    while not prediction.is_terminal and time.monotonic() < ends:
        time.sleep(0.05)
        prediction = studio.result(prediction.id)
    assert (prediction.status, len(prediction.outputs), prediction.error) == ("completed", 1, "")
    assert [item.id for item in studio.all_predictions()] == [prediction.id]
    (row,) = studio.billings(prediction_ids=[prediction.id])
    assert (row.billing_type, row.price, row.prediction_id) == ("deduct", Decimal("1.26"), prediction.id)
    assert studio.balance() == before - Decimal("1.26")
    assert studio.price(MODEL, body).price == Decimal("1.26")
    assert studio.webhook_secret().startswith("whsec_")
    assert MODEL in [model.model_id for model in studio.models()]
    assert control.posts()["count"] == 1
