"""The paid POST: counted, checked, written down, then answered, or not."""

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from wavespeed_sandbox.account import Account
from wavespeed_sandbox.billing import micros
from wavespeed_sandbox.faults import CONCURRENCY_MESSAGE, CREDITS_MESSAGE, RATE_MESSAGE, Fault
from wavespeed_sandbox.models import MODELS, InvalidInput, JsonObject, Model
from wavespeed_sandbox.predictions import Destiny, Prediction
from wavespeed_sandbox.results import prediction_json
from wavespeed_sandbox.wire import BadRequest, Request, Response, json_response

_ERRORS = {
    1200: "Content flagged as potentially sensitive. Please try different prompts or images.",
    1400: "missing required parameter",
    1401: "invalid parameter",
    1402: "failed to fetch media",
    1403: "task execution failed",
    1405: "task failed",
    1406: "task failed after retries",
    1407: CREDITS_MESSAGE,
    5000: "internal error",
    5003: "service unavailable",
    5004: "task timed out",
}
_WEBHOOK_FAULTS = (
    "webhook_lost",
    "webhook_duplicate",
    "webhook_late",
    "webhook_out_of_order",
    "webhook_bad_signature",
)


class Refused(Exception):
    """No task is made; the POST is answered with this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Order:
    """A submit POST as it came in."""

    model_id: str
    body: JsonObject
    webhook: str | None

    @property
    def subject(self) -> dict[str, str]:
        """What faults can be limited by."""
        return {"model": self.model_id, "prompt": str(self.body.get("prompt", ""))}

    @property
    def image(self) -> str:
        return str(self.body.get("image", ""))


def submit(account: Account, request: Request, model_id: str, refusal: tuple[int, str] | None) -> Response:
    """Answer `POST /{model_id}`; `refusal` is what the key check says."""
    order = Order(model_id, _body(request), request.query.get("webhook"))
    fault = account.faults.take("submit", order.subject)
    number = _count(account, order, fault)
    if fault and not fault["created"]:
        return _answer_fault(account, request, fault, None)
    try:
        if refusal:
            raise Refused(*refusal)
        prediction = _create(account, order, number)
    except Refused as refused:
        return _envelope(refused.status, refused.message)
    account.workshop.ordered(prediction.id)
    if fault:
        return _answer_fault(account, request, fault, prediction)
    return json_response({"code": 200, "message": "success", "data": _as_submitted(account, prediction)})


def _as_submitted(account: Account, prediction: Prediction) -> JsonObject:
    return prediction_json(account, prediction, now=prediction.submitted_at)


def _body(request: Request) -> JsonObject:
    try:
        return request.json()
    except BadRequest:
        return {}  # the provider says which field is missing


def _count(account: Account, order: Order, fault: Fault | None) -> int:
    return account.book.insert(
        "posts",
        received_at=account.clock.now(),
        model=order.model_id,
        body=json.dumps(order.body),
        image=order.image,
        webhook=order.webhook,
        fault=fault.kind if fault else None,
    )


def _create(account: Account, order: Order, number: int) -> Prediction:
    """Make the task and its deduct row; both are on the disk when this returns."""
    model = MODELS.get(order.model_id)
    try:
        if model is None:
            raise Refused(404, f"model {order.model_id} not found")
        inputs = _checked(model, order)
        with account.book.transaction():
            price = _price(account, order, model.price(inputs))
            _check_limits(account, price)
            prediction = _write_down(account, order, model, inputs, price)
            account.book.write(
                "UPDATE posts SET prediction_id = ?, status = 200 WHERE number = ?", prediction.id, number
            )
    except Refused as refused:
        account.book.write(
            "UPDATE posts SET status = ?, message = ? WHERE number = ?", refused.status, refused.message, number
        )
        raise
    return prediction


def _checked(model: Model, order: Order) -> JsonObject:
    try:
        inputs = model.clean(order.body)
    except InvalidInput as error:
        raise Refused(400, str(error)) from error
    if order.webhook is not None and urlsplit(order.webhook).scheme not in ("http", "https"):
        raise Refused(400, 'query "webhook" must be a valid URL')
    return inputs


def _price(account: Account, order: Order, catalogue: Decimal) -> int:
    fault = account.faults.take("charge", order.subject, kind="charge_price")
    if fault is None:
        return micros(catalogue)
    if fault["price"] is not None:
        return micros(Decimal(str(fault["price"])))
    return micros(catalogue * Decimal(str(fault["factor"])))


def _check_limits(account: Account, price: int) -> None:
    settings, now = account.settings, account.clock.now()
    if settings.per_minute is not None and account.predictions.submitted_since(now - 60) >= settings.per_minute:
        raise Refused(429, RATE_MESSAGE)
    if settings.concurrent is not None and account.predictions.running(now) >= settings.concurrent:
        raise Refused(429, CONCURRENCY_MESSAGE)
    if account.billing.balance(now) < price:
        raise Refused(400, CREDITS_MESSAGE)


def _write_down(account: Account, order: Order, model: Model, inputs: JsonObject, price: int) -> Prediction:
    now, faults = account.clock.now(), account.faults
    late = faults.take("charge", order.subject, kind="charge_late")
    prediction = account.predictions.create(
        model,
        inputs,
        now=now,
        speed=account.speed,
        destiny=_destiny(faults.take("task", order.subject)),
        webhook=order.webhook,
        webhook_faults=_webhook_faults(account, order),
        refund_delay=_refund_delay(account, order),
    )
    lag = late["seconds"] if late else account.settings.billing_lag
    account.billing.deduct(prediction.id, price, now=now, lag=float(lag))
    return prediction


def _destiny(fault: Fault | None) -> Destiny:
    match fault.kind if fault else None:
        case "task_failed":
            assert fault is not None
            code = int(fault["code"])
            return Destiny("failed", code, str(fault["error"] or _ERRORS.get(code, "task failed")))
        case "task_nsfw":
            return Destiny("failed", 1200, _ERRORS[1200], nsfw=True)
        case "task_nsfw_flagged":
            return Destiny(nsfw=True)
        case "task_cancelled":
            return Destiny("cancelled", error="task cancelled")
        case "task_timeout":
            return Destiny("timeout", 5004, _ERRORS[5004])
        case "task_deleted":
            return Destiny("deleted", error="task deleted")
        case "task_endless":
            return Destiny(endless=True)
        case "task_slow":
            assert fault is not None
            return Destiny(slower=float(fault["factor"]))
        case _:
            return Destiny()


def _webhook_faults(account: Account, order: Order) -> JsonObject:
    """The webhook faults that this task will meet, by kind; a task without webhook uses none up."""
    if order.webhook is None:
        return {}
    taken = (account.faults.take("webhook", order.subject, kind=kind) for kind in _WEBHOOK_FAULTS)
    return {fault.kind: fault.parameters for fault in taken if fault}


def _refund_delay(account: Account, order: Order) -> float | None:
    if account.faults.take("refund", order.subject, kind="refund_never"):
        return None
    late = account.faults.take("refund", order.subject, kind="refund_late")
    return float(late["seconds"]) if late else account.settings.refund_after


def _answer_fault(account: Account, request: Request, fault: Fault, prediction: Prediction | None) -> Response:
    data: Any = _as_submitted(account, prediction) if prediction else {}
    match fault.kind:
        case "submit_drop_before" | "submit_drop_after":
            return Response(silent=True)
        case "submit_slow":
            answer = {"code": 200, "message": "success", "data": data}
            return json_response(answer, delay=float(fault["seconds"]))
        case "submit_redirect":
            location = f"{account.api_url}{request.path}"
            return Response(int(fault["status"]), headers={"Location": location})
        case "submit_garbage" | "submit_garbage_created":
            return Response(200, b"<html><body>upstream said: ok", "text/html")
        case "submit_error_code":
            return json_response({"code": int(fault["code"]), "message": fault["message"], "data": None})
        case "submit_no_id":
            data.pop("id", None)
            return json_response({"code": 200, "message": "success", "data": data})
        case _:
            headers = {"Retry-After": str(fault["retry_after"])} if fault["retry_after"] is not None else {}
            return _envelope(int(fault["status"]), fault["message"], headers)


def _envelope(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return json_response({"code": status, "message": message}, status, headers=headers or {})
