"""`/metrics` for Prometheus: what this machine's processes have counted, and what the database says of the whole studio.

docs/watching.md names the metrics; `generations.counters` counts.
"""

import time
from collections.abc import Callable, Iterator

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from generations import counters as counted
from generations.watching.figures import Studio
from projects.permissions import is_studio_owner

log = structlog.get_logger(__name__)

REFUSAL = (
    "The metrics are read with the token in METRICS_TOKEN, sent as “Authorization: Bearer …”, "
    "or by a studio owner who is signed in.\n"
)


@require_safe
@never_cache
def metrics(request: HttpRequest) -> HttpResponse:
    if not _may_read(request):
        return HttpResponse(REFUSAL, status=403, content_type="text/plain; charset=utf-8")
    registry = CollectorRegistry()
    registry.register(_Machine())
    registry.register(Studio())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    """Asks the database only where no token was sent, so that a scrape works while it is away."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme:
        is_ours = constant_time_compare(token.strip(), settings.METRICS_TOKEN)
        return bool(settings.METRICS_TOKEN) and scheme.lower() == "bearer" and is_ours
    return request.user.is_authenticated and is_studio_owner(request.user)


class RequestMiddleware:
    """Counts requests by the name of their page, of which there are as many as routes."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.monotonic()
        response = self.get_response(request)
        view = request.resolver_match.view_name if request.resolver_match else "none"
        counted.answered(view, response.status_code, time.monotonic() - started)
        return response


class _Machine(Collector):
    def collect(self) -> Iterator[Metric]:
        try:
            yield from counted.collect()
        except counted.UNREADABLE:
            log.exception("metrics_not_read")
