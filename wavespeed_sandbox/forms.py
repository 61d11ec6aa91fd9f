"""The same outputs in forms that other providers give them, and in some that nobody understands."""

from collections.abc import Callable

from wavespeed_sandbox.models import JsonObject

MANY = 10_000


def _nested(levels: int, url: str) -> object:
    return url if not levels else [_nested(levels - 1, url)]


# Each takes the prediction and its address, and says what is different.
FORMS: dict[str, Callable[[JsonObject, str], JsonObject]] = {
    "text": lambda data, url: {"outputs": url},
    "object": lambda data, url: {"outputs": {"url": url}},
    "object_of_objects": lambda data, url: {"outputs": {"video": {"url": url, "content_type": "video/mp4"}}},
    "video_urls": lambda data, url: {"outputs": [{"video_url": url}]},
    "videos": lambda data, url: {"outputs": [{"video": {"url": url}}]},
    "output": lambda data, url: {"outputs": [], "output": url},
    "video": lambda data, url: {"outputs": None, "video": {"url": url}},
    "nested": lambda data, url: {"outputs": _nested(4, url)},
    "line_end": lambda data, url: {"outputs": [f" {url}\n"]},
    "no_scheme": lambda data, url: {"outputs": [url.partition(":")[2]]},
    "host_and_path": lambda data, url: {"outputs": [url.partition("://")[2]]},
    "twice": lambda data, url: {"outputs": [url, url]},
    "many": lambda data, url: {"outputs": [url] * MANY},
    "many_different": lambda data, url: {"outputs": [url, *(f"{url}&copy={number}" for number in range(MANY))]},
    # Not to be understood.
    "elsewhere": lambda data, url: {"outputs": [], "meta": {"share": url}},
    "too_deep": lambda data, url: {"outputs": _nested(50, url)},
    "number": lambda data, url: {"outputs": 7},
}


def in_form(form: str, data: JsonObject) -> JsonObject:
    """The prediction with its outputs in another form; while it has none, as it is."""
    return data | FORMS[form](data, data["outputs"][0]) if data["outputs"] else data
