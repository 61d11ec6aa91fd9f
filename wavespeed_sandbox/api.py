"""The provider's API: envelopes, the key check, and every route that costs nothing. Paid POSTs are in submit.py."""

import email
import email.policy
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from wavespeed_sandbox.account import Account
from wavespeed_sandbox.billing import usd
from wavespeed_sandbox.clock import rfc3339, timestamp
from wavespeed_sandbox.files import Files
from wavespeed_sandbox.models import MODELS, InvalidInput, JsonObject
from wavespeed_sandbox.predictions import Prediction
from wavespeed_sandbox.results import prediction_json, result
from wavespeed_sandbox.submit import submit
from wavespeed_sandbox.wire import BadRequest, Request, Response, json_response

PREFIX = "/api/v3"
MAX_PAGE = 100
MAX_LEGACY_UPLOAD = 300 * 1024 * 1024

Call = Callable[[Request], Response]


def _ok(data: Any) -> Response:
    return json_response({"code": 200, "message": "success", "data": data})


def _error(status: int, message: str) -> Response:
    return json_response({"code": status, "message": message}, status)


class Api:
    def __init__(self, account: Account, files: Files) -> None:
        self._account = account
        self._files = files
        self._free: dict[tuple[str, str], tuple[str, Call]] = {
            ("POST", "/predictions"): ("predictions", self._predictions),
            ("POST", "/predictions/delete"): ("delete", self._delete),
            ("GET", "/balance"): ("balance", self._balance),
            ("POST", "/model/price"): ("price", self._price),
            ("POST", "/billings/search"): ("billings", self._billings),
            ("GET", "/models"): ("models", self._models),
            ("GET", "/webhook/secret"): ("webhook_secret", self._webhook_secret),
        }
        self._uploads: dict[str, Call] = {
            "/media/uploads": self._ticket,
            "/media/upload/binary": self._binary,
        }

    def handle(self, request: Request) -> Response:
        """Answer one call below /api/v3."""
        path = request.path.removeprefix(PREFIX)
        refusal = self._refusal(request)
        free = self._free.get((request.method, path))
        if request.method == "POST" and not free and path not in self._uploads:
            return submit(self._account, request, path.strip("/"), refusal)
        if refusal:
            return _error(*refusal)
        try:
            return self._answer(request, path, free)
        except BadRequest as error:
            return _error(400, str(error))

    def _answer(self, request: Request, path: str, free: tuple[str, Call] | None) -> Response:
        if free:
            name, call = free
            return self._faulty(name, request) or call(request)
        if request.method == "POST":
            return self._uploads[path](request)
        found = re.fullmatch(r"/predictions/([^/]+)(?:/result)?", path)
        if request.method == "GET" and found:
            return result(self._account, found[1])
        return _error(404, "not found")

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            return 401, "Unauthorized: API key is missing"
        wanted = self._account.settings.api_key
        return (401, "Unauthorized: API key is invalid") if wanted is not None and key.strip() != wanted else None

    def _faulty(self, route: str, request: Request) -> Response | None:
        fault = self._account.faults.take("free", {}, route=route)
        match fault.kind if fault else None:
            case None:
                return None
            case "free_401":
                return _error(401, "Unauthorized")
            case "free_429":
                return _error(429, "Too Many Requests")
            case "free_garbage":
                return Response(200, b"<html><body>maintenance", "text/html")
            case "free_timeout":
                assert fault is not None
                return json_response({"code": 504, "message": "Gateway Timeout"}, 504, delay=float(fault["seconds"]))
            case "free_absurd":
                assert fault is not None
                return _ok(_absurd(fault["number"], self._now))
            case "free_endless":
                return _ok(_endless(request.json(), self._now))
        return _error(500, "Internal Server Error")

    # Predictions

    def _predictions(self, request: Request) -> Response:
        body = request.json()
        found = [
            prediction for prediction in self._account.predictions.listed(self._now) if self._wanted(prediction, body)
        ]
        page, size = _page(body)
        shown = [self._listed(prediction, body) for prediction in found[(page - 1) * size : page * size]]
        return _ok({"page": page, "items": shown})

    def _wanted(self, prediction: Prediction, body: JsonObject) -> bool:
        after, before = body.get("created_after"), body.get("created_before")
        return (
            body.get("model") in (None, "", prediction.model.model_id)
            and body.get("status") in (None, "", prediction.status(self._now))
            and (not after or prediction.submitted_at >= _instant(after))
            and (not before or prediction.submitted_at <= _instant(before))
        )

    def _listed(self, prediction: Prediction, body: JsonObject) -> JsonObject:
        shown = prediction_json(self._account, prediction)
        if body.get("include_inputs") is True and self._account.settings.list_inputs:
            shown["input"] = prediction.inputs
        return shown

    def _delete(self, request: Request) -> Response:
        ids = request.json().get("ids")
        if not isinstance(ids, list) or not ids:
            raise BadRequest('field "ids" is required and must not be empty')
        return _ok({"deleted_count": sum(self._account.predictions.delete(str(one), self._now) for one in ids)})

    # Money and models

    def _balance(self, request: Request) -> Response:
        return _ok({"balance": usd(self._account.billing.balance(self._now))})

    def _price(self, request: Request) -> Response:
        body = request.json()
        model = MODELS.get(str(body.get("model_id", "")))
        if model is None:
            return _error(404, f"model {body.get('model_id')} not found")
        inputs = body.get("inputs") or {}
        if not isinstance(inputs, dict):
            raise BadRequest('field "inputs" must be object')
        try:
            price = float(self._quoted(model.model_id, model.quote(inputs)))
        except InvalidInput as error:
            return _error(400, str(error))
        return _ok({"price": price, "discounted_price": price, "discount_rate": 0, "currency": "USD"})

    def _quoted(self, model_id: str, catalogue: Decimal) -> Decimal:
        fault = self._account.faults.take("quote", {"model": model_id})
        if fault is None:
            return catalogue
        return Decimal(str(fault["price"])) if fault["price"] is not None else catalogue * Decimal(str(fault["factor"]))

    def _billings(self, request: Request) -> Response:
        body = request.json()
        rows = [row for row in self._account.billing.rows(self._now) if row["visible_at"] <= self._now]
        found = [row for row in rows if _billing_wanted(row, body)]
        if str(body.get("sort", "")).lower() not in ("asc", "created_at", "created_at asc"):
            found.reverse()
        page, size = _page(body)
        items = [self._billing_item(row) for row in found[(page - 1) * size : page * size]]
        return _ok({"page": page, "total": len(found), "items": items})

    def _billing_item(self, row: Any) -> JsonObject:
        prediction = self._account.predictions.find(row["prediction_id"])
        status = prediction.status(self._now) if prediction else "deleted"
        settled = status not in ("created", "processing")
        return {
            "uuid": row["uuid"],
            "billing_type": row["billing_type"],
            "price": usd(row["price"]),
            "created_at": rfc3339(row["created_at"]),
            # What costs nothing yet still waits for its price.
            "order": {"state": "done" if settled and row["price"] else "pre"},
            "prediction": {"uuid": row["prediction_id"], "status": status},
        }

    def _models(self, request: Request) -> Response:
        return _ok([model.listing() for model in MODELS.values()])

    def _webhook_secret(self, request: Request) -> Response:
        return _ok({"secret": self._account.webhook_secret})

    # Uploads

    def _ticket(self, request: Request) -> Response:
        fault = self._account.faults.take("ticket", {})
        if fault and fault.kind == "upload_ticket_drop":
            return Response(silent=True)
        if fault:
            return _error(int(fault["status"]), "Internal Server Error")
        body = request.json()
        filename, size = body.get("filename"), body.get("size")
        if not isinstance(filename, str) or not filename:
            raise BadRequest('field "filename" is required and must not be empty')
        if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
            raise BadRequest('field "size" is required and must be a positive integer')
        return _ok(self._files.ticket(filename, size, str(body.get("content_type") or "application/octet-stream")))

    def _binary(self, request: Request) -> Response:
        if self._account.faults.take("binary", {}):
            return _error(500, "Internal Server Error")
        if len(request.body) > MAX_LEGACY_UPLOAD:
            return _error(413, "file too large")
        filename, content, content_type = _multipart_file(request)
        return _ok(self._files.keep(filename, content, content_type))

    @property
    def _now(self) -> float:
        return self._account.clock.now()


