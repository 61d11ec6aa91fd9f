"""Webhooks out: signed, retried with growing pauses, and lost, late, doubled or badly signed on demand."""

import hashlib
import hmac
import json
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from wavespeed_sandbox.book import Book
from wavespeed_sandbox.clock import Clock
from wavespeed_sandbox.models import JsonObject
from wavespeed_sandbox.predictions import Prediction, Predictions

RETRIES = 3
FIRST_PAUSE = 10.0
TIMEOUT = 10.0
OUT_OF_ORDER_PAUSE = 0.3
_TICK = 0.05


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """The `webhook-signature` header; the secret is used without its `whsec_`, as the raw text that it is."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    key = secret.removeprefix("whsec_").encode()
    return "v3," + hmac.new(key, signed, hashlib.sha256).hexdigest()


class Webhooks:
    """Plans a delivery for every prediction that ends with a webhook, and sends what is due; all of it in the book."""

    def __init__(
        self,
        book: Book,
        predictions: Predictions,
        clock: Clock,
        *,
        secret: str,
        speed: Callable[[], float],
        describe: Callable[[Prediction], JsonObject],
    ) -> None:
        self._book = book
        self._predictions = predictions
        self._clock = clock
        self._secret = secret
        self._speed = speed
        self._describe = describe
        self._stopping = threading.Event()
        self._senders = ThreadPoolExecutor(4, thread_name_prefix="sandbox-webhook")
        self._under_way: set[int] = set()
        self._thread = threading.Thread(target=self._run, daemon=True, name="sandbox-webhooks")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._senders.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        while not self._stopping.wait(_TICK):
            for prediction in self._predictions.to_announce(self._clock.now()):
                self._plan(prediction)
            due = "SELECT number FROM deliveries WHERE state = 'pending' AND due_at <= ? ORDER BY due_at, number"
            for row in self._book.rows(due, self._clock.now()):
                if row["number"] not in self._under_way:
                    self._under_way.add(row["number"])
                    self._senders.submit(self._send, row["number"])

    def _send(self, number: int) -> None:
        try:
            self._deliver(number)
        finally:
            self._under_way.discard(number)

    def _plan(self, prediction: Prediction) -> None:
        faults, now = prediction.webhook_faults, self._clock.now()
        status = prediction.status(now)
        with self._book.transaction():
            self._book.write("UPDATE predictions SET webhook_planned = 1 WHERE id = ?", prediction.id)
            if "webhook_lost" in faults or status not in ("completed", "failed"):
                return
            due_at = now + faults.get("webhook_late", {}).get("seconds", 0.0)
            for _ in range(faults.get("webhook_duplicate", {}).get("copies", 1)):
                self._add(prediction, status, due_at, bad_signature="webhook_bad_signature" in faults)
            if "webhook_out_of_order" in faults:
                self._add(prediction, "processing", due_at + OUT_OF_ORDER_PAUSE, bad_signature=False)

    def _add(self, prediction: Prediction, status: str, due_at: float, *, bad_signature: bool) -> None:
        self._book.insert(
            "deliveries",
            prediction_id=prediction.id,
            message_id=f"msg_{uuid.uuid4().hex}",
            status=status,
            due_at=due_at,
            state="pending",
            bad_signature=bad_signature,
        )

    def _deliver(self, number: int) -> None:
        """Send one delivery, if it is still due: the list that named it may be older than its last attempt."""
        due = "SELECT * FROM deliveries WHERE number = ? AND state = 'pending' AND due_at <= ?"
        delivery = self._book.row(due, number, self._clock.now())
        prediction = self._predictions.find(delivery["prediction_id"]) if delivery else None
        if delivery is None or prediction is None or prediction.webhook is None:
            return
        delivered, answer = self._post(prediction, delivery)
        attempts = delivery["attempts"] + 1
        state = "delivered" if delivered else "pending" if attempts <= RETRIES else "given up"
        pause = FIRST_PAUSE * 2 ** (attempts - 1) / self._speed()
        self._book.write(
            "UPDATE deliveries SET attempts = ?, state = ?, due_at = ?, last_answer = ? WHERE number = ?",
            attempts, state, self._clock.now() + pause, answer, number,
        )  # fmt: skip

    def _post(self, prediction: Prediction, delivery: Any) -> tuple[bool, str]:
        body = json.dumps(self._body(prediction, delivery["status"])).encode()
        # The machine's own time, not the sandbox's moved one: receivers compare it with theirs.
        sent_at = str(int(time.time()))
        secret = "wrong" if delivery["bad_signature"] else self._secret
        headers = {
            "Content-Type": "application/json",
            "webhook-id": delivery["message_id"],
            "webhook-timestamp": sent_at,
            "webhook-signature": signature(secret, delivery["message_id"], sent_at, body),
        }
        try:
            with requests.Session() as session:
                session.trust_env = False  # receivers are on this machine more often than behind a proxy
                answer = session.post(
                    str(prediction.webhook), data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False
                )
        except requests.RequestException as error:
            return False, type(error).__name__
        return 200 <= answer.status_code < 300, f"HTTP {answer.status_code}"

    def _body(self, prediction: Prediction, status: str) -> JsonObject:
        body = self._describe(prediction) | {"input": prediction.inputs}
        if status == "processing":
            body |= {"status": "processing", "outputs": [], "error": "", "code": 0}
        return body
