"""Predictions: what was asked, and the state that it has at an instant. Nothing ticks: states follow from the clock."""

import json
import secrets
import sqlite3
from dataclasses import dataclass
from typing import Any

from wavespeed_sandbox.book import Book
from wavespeed_sandbox.clock import rfc3339
from wavespeed_sandbox.models import MODELS, JsonObject, Model

LIFETIME = 7 * 24 * 3600.0
UNFINISHED = ("created", "processing")
REFUNDED = ("failed", "timeout", "cancelled")


@dataclass(frozen=True)
class Destiny:
    """How a task will end, decided when it is submitted; faults change it."""

    outcome: str = "completed"
    code: int = 0
    error: str = ""
    nsfw: bool = False
    endless: bool = False
    slower: float = 1.0


@dataclass(frozen=True)
class Prediction:
    number: int
    id: str
    model: Model
    inputs: JsonObject
    webhook: str | None
    submitted_at: float
    starts_at: float
    ends_at: float | None
    outcome: str
    code: int
    error: str
    nsfw: bool
    refund_delay: float | None
    webhook_faults: JsonObject
    webhook_planned: bool
    fetched: bool
    output_sha256: str | None
    output_bytes: int | None
    element: JsonObject | None
    url_version: int
    deleted_at: float | None

    @classmethod
    def from_row(cls, row: sqlite3.Row) -> "Prediction":
        columns: dict[str, Any] = dict(row)
        columns["model"] = MODELS[columns["model"]]
        for name in ("inputs", "webhook_faults"):
            columns[name] = json.loads(columns[name])
        columns["element"] = json.loads(columns["element"]) if columns["element"] else None
        for name in ("nsfw", "fetched", "webhook_planned"):
            columns[name] = bool(columns[name])
        return cls(**columns)

    @property
    def made(self) -> bool:
        """Whether the output is there to be handed out."""
        return self.output_sha256 is not None or self.element is not None

    def status(self, now: float) -> str:
        if self.deleted_at is not None:
            return "deleted"
        if now < self.starts_at:
            return "created"
        if self.ends_at is None or now < self.ends_at:
            return "processing"
        if self.outcome == "completed" and not self.made:
            return "processing"
        return self.outcome

    def finished(self, now: float) -> bool:
        return self.status(now) not in UNFINISHED

    def as_json(self, now: float, *, api_url: str, output: Any) -> JsonObject:
        """The provider's prediction object; `output` is what a completed one hands out."""
        status = self.status(now)
        ended = status not in UNFINISHED
        completed = status == "completed"
        inference = int(((self.ends_at or now) - self.starts_at) * 1000) if ended else 0
        return {
            "id": self.id,
            "model": self.model.model_id,
            "outputs": [output] if completed else [],
            "urls": {"get": f"{api_url}/api/v3/predictions/{self.id}/result"},
            "has_nsfw_contents": [self.nsfw] if completed or (ended and self.nsfw) else [],
            "status": status,
            "created_at": rfc3339(self.submitted_at),
            "error": self.error if ended else "",
            "code": self.code if ended else 0,
            "timings": {"inference": inference},
        }


