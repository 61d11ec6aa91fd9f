"""What a person says of a decision: kept with it in its history, and read by everybody whom it concerns."""

from generations.services.refusals import ReasonMissing

MOST_CHARACTERS = 400


def required(text: str, why: str) -> str:
    """The reason in one line. `why` is a sentence: what it is asked for. Raises `ReasonMissing`."""
    if not (said := optional(text)):
        raise ReasonMissing(f"Say why: {why}")
    return said


def optional(text: str) -> str:
    """The reason in one line, or nothing. Raises `ReasonMissing` where it is too long to be kept."""
    said = " ".join(text.split())
    if len(said) > MOST_CHARACTERS:
        raise ReasonMissing(f"The reason is too long: at most {MOST_CHARACTERS} characters; this one has {len(said)}.")
    return said
