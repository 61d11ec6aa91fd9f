"""Faults on demand: a catalogue of kinds, and the armed ones in the book. The table in docs/sandbox.md is this one."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from wavespeed_sandbox.book import Book
from wavespeed_sandbox.models import JsonObject

CONCURRENCY_MESSAGE = "You have reached your concurrency limit"
RATE_MESSAGE = "Too Many Requests"
CREDITS_MESSAGE = "Insufficient credits. Please top up your account to continue."


class UnknownFault(Exception):
    """The fault that was asked for does not exist, or does not take these parameters."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault: where it strikes, and its parameters with their defaults."""

    stage: str  # submit, task, quote, charge, refund, webhook, result, download, ticket, put, binary, free
    description: str
    parameters: JsonObject = field(default_factory=dict)


def _refusal(status: int, message: str, description: str, *, created: bool = False) -> Kind:
    return Kind("submit", description, {"status": status, "message": message, "created": created, "retry_after": None})


KINDS: dict[str, Kind] = {
    # The paid POST
    "submit_drop_before": Kind("submit", "the connection is dropped, no task is made", {"created": False}),
    "submit_drop_after": Kind(
        "submit", "the task is made, then the connection is dropped without an answer", {"created": True}
    ),
    "submit_slow": Kind(
        "submit", "the answer comes `seconds` late; the task is made first", {"seconds": 30.0, "created": True}
    ),
    "submit_400": _refusal(400, "invalid request", "refused as a bad request"),
    "submit_insufficient_credits": _refusal(400, CREDITS_MESSAGE, "refused for want of credits"),
    "submit_401": _refusal(401, "Unauthorized", "refused: the key is wrong"),
    "submit_403": _refusal(403, "Forbidden", "refused: the key may not do this"),
    "submit_404": _refusal(404, "Not Found", "refused: no such model"),
    "submit_408": _refusal(408, "Request Timeout", "HTTP 408"),
    "submit_409": _refusal(409, "Conflict", "HTTP 409"),
    "submit_413": _refusal(413, "Payload Too Large", "HTTP 413"),
    "submit_422": _refusal(422, "Unprocessable Entity", "HTTP 422"),
    "submit_429": _refusal(429, RATE_MESSAGE, "the per-minute limit"),
    "submit_concurrency": _refusal(429, CONCURRENCY_MESSAGE, "the limit of tasks at once"),
    "submit_500": _refusal(500, "Internal Server Error", "HTTP 500, no task is made"),
    "submit_500_created": _refusal(500, "Internal Server Error", "HTTP 500, the task is made", created=True),
    "submit_503": _refusal(503, "Service Unavailable", "HTTP 503, no task is made"),
    "submit_504": _refusal(504, "Gateway Timeout", "HTTP 504, no task is made"),
    "submit_504_created": _refusal(504, "Gateway Timeout", "HTTP 504, the task is made", created=True),
    "submit_redirect": Kind("submit", "a redirect to the same path", {"status": 307, "created": False}),
    "submit_garbage": Kind("submit", "HTTP 200 with a body that is no JSON, no task is made", {"created": False}),
    "submit_garbage_created": Kind(
        "submit", "HTTP 200 with a body that is no JSON, the task is made", {"created": True}
    ),
    "submit_error_code": Kind(
        "submit", "HTTP 200 whose envelope says `code`", {"code": 500, "message": "internal error", "created": False}
    ),
    "submit_no_id": Kind("submit", "HTTP 200 without `data.id`, the task is made", {"created": True}),
    # What becomes of the task
    "task_failed": Kind("task", "the task ends failed with `code`", {"code": 1403, "error": None}),
    "task_nsfw": Kind("task", "the task ends failed with code 1200 and its output flagged"),
    "task_nsfw_flagged": Kind("task", "the task completes and its output is flagged"),
    "task_cancelled": Kind("task", "the task ends cancelled"),
    "task_timeout": Kind("task", "the task ends timeout (code 5004)"),
    "task_deleted": Kind("task", "the task ends deleted"),
    "task_endless": Kind("task", "the task stays processing for ever"),
    "task_slow": Kind("task", "the task takes `factor` times as long", {"factor": 10.0}),
    # Money
    "quote_price": Kind(
        "quote", "`/model/price` says `price` (USD), or the catalogue's times `factor`", {"price": None, "factor": 1.0}
    ),
    "charge_price": Kind(
        "charge", "the deduct row says `price` (USD), or the catalogue's times `factor`", {"price": None, "factor": 1.0}
    ),
    "charge_late": Kind("charge", "the deduct row is seen only after `seconds`", {"seconds": 600.0}),
    "refund_never": Kind("refund", "a failed task is not given back"),
    "refund_late": Kind("refund", "the refund comes `seconds` after the end", {"seconds": 14_400.0}),
    # Webhooks
    "webhook_lost": Kind("webhook", "the webhook is never sent"),
    "webhook_duplicate": Kind("webhook", "the webhook is sent `copies` times", {"copies": 2}),
    "webhook_late": Kind("webhook", "the webhook is sent `seconds` late", {"seconds": 60.0}),
    "webhook_out_of_order": Kind("webhook", "a `processing` one is sent after the last one"),
    "webhook_bad_signature": Kind("webhook", "the webhook's signature is wrong"),
    # The result of a known prediction
    "result_404": Kind("result", "HTTP 404 on a known id"),
    "result_429": Kind("result", "HTTP 429"),
    "result_500": Kind("result", "HTTP 500"),
    "result_timeout": Kind("result", "the answer comes `seconds` late", {"seconds": 60.0}),
    "result_drop": Kind("result", "the connection is dropped"),
    "result_garbage": Kind("result", "HTTP 200 with a body that is no JSON"),
    "result_error_code": Kind(
        "result", "HTTP 200 whose envelope says `code`", {"code": 500, "message": "internal error"}
    ),
    "result_unknown_status": Kind("result", "a status that nobody knows", {"status": "paused"}),
    "result_false_failure": Kind("result", "the task is said to have failed (code 5000) although it has not"),
    "result_null_outputs": Kind("result", "`outputs` is null"),
    "result_null_nsfw": Kind("result", "`has_nsfw_contents` is null"),
    "result_no_timings": Kind("result", "`timings` is missing"),
    "result_extra_fields": Kind("result", "fields that nobody asked for"),
    "result_object_outputs": Kind("result", "outputs are objects with a `url`"),
    "result_word": Kind("result", "what is completed says so by another word", {"status": "succeeded"}),
    "result_form": Kind(
        "result", "outputs in another `form`, of those in `wavespeed_sandbox/forms.py`", {"form": "object"}
    ),
    "result_no_outputs": Kind(
        "result", "what is completed has no outputs; with `flagged` it is flagged", {"flagged": False}
    ),
    "result_error_object": Kind("result", "`error` is an object"),
    "result_absurd": Kind("result", "times and numbers that nothing can be made of"),
    "result_bare": Kind("result", "the prediction without its envelope"),
    "result_other_id": Kind("result", "the answer is about another prediction"),
    "result_beside": Kind(
        "result",
        "another output stands beside the video, `before` it or after: a `what` of cover (a JPEG), page (HTML) or twin (the video's "
        "own address again)",
        {"what": "cover", "before": True},
    ),
    "result_odd_address": Kind(
        "result", "the output's address is written oddly, `how`: spaced or without_scheme", {"how": "spaced"}
    ),
    # The download of an output
    "download_truncated": Kind(
        "download", "the connection ends after `fraction` of the announced bytes", {"fraction": 0.5}
    ),
    "download_reset": Kind("download", "the connection is reset after `fraction` of the bytes", {"fraction": 0.5}),
    "download_slow": Kind("download", "the bytes come at `bytes_per_second`", {"bytes_per_second": 100_000}),
    "download_wrong_length": Kind(
        "download", "Content-Length says `extra` bytes too many (negative: too few)", {"extra": 1000}
    ),
    "download_corrupt": Kind("download", "as many bytes as there should be, but noise"),
    "download_expired": Kind("download", "this URL is dead from now on; a fresh result has a new one", {"status": 403}),
    "download_500": Kind("download", "HTTP 500"),
    "download_no_range": Kind(
        "download", "the whole file, whatever range was asked for, and nothing that names its version"
    ),
    "download_changed": Kind("download", "the file has another ETag than before, so a rest of it is not given"),
    "download_page": Kind(
        "download",
        "HTTP `status` with `body` instead of the video, as a host in maintenance has it",
        {"status": 200, "body": "<html>maintenance</html>", "content_type": "text/html"},
    ),
    "download_cut": Kind(
        "download", "no length is announced, and the connection ends after `fraction` of the bytes", {"fraction": 0.5}
    ),
    "download_half": Kind("download", "`fraction` of the bytes, with a length that agrees", {"fraction": 0.5}),
    "download_endless": Kind("download", "the video, and then zeros for ever; no length is announced"),
    "download_encoding": Kind(
        "download",
        "the answer says that its content is `encoding`; it is packed so, too, where `packed` is true (gzip, deflate, aws-chunked)",
        {"encoding": "aws-chunked", "packed": False},
    ),
    "download_status": Kind(
        "download", "the whole video with HTTP `status`: 203, or 206 as a part from 0", {"status": 203}
    ),
    # Uploads
    "upload_ticket_500": Kind(
        "ticket", "the upload ticket gets HTTP `status`; 404: there are no tickets", {"status": 500}
    ),
    "upload_ticket_drop": Kind("ticket", "the connection of the upload ticket is dropped"),
    "upload_put_500": Kind("put", "the PUT gets HTTP 500"),
    "upload_put_drop": Kind("put", "the connection of the PUT is dropped after the body was read"),
    "upload_binary_500": Kind("binary", "the multipart upload gets HTTP 500"),
    # The calls that cost nothing (`route`: predictions, balance, price, billings, models, webhook_secret, delete, any)
    "free_500": Kind("free", "a free call gets HTTP 500", {"route": "any"}),
    "free_401": Kind("free", "a free call gets HTTP 401", {"route": "any"}),
    "free_429": Kind("free", "a free call gets HTTP 429", {"route": "any"}),
    "free_timeout": Kind("free", "a free call is answered `seconds` late", {"route": "any", "seconds": 60.0}),
    "free_garbage": Kind("free", "a free call gets HTTP 200 with a body that is no JSON", {"route": "any"}),
    "free_absurd": Kind(
        "free",
        "balance, price and the rows of the bill have the number `number`",
        {"route": "any", "number": "1e1000000"},
    ),
    "free_endless": Kind("free", "the list of predictions, or the bill, has no last page", {"route": "any"}),
}

