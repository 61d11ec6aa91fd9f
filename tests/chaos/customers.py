"""The people who order videos while everything breaks: over the REST API, with idempotency keys, as a careful frontend does."""

import threading
import time
from collections import Counter
from queue import Empty, SimpleQueue

import requests

from tests.chaos.fates import Fault, Order
from tests.sandbox import SandboxControl

# The customers know no Django.
ENDPOINT = "kwaivgi/kling-video-o3-4k/image-to-video"
PATIENCE = 25.0  # seconds that an order is tried for; its idempotency key keeps it from being placed twice
TIMEOUT, IMPATIENT = 15.0, 0.05  # seconds; who is impatient asks again while the first request is still at work
ACCEPTED = "accepted"
NO_ANSWER = "no answer"
BY_THE_BUDGET = "refused by the budget"
TOO_SLOW = "not placed: the machine is too slow"
TRIES_AGAIN = {409, 429, 500, 502, 503, 504}


class Customers:
    """Places the orders at their times, from a few threads; `told` counts what they were told.

    `accepted` has the generation's id by the order's mark; `asked_again` counts requests that were sent again with the same key.
    """

    def __init__(
        self, url: str, token: str, projects: dict[str, str], images: dict[str, list[str]], provider: SandboxControl
    ) -> None:
        self.told: Counter[str] = Counter()
        self.accepted: dict[str, str] = {}
        self.asked_again = 0
        self.unexpected: list[str] = []
        self._url = f"{url}/api/v1"
        self._token = token
        self._projects = projects
        self._images = images
        self._provider = provider
        self._orders: SimpleQueue[Order] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._until = 0.0

    def start(self, orders: list[Order], *, until: float, threads: int = 4) -> None:
        """What is not ordered `until` then (by time.monotonic) is not ordered any more."""
        began = time.monotonic()
        self._until = until
        for order in orders:
            self._orders.put(order)
        self._threads = [
            threading.Thread(target=self._work, args=(began,), daemon=True, name=f"customer-{each}")
            for each in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def are_done(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self, began: float) -> None:
        with requests.Session() as api:
            api.headers["Authorization"] = f"Bearer {self._token}"
            while True:
                try:
                    order = self._orders.get_nowait()
                except Empty:
                    return
                time.sleep(max(0.0, began + order.at - time.monotonic()))
                if time.monotonic() > self._until:
                    self.told[TOO_SLOW] += 1
                    continue
                try:
                    self._place(api, order)
                except requests.RequestException:
                    self.told[NO_ANSWER] += 1

    def _place(self, api: requests.Session, order: Order) -> None:
        for fault in order.faults:
            self._arm(fault, order)
        images = self._images[order.project]
        body = {
            "project": self._projects[order.project],
            "endpoint": ENDPOINT,
            "image": images[order.number % len(images)],
            "prompt": f"{order.mark} Steam rises from the cup",
            "duration": order.duration,
            "queue": True,
            # Or the studio would ask whether the same video is wanted twice: only the key is to keep it from being ordered twice.
            "confirm": True,
        }
        first = IMPATIENT if order.impatient else TIMEOUT
        answer = self._asked(api, "generations/", body, key=f"order-{order.number}", first_timeout=first)
        if answer is None:
            self.told[NO_ANSWER] += 1
        elif answer.status_code == 202:
            self.told[ACCEPTED] += 1
            self.accepted[order.mark] = answer.json()["id"]
            if order.cancel:
                self._cancel(api, answer.json()["id"])
        elif answer.status_code == 402 and order.project == "tight":
            self.told[BY_THE_BUDGET] += 1
        else:
            self.told["refused otherwise"] += 1
            self.unexpected.append(f"{order.mark} HTTP {answer.status_code}: {answer.text[:300]}")

    def _cancel(self, api: requests.Session, generation: str) -> None:
        """It may have been submitted by then, and is refused."""
        answer = self._asked(api, f"generations/{generation}/cancel/", {}, key=f"cancel-{generation}")
        self.told["cancelled" if answer is not None and answer.ok else "too late to cancel"] += 1

    def _asked(
        self, api: requests.Session, path: str, body: dict[str, object], *, key: str, first_timeout: float = TIMEOUT
    ) -> requests.Response | None:
        """The answer, after as many tries as it takes; None when there was none in time."""
        ends = time.monotonic() + PATIENCE
        timeout = first_timeout
        while True:
            try:
                answer = api.post(f"{self._url}/{path}", json=body, headers={"Idempotency-Key": key}, timeout=timeout)
            except requests.RequestException:
                answer = None
            if answer is not None and (answer.status_code not in TRIES_AGAIN or _is_final(answer)):
                return answer
            if time.monotonic() > ends:
                return None
            time.sleep(0.5)
            timeout = TIMEOUT
            self.asked_again += 1

    def _arm(self, fault: Fault, order: Order) -> None:
        """The provider may be dead at this moment, and is back soon."""
        ends = time.monotonic() + PATIENCE
        while True:
            try:
                self._provider.arm(fault.kind, times=fault.times, prompt=order.mark, **fault.parameters)
            except requests.RequestException:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.2)
            else:
                return


def _is_final(answer: requests.Response) -> bool:
    """A 409 that asking again does not change."""
    return answer.status_code == 409 and "idempotency_key_in_flight" not in answer.text
