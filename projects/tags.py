"""Words that people put on pictures and videos, to find them and to report by."""

from collections.abc import Iterable


def normalised(tags: Iterable[str]) -> list[str]:
    """Stripped, without empty ones, each once, in their order."""
    words = (tag.strip() for tag in tags)
    return list(dict.fromkeys(word for word in words if word))
