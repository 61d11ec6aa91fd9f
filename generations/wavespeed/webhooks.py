"""Webhooks of the provider: proves who sent them and reads them. https://wavespeed.ai/docs/verify-webhooks

A webhook is a wake-up only: what it says is confirmed by `Client.result` before it is believed.
"""

import hashlib
import hmac
import time
from collections.abc import Mapping

from generations.wavespeed.documents import read_json
from generations.wavespeed.errors import BadSignature, Unreadable
from generations.wavespeed.redaction import Redactor
from generations.wavespeed.replies import Prediction, read_prediction

TOLERANCE = 300  # seconds
VERSION = "v3"
PREFIX = "whsec_"


def verify(
    secret: str, headers: Mapping[str, str], raw_body: bytes, *, now: float | None = None, tolerance: float = TOLERANCE
) -> None:
    """Raises BadSignature unless the provider signed exactly this body, lately. `now` is in Unix seconds."""
    key = key_of(secret)
    if not key:
        raise BadSignature("There is no webhook secret to verify with.")
    values = {name.lower(): value for name, value in headers.items()}
    webhook_id, timestamp, signatures = (
        _header(values, f"webhook-{name}") for name in ("id", "timestamp", "signature")
    )
    _check_age(timestamp, time.time() if now is None else now, tolerance)
    signed = b".".join([_bytes(webhook_id), _bytes(timestamp), raw_body])
    expected = _bytes(f"{VERSION},{hmac.new(key, signed, hashlib.sha256).hexdigest()}")
    if not any(hmac.compare_digest(expected, _bytes(signature)) for signature in signatures.split()):
        raise BadSignature("The signature is not that of this body.")


def key_of(secret: str) -> bytes:
    """What signs: the secret as text, without its prefix. It only looks like base64."""
    return secret.strip().removeprefix(PREFIX).encode()


def parse(raw_body: bytes, redactor: Redactor) -> Prediction:
    """The prediction that a webhook tells of; raises Unreadable."""
    try:
        prediction = read_prediction(read_json(raw_body), redactor)
    except ValueError:
        prediction = None
    if prediction is None:
        raise Unreadable("This webhook is not a prediction.")
    return prediction


def _header(values: Mapping[str, str], name: str) -> str:
    if not values.get(name):
        raise BadSignature(f"The header {name} is missing.")
    return values[name]


def _check_age(timestamp: str, now: float, tolerance: float) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise BadSignature("The header webhook-timestamp is not a time in Unix seconds.")
    age = now - int(timestamp)
    if abs(age) > tolerance:
        when = "old" if age > 0 else "in the future"
        raise BadSignature(f"The webhook is {abs(age):.0f} s {when}: at most {tolerance:.0f} s are allowed.")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
