"""How often somebody may try: where a request comes from, counters in this process, and the page that says when to come back.

django-axes counts failed logins in the database, by name and address; the counters here stop who goes through many names.
"""

import hashlib
import ipaddress
from collections.abc import Callable
from functools import wraps
from typing import Any

import structlog
from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.cache import add_never_cache_headers

log = structlog.get_logger(__name__)

TOO_MANY_REQUESTS = 429
# Whole networks of IPv6 addresses belong to one household or machine.
IPV6_PREFIX = 64
USERNAME_LENGTH = AccessAttempt._meta.get_field("username").max_length


def client_ip(request: HttpRequest) -> str | None:
    """Who asks, as an address without a zone or port; of IPv6 the network. None: the server doesn't say (a Unix socket).

    X-Forwarded-For counts only as far as `TRUSTED_PROXIES` proxies of ours have written it: what stands left of that, the
    client may have made up.
    """
    hops = [hop.strip() for hop in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if hop.strip()]
    if settings.TRUSTED_PROXIES and len(hops) >= settings.TRUSTED_PROXIES:
        told = _network(hops[-settings.TRUSTED_PROXIES])
        if told:
            return told
    return _network(request.META.get("REMOTE_ADDR", ""))


def _network(text: str) -> str | None:
    """Some proxies add the port: `192.0.2.1:40000`, `[2001:db8::1]:40000`."""
    host = text.partition("]")[0].removeprefix("[") if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False).network_address)
    return str(address)


def too_many(what: str, who: str, *, limit: int, seconds: int) -> bool:
    """Counts one more try; True from the one after `limit` on, until `seconds` after the first.

    It counts those of all processes, where `CACHE_URL` is a Redis.
    """
    key = f"throttle:{what}:{hashlib.sha256(who.encode('utf-8', 'replace')).hexdigest()}"
    cache.add(key, 0, seconds)
    try:
        return bool(cache.incr(key) > limit)
    except ValueError:
        # The time was over, or the cache was full, between the two calls.
        return False


def limited(
    what: str, *, limit: int, seconds: int
) -> Callable[[Callable[..., HttpResponseBase]], Callable[..., HttpResponseBase]]:
    """For views of forms: one address may send so many in so many seconds; after that the page says when to come back."""

    def decorate(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        def throttled(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if request.method == "POST" and too_many(what, client_ip(request) or "", limit=limit, seconds=seconds):
                log.warning("throttled", what=what, ip=client_ip(request))
                return come_back(request, seconds)
            return view(request, *args, **kwargs)

        return throttled

    return decorate


def tried_username(request: HttpRequest | None, credentials: dict[str, Any] | None = None) -> str | None:
    """Under which name django-axes counts a login: as much of it as its column holds, for Django's login form takes any length."""
    said = credentials if credentials else request.POST if request else {}
    username = said.get("username")
    return None if username is None else str(username)[:USERNAME_LENGTH]


def locked_out(
    request: HttpRequest, response: HttpResponse | None = None, credentials: dict[str, Any] | None = None
) -> HttpResponse:
    """What django-axes shows in place of the login page. The same for a name that exists and one that doesn't."""
    return come_back(request, int(settings.AXES_COOLOFF_TIME.total_seconds()))


def come_back(request: HttpRequest, seconds: int) -> HttpResponse:
    context = {**admin.site.each_context(request), "site_url": None, "minutes": -(-seconds // 60)}
    response = render(request, "registration/locked_out.html", context, status=TOO_MANY_REQUESTS)
    response["Retry-After"] = str(seconds)
    add_never_cache_headers(response)
    return response
