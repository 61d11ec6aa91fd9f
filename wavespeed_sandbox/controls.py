"""`/_sandbox/`: what tests and people ask of the sandbox itself. No key is needed."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from wavespeed_sandbox.account import Account
from wavespeed_sandbox.billing import CHANGEABLE, NoSuchRow, Row, micros, usd
from wavespeed_sandbox.clock import rfc3339, timestamp
from wavespeed_sandbox.faults import KINDS, UnknownFault
from wavespeed_sandbox.models import JsonObject
from wavespeed_sandbox.predictions import Prediction
from wavespeed_sandbox.results import prediction_json
from wavespeed_sandbox.wire import BadRequest, Request, Response, json_response

PREFIX = "/_sandbox"
VERSION = "1.0"


class Controls:
    def __init__(self, account: Account) -> None:
        self._account = account
        self._routes: dict[tuple[str, str], Callable[[Request], Any]] = {
            ("GET", ""): self._info,
            ("GET", "/bill"): self._bill,
            ("POST", "/bill"): self._doctor,
            ("GET", "/predictions"): self._predictions,
            ("GET", "/posts"): self._posts,
            ("GET", "/uploads"): self._uploads,
            ("GET", "/webhooks"): self._webhooks,
            ("GET", "/faults"): lambda request: {"faults": account.faults.armed()},
            ("POST", "/faults"): self._arm,
            ("DELETE", "/faults"): lambda request: {"disarmed": account.faults.disarm()},
            ("POST", "/clock"): self._clock,
            ("POST", "/speed"): self._speed,
            ("POST", "/reset"): self._reset,
        }

    def handle(self, request: Request) -> Response:
        call = self._routes.get((request.method, request.path.removeprefix(PREFIX).rstrip("/")))
        if call is None:
            return json_response({"error": f"no control {request.method} {request.path}"}, 404)
        try:
            return json_response(call(request))
        except (BadRequest, UnknownFault, NoSuchRow) as error:
            return json_response({"error": str(error)}, 400)

    def _info(self, request: Request) -> Any:
        account = self._account
        return {
            "name": "wavespeed_sandbox",
            "version": VERSION,
            "data_dir": str(account.book.data_dir),
            "api_url": account.api_url,
            "files_url": account.files_url,
            "resolution": account.settings.resolution,
            "speed": account.speed,
            "clock": {"now": rfc3339(account.clock.now()), "offset_seconds": account.clock.offset},
            "balance": usd(account.billing.balance(account.clock.now())),
            "fault_kinds": {name: kind.description for name, kind in KINDS.items()},
        }

    def _bill(self, request: Request) -> Any:
        billing, now = self._account.billing, self._account.clock.now()
        rows = billing.rows(now)
        deducted, refunded = billing.total("deduct"), billing.total("refund")
        return {
            "rows": [
                {
                    "uuid": row["uuid"],
                    "prediction_id": row["prediction_id"],
                    "billing_type": row["billing_type"],
                    "price": usd(row["price"]),
                    "price_micros": row["price"],
                    "created_at": rfc3339(row["created_at"]),
                    "visible": row["visible_at"] <= now,
                }
                for row in rows
            ],
            "deducted": usd(deducted),
            "refunded": usd(refunded),
            "total": usd(deducted - refunded),
            "total_micros": deducted - refunded,
            "balance": usd(billing.balance(now)),
        }

    def _doctor(self, request: Request) -> Any:
        """Add, change or remove rows of the bill, and answer with the bill."""
        body = request.json()
        if unknown := body.keys() - {"add", "change", "remove"}:
            raise BadRequest(f"no {min(unknown)!r}: give add, change or remove")
        add = [self._row(_object(item)) for item in _list(body, "add")]
        changes = [_object(item) for item in _list(body, "change")]
        change = {_text(item, "uuid"): _columns(item, but="uuid") for item in changes}
        remove = [str(item) for item in _list(body, "remove")]
        self._account.billing.doctor(add, change, remove)
        return self._bill(request)

    def _row(self, item: JsonObject) -> Row:
        columns = _columns(item, but="created_at")
        for name in CHANGEABLE:
            if name not in columns:
                raise BadRequest(f"a row needs {', '.join(CHANGEABLE)}")
        try:
            created_at = timestamp(str(item["created_at"])) if "created_at" in item else self._account.clock.now()
        except ValueError as error:
            raise BadRequest(f"created_at must be an RFC 3339 time, not {item['created_at']}") from error
        return Row(**columns, created_at=created_at)

    def _predictions(self, request: Request) -> Any:
        return {"predictions": [self._full(prediction) for prediction in self._account.predictions.all()]}

    def _full(self, prediction: Prediction) -> Any:
        shown = prediction_json(self._account, prediction)
        return {
            "id": prediction.id,
            "model": prediction.model.model_id,
            "status": shown["status"],
            "outcome": "endless" if prediction.ends_at is None else prediction.outcome,
            "code": shown["code"],
            "error": shown["error"],
            "inputs": prediction.inputs,
            "webhook": prediction.webhook,
            "webhook_planned": prediction.webhook_planned,
            "submitted_at": shown["created_at"],
            "outputs": shown["outputs"],
            "output_url": shown["outputs"][0] if shown["outputs"] and not prediction.element else None,
            "output_sha256": prediction.output_sha256,
            "output_bytes": prediction.output_bytes,
        }

    def _posts(self, request: Request) -> Any:
        rows = [dict(row) for row in self._account.book.rows("SELECT * FROM posts ORDER BY number")]
        by_image: dict[str, int] = {}
        for row in rows:
            by_image[row["image"]] = by_image.get(row["image"], 0) + 1
        return {"count": len(rows), "by_image": by_image, "posts": rows}

    def _uploads(self, request: Request) -> Any:
        rows = self._account.book.rows(
            "SELECT id, filename, size, content_type, created_at, stored_at, sha256 FROM uploads ORDER BY created_at"
        )
        return {"uploads": [dict(row) for row in rows]}

    def _webhooks(self, request: Request) -> Any:
        return {
            "deliveries": [dict(row) for row in self._account.book.rows("SELECT * FROM deliveries ORDER BY number")]
        }

    def _arm(self, request: Request) -> Any:
        return {"number": self._account.faults.arm(request.json())}

    def _clock(self, request: Request) -> Any:
        now = self._account.clock.advance(_number(request, "advance_seconds"))
        return {"now": rfc3339(now), "offset_seconds": self._account.clock.offset}

    def _speed(self, request: Request) -> Any:
        """A new speed, also for what is left of the running tasks."""
        speed = _number(request, "speed")
        if speed <= 0:
            raise BadRequest("speed must be above 0")
        account = self._account
        account.predictions.rescale(account.speed / speed, account.clock.now())
        account.speed = speed
        return {"speed": speed}

    def _reset(self, request: Request) -> Any:
        self._account.book.clear()
        return {"reset": True}


def _number(request: Request, name: str) -> float:
    value = request.json().get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadRequest(f'{name} must be a number, for example {{"{name}": 60}}')
    return float(value)


def _list(body: JsonObject, name: str) -> list[Any]:
    value = body.get(name, [])
    if not isinstance(value, list):
        raise BadRequest(f"{name} must be a list")
    return value


def _object(item: Any) -> JsonObject:
    if not isinstance(item, dict):
        raise BadRequest("each row must be a JSON object")
    return item


def _text(item: JsonObject, name: str) -> str:
    value = item.get(name)
    if not isinstance(value, str) or not value:
        raise BadRequest(f"{name} must be a text")
    return value


def _columns(item: JsonObject, *, but: str) -> dict[str, Any]:
    """The named columns of a row of the bill; its price in micro-dollars."""
    if unknown := item.keys() - {*CHANGEABLE, but}:
        raise BadRequest(f"a row has no {min(unknown)!r}: it has {', '.join(CHANGEABLE)}")
    columns: dict[str, Any] = {name: _text(item, name) for name in CHANGEABLE if name in item and name != "price"}
    if "price" in item:
        columns["price"] = micros(Decimal(str(_number_in(item, "price"))))
    return columns


def _number_in(item: JsonObject, name: str) -> float:
    value = item.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise BadRequest(f"{name} must be a number of USD, for example 2.1")
    return float(value)
