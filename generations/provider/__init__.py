"""The studio's one connection to WaveSpeed, made from the settings."""

from functools import cache
from urllib.parse import urljoin, urlsplit
from uuid import UUID

import structlog
from django.conf import settings

from generations import catalog, counters
from generations.provider import calls
from generations.wavespeed import errors
from generations.wavespeed.client import Client
from generations.wavespeed.redaction import Redactor
from generations.wavespeed.replies import Prediction
from projects import fetch
from projects.money import MICRO

log = structlog.get_logger(__name__)


@cache
def client() -> Client:
    """One client, and so one pool of connections, a process."""
    return Client(
        base_url=settings.WAVESPEED_BASE_URL,
        # The sandbox takes any key that is not empty.
        api_key=settings.WAVESPEED_API_KEY or "sandbox",
        connect_timeout=settings.WAVESPEED_CONNECT_TIMEOUT,
        read_timeout=settings.WAVESPEED_READ_TIMEOUT,
        deadline=settings.WAVESPEED_DEADLINE,
        upload_deadline=settings.WAVESPEED_DEADLINE,
        guard=_guard,
        observe=counters.provider_answered,
        report=calls.Reporter(),
    )


def redactor() -> Redactor:
    """Hides this studio's own secrets in what the provider tells."""
    return Redactor(settings.WAVESPEED_API_KEY, *settings.WAVESPEED_WEBHOOK_SECRET.split())


def _guard(url: str) -> None:
    """URLs that the provider hands out pass the same guard as users' URLs."""
    try:
        fetch.check_url(url, allow_loopback=is_loopback())
    except fetch.FetchError as error:
        raise ValueError(error.message) from error


def connect(base_url: str) -> None:
    """Points this process at another address of the provider: an embedded sandbox that had to take another port."""
    settings.WAVESPEED_BASE_URL = base_url
    client.cache_clear()


def balance() -> int | None:
    """Of the studio's account, in micro-dollars; None when it can't be read, which is how a bad key shows."""
    try:
        return int(client().balance() * MICRO)
    except errors.WaveSpeedError as error:
        log.warning("balance_not_read", reason=str(error))
        return None


def webhook_url(generation: UUID) -> str | None:
    """Where the provider tells of this generation alone; None where it can't reach the studio."""
    base = settings.WAVESPEED_WEBHOOK_BASE_URL
    return f"{base}/api/v1/webhooks/wavespeed/{generation}/" if base else None


def output_urls(prediction: Prediction) -> list[str]:
    """Where its outputs are; one without a scheme has the API's."""
    return [urljoin(settings.WAVESPEED_BASE_URL, address) for address in prediction.outputs]


def all_addresses(prediction: Prediction) -> list[str]:
    """Every address of an answer, wherever it stands: for people, who may know which is the video."""
    return [urljoin(settings.WAVESPEED_BASE_URL, each) for each in (*prediction.outputs, *prediction.others)]


def is_loopback() -> bool:
    """Whether the provider is on this machine: then its uploads and outputs may be too."""
    return urlsplit(settings.WAVESPEED_BASE_URL).hostname in {"127.0.0.1", "localhost", "::1"}


def usual_seconds(endpoint: str) -> float:
    """How long the provider usually takes; the sandbox is faster by its speed."""
    seconds = float(catalog.get(endpoint).usual_seconds)
    return seconds / settings.SANDBOX_SPEED if settings.WAVESPEED_SANDBOX else seconds
