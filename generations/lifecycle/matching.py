"""Whose prediction is it: surely this generation's, perhaps, or not. Reads nothing; people decide what is only perhaps.

Each submit uploads pictures of its own, so a listed prediction that names one of them is surely its. Where the provider hides the
inputs, keeps pictures under addresses of its own, or nothing was uploaded, time, endpoint and prompt are all there is.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote, urlsplit

from django.conf import settings

from generations.models import Generation
from projects.words import normal

# The clocks of two machines.
SKEW = timedelta(minutes=5)
# How long after a submit its prediction may still come into being, beside what the call itself may take.
LAG = timedelta(minutes=15)
# The name under which `submit` uploads a picture tells whose it is, also where the provider keeps it elsewhere.
UPLOAD_NAME = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(?:image|end_image)", re.IGNORECASE)


def window(generation: Generation) -> tuple[datetime, datetime] | None:
    """Between which times its prediction may have been made; None: it was never handed over."""
    if generation.submitted_at is None:
        return None
    longest = timedelta(seconds=settings.WAVESPEED_DEADLINE) + LAG
    return generation.submitted_at - SKEW, generation.submitted_at + longest


def is_sure(generation: Generation, inputs: Mapping[str, Any] | None) -> bool:
    """Whether an upload that was made for this generation alone stands where it was sent. A prompt is no such place."""
    return any(
        own == _place(value)
        for name, url in generation.uploads.items()
        if (own := _place(url))
        for value in _values((inputs or {}).get(name))
    )


def may_be(
    generation: Generation,
    *,
    endpoint: str = "",
    made_at: datetime | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> bool:
    """Whether nothing that is known of a prediction speaks against it; what the provider does not tell speaks for nothing."""
    made_within = window(generation)
    if made_within is None or endpoint not in ("", generation.endpoint):
        return False
    if made_at and not made_within[0] <= made_at <= made_within[1]:
        return False
    return not _is_of_another(generation, inputs or {})


def _is_of_another(generation: Generation, inputs: Mapping[str, Any]) -> bool:
    """Its picture is another generation's, or its prompt another one than was sent.

    An address that says nothing does not rule it out: it may be that of a copy of the very picture.
    """
    if is_sure(generation, inputs):
        return False
    owners = {owner for name in generation.uploads for owner in named(inputs.get(name))}
    if owners - {str(generation.pk)}:
        return True
    sent = generation.request_body or {}
    return any(
        isinstance(inputs.get(name), str) and normal(inputs[name]) != normal(str(value))
        for name, value in sent.items()
        if name == "prompt" and value
    )


def named(value: object) -> set[str]:
    """The generations, by their keys, whose uploads an address names, or those of a list."""
    return {owner.lower() for address in _values(value) for owner in UPLOAD_NAME.findall(unquote(address))}


def _values(value: object) -> Iterator[str]:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str):
            yield each


def _place(url: object) -> tuple[str, str] | None:
    """Host and path: a query may be a signature, and differ each time. None for what is no address."""
    try:
        parts = urlsplit(str(url))
        host = (parts.hostname or "").rstrip(".")
        place = f"{host}:{parts.port}" if parts.port else host
    except ValueError:
        return None
    path = unquote(parts.path).strip("/")
    return (place, path) if parts.scheme in ("http", "https") and host and path else None
