"""Everything that the sandbox's HTTP faces share: the book, the clock, the settings, the workshop."""

from dataclasses import dataclass
from decimal import Decimal

from wavespeed_sandbox.billing import Billing
from wavespeed_sandbox.book import Book
from wavespeed_sandbox.clock import Clock
from wavespeed_sandbox.faults import Faults
from wavespeed_sandbox.predictions import Predictions
from wavespeed_sandbox.workshop import Workshop


@dataclass(frozen=True)
class Settings:
    """How this provider behaves. Seconds, USD."""

    resolution: str = "2160p"
    latency: float = 0.0
    per_minute: int | None = None
    concurrent: int | None = None
    list_inputs: bool = True
    billing_lag: float = 0.0
    refund_after: float = 600.0
    api_key: str | None = None
    balance: Decimal = Decimal(1000)


@dataclass
class Account:
    settings: Settings
    book: Book
    clock: Clock
    predictions: Predictions
    billing: Billing
    faults: Faults
    workshop: Workshop
    webhook_secret: str
    url_secret: str
    api_url: str = ""
    files_url: str = ""
    speed: float = 1.0
