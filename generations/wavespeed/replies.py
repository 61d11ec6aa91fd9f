"""What the provider answers, as frozen records. Tolerant of nulls, missing and extra fields."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from generations.wavespeed.documents import read_json
from generations.wavespeed.redaction import Redactor
from generations.wavespeed.transport import Exchange, Reply

COMPLETED = "completed"
# Terminal, and without a video.
FAILED = frozenset({"failed", "cancelled", "timeout", "deleted"})
TERMINAL = FAILED | {COMPLETED}

OK = 200
ID = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._:~-]{1,64}")


@dataclass(frozen=True)
class Answer:
    """A reply with its envelope opened: `{"code", "message", "data"}`."""

    reply: Reply
    code: int | None
    error_code: int | None
    message: str
    data: Any

    @property
    def status(self) -> int | None:
        """The HTTP status, or the envelope's code where HTTP says 200; None where there is no envelope."""
        return self.code if self.reply.status == OK else self.reply.status

    @property
    def provider_code(self) -> int | None:
        return self.error_code if self.error_code is not None else self.code


@dataclass(frozen=True)
class Prediction:
    """A task of the provider. `outputs` are URLs, or objects (Kling Elements)."""

    id: str
    model: str
    status: str  # as the provider says it
    outputs: tuple[str | dict[str, Any], ...] = field(repr=False)
    error: str = field(repr=False)
    code: int | None
    has_nsfw: bool
    created_at: datetime | None
    urls_get: str = field(repr=False)
    inference_ms: int | None
    input: dict[str, Any] | None = field(repr=False)
    exchange: Exchange | None = field(repr=False, compare=False, default=None)

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL


@dataclass(frozen=True)
class Page:
    """One page of predictions, newest first."""

    page: int
    items: tuple[Prediction, ...]


@dataclass(frozen=True)
class Upload:
    """A file at the provider, kept for 7 days."""

    download_url: str = field(repr=False)
    filename: str
    size: int


@dataclass(frozen=True)
class Price:
    price: Decimal
    discounted_price: Decimal | None
    discount_rate: Decimal | None
    currency: str


@dataclass(frozen=True)
class BillingRow:
    """A row of the provider's bill in USD; a `deduct` exists from the submit on."""

    uuid: str
    billing_type: str  # "deduct" or "refund"
    price: Decimal
    created_at: datetime | None
    state: str  # "pre" or "done"
    prediction_id: str
    prediction_status: str


@dataclass(frozen=True)
class Model:
    model_id: str
    name: str
    base_price: Decimal | None
    type: str
    formula: str
    request_schema: dict[str, Any] | None = field(repr=False)


def read_answer(reply: Reply, redactor: Redactor) -> Answer:
    """The envelope, or an Answer full of None where there is none. A cut reply is read as far as it is whole JSON."""
    try:
        envelope = as_dict(read_json(reply.content))
    except ValueError:
        envelope = {}
    message = redactor.knowing(envelope).text(text(envelope.get("message")))
    return Answer(
        reply, integer(envelope.get("code")), integer(envelope.get("error_code")), message, envelope.get("data")
    )


def read_prediction(data: object, redactor: Redactor, exchange: Exchange | None = None) -> Prediction | None:
    """The prediction, or None without a readable id."""
    fields = as_dict(data)
    prediction_id = readable_id(fields.get("id"))
    if not prediction_id:
        return None
    return Prediction(
        id=prediction_id,
        model=text(fields.get("model")),
        status=text(fields.get("status")),
        outputs=_outputs(fields.get("outputs")),
        error=redactor.knowing(fields).text(text(fields.get("error"))),
        code=integer(fields.get("code")),
        has_nsfw=True in as_list(fields.get("has_nsfw_contents")),
        created_at=moment(fields.get("created_at")),
        urls_get=text(as_dict(fields.get("urls")).get("get")),
        inference_ms=_whole(as_dict(fields.get("timings")).get("inference")),
        input=fields["input"] if isinstance(fields.get("input"), dict) else None,
        exchange=exchange,
    )


def read_price(data: object) -> Price:
    fields = as_dict(data)
    return Price(
        price=money(fields.get("price")),
        discounted_price=optional_number(fields.get("discounted_price")),
        discount_rate=optional_number(fields.get("discount_rate")),
        currency=text(fields.get("currency")) or "USD",
    )


def read_billing_row(data: object) -> BillingRow:
    fields = as_dict(data)
    prediction = as_dict(fields.get("prediction"))
    if not (uuid := text(fields.get("uuid"))):
        raise ValueError("a billing row has no uuid")
    return BillingRow(
        uuid=uuid,
        billing_type=text(fields.get("billing_type")),
        price=money(fields.get("price")),
        created_at=moment(fields.get("created_at")),
        state=text(as_dict(fields.get("order")).get("state")),
        prediction_id=text(prediction.get("uuid")),
        prediction_status=text(prediction.get("status")),
    )


def read_model(data: object) -> Model | None:
    fields = as_dict(data)
    schemas = [as_dict(schema) for schema in as_list(as_dict(fields.get("api_schema")).get("api_schemas"))]
    schema = next((schema["request_schema"] for schema in schemas if schema.get("request_schema")), None)
    if not (model_id := text(fields.get("model_id"))):
        return None
    return Model(
        model_id=model_id,
        name=text(fields.get("name")),
        base_price=optional_number(fields.get("base_price")),
        type=text(fields.get("type")),
        formula=text(fields.get("formula")),
        request_schema=schema if isinstance(schema, dict) else None,
    )


def readable_id(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 < value < 10**64 else ""
    return value if isinstance(value, str) and ID.fullmatch(value) else None


def money(value: object) -> Decimal:
    """USD; raises ValueError for what is no amount."""
    amount = optional_number(value)
    if amount is None:
        raise ValueError("an amount is missing or is no number")
    return amount


def optional_number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def moment(value: object) -> datetime | None:
    """RFC 3339; nanoseconds are cut, no zone means UTC."""
    try:
        parsed = datetime.fromisoformat(text(value))
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def as_dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _whole(value: object) -> int | None:
    number = optional_number(value)
    return None if number is None else int(number)


def _outputs(value: object) -> tuple[str | dict[str, Any], ...]:
    items = [value] if isinstance(value, str) else as_list(value)
    return tuple(item for item in items if item and isinstance(item, str | dict))
