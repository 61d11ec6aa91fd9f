"""`If-Match`: which version of a row a request starts from."""

import re
from collections.abc import Callable
from typing import Any

from rest_framework import status

from projects.api.base.errors import ApiError

TAG = re.compile(r'(?:W/)?"([^"]*)"')
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def conditional(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a handler that hands `self.expected` to what changes the row: it takes `If-Match`."""
    handler.is_conditional = True  # type: ignore[attr-defined]
    return handler


def expected_versions(header: str | None) -> frozenset[int] | None:
    """What `If-Match` asks for; None: any version. A weak tag is taken for the same, as proxies that compress make it weak."""
    if header is None or header.strip() == "*":
        return None
    tags = [TAG.fullmatch(tag.strip()) for tag in header.split(",")]
    if not all(tags):
        raise ApiError(
            status.HTTP_400_BAD_REQUEST,
            "invalid_if_match",
            'If-Match takes the ETag that was answered, in its quotes, such as "3"; or * for any version.',
        )
    return frozenset(int(tag[1]) for tag in tags if tag and tag[1].isascii() and tag[1].isdigit() and len(tag[1]) < 12)


def is_conditional(view: Any) -> bool:
    return getattr(getattr(view, getattr(view, "action", "") or "", None), "is_conditional", False)