class Predictions:
    """The predictions in the book."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def create(
        self,
        model: Model,
        inputs: JsonObject,
        *,
        now: float,
        speed: float,
        destiny: Destiny,
        webhook: str | None,
        webhook_faults: JsonObject,
        refund_delay: float | None,
    ) -> Prediction:
        takes = model.takes(inputs) * destiny.slower / speed
        prediction_id = secrets.token_hex(16)
        self._book.insert(
            "predictions",
            id=prediction_id,
            model=model.model_id,
            inputs=json.dumps(inputs),
            webhook=webhook,
            submitted_at=now,
            starts_at=now + takes * 0.1,
            ends_at=None if destiny.endless else now + takes,
            outcome=destiny.outcome,
            code=destiny.code,
            error=destiny.error,
            nsfw=destiny.nsfw,
            refund_delay=refund_delay,
            webhook_faults=json.dumps(webhook_faults),
        )
        return self.existing(prediction_id)

    def existing(self, prediction_id: str) -> Prediction:
        found = self.find(prediction_id)
        if found is None:
            raise LookupError(f"no prediction {prediction_id}")
        return found

    def find(self, prediction_id: str) -> Prediction | None:
        row = self._book.row("SELECT * FROM predictions WHERE id = ?", prediction_id)
        return Prediction.from_row(row) if row else None

    def all(self) -> list[Prediction]:
        """Every prediction, newest first."""
        return self._select("1 ORDER BY number DESC")

    def listed(self, now: float) -> list[Prediction]:
        """What the account still sees, newest first."""
        return self._select("deleted_at IS NULL AND submitted_at > ? ORDER BY number DESC", now - LIFETIME)

    def to_make(self) -> list[Prediction]:
        """What still has to be fetched or rendered, oldest first."""
        return self._select(
            "deleted_at IS NULL AND output_sha256 IS NULL AND element IS NULL"
            " AND (fetched = 0 OR outcome = 'completed') ORDER BY number"
        )

    def to_announce(self, now: float) -> list[Prediction]:
        """What has ended and whose webhook is not planned yet."""
        ended = self._select("webhook IS NOT NULL AND webhook_planned = 0 AND ends_at <= ? ORDER BY ends_at", now)
        return [prediction for prediction in ended if prediction.finished(now)]

    def running(self, now: float) -> int:
        recent = self._select("deleted_at IS NULL AND submitted_at > ?", now - LIFETIME)
        return sum(1 for prediction in recent if not prediction.finished(now))

    def submitted_since(self, instant: float) -> int:
        return int(self._book.value("SELECT count(*) FROM predictions WHERE submitted_at > ?", instant))

    def _select(self, where: str, *values: Any) -> list[Prediction]:
        sql = f"SELECT * FROM predictions WHERE {where}"  # noqa: S608 - conditions are our own literals
        return [Prediction.from_row(row) for row in self._book.rows(sql, *values)]

    def mark_fetched(self, prediction_id: str) -> None:
        self._book.write("UPDATE predictions SET fetched = 1 WHERE id = ?", prediction_id)

    def mark_rendered(self, prediction_id: str, sha256: str, size: int) -> None:
        self._book.write(
            "UPDATE predictions SET output_sha256 = ?, output_bytes = ? WHERE id = ?", sha256, size, prediction_id
        )

    def mark_element(self, prediction_id: str, element: JsonObject) -> None:
        self._book.write("UPDATE predictions SET element = ? WHERE id = ?", json.dumps(element), prediction_id)

    def fail(self, prediction_id: str, code: int, error: str, now: float) -> None:
        """End a task early, unless it has an end of its own that is not success."""
        self._book.write(
            "UPDATE predictions SET outcome = 'failed', code = ?, error = ?, starts_at = min(starts_at, ?),"
            " ends_at = min(coalesce(ends_at, ?), ?) WHERE id = ? AND outcome = 'completed'",
            code, error, now, now, now, prediction_id,
        )  # fmt: skip
        self.mark_fetched(prediction_id)

    def renew_url(self, prediction_id: str) -> None:
        """The URL that was handed out is dead from now on; the next result has a new one."""
        self._book.write("UPDATE predictions SET url_version = url_version + 1 WHERE id = ?", prediction_id)

    def delete(self, prediction_id: str, now: float) -> bool:
        return bool(
            self._book.write(
                "UPDATE predictions SET deleted_at = ? WHERE id = ? AND deleted_at IS NULL", now, prediction_id
            )
        )

    def rescale(self, factor: float, now: float) -> None:
        """What is left of every running task takes `factor` times as long."""
        self._book.write(
            "UPDATE predictions SET ends_at = ?1 + (ends_at - ?1) * ?2,"
            " starts_at = CASE WHEN starts_at > ?1 THEN ?1 + (starts_at - ?1) * ?2 ELSE starts_at END"
            " WHERE ends_at > ?1",
            now, factor,
        )  # fmt: skip
