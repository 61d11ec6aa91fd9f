"""What is said where no view could answer: to addresses that are none, and while the database is away. JSON below `/api`, else a page."""

import sys
from collections.abc import Callable
from http import HTTPStatus

import structlog
from django.core.exceptions import DisallowedHost
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.urls import Resolver404, resolve
from django.utils.cache import add_never_cache_headers
from django.views.decorators.csrf import csrf_exempt

from kling_studio import error_pages
from projects.api.base.away import AWAY_FOR_PROGRAMS, RETRY_AFTER, database_is_away, error_body

log = structlog.get_logger(__name__)


def is_api(request: HttpRequest) -> bool:
    return request.path == "/api" or request.path.startswith("/api/")


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