FILTERS = ("model", "prediction", "prompt")
"""What a fault can be limited to: the model's id, the prediction's id, a part of the prompt."""


@dataclass(frozen=True)
class Fault:
    number: int
    kind: str
    parameters: JsonObject

    def __getitem__(self, name: str) -> Any:
        return self.parameters[name]


class Faults:
    """The armed faults; taking one is committed before it strikes, so that a restart does not repeat it."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def arm(self, order: JsonObject) -> int:
        """Arm `{"kind", "times" (1; null: always), "chance" (1), model?, prediction?, prompt?, parameters…}`."""
        order = dict(order)
        name = order.pop("kind", None)
        if name not in KINDS:
            raise UnknownFault(f"There is no fault kind {name!r}; the kinds are {', '.join(KINDS)}.")
        times, chance = order.pop("times", 1), order.pop("chance", 1.0)
        if times is not None and (type(times) is not int or times < 1):
            raise UnknownFault(f"times must be a whole number from 1, or null for always; not {times!r}.")
        if type(chance) not in (int, float) or not 0 <= chance <= 1:
            raise UnknownFault(f"chance must be a number from 0 to 1; not {chance!r}.")
        filters = {key: order.pop(key) for key in FILTERS if order.get(key) is not None}
        unknown = sorted(set(order) - set(KINDS[name].parameters) - set(FILTERS))
        if unknown:
            known = ", ".join(KINDS[name].parameters) or "none"
            raise UnknownFault(f"{name} does not take {', '.join(unknown)}; its parameters are: {known}.")
        _check_types(name, order)
        return self._book.insert(
            "faults",
            kind=name,
            times=times,
            chance=chance,
            filters=json.dumps(filters),
            parameters=json.dumps(KINDS[name].parameters | order),
        )

    def take(
        self, stage: str, subject: Mapping[str, str], *, kind: str | None = None, route: str | None = None
    ) -> Fault | None:
        """Use up the oldest armed fault of `stage` that fits the subject (its model, prediction, prompt)."""
        with self._book.transaction():
            for row in self._book.rows("SELECT * FROM faults WHERE times IS NULL OR taken < times ORDER BY number"):
                fault = Fault(row["number"], row["kind"], json.loads(row["parameters"]))
                if KINDS[fault.kind].stage != stage or not _fits(json.loads(row["filters"]), subject):
                    continue
                if fault.kind != (kind or fault.kind) or fault.parameters.get("route", "any") not in (route, "any"):
                    continue
                if random.random() >= row["chance"]:
                    continue
                self._book.write("UPDATE faults SET taken = taken + 1 WHERE number = ?", fault.number)
                return fault
        return None

    def armed(self) -> list[JsonObject]:
        """Every fault that was armed since the last reset, used up or not."""
        return [
            {
                "number": row["number"],
                "kind": row["kind"],
                "times": row["times"],
                "taken": row["taken"],
                "chance": row["chance"],
                **json.loads(row["filters"]),
                **json.loads(row["parameters"]),
            }
            for row in self._book.rows("SELECT * FROM faults ORDER BY number")
        ]

    def disarm(self) -> int:
        return self._book.write("DELETE FROM faults")


def _fits(filters: JsonObject, subject: Mapping[str, str]) -> bool:
    for key, wanted in filters.items():
        actual = subject.get(key, "")
        if (wanted not in actual) if key == "prompt" else (wanted != actual):
            return False
    return True


def _check_types(name: str, order: JsonObject) -> None:
    for key, value in order.items():
        default = KINDS[name].parameters.get(key)
        wanted = (int, float) if type(default) in (int, float) else (type(default),)
        if default is not None and type(value) not in wanted:
            raise UnknownFault(f"{name}: {key} must be like {default!r}; not {value!r}.")
