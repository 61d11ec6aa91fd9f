"""The client of the WaveSpeed API: what is sent to it and read from it."""

import json
import random
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import wraps
from io import BytesIO
from typing import Any, BinaryIO, Concatenate, ParamSpec, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from urllib3.util import SKIP_HEADER

from generations.wavespeed.errors import NotUnderstood, Rejected, TooMany, Unavailable, UnsafeURL, WaveSpeedError
from generations.wavespeed.redaction import Redactor
from generations.wavespeed.replies import (
    Answer,
    BillingRow,
    Model,
    Page,
    Prediction,
    Price,
    Upload,
    as_dict,
    integer,
    money,
    read_answer,
    read_billing_row,
    read_model,
    read_prediction,
    read_price,
    readable_id,
    text,
    told_things,
)
from generations.wavespeed.transport import FileBody, Reply, Transport
from generations.wavespeed.urls import checked_base_url, is_loopback, refuse_local_urls, refuse_outside_http
from generations.wavespeed.verdicts import read_error, submitted, unreadable

Record = TypeVar("Record")
Asked = ParamSpec("Asked")

API = "/api/v3"
PAGE_SIZE = 100  # the provider's most
# Rows of a list or a bill in one walk: a hundred thousand videos in 7 days are more than any account makes.
MOST_LISTED = 100_000
MAX_PAUSE = 8.0  # seconds between two tries of a GET
NO_SUCH_ROUTE = (404, 405, 501)
REFUSED_FILE: dict[int, type[WaveSpeedError]] = {413: Rejected, 429: TooMany}
MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)+", re.ASCII)


def _reported(
    route: str,
) -> Callable[[Callable[Concatenate["Client", Asked], Record]], Callable[Concatenate["Client", Asked], Record]]:
    """Tells `report` how the call ended: what the provider says no to was answered too, but that is for the reporter to judge."""

    def wrap(call: Callable[Concatenate["Client", Asked], Record]) -> Callable[Concatenate["Client", Asked], Record]:
        @wraps(call)
        def reported(client: "Client", /, *args: Asked.args, **named: Asked.kwargs) -> Record:
            try:
                answer = call(client, *args, **named)
            except WaveSpeedError as error:
                client._report(route, error)
                raise
            client._report(route, None)
            return answer

        return reported

    return wrap


