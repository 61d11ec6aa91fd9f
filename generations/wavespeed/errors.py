"""What went wrong with a call to the provider, named for what the caller may do next.

WaveSpeedError
├── NotCreated                surely nothing was created, nothing is billed
│   ├── TryLater              passes by itself: too many requests, or the connection was never made
│   ├── AccountProblem        passes when somebody looks after the account: pause the lane, tell the owners
│   │   ├── InsufficientCredits
│   │   └── KeyRefused
│   └── Rejected              this request will never pass
├── Ambiguous                 the request may have been accepted, and billed: never send it again
├── NoVerdict                 a call that only reads, or that costs nothing, brought nothing: ask again later
│   ├── Unavailable           no clear answer now
│   │   └── TooMany           … as there are too many requests: ask less often
│   ├── NotFound              the provider does not know it (now)
│   ├── Unreadable            an answer that can't be understood
│   │   └── NotUnderstood     … though it is an answer of the API: people have to read it
│   └── UnsafeURL             an answer that names a URL which the guard refuses
└── BadSignature              a webhook that the provider did not sign

`submit` raises NotCreated's and Ambiguous; the other calls raise NoVerdict's, AccountProblem's and Rejected.
"""

from generations.wavespeed.transport import Exchange


class WaveSpeedError(Exception):
    """`str()` is ours and fit for a log; `message` is the provider's text, redacted, for people only."""

    def __init__(
        self,
        sentence: str,
        *,
        exchange: Exchange | None = None,
        provider_code: int | None = None,
        message: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(sentence)
        self.exchange = exchange
        self.status = exchange.status if exchange else None
        self.provider_code = provider_code
        self.message = message
        self.retry_after = retry_after  # seconds that the provider asks to wait


class NotCreated(WaveSpeedError):
    """Surely nothing was created: the request may be sent again later."""


class TryLater(NotCreated):
    """Too many requests now, or the connection was never made."""


class AccountProblem(NotCreated):
    """No request of this account passes before somebody looks after the account."""


class InsufficientCredits(AccountProblem):
    """The balance at the provider is too low."""


class KeyRefused(AccountProblem):
    """The API key is wrong, was revoked, or may not do this."""


class Rejected(NotCreated):
    """This request is wrong and will never pass."""


class Ambiguous(WaveSpeedError):
    """The request was sent and no clear answer came back: it may have been accepted, and billed."""


class NoVerdict(WaveSpeedError):
    """Nothing was learnt: ask again later."""


class Unavailable(NoVerdict):
    """No clear answer now: no connection, too slow, or an error of the provider's own."""


class TooMany(Unavailable):
    """Too many requests of this account now."""


class NotFound(NoVerdict):
    """The provider does not know it, now; for a known id this is no verdict."""


class Unreadable(NoVerdict):
    """An answer came that can't be understood."""


class NotUnderstood(Unreadable):
    """The API answered, in a form or about a thing that is not understood: asking again may never help."""


class UnsafeURL(NoVerdict):
    """The provider named a URL that the guard refuses."""


class BadSignature(WaveSpeedError):
    """A webhook that does not prove that the provider sent it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
