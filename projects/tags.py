"""Words that people put on pictures and videos, to find them and to report by."""

from collections.abc import Iterable

from projects.words import normal


def normalised(tags: Iterable[str]) -> list[str]:
    """As people see them, without empty ones, in their order; what differs in upper and lower case alone is one, as it came first."""
    words: dict[str, str] = {}
    for word in map(normal, tags):
        if word:
            words.setdefault(word.casefold(), word)
    return list(words.values())