class Client:
    """One per process; threads share it. Times are seconds; `deadline` bounds a whole call, its retries included.

    `guard` raises ValueError for a URL that the provider hands out and that must not be used. `observe` is told of each
    exchange: the route, its seconds, and one word for what went wrong, empty for a good answer; `report` of each whole call: the route,
    and the error that it ended with, if it did. Proxies and credentials
    in the environment are not used: a proxy would answer in the provider's place.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        connect_timeout: float = 5,
        read_timeout: float = 30,
        deadline: float = 60,
        upload_deadline: float = 300,
        retries: int = 3,
        backoff: float = 0.5,
        guard: Callable[[str], None] | None = None,
        observe: Callable[[str, float, str], None] | None = None,
        report: Callable[[str, WaveSpeedError | None], None] = lambda route, error: None,
    ) -> None:
        self._base_url = checked_base_url(base_url)
        self._key = _checked_key(api_key)
        self._deadline = deadline
        self._upload_deadline = upload_deadline
        self._retries = retries
        self._backoff = backoff
        self._guard = guard or (refuse_outside_http if is_loopback(base_url) else refuse_local_urls)
        self._redactor = Redactor(api_key)
        self._report = report
        self._transport = Transport(connect_timeout=connect_timeout, read_timeout=read_timeout, observe=observe)

    # The paid call

    @_reported("/{model}")
    def submit(self, model_id: str, body: Mapping[str, object], *, webhook_url: str | None = None) -> Prediction:
        """Sends one paid request, once, on a fresh connection; raises NotCreated's or Ambiguous."""
        # https://wavespeed.ai/docs/what-are-predictions
        if not MODEL_ID.fullmatch(model_id):
            raise ValueError(
                f"{model_id!r} is not the id of a model, such as kwaivgi/kling-video-o3-4k/image-to-video."
            )
        redactor = self._redactor.knowing(body)
        query = {"webhook": webhook_url} if webhook_url else None
        reply = self._send(
            "POST", f"/{model_id}", route="/{model}", query=query, body=body, redactor=redactor, fresh=True
        )
        return submitted(read_answer(reply, redactor), redactor)

    # Predictions

    @_reported("/predictions/{id}/result")
    def result(self, prediction_id: str) -> Prediction:
        # https://wavespeed.ai/docs/what-are-predictions
        if readable_id(prediction_id) is None:
            raise ValueError(f"{prediction_id!r} is not the id of a prediction.")

        def about_it(answer: Answer) -> Prediction | None:
            told = (read_prediction(each, self._redactor, answer.reply.exchange) for each in told_things(answer))
            return next((each for each in told if each and each.id == prediction_id), None)

        path = f"/predictions/{prediction_id}/result"
        answer = self._get(path, route="/predictions/{id}/result", taken=lambda answer: about_it(answer) is not None)
        prediction = about_it(answer)
        if prediction is None:
            raise unreadable(answer, "it is not about this prediction")
        return prediction

    @_reported("/predictions")
    def predictions(
        self,
        *,
        page: int = 1,
        page_size: int = PAGE_SIZE,
        model: str | None = None,
        status: str | None = None,
        created_after: datetime | None = None,
        created_before: datetime | None = None,
        include_inputs: bool = False,
    ) -> Page:
        """One page of the account's predictions of 7 days, newest first; an item without a readable id is left out."""
        wanted = {
            "page": page,
            "page_size": page_size,
            "model": model,
            "status": status,
            "created_after": _rfc3339(created_after),
            "created_before": _rfc3339(created_before),
            "include_inputs": include_inputs or None,
        }
        answer = self._post("/predictions", {name: value for name, value in wanted.items() if value is not None})
        items = as_dict(answer.data).get("items", [])
        if items is not None and not isinstance(items, list):
            raise unreadable(answer, "the items are no list")
        rows = [read_prediction(item, self._redactor) for item in items or []]
        return Page(page, tuple(row for row in rows if row))

    def all_predictions(self, *, page_size: int = PAGE_SIZE, **filters: Any) -> Iterator[Prediction]:
        """Those of all pages, each once: what is new while pages are read moves the others on by one.

        A provider that forgets the filters gives neither what is older than was asked for, as the newest come first, nor an endless list.
        """
        after, seen = filters.get("created_after"), set[str]()
        page = self.predictions(page_size=page_size, **filters)
        while new := [row for row in page.items if row.id not in seen]:
            wanted = [row for row in new if not (after and row.created_at and row.created_at < after)]
            yield from wanted
            if not wanted:
                return
            seen.update(row.id for row in new)
            if len(seen) >= MOST_LISTED:
                error = NotUnderstood(f"The list does not end: more than {MOST_LISTED:,} predictions.")
                self._report("/predictions", error)
                raise error
            page = self.predictions(page=page.page + 1, page_size=page_size, **filters)

    # Money

    @_reported("/balance")
    def balance(self) -> Decimal:
        """USD."""
        answer = self._get("/balance")
        return self._parsed(answer, lambda data: money(as_dict(data).get("balance")))

    @_reported("/model/price")
    def price(self, model_id: str, inputs: Mapping[str, object]) -> Price:
        """What the provider would take for this request now; costs nothing."""
        answer = self._post("/model/price", {"model_id": model_id, "inputs": inputs})
        return self._parsed(answer, read_price)

    @_reported("/billings/search")
    def billings(
        self,
        *,
        prediction_ids: Iterable[str] = (),
        billing_type: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[BillingRow]:
        """The rows of the bill, of all pages; one that can't be read fails all of it, since it is money."""
        wanted = {
            "billing_type": billing_type,
            "prediction_uuids": list(prediction_ids) or None,
            "start_time": _rfc3339(start),
            "end_time": _rfc3339(end),
        }
        filters = {name: value for name, value in wanted.items() if value is not None}
        rows: dict[str, BillingRow] = {}
        page, seen = 1, 0
        while True:
            answer = self._post("/billings/search", {"page": page, "page_size": PAGE_SIZE, **filters})
            found = self._parsed(answer, _billing_rows)
            new = {row.uuid: row for row in found if row.uuid not in rows}
            rows |= new
            total = integer(as_dict(answer.data).get("total"))
            seen += len(found)
            if not found and total and seen < total:
                raise unreadable(answer, f"the bill has {total} rows, and ends after {seen}")
            if not new or (total and len(rows) >= total):
                return list(rows.values())
            if len(rows) >= MOST_LISTED:
                raise unreadable(answer, f"the bill does not end: more than {MOST_LISTED:,} rows")
            page += 1

    # The account

    @_reported("/models")
    def models(self) -> list[Model]:
        answer = self._get("/models")
        if not isinstance(answer.data, list):
            raise unreadable(answer, "the models are no list")
        return [model for item in answer.data if (model := read_model(item))]

    @_reported("/webhook/secret")
    def webhook_secret(self) -> str:
        # https://wavespeed.ai/docs/verify-webhooks
        answer = self._get("/webhook/secret")
        if not (secret := text(as_dict(answer.data).get("secret"))):
            raise unreadable(answer, "there is no secret")
        return secret

    # Files

    @_reported("/media/uploads")
    def upload(
        self,
        file: BinaryIO,
        filename: str,
        size: int,
        content_type: str,
        *,
        before_sending: Callable[[], None] = lambda: None,
    ) -> Upload:
        """Streams `size` bytes of the file to the provider; it costs nothing and may be done again.

        That takes two calls: `before_sending` is called between them, and ends it by what it raises.
        """
        wanted = {"filename": filename, "size": size, "content_type": content_type}
        answer = self._answer(self._send("POST", "/media/uploads", body=wanted))
        if not answer.reply.failure and answer.status in NO_SUCH_ROUTE:
            before_sending()
            return self._upload_form(file, filename, size, content_type)
        self._expect(answer)
        instruction = as_dict(as_dict(answer.data).get("upload"))
        headers = as_dict(instruction.get("headers"))
        url = text(instruction.get("url"))
        if (
            text(instruction.get("method")).upper() != "PUT"
            or not url
            or not all(isinstance(value, str) for value in headers.values())
        ):
            raise unreadable(answer, "there is no PUT to do in this upload ticket")
        upload = self._uploaded(answer, filename, size)
        self._allow(url, answer)
        before_sending()
        self._put(url, headers, FileBody([file], size))
        return upload

    def _put(self, url: str, headers: Mapping[str, str], body: FileBody) -> None:
        """Sends the ticket's own headers and no others: the URL is signed, and the key is not for its host."""
        signature = [value for _, value in parse_qsl(urlsplit(url).query)]
        bare = {"User-Agent": SKIP_HEADER, "Accept-Encoding": SKIP_HEADER}
        reply = self._transport.send(
            "PUT",
            url,
            route="(upload ticket)",
            headers=bare | dict(headers),
            body=body,
            deadline=self._upload_deadline,
            redactor=self._redactor.hiding(*signature, *headers.values()),
        )
        if reply.failure or reply.status is None or not 200 <= reply.status < 300:
            kind = REFUSED_FILE.get(reply.status or 0, Unavailable)
            why = reply.failure or f"HTTP {reply.status}"
            raise kind(f"The file was not uploaded: {why}.", exchange=reply.exchange, retry_after=reply.retry_after)

    def _upload_form(self, file: BinaryIO, filename: str, size: int, content_type: str) -> Upload:
        """The older way: a form with one file."""
        boundary = secrets.token_hex(16)
        plain_name = re.sub(r"[^\w.-]", "_", filename, flags=re.ASCII)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{plain_name}"\r\n'
            f"Content-Type: {content_type}\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        body = FileBody([BytesIO(head), file, BytesIO(tail)], len(head) + size + len(tail))
        answer = self._answer(
            self._send(
                "POST",
                "/media/upload/binary",
                body=body,
                content_type=f"multipart/form-data; boundary={boundary}",
                deadline=self._upload_deadline,
            )
        )
        self._expect(answer)
        return self._uploaded(answer, filename, size)

    def _uploaded(self, answer: Answer, filename: str, size: int) -> Upload:
        data = as_dict(answer.data)
        if not (url := text(data.get("download_url"))):
            raise unreadable(answer, "there is no download_url")
        self._allow(url, answer)
        return Upload(url, text(data.get("filename")) or filename, size)

    def _allow(self, url: str, answer: Answer) -> None:
        try:
            self._guard(url)
        except ValueError as error:
            reason = self._redactor.text(str(error))
        else:
            return
        raise UnsafeURL(f"The provider named a URL that is not allowed: {reason}", exchange=answer.reply.exchange)

    # Calls

    def _get(
        self, path: str, *, route: str | None = None, taken: Callable[[Answer], bool] = lambda answer: False
    ) -> Answer:
        """Tries again, ever later, what is unavailable, as long as the deadline allows; an answer that is `taken` is a good one."""
        ends = time.monotonic() + self._deadline
        attempt = 0
        while True:
            answer = self._answer(self._send("GET", path, route=route, deadline=max(0.001, ends - time.monotonic())))
            error = read_error(answer)
            if error is None or (isinstance(error, NotUnderstood) and taken(answer)):
                return answer
            pause = self._pause(attempt, error)
            if not isinstance(error, Unavailable) or attempt == self._retries or time.monotonic() + pause >= ends:
                raise error
            time.sleep(pause)
            attempt += 1

    def _pause(self, attempt: int, error: WaveSpeedError) -> float:
        if error.retry_after is not None:
            return error.retry_after
        longest = min(MAX_PAUSE, self._backoff * 2**attempt)
        return random.uniform(longest / 2, longest)

    def _post(self, path: str, body: Mapping[str, object]) -> Answer:
        redactor = self._redactor.knowing(body)
        return self._expect(read_answer(self._send("POST", path, body=body, redactor=redactor), redactor))

    def _answer(self, reply: Reply) -> Answer:
        return read_answer(reply, self._redactor)

    def _expect(self, answer: Answer) -> Answer:
        if error := read_error(answer):
            raise error
        return answer

    def _parsed(self, answer: Answer, read: Callable[[Any], Record]) -> Record:
        try:
            return read(answer.data)
        except ValueError as error:
            why = str(error)
        raise unreadable(answer, why)

    def _send(
        self,
        method: str,
        path: str,
        *,
        route: str | None = None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | FileBody | None = None,
        content_type: str = "application/json",
        deadline: float | None = None,
        redactor: Redactor | None = None,
        fresh: bool = False,
    ) -> Reply:
        url = f"{self._base_url}{API}{quote(path)}"
        headers = {
            "Authorization": f"Bearer {self._key}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "kling-studio",
        }
        if body is not None:
            headers["Content-Type"] = content_type
        if fresh:
            headers["Connection"] = "close"
        return self._transport.send(
            method,
            f"{url}?{urlencode(query)}" if query else url,
            route=route or path,
            headers=headers,
            body=json.dumps(body, allow_nan=False, default=_plain_number).encode()
            if isinstance(body, Mapping)
            else body,
            deadline=deadline or self._deadline,
            redactor=redactor or self._redactor,
            fresh=fresh,
        )


# Bodies


def _checked_key(api_key: str) -> str:
    if not api_key or not api_key.isascii() or not api_key.isprintable() or " " in api_key:
        raise ValueError("The API key is empty, or has spaces, line breaks or other characters that no key has.")
    return api_key


def _billing_rows(data: object) -> list[BillingRow]:
    items = as_dict(data).get("items")
    if items is not None and not isinstance(items, list):
        raise ValueError("the rows of the bill are no list")
    return [read_billing_row(item) for item in items or []]


def _rfc3339(moment: datetime | None) -> str | None:
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone.")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _plain_number(value: object) -> float:
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"A {type(value).__name__} can't be sent as JSON.")
