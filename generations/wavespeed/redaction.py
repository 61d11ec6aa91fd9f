"""What of an exchange may be kept and shown: no key, no signed URL, no prompt."""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from generations.wavespeed.documents import read_json, storable

MAX_EXCERPT = 2_000
MAX_DEPTH = 8
HIDDEN = "[hidden]"
# Values under these names are prompts and other inputs, secrets, or headers that sign an upload.
PROMPT_NAMES = frozenset({"prompt", "negative_prompt", "description"})
HIDDEN_NAMES = PROMPT_NAMES | {"multi_prompt", "input", "inputs", "secret", "headers"}

# Both take time in proportion to the text, however hostile.
_QUERY = re.compile(r"""\?[^\s"'<>?=]*+=[^\s"'<>]*+""")
_HIDDEN_MEMBER = re.compile(
    rf"""("(?:{"|".join(sorted(HIDDEN_NAMES))})"\s*+:\s*+)("[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{{].*)""", re.DOTALL
)


class Redactor:
    """Hides the key, the prompts that it knows, and the queries of URLs."""

    def __init__(self, *secrets: str) -> None:
        self._words = frozenset(secrets)
        longest_first = sorted({form for word in secrets for form in _forms(word)}, key=len, reverse=True)
        self._secrets = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})(?!\w)")

    def knowing(self, document: object) -> "Redactor":
        """One that hides the prompts in this document too, wherever they are repeated."""
        return self.hiding(*_prompts(document))

    def hiding(self, *secrets: str) -> "Redactor":
        words = self._words.union(secrets)
        return self if words == self._words else Redactor(*words)

    def text(self, text: str) -> str:
        shown = _QUERY.sub(f"?{HIDDEN}", self._secrets.sub(HIDDEN, storable(text)))
        return shown if len(shown) <= MAX_EXCERPT else f"{shown[:MAX_EXCERPT]}…"

    def excerpt(self, content: bytes) -> str:
        """The beginning of a body, readable, with nothing in it that must not be kept."""
        try:
            document = read_json(content)
        except ValueError:
            return self.text(_HIDDEN_MEMBER.sub(rf'\1"{HIDDEN}"', content.decode("utf-8", "replace")))
        shown = json.dumps(_without_hidden(document), ensure_ascii=False, default=str)
        return self.knowing(document).text(shown)


class WithoutQueries(logging.Filter):
    """Cuts what the other side sent, and the queries of URLs: they hold signatures and webhook addresses."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = re.sub(r"""\?[^\s"']+""", f"?{HIDDEN}", record.getMessage())
        record.args = ()
        record.exc_info = None
        return True


def _forms(secret: str) -> Iterable[str]:
    """A secret as it is and as JSON writes it."""
    return secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]


def _prompts(value: Any, depth: int = 0) -> Iterator[str]:
    match value:
        case _ if depth > MAX_DEPTH:
            return
        case list():
            for item in value:
                yield from _prompts(item, depth + 1)
        case Mapping():
            for name, item in value.items():
                if name in PROMPT_NAMES and isinstance(item, str) and item.strip():
                    yield item.strip()
                yield from _prompts(item, depth + 1)


def _without_hidden(value: Any, depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        return "…"
    match value:
        case list():
            return [_without_hidden(item, depth + 1) for item in value]
        case dict():
            return {
                name: HIDDEN if name in HIDDEN_NAMES and item else _without_hidden(item, depth + 1)
                for name, item in value.items()
            }
    return value
