"""What of an exchange may be kept and shown: no key, no signed URL, no prompt."""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from generations.wavespeed.documents import read_json, storable

MAX_EXCERPT = 2_000
MAX_DEPTH = 8
# A request has a handful of prompts, an upload's ticket a dozen headers and parameters.
MAX_SECRETS = 60
# A prompt of up to so many characters is hidden as a whole word only: “a” would else be hidden in every name.
LONGEST_WORD = 16
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
        self._secrets = frozenset(secret for secret in secrets if secret)

    def knowing(self, document: object) -> "Redactor":
        """One that hides the prompts in this document too, wherever they are repeated."""
        return self.hiding(*_prompts(document))

    def hiding(self, *secrets: str) -> "Redactor":
        return Redactor(*self._secrets.union(secrets))

    def text(self, text: str) -> str:
        shown = _QUERY.sub(f"?{HIDDEN}", self._without_secrets(storable(text)))
        return shown if len(shown) <= MAX_EXCERPT else f"{shown[:MAX_EXCERPT]}…"

    def _without_secrets(self, text: str) -> str:
        """In time in proportion to the text; where there are more secrets than an honest exchange has, nothing is shown."""
        if len(self._secrets) > MAX_SECRETS:
            return HIDDEN
        forms = {form for secret in self._secrets for form in _forms(secret)}
        # The longest first, as one may be a part of another. Each is a NUL at first, which no text has: none is found within a “[hidden]”.
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, "\0") if len(form) > LONGEST_WORD else _without_word(text, form)
        return text.replace("\0", HIDDEN)

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


def _without_word(text: str, word: str) -> str:
    pieces, begin, found = [], 0, text.find(word)
    while found >= 0:
        end = found + len(word)
        if _is_in_word(text[found - 1 : found]) or _is_in_word(text[end : end + 1]):
            found = text.find(word, found + 1)
        else:
            pieces += [text[begin:found], "\0"]
            begin, found = end, text.find(word, end)
    return "".join([*pieces, text[begin:]])


def _is_in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


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
