"""Which URLs the client uses: its own base, and what the provider hands out for uploads and downloads."""

import ipaddress
import re
from urllib.parse import urlsplit


def refuse_local_urls(url: str) -> None:
    """The default guard: https to a host that is not plainly a private one. It does not look up names."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(f"{_without_query(url)} is not an https URL.")
    if _is_private(parts.hostname):
        raise ValueError(f"{_without_query(url)} is inside a private network.")


def refuse_outside_http(url: str) -> None:
    """The guard while the provider itself is on loopback, as the sandbox is: loopback may be http."""
    if not is_loopback(url):
        refuse_local_urls(url)


def is_loopback(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https"):
        return False
    return host == "localhost" or _address(host).is_loopback


def _is_private(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or not _address(host).is_global


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The address that a host is written as; a public one for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return ipaddress.IPv4Address("1.1.1.1")


def _without_query(url: str) -> str:
    return re.split(r"[?#]", url, maxsplit=1)[0]


def checked_base_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    right = "the base URL is scheme and host only, such as https://api.wavespeed.ai"
    if parts.scheme not in ("https", "http") or not parts.hostname or "@" in parts.netloc:
        raise ValueError(f"This is not the base URL of an API: {right}.")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"{_without_query(base_url)} has a path or a query: {right}; the client adds the rest.")
    if parts.scheme == "http" and not is_loopback(base_url):
        raise ValueError(f"{_without_query(base_url)} would send the key in the clear: use https.")
    return f"{parts.scheme}://{parts.netloc}"
