"""Whether the provider is set up right: key, balance, prices, models and webhooks. Calls that cost nothing, and no secret in any text."""

import hmac
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from functools import partial
from urllib.parse import urlsplit

from django.conf import settings

from generations import catalog, provider
from generations.catalog import parameters
from generations.catalog.endpoint import Endpoint
from generations.wavespeed import errors, webhooks
from projects import fetch
from projects.money import MILLIONTH, shown, to_micros

# What a price is asked with; it depends on the duration alone.
EXAMPLE = {"prompt": "A cup of coffee", "image": "https://example.com/picture.jpg"}


@dataclass(frozen=True)
class Check:
    what: str
    is_right: bool
    found: str


def run() -> Iterator[Check]:
    """Each check as it is done; one that fails stops none of the others."""
    sandbox = " (the sandbox: nothing costs anything)" if settings.WAVESPEED_SANDBOX else ""
    yield Check("Provider", True, f"{settings.WAVESPEED_BASE_URL}{sandbox}")
    yield _asked("Key and balance", _balance)
    yield _asked("Models", _models)
    for endpoint in catalog.ENDPOINTS.values():
        yield _asked(f"Price of {endpoint.title}", partial(_price, endpoint))
    yield _webhook_address()
    yield _webhook_secret()


def _asked(what: str, ask: Callable[[], tuple[bool, str]]) -> Check:
    try:
        is_right, found = ask()
    except errors.KeyRefused:
        return Check(what, False, "The provider refuses the key. Check WAVESPEED_API_KEY.")
    except errors.WaveSpeedError as error:
        return Check(what, False, f"No answer that can be used: {error}")
    return Check(what, is_right, found)


def _balance() -> tuple[bool, str]:
    balance = provider.client().balance()
    dearest = max(endpoint.price({"duration": seconds}) for endpoint, seconds in _lengths())
    if balance < dearest:
        return (
            False,
            f"The key is accepted, but {_dollars(balance)} is too little for the longest video. Top the account up.",
        )
    return True, f"The key is accepted; {_dollars(balance)} is left."


def _models() -> tuple[bool, str]:
    listed = {model.model_id for model in provider.client().models()}
    missing = [name for name in catalog.ENDPOINTS if name not in listed]
    if missing:
        return False, f"The provider does not list {', '.join(missing)}."
    return True, f"The provider lists what the catalogue has: {', '.join(catalog.ENDPOINTS)}."


def _lengths() -> Iterator[tuple[Endpoint, int]]:
    """The shortest and the longest video of each endpoint."""
    for endpoint in catalog.ENDPOINTS.values():
        duration = endpoint.parameter("duration")
        assert isinstance(duration, parameters.Duration)
        yield endpoint, duration.seconds[0]
        yield endpoint, duration.seconds[-1]


def _price(endpoint: Endpoint) -> tuple[bool, str]:
    prices = []
    for seconds in [seconds for each, seconds in _lengths() if each is endpoint]:
        inputs = {name: value for name, value in EXAMPLE.items() if name in endpoint.names}
        told = provider.client().price(endpoint.id, {**inputs, "duration": seconds})
        ours = endpoint.price({"duration": seconds})
        if told.currency != "USD":
            return False, f"The provider asks for {told.currency}, and the studio counts dollars."
        if _micros(told.price) != _micros(ours):
            return False, (
                f"{seconds} s cost {_dollars(ours)} by the catalogue, and {_dollars(told.price)} at the provider. "
                "WAVESPEED_LIVE_PRICES=true reserves the higher one until the catalogue is right."
            )
        prices.append(f"{seconds} s {_dollars(ours)}")
    return True, f"{', '.join(prices)}: the provider's prices are the catalogue's."


def _webhook_address() -> Check:
    what, url = "Webhook address", settings.WAVESPEED_WEBHOOK_BASE_URL
    if not url:
        return Check(what, True, "None is set: the studio polls, which is enough.")
    parts = urlsplit(url)
    if provider.is_loopback():
        return Check(what, True, f"{url}, for a provider on this machine.")
    if parts.scheme != "https":
        return Check(
            what, False, f"{url} is not https: anybody on the way could read and change what the provider tells."
        )
    try:
        fetch.check_url(url, allow_loopback=False)
    except fetch.FetchError as error:
        return Check(what, False, f"The provider can't reach {url}: {error.message}")
    return Check(what, True, f"{url}")


def _webhook_secret() -> Check:
    # While it is changed there may be two, with a space between them.
    what, ours = "Webhook secret", settings.WAVESPEED_WEBHOOK_SECRET.split()
    if not ours and not settings.WAVESPEED_WEBHOOK_BASE_URL:
        return Check(what, True, "Not needed without an address.")

    def ask() -> tuple[bool, str]:
        theirs = webhooks.key_of(provider.client().webhook_secret())
        if not ours:
            return True, "Told by the provider."
        if not any(hmac.compare_digest(webhooks.key_of(secret), theirs) for secret in ours):
            wrong = (
                "is not the provider's"
                if len(ours) == 1
                else f"has {len(ours)} secrets, and none of them is the provider's"
            )
            return (
                False,
                f"WAVESPEED_WEBHOOK_SECRET {wrong}: every webhook would be refused. Take the provider's, or leave it out.",
            )
        if len(ours) == 1:
            return True, "As the provider's."
        return True, (
            f"One of the {len(ours)} that are set is the provider's, so its webhooks are accepted. "
            "When the change there is done, leave the new one alone."
        )

    return _asked(what, ask)


def _micros(amount: Decimal) -> int:
    return to_micros(amount.quantize(MILLIONTH, ROUND_HALF_EVEN))


def _dollars(amount: Decimal) -> str:
    return shown(_micros(amount))
