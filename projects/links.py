"""Addresses that pages lead to, and what is said where one leads nowhere."""

from django.http import Http404, HttpRequest
from django.utils.http import url_has_allowed_host_and_scheme


class NotHere(Http404):
    """Its sentence is for people, and the page of the error shows it; that of any other `Http404` is for programmers."""


def came_from(request: HttpRequest) -> str:
    """The address of the page that they come from, if it is one of ours; else empty."""
    page = request.headers.get("Referer", "")
    is_ours = url_has_allowed_host_and_scheme(page, {request.get_host()}, require_https=request.is_secure())
    return page if is_ours else ""
