"""What the provider answers, as frozen records. Tolerant of nulls, missing and extra fields, and of other words and forms for the same.

Numbers, texts, times and lists are bounded here, before anything is made of them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

from generations.wavespeed.documents import read_json
from generations.wavespeed.redaction import Redactor
from generations.wavespeed.transport import Exchange, Reply

COMPLETED = "completed"
# Terminal, and without a video.
FAILED = frozenset({"failed", "cancelled", "timeout", "deleted"})
TERMINAL = FAILED | {COMPLETED}
PENDING = frozenset({"created", "processing"})
# The provider's words, and those that others of its kind use for the same.
SYNONYMS = {
    COMPLETED: "complete succeeded succeed success successful done finished finish ready",
    "failed": "failure fail error errored rejected blocked moderated nsfw",
    "cancelled": "canceled cancel aborted",
    "timeout": "timed_out time_out timedout expired",
    "deleted": "removed",
    "created": "pending queued in_queue waiting scheduled submitted accepted",
    "processing": "running in_progress inprogress started starting generating rendering",
}
MEANING = {word: meaning for meaning, words in SYNONYMS.items() for word in words.split()}

OK = 200
# Under these names an answer may say what was made, in whatever form and case, and beneath them everything is searched for addresses …
OUTPUT_NAME = re.compile(
    r"(?:outputs?|results?|videos?|files?|media|assets?|artifacts?)_?(?:ur[il]s?|links?)?|ur[il]s?|download_?url",
    re.IGNORECASE,
)
# … but here, as what stands here was not made.
NO_OUTPUTS = frozenset({"input", "inputs", "urls", "webhook", "webhook_url", "error", "errors", "logs", "prompt"})
MOST_OUTPUTS = 20
MAX_DEPTH = 6
LONGEST_URL = 8_000
# A host and a path to a video, without a scheme or its slashes.
BARE_ADDRESS = re.compile(
    r"[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+(?::\d{1,5})?/[^\s?#]*\.(?:mp4|m4v|mov|webm|mkv)(?:[?#]\S*)?",
    re.IGNORECASE | re.ASCII,
)
LONGEST_TEXT = 2_000
LONGEST_WORD = 120
LONGEST_NUMBER = 40
# Numbers have fewer digits before the point: a billion is more than any price, balance or time of work.
MOST_DIGITS = 9
# The clocks of two machines; what is further ahead is no time at which something was made.
AHEAD = timedelta(days=1)
OLDEST = datetime(2020, 1, 1, tzinfo=UTC)
# Under these names an object tells its error.
ERROR_NAMES = ("message", "detail", "details", "msg", "reason", "description", "error", "title", "code", "type")
ID = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._:~-]{1,64}")


@dataclass(frozen=True)
class Answer:
    """A reply with its envelope opened: `{"code", "message", "data"}`."""

    reply: Reply
    code: int | None
    error_code: int | None
    message: str
    data: Any
    document: Mapping[str, Any] = field(repr=False)  # all of it; empty where it is no JSON object

    @property
    def status(self) -> int | None:
        """The HTTP status, or the envelope's code where HTTP says 200; None where there is no envelope."""
        return self.code if self.reply.status == OK else self.reply.status

    @property
    def provider_code(self) -> int | None:
        return self.error_code if self.error_code is not None else self.code


@dataclass(frozen=True)
class Prediction:
    """A task of the provider. `outputs` are the addresses of what was made; `others` are addresses that stand elsewhere in the answer."""

    id: str
    model: str
    status: str  # the provider's own word where it is known, also by a synonym; else what it says
    outputs: tuple[str, ...] = field(repr=False)
    error: str = field(repr=False)
    code: int | None
    has_nsfw: bool
    created_at: datetime | None
    input: dict[str, Any] | None = field(repr=False)
    exchange: Exchange | None = field(repr=False, compare=False, default=None)
    others: tuple[str, ...] = field(repr=False, default=())

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL

    @property
    def is_made(self) -> bool:
        return self.status == COMPLETED and bool(self.outputs)

    @property
    def is_pending(self) -> bool:
        return self.status in PENDING


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
    code, error_code = integer(envelope.get("code")), integer(envelope.get("error_code"))
    return Answer(reply, code, error_code, message, envelope.get("data"), envelope)


def told_things(answer: Answer) -> list[object]:
    """What a good answer may be about: its data, an item of it, or, without an envelope, all of it."""
    if answer.reply.status != OK:
        return []
    return [answer.data, *as_list(answer.data)[:MOST_OUTPUTS], answer.document]


