import pytest

from generations.wavespeed import errors
from generations.wavespeed.errors import WaveSpeedError
from generations.wavespeed.transport import Exchange

FAMILIES = {
    errors.NotCreated: {"TryLater", "AccountProblem", "InsufficientCredits", "KeyRefused", "Rejected"},
    errors.AccountProblem: {"InsufficientCredits", "KeyRefused"},
    errors.Ambiguous: set(),
    errors.NoVerdict: {"Unavailable", "TooMany", "NotFound", "Unreadable", "NotUnderstood", "UnsafeURL"},
    errors.BadSignature: set(),
}


def below(kind: type[WaveSpeedError]) -> set[str]:
    children = kind.__subclasses__()
    return {child.__name__ for child in children}.union(*(below(child) for child in children))


@pytest.mark.parametrize(("kind", "family"), FAMILIES.items())
def test_families_hold_what_the_caller_may_do_next(kind: type[WaveSpeedError], family: set[str]) -> None:
    assert below(kind) == family


def test_the_drawn_tree_names_every_error() -> None:
    assert errors.__doc__ is not None
    drawn = {word for word in errors.__doc__.replace("─", " ").split() if isinstance(getattr(errors, word, None), type)}
    assert drawn == below(WaveSpeedError) | {"WaveSpeedError"}


def test_an_error_carries_its_evidence_but_prints_only_its_sentence() -> None:
    exchange = Exchange("POST", "/api/v3/a/b", 429, '{"code": 429}', 12)
    error = errors.TryLater("Not now.", exchange=exchange, provider_code=4290, message="slow down", retry_after=7.0)
    assert (error.status, error.provider_code, error.message, error.retry_after) == (429, 4290, "slow down", 7.0)
    assert (str(error), repr(error)) == ("Not now.", "TryLater('Not now.')")
    assert error.exchange is exchange


def test_an_error_without_an_exchange_has_no_status() -> None:
    error = errors.Unreadable("This webhook is not a prediction.")
    assert (error.status, error.exchange, error.message) == (None, None, "")
