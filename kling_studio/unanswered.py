"""What is said where no view could answer: to addresses that are none, and while the database is away. JSON below `/api`, else a page."""

import sqlite3
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import DisallowedHost
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.cache import add_never_cache_headers
from django.views.decorators.csrf import csrf_exempt

from kling_studio import error_pages

log = structlog.get_logger(__name__)

RETRY_AFTER = 5
AWAY = "The studio's database does not answer now."
AWAY_FOR_PROGRAMS = (
    f"{AWAY} Repeat the request in some seconds; what makes or costs something with the same Idempotency-Key, as nobody "
    "knows yet whether this one was done."
)
# Of PostgreSQL's codes: its connections (08), no more of them (53300), being shut down or started (57P0x); and who lost
# against another transaction and was rolled back (deadlock, serialization, a lock that took too long).
AWAY_STATES = ("08", "53300", "57P0", "40001", "40P01", "55P03")
AWAY_CODES = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR}


def database_is_away(error: BaseException | None) -> bool:
    """Whether the database can't be reached or is too busy: not what it says of a query of ours, which is a fault of ours."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):
        # The lower byte is the kind, the others the details of it.
        return getattr(cause, "sqlite_errorcode", 0) & 0xFF in AWAY_CODES
    state = getattr(cause, "sqlstate", None)
    return state is None or state.startswith(AWAY_STATES)


def error_body(code: str, detail: str, type_: str = "client_error") -> dict[str, Any]:
    return {"type": type_, "errors": [{"code": code, "detail": detail, "attr": None}]}


def is_api(request: HttpRequest) -> bool:
    return request.path == "/api" or request.path.startswith("/api/")


# --- Django's handlers: `kling_studio.urls` names them ----------------------------------------------------------------


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if is_api(request):
        detail = "This request can't be read."
        if isinstance(exception, DisallowedHost):
            detail += " Is its Host header the studio's own address?"
        return JsonResponse(error_body("bad_request", detail), status=HTTPStatus.BAD_REQUEST)
    return error_pages.bad_request(request, exception)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return api_not_found(request) if is_api(request) else error_pages.page_not_found(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if is_api(request):
        body = error_body("permission_denied", str(exception) or error_pages.SENTENCES[HTTPStatus.FORBIDDEN])
        return JsonResponse(body, status=HTTPStatus.FORBIDDEN)
    return error_pages.permission_denied(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Django calls it while the exception is being handled."""
    if database_is_away(sys.exception()):
        return away(request)
    if is_api(request):
        body = error_body("error", "Server Error (500)", "server_error")
        return JsonResponse(body, status=HTTPStatus.INTERNAL_SERVER_ERROR)
    return error_pages.page(request, HTTPStatus.INTERNAL_SERVER_ERROR)


def away(request: HttpRequest) -> HttpResponse:
    response: HttpResponse
    if is_api(request):
        response = JsonResponse(
            error_body("database_away", AWAY_FOR_PROGRAMS, "server_error"), status=HTTPStatus.SERVICE_UNAVAILABLE
        )
    else:
        response = error_pages.page(request, HTTPStatus.SERVICE_UNAVAILABLE)
    response["Retry-After"] = str(RETRY_AFTER)
    add_never_cache_headers(response)
    return response


# --- Addresses --------------------------------------------------------------------------------------------------------


@csrf_exempt
def api_not_found(request: HttpRequest, path: str = "") -> JsonResponse:
    """Unknown addresses below `/api/` get the API's error shape too."""
    detail = "There is no such address. The addresses are listed at /api/v1/docs/."
    if not request.path.endswith("/") and _is_known(f"{request.path}/"):
        detail = f"There is no such address; with a slash at its end there is: {request.path[:200]}/"
    return JsonResponse(error_body("not_found", detail), status=HTTPStatus.NOT_FOUND)


def _is_known(path: str) -> bool:
    try:
        return resolve(path).func is not api_not_found
    except Resolver404:
        return False


class UnreadableAddresses:
    """No text in the database holds a NUL, and PostgreSQL takes none to look for: nothing is at such an address."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "\0" in request.path:
            return page_not_found(request, Http404("NUL"))
        if "%00" in request.META.get("QUERY_STRING", ""):
            return bad_request(request, ValueError("NUL"))
        return self.get_response(request)


class AwayMiddleware:
    """An exception of a view that says that the database is away is an answer, told in one line and without a traceback."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not database_is_away(exception):
            return None
        log.warning("database_away", path=request.path)
        return away(request)