def read_prediction(data: object, redactor: Redactor, exchange: Exchange | None = None) -> Prediction | None:
    """The prediction, or None without a readable id."""
    fields = as_dict(data)
    prediction_id = readable_id(fields.get("id"))
    if not prediction_id:
        return None
    outputs = _outputs(fields)
    return Prediction(
        id=prediction_id,
        model=text(fields.get("model"), most=LONGEST_WORD),
        status=_status(fields.get("status")),
        outputs=outputs,
        error=redactor.knowing(fields).text(_error(fields.get("error"))),
        code=_code(fields.get("code")),
        has_nsfw=_is_flagged(fields.get("has_nsfw_contents")),
        created_at=moment(fields.get("created_at")),
        input=fields["input"] if isinstance(fields.get("input"), dict) else None,
        exchange=exchange,
        others=tuple(each for each in _first(_addresses(dict(fields))) if each not in outputs),
    )


def read_price(data: object) -> Price:
    fields = as_dict(data)
    return Price(
        price=money(fields.get("price")),
        discounted_price=optional_number(fields.get("discounted_price")),
        discount_rate=optional_number(fields.get("discount_rate")),
        currency=text(fields.get("currency"), most=LONGEST_WORD) or "USD",
    )


def read_billing_row(data: object) -> BillingRow:
    fields = as_dict(data)
    prediction = as_dict(fields.get("prediction"))
    if not (uuid := text(fields.get("uuid"))):
        raise ValueError("a billing row has no uuid")
    return BillingRow(
        uuid=uuid,
        billing_type=text(fields.get("billing_type"), most=LONGEST_WORD),
        price=money(fields.get("price")),
        created_at=moment(fields.get("created_at")),
        state=text(as_dict(fields.get("order")).get("state"), most=LONGEST_WORD),
        prediction_id=text(prediction.get("uuid"), most=LONGEST_WORD),
        prediction_status=text(prediction.get("status"), most=LONGEST_WORD),
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
    """A finite number below a billion, also one that is written as text; None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        return None
    if isinstance(value, str) and len(value) > LONGEST_NUMBER:
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    # Compared by its digits: 1e1000000 is quick to write, and takes minutes to reckon with.
    return number if number.is_finite() and number.adjusted() < MOST_DIGITS else None


def moment(value: object) -> datetime | None:
    """RFC 3339; nanoseconds are cut, no zone means UTC. None for what is no time at which the provider could have made something."""
    try:
        parsed = datetime.fromisoformat(text(value))
        known = parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return known if OLDEST <= known <= datetime.now(UTC) + AHEAD else None


def as_dict(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def text(value: object, *, most: int | None = None) -> str:
    return value[:most] if isinstance(value, str) else ""


def integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _status(value: object) -> str:
    word = "_".join(re.split(r"[\s_-]+", text(value, most=LONGEST_WORD).strip().casefold()))
    return MEANING.get(word, word)


def _code(value: object) -> int | None:
    """Also where it is written as text, or as a fraction of nothing."""
    number = optional_number(value)
    return int(number) if number is not None and number == int(number) else None


def _is_flagged(value: object) -> bool:
    return value is True or True in as_list(value)


def _error(value: object, depth: int = 0) -> str:
    """What went wrong, in the provider's words: a text, or the first text of an object or a list."""
    match value:
        case str():
            return value.strip()[:LONGEST_TEXT]
        case int() | Decimal() if not isinstance(value, bool):
            return str(value)[:LONGEST_WORD]
        case list() if depth < MAX_DEPTH:
            told = (_error(each, depth + 1) for each in value[:MOST_OUTPUTS])
        case dict() if depth < MAX_DEPTH:
            told = (_error(value[name], depth + 1) for name in ERROR_NAMES if name in value)
        case _:
            return ""
    return next(filter(None, told), "")


# Outputs


def _outputs(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The addresses of what was made: those of `outputs`, else those under other names for it."""
    said = {name: value for name, value in fields.items() if name != "outputs" and OUTPUT_NAME.fullmatch(name)}
    return _first(_addresses(fields.get("outputs"))) or _first(_addresses(said))


def _first(addresses: Iterator[str]) -> tuple[str, ...]:
    """The first different ones: nobody asks for as many."""
    found: dict[str, None] = {}
    for address in addresses:
        found[address] = None
        if len(found) == MOST_OUTPUTS:
            break
    return tuple(found)


def _addresses(value: object, depth: int = 0) -> Iterator[str]:
    """The addresses in a value, however it is nested, in the order in which they stand there."""
    match value:
        case str():
            if address := _address(value):
                yield address
        case list() if depth < MAX_DEPTH:
            for each in value:
                yield from _addresses(each, depth + 1)
        case dict() if depth < MAX_DEPTH:
            for name, each in value.items():
                if name.lower() not in NO_OUTPUTS:
                    yield from _addresses(each, depth + 1)


def _address(value: str) -> str:
    """A web address without what stands around it; one without a scheme comes as `//host/path`, to be joined with the API's."""
    address = value.strip()
    if len(address) <= LONGEST_URL and BARE_ADDRESS.fullmatch(address):
        address = f"//{address}"
    if len(address) > LONGEST_URL or not address.lower().startswith(("http://", "https://", "//")):
        return ""
    try:
        return address if urlsplit(address).hostname else ""
    except ValueError:
        return ""