def _page(body: JsonObject) -> tuple[int, int]:
    page, size = body.get("page", 1), body.get("page_size", 20)
    if not isinstance(page, int) or page < 1:
        raise BadRequest('field "page" must be greater than or equal to 1')
    if not isinstance(size, int) or not 1 <= size <= MAX_PAGE:
        raise BadRequest(f'field "page_size" must be between 1 and {MAX_PAGE}')
    return page, size


def _absurd(number: object, now: float) -> JsonObject:
    """An answer to any of the calls about money."""
    row = {"uuid": "absurd", "billing_type": "deduct", "price": number, "created_at": rfc3339(now)}
    return {
        "balance": number,
        "price": number,
        "page": 1,
        "total": 1,
        "items": [row | {"prediction": {"uuid": "f" * 32}}],
    }


def _endless(body: JsonObject, now: float) -> JsonObject:
    """One more page of things that nobody knows; fit for the list of predictions and for the bill."""
    page, size = _page(body)
    ids = [f"{number:032x}" for number in range((page - 1) * size, page * size)]
    common = {"status": "completed", "outputs": [], "billing_type": "deduct", "price": 1, "created_at": rfc3339(now)}
    rows = [{"id": each, "uuid": each, "prediction": {"uuid": each}, **common} for each in ids]
    return {"page": page, "items": rows}


def _instant(text: Any) -> float:
    try:
        return timestamp(str(text))
    except ValueError as error:
        raise BadRequest(f"{text} is no RFC 3339 time") from error


def _billing_wanted(row: Any, body: JsonObject) -> bool:
    return (
        body.get("billing_type") in (None, "", row["billing_type"])
        and (not body.get("prediction_uuids") or row["prediction_id"] in body["prediction_uuids"])
        and (not body.get("start_time") or row["created_at"] >= _instant(body["start_time"]))
        and (not body.get("end_time") or row["created_at"] <= _instant(body["end_time"]))
    )


def _multipart_file(request: Request) -> tuple[str, bytes, str]:
    """Name, bytes and type of the form's field `file`."""
    head = f"Content-Type: {request.headers.get('content-type', '')}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
    for part in message.iter_parts() if message.is_multipart() else ():
        if part.get_param("name", header="content-disposition") == "file":
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            return part.get_filename() or "upload", content, part.get_content_type()
    raise BadRequest('field "file" is required and must not be empty')
