"""What generations cost: by the catalogue, and by the provider's own word where `WAVESPEED_LIVE_PRICES` is on.

Asking the provider takes a while, so it is done before a transaction and what it said is handed in: `Prices`.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from django.conf import settings
from django.db import connection

from generations import catalog, lifecycle, provider
from generations.models import Generation
from generations.services.inputs import Checked
from generations.services.refusals import PriceUnknown, Refused
from generations.wavespeed.errors import WaveSpeedError
from projects.money import LARGEST, MILLIONTH, shown, to_micros

AT_ONCE = 8
# In place of pictures that are uploaded only when it is submitted; the price does not depend on them.
PLACEHOLDER = "https://example.com/picture.jpg"


@dataclass(frozen=True)
class Price:
    """Micro-dollars. `live` is what the provider says, None where it was not asked."""

    catalogue: int
    live: int | None = None

    @property
    def amount(self) -> int:
        """What is reserved: the higher one, so that never less is held than may be billed."""
        return max(self.catalogue, self.live or 0)

    @property
    def differs(self) -> bool:
        return self.live is not None and self.live != self.catalogue

    def __str__(self) -> str:
        if self.live is None or not self.differs:
            return shown(self.amount)
        if self.live > self.catalogue:
            return f"{shown(self.amount)} (the provider’s price; the catalogue says {shown(self.catalogue)})"
        return f"{shown(self.amount)} (the catalogue’s price; the provider says {shown(self.live)})"


# By the digest of the inputs; empty where the provider is not asked.
Prices = Mapping[str, int]


def ask_for_drafts(generations: Iterable[Generation]) -> Prices:
    """What the provider says of each draft; raises `PriceUnknown`."""
    if not settings.WAVESPEED_LIVE_PRICES:
        return {}
    placeholders = {"image": PLACEHOLDER, "end_image": PLACEHOLDER}
    bodies = {}
    for generation in generations:
        urls = {name: url for name, url in placeholders.items() if getattr(generation, f"{name}_id")}
        bodies[generation.inputs_digest] = (generation.endpoint, lifecycle.request_body(generation, urls))
    return _ask(bodies)


def ask_for_inputs(many: Iterable[Checked]) -> Prices:
    """What the provider says of what is no draft yet; raises `PriceUnknown`."""
    if not settings.WAVESPEED_LIVE_PRICES:
        return {}
    return _ask({checked.digest: (checked.endpoint, _with_placeholders(checked)) for checked in many})


def _with_placeholders(checked: Checked) -> dict[str, Any]:
    media = {parameter.name for parameter in catalog.get(checked.endpoint).parameters if parameter.is_media}
    return {name: _placeholder(value) if name in media else value for name, value in checked.valid.items()}


def _placeholder(value: Any) -> Any:
    return [PLACEHOLDER] * len(value) if isinstance(value, list) else PLACEHOLDER


def _ask(bodies: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Prices:
    if connection.in_atomic_block:
        raise RuntimeError("The provider is asked for prices outside transactions only.")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return dict(zip(bodies, threads.map(lambda wanted: _ask_in_thread(*wanted), bodies.values()), strict=True))


def _ask_in_thread(endpoint: str, body: Mapping[str, Any]) -> int:
    """The connection on which the call was noted is the thread's own and would outlive it."""
    try:
        return _ask_one(endpoint, body)
    finally:
        connection.close()


def _ask_one(endpoint: str, body: Mapping[str, Any]) -> int:
    try:
        told = provider.client().price(endpoint, body)
    except WaveSpeedError as error:
        raise PriceUnknown(
            f"The provider does not tell its price now ({error}), so nothing is queued: less might be held than it bills. "
            "Try again in a moment."
        ) from error
    # A discount may have ended when the bill is written.
    dollars = max(told.price, told.discounted_price or Decimal(0))
    if told.currency != "USD" or not 0 <= dollars < LARGEST:
        raise PriceUnknown(
            f"The provider’s price is no amount in dollars: {dollars} {told.currency}. Nothing is queued."
        )
    return to_micros(dollars.quantize(MILLIONTH, rounding=ROUND_CEILING))


def of_inputs(endpoint: str, inputs: Mapping[str, Any], digest: str, prices: Prices) -> Price:
    return Price(catalogue_price(endpoint, inputs), prices.get(digest))


def of_draft(generation: Generation, inputs: Mapping[str, Any], prices: Prices) -> Price:
    """Raises `Refused` if the provider was asked about other inputs than the draft has now."""
    if settings.WAVESPEED_LIVE_PRICES and generation.inputs_digest not in prices:
        raise Refused("It was changed at this very moment. Look at it again, then repeat what you did.")
    return of_inputs(generation.endpoint, inputs, generation.inputs_digest, prices)


def catalogue_price(endpoint: str, inputs: Mapping[str, Any]) -> int:
    return to_micros(catalog.get(endpoint).price(inputs))
