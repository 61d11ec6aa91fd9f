import hashlib
import hmac
import http.server
import json
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.sandbox import SandboxControl
from tests.wavespeed_sandbox.conftest import Provider
from wavespeed_sandbox.webhooks import signature


@dataclass
class Delivery:
    headers: dict[str, str]
    body: bytes

    @property
    def prediction(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclass
class Receiver:
    """Collects what is sent to `url`; answers with `statuses`, then 200."""

    url: str
    statuses: list[int] = field(default_factory=list)
    got: "queue.Queue[Delivery]" = field(default_factory=queue.Queue)

    def next(self) -> Delivery:
        return self.got.get(timeout=10)

    def nothing_for(self, seconds: float) -> bool:
        time.sleep(seconds)
        return self.got.empty()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(inbox.statuses.pop(0) if inbox.statuses else 200)
            self.end_headers()
            inbox.got.put(Delivery({name.lower(): value for name, value in self.headers.items()}, body))

        def log_message(self, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    inbox = Receiver(f"http://127.0.0.1:{server.server_port}/hook/1/?from=wavespeed")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield inbox
    server.shutdown()
    thread.join()
    server.server_close()


def signed(delivery: Delivery, secret: str) -> bool:
    """Whether the signature is right, checked as the provider documents it."""
    headers = delivery.headers
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + delivery.body
    expected = hmac.new(secret[len("whsec_") :].encode(), text, hashlib.sha256).hexdigest()
    return headers["webhook-signature"] == f"v3,{expected}"


def test_signature_is_what_openssl_makes_of_it() -> None:
    expected = "v3,4cedf30b25f5cd79ddaa4c6ec56e8a8500bba6ab14c467efbde817d859800ebf"
    assert signature("whsec_abc", "msg_1", "1700000000", b'{"id":"x"}') == expected


def test_completed_prediction_is_announced(
    provider: Provider, control: SandboxControl, receiver: Receiver, image: str
) -> None:
    prediction = provider.create(webhook=receiver.url, image=image, prompt="pan", duration=3)
    delivery = receiver.next()
    found = provider.result(prediction)
    assert delivery.prediction == found | {"input": control.predictions()[0]["inputs"]}
    assert found["status"] == "completed"
    assert signed(delivery, provider.data("GET", "webhook/secret")["secret"])
    assert abs(int(delivery.headers["webhook-timestamp"]) - time.time()) < 30
    assert control.predictions()[0]["webhook"] == receiver.url
    assert receiver.nothing_for(0.3)


def test_failed_prediction_is_announced(
    provider: Provider, control: SandboxControl, receiver: Receiver, image: str
) -> None:
    control.arm("task_failed", code=1200)
    provider.create(webhook=receiver.url, image=image, prompt="pan")
    assert (receiver.next().prediction | {"input": {}})["code"] == 1200


def test_cancelled_prediction_is_not_announced(
    provider: Provider, control: SandboxControl, receiver: Receiver, image: str
) -> None:
    control.arm("task_cancelled")
    provider.finished(provider.create(webhook=receiver.url, image=image, prompt="pan"))
    assert receiver.nothing_for(0.3)


def ended(control: SandboxControl) -> list[dict[str, Any]]:
    """The deliveries, once none is pending: what was received is in the book a moment later."""
    ends = time.monotonic() + 10
    while any(row["state"] == "pending" for row in control.webhooks()):
        assert time.monotonic() < ends, control.webhooks()
        time.sleep(0.05)
    return control.webhooks()


def test_refused_webhook_is_retried_three_times(
    provider: Provider, control: SandboxControl, receiver: Receiver, image: str
) -> None:
    receiver.statuses = [500, 404, 302, 503, 500]
    provider.create(webhook=receiver.url, image=image, prompt="pan", duration=3)
    ids = {receiver.next().headers["webhook-id"] for _ in range(4)}
    assert len(ids) == 1
    assert receiver.nothing_for(0.5)
    assert [(row["attempts"], row["state"], row["last_answer"]) for row in ended(control)] == [
        (4, "given up", "HTTP 503")
    ]


def test_webhook_that_is_taken_is_not_sent_again(
    provider: Provider, control: SandboxControl, receiver: Receiver, image: str
) -> None:
    receiver.statuses = [500]
    provider.create(webhook=receiver.url, image=image, prompt="pan", duration=3)
    receiver.next(), receiver.next()
    assert receiver.nothing_for(0.3)
    assert [(row["attempts"], row["state"]) for row in ended(control)] == [(2, "delivered")]


def test_webhook_is_lost(provider: Provider, control: SandboxControl, receiver: Receiver, image: str) -> None:
    control.arm("webhook_lost")
    provider.finished(provider.create(webhook=receiver.url, image=image, prompt="pan", duration=3))
    assert receiver.nothing_for(0.3)


def test_webhook_is_doubled(provider: Provider, control: SandboxControl, receiver: Receiver, image: str) -> None:
    control.arm("webhook_duplicate", copies=3)
    provider.create(webhook=receiver.url, image=image, prompt="pan", duration=3)
    assert len({receiver.next().headers["webhook-id"] for _ in range(3)}) == 3
    assert receiver.nothing_for(0.2)


def test_webhook_is_late(provider: Provider, control: SandboxControl, receiver: Receiver, image: str) -> None:
    control.arm("webhook_late", seconds=100)
    provider.finished(provider.create(webhook=receiver.url, image=image, prompt="pan", duration=3))
    assert receiver.nothing_for(0.3)
    control.advance(101)
    assert receiver.next().prediction["status"] == "completed"


def test_webhooks_come_out_of_order(
    provider: Provider, control: SandboxControl, receiver: Receiver, image: str
) -> None:
    control.arm("webhook_out_of_order")
    provider.create(webhook=receiver.url, image=image, prompt="pan", duration=3)
    told = [receiver.next().prediction for _ in range(2)]
    assert [(body["status"], len(body["outputs"])) for body in told] == [("completed", 1), ("processing", 0)]


def test_webhook_is_badly_signed(provider: Provider, control: SandboxControl, receiver: Receiver, image: str) -> None:
    control.arm("webhook_bad_signature")
    provider.create(webhook=receiver.url, image=image, prompt="pan", duration=3)
    assert not signed(receiver.next(), provider.data("GET", "webhook/secret")["secret"])
