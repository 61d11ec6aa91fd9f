"""The one shape of the API's errors, and what becomes of each exception."""

import json
from functools import singledispatch
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import (
    NON_FIELD_ERRORS,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import Http404
from django.utils.log import log_response
from drf_standardized_errors.handler import ExceptionHandler as StandardHandler
from rest_framework import exceptions, serializers, status
from rest_framework.response import Response
from rest_framework.settings import api_settings

from projects.api.base import away
from projects.api.base.codes import CODES, OURS
from projects.api.base.fields import MoneyField

log = structlog.get_logger(__name__)

MOST_TOLD = 10


class ApiError(exceptions.APIException):
    """A refusal in the API's one shape; `members` stand beside its code, detail and attr."""

    def __init__(self, status_code: int, code: str, detail: str, **members: Any) -> None:
        super().__init__(detail, code)
        self.status_code = status_code
        self.members = members
        # Seconds, for `Retry-After`.
        self.wait: int | None = None


@singledispatch
def as_api_error(error: Exception) -> Exception:
    """What the API says to an exception; each app registers its own."""
    return error


@as_api_error.register
def _(error: PermissionDenied) -> Exception:
    return exceptions.PermissionDenied(str(error) or None)


@as_api_error.register
def _(error: Http404) -> Exception:
    return exceptions.NotFound("There is nothing here, or nothing that you may see.")


@as_api_error.register
def _(error: ValidationError) -> Exception:
    errors = serializers.as_serializer_error(error)
    if NON_FIELD_ERRORS in errors:
        errors[api_settings.NON_FIELD_ERRORS_KEY] = errors.pop(NON_FIELD_ERRORS)
    return exceptions.ValidationError(errors)


@as_api_error.register
def _(error: SuspiciousOperation) -> Exception:
    return exceptions.ParseError(f"This request can't be read: {error}")


@as_api_error.register
def _(error: RequestDataTooBig) -> Exception:
    return too_large(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


@as_api_error.register
def _(error: IntegrityError) -> Exception:
    log.warning("conflict", error=str(error))
    detail = "Somebody else changed the same thing at the same moment. Look at it again, then repeat the request."
    return ApiError(status.HTTP_409_CONFLICT, "conflict", detail)


@as_api_error.register(OperationalError)
@as_api_error.register(InterfaceError)
def _(error: Exception) -> Exception:
    if not away.database_is_away(error):
        return error
    refusal = ApiError(status.HTTP_503_SERVICE_UNAVAILABLE, "database_away", away.AWAY_FOR_PROGRAMS)
    refusal.wait = away.RETRY_AFTER
    return refusal


def too_large(limit: int) -> ApiError:
    detail = f"The body of this request is too large: at most {limit / 1e6:g} MB."
    return ApiError(status.HTTP_413_REQUEST_ENTITY_TOO_LARGE, "too_large", detail)


class ExceptionHandler(StandardHandler):
    """`{"type", "errors": [{"code", "detail", "attr"}]}` for whatever goes wrong."""

    def convert_known_exceptions(self, exc: Exception) -> Exception:
        converted: Exception = super().convert_known_exceptions(as_api_error(exc))
        return converted

    def format_exception(self, exc: exceptions.APIException) -> dict[str, Any]:
        data: dict[str, Any] = super().format_exception(exc)
        for error in data["errors"]:
            error["code"] = OURS.get(error["code"], error["code"])
            error["attr"] = _field(error["attr"])
        if isinstance(exc, ApiError):
            data["errors"][0] |= exc.members
        for link in data["errors"][0].get("existing", ()):
            if request := self.context["request"]:
                link["url"] = request.build_absolute_uri(link["url"])
        return sendable(data)

    def report_exception(self, exc: exceptions.APIException, response: Response) -> None:
        """A refusal of ours is one line, whatever its status; what nobody expected is told with its traceback."""
        if isinstance(exc, ApiError) and status.is_server_error(exc.status_code):
            path = getattr(self.context["request"], "path", "")
            log_response("%s: %s", exc.detail, path, response=response, level="warning")
        else:
            super().report_exception(exc, response)


def _field(attr: str | None) -> str | None:
    """The field that is wrong; None where it is the body as a whole, for which the framework has a name of its own."""
    if attr is None:
        return None
    return ".".join(part for part in attr.split(".") if part != api_settings.NON_FIELD_ERRORS_KEY) or None


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    return ExceptionHandler(error, context).run()  # type: ignore[arg-type]  # a TypedDict of the same


def sendable(data: dict[str, Any]) -> dict[str, Any]:
    """The same with halves of surrogate pairs, which a client's own JSON may have brought, replaced: UTF-8 can't carry them."""
    sent: dict[str, Any] = json.loads(json.dumps(data, ensure_ascii=False, default=str).encode("utf-8", "replace"))
    return sent


class ExistingSerializer(serializers.Serializer):
    id = serializers.UUIDField()
    status = serializers.CharField(help_text="a generation's")
    url = serializers.URLField()


class ErrorItem(serializers.Serializer):
    code = serializers.ChoiceField(choices=list(CODES), help_text="for programs; stable")
    detail = serializers.CharField(help_text="for people")
    attr = serializers.CharField(
        allow_null=True, help_text="the field or parameter that is wrong; null: none by itself"
    )
    needed = MoneyField(required=False, help_text="with `over_budget`: what it costs")
    free = MoneyField(required=False, help_text="with `over_budget`: what that budget has left")
    budget = serializers.UUIDField(required=False, help_text="with `over_budget`")
    resets_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="with `over_budget`: when its next period begins; null: never"
    )
    existing = ExistingSerializer(many=True, required=False, help_text="with `needs_confirmation`: the same video")
    current = serializers.DictField(required=False, help_text="with `precondition_failed`: the row as it is now")


class Error(serializers.Serializer):
    type = serializers.ChoiceField(choices=["validation_error", "client_error", "server_error"])
    errors = ErrorItem(many=True)  # type: ignore[assignment]  # a field here, not the property
