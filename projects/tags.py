"""Words that people put on pictures and videos, to find them and to report by."""

from collections.abc import Iterable

from projects.words import normal


def normalised(tags: Iterable[str]) -> list[str]:
    """As people see them, without empty ones, each once, in their order."""
    return list(dict.fromkeys(word for word in map(normal, tags) if word))
