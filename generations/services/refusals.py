"""What the use-cases refuse. Nothing has changed then; the text is for people, `code` for programs.

Beside these there are `InvalidInputs` (the catalogue's), `SpendRefused` (the budgets') and Django's `PermissionDenied`.
"""

from collections.abc import Sequence

from generations.models import Generation


class Refused(Exception):
    """The studio does not do it, and nothing changed."""

    code = "refused"


class AskerLeft(Refused):
    """Who asked for it may not spend in the project any more."""

    code = "asker_left"


class WrongStatus(Refused):
    code = "wrong_status"


class Archived(Refused):
    code = "archived"


class PriceUnknown(Refused):
    """The provider does not tell its price now, and less might be held than it bills."""

    code = "price_unknown"


class PriceChanged(Refused):
    """It costs more than what was shown and agreed to."""

    code = "price_changed"


class TooSoon(Refused):
    """Nobody can say yet that it was not made."""

    code = "too_soon"


class NotRead(Refused):
    """The provider's list or bill was not read since it may have lagged: what it would tell may be the very thing."""

    code = "not_read"


class NoCandidate(Refused):
    """The prediction is no candidate for this generation, or belongs to another one."""

    code = "no_candidate"


class BadAddress(Refused):
    """Nothing is fetched from this address."""

    code = "bad_address"


class ReasonMissing(Refused):
    """A decision is kept with its reason."""

    code = "reason_missing"


class NeedsConfirmation(Refused):
    """The same video exists or is on its way: `existing`. Say it again with `confirm=True` to pay for another one."""

    code = "needs_confirmation"

    def __init__(self, text: str, existing: Sequence[Generation]) -> None:
        self.existing = existing
        super().__init__(text)
