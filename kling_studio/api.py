"""The shape of the REST API: who is let in, errors, bodies, pages, throttles. The routes are in `projects/api` and `generations/api`."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from functools import singledispatch
from typing import Any

import structlog
from csp.constants import SELF
from csp.decorators import csp_replace
from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import (
    NON_FIELD_ERRORS,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import IntegrityError, InterfaceError, OperationalError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.utils.log import log_response
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from drf_standardized_errors.handler import ExceptionHandler as StandardHandler
from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework import exceptions, serializers, status
from rest_framework.authentication import SessionAuthentication
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import JSONParser as PlainJSONParser
from rest_framework.parsers import MultiPartParser as PlainMultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from kling_studio import throttling, unanswered
from kling_studio.codes import CODES, OURS
from kling_studio.fields import MoneyField
from kling_studio.query import Filters, Ordering, Pages, require_known
from projects.versions import Stale

log = structlog.get_logger(__name__)

# A form's other fields and the lines between its parts, in bytes.
FORM_OVERHEAD = 1_000_000
DISPOSITION = re.compile(rb"content-disposition:[^\r\n]*", re.IGNORECASE)
ODD_NAME = "The file's name is not in UTF-8: send it in UTF-8, or another name."
NO_FORM = "The body can't be read as a form: is its Content-Type that of multipart/form-data, with the boundary?"
MOST_TOLD = 10
WRONG_TOKENS, WRONG_TOKENS_SECONDS = 60, 60


# --- Errors -----------------------------------------------------------------------------------------------------------


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
    if not unanswered.database_is_away(error):
        return error
    refusal = ApiError(status.HTTP_503_SERVICE_UNAVAILABLE, "database_away", unanswered.AWAY_FOR_PROGRAMS)
    refusal.wait = unanswered.RETRY_AFTER
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


# --- Bodies -----------------------------------------------------------------------------------------------------------


class TokenAuthentication(KnoxAuthentication):
    def authenticate(self, request: Request) -> Any:
        """Nobody guesses 256 bits; who sends wrong tokens without end costs a query each, and is told to stop."""
        try:
            return super().authenticate(request)
        except exceptions.AuthenticationFailed:
            who = throttling.client_ip(request) or ""
            if throttling.too_many("token", who, limit=WRONG_TOKENS, seconds=WRONG_TOKENS_SECONDS):
                raise exceptions.Throttled(WRONG_TOKENS_SECONDS) from None
            raise

    def authenticate_credentials(self, token: bytes) -> Any:
        # Knox decodes and looks up whatever comes.
        if not token.isalnum():
            raise exceptions.AuthenticationFailed("Invalid token.")
        return super().authenticate_credentials(token)


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = TokenAuthentication
    name = "token"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "description": "A token of `manage.py create_token USER`."}


def _refuse_longer(stream: Any, limit: int) -> None:
    if int(stream.META.get("CONTENT_LENGTH") or 0) > limit:
        raise too_large(limit)


class JSONParser(PlainJSONParser):
    """DRF's, with a limit: it streams, so that Django's does not hold."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        if isinstance(stream, HttpRequest):
            _refuse_longer(stream, settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
        try:
            return super().parse(stream, media_type, parser_context)
        except RecursionError:
            raise exceptions.ParseError("This JSON is nested too deeply.") from None
        except exceptions.ParseError as error:
            raise exceptions.ParseError(_no_json(error.__context__)) from None


def _no_json(why: BaseException | None) -> str:
    match why:
        case json.JSONDecodeError():
            return f"This is not JSON: {why.msg}, line {why.lineno}, column {why.colno}."
        case UnicodeDecodeError():
            return "The body is not in UTF-8."
    return "This JSON holds a number that is none (NaN or Infinity), or one of too many digits."


class MultiPartParser(PlainMultiPartParser):
    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        if isinstance(stream, HttpRequest):
            _refuse_longer(stream, settings.MAX_UPLOAD_BYTES + FORM_OVERHEAD)
        body = _Watched(stream)
        try:
            parsed = super().parse(body, media_type, parser_context)  # type: ignore[arg-type]  # all that it needs
        except exceptions.ParseError:
            raise exceptions.ParseError(NO_FORM) from None
        if body.has_odd_name and not parsed.files:
            raise exceptions.ValidationError({"file": [ODD_NAME]}, code="bad_file_name")
        return parsed


class _Watched:
    """A form's body that notices a part whose name is not in UTF-8: Django leaves such a part out without a word."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.has_odd_name = False

    def read(self, *args: int) -> bytes:
        chunk: bytes = self._stream.read(*args)
        self.has_odd_name |= any(not _is_utf8(each) for each in DISPOSITION.findall(chunk))
        return chunk


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def unknown_fields(data: Mapping[Any, Any], known: Iterable[str]) -> dict[str, list[str]]:
    """A sentence for each field of a body that we don't know: a misspelt one must not be dropped in silence."""
    names = list(known)
    takes = f"This takes: {', '.join(names)}." if names else "This takes no fields."
    unknown = [str(name)[:80] for name in data if name not in names]
    return {name: [f"There is no field “{name}”. {takes}"] for name in unknown[:MOST_TOLD]}


class Body(serializers.Serializer):
    default_error_messages = {"invalid": "The body is a JSON object: {{…}}. This is another kind of value."}


class Strict(Body):
    """Refuses fields that it doesn't know, by name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = unknown_fields(data, (name for name, field in self.fields.items() if not field.read_only))
            if unknown:
                raise exceptions.ValidationError(unknown, code="unknown_field")
        return super().to_internal_value(data)


# --- Versions ---------------------------------------------------------------------------------------------------------


TAG = re.compile(r'(?:W/)?"([^"]*)"')
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def conditional(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a handler that hands `self.expected` to what changes the row: it takes `If-Match`."""
    handler.is_conditional = True  # type: ignore[attr-defined]
    return handler


def expected_versions(header: str | None) -> frozenset[int] | None:
    """What `If-Match` asks for; None: any version. A weak tag is taken for the same, as proxies that compress make it weak."""
    if header is None or header.strip() == "*":
        return None
    tags = [TAG.fullmatch(tag.strip()) for tag in header.split(",")]
    if not all(tags):
        raise ApiError(
            status.HTTP_400_BAD_REQUEST,
            "invalid_if_match",
            'If-Match takes the ETag that was answered, in its quotes, such as "3"; or * for any version.',
        )
    return frozenset(int(tag[1]) for tag in tags if tag and tag[1].isascii() and tag[1].isdigit() and len(tag[1]) < 12)


class Throttle(UserRateThrottle):
    """Per person and process: a runaway loop is stopped, a page that polls is not."""

    rate = "1200/minute"


class Options(APIView):
    """OPTIONS says which methods there are, and no more."""

    # Django's own answer: DRF's would be rendered, by a template in `docs/`.
    def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        return HttpResponse(status=status.HTTP_204_NO_CONTENT, headers={"Allow": ", ".join(self.allowed_methods)})


# --- The documentation -----------------------------------------------------------------------------------------------


class SchemaDocument(Options, SpectacularAPIView):
    """The OpenAPI document."""


@method_decorator(csp_replace({"script-src": [SELF]}), name="dispatch")
class Docs(Options, SpectacularSwaggerSplitView):
    """Swagger UI, whose first script is a file of its own: inline ones are refused."""


# --- Views ------------------------------------------------------------------------------------------------------------


IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "pattern": r"^[!-~]{1,255}$"},
    OpenApiParameter.HEADER,
    description="1 to 255 visible ASCII characters. The same request with the same key gets the first answer again.",
)
IF_MATCH = OpenApiParameter(
    "If-Match",
    {"type": "string", "example": '"3"'},
    OpenApiParameter.HEADER,
    description="The ETag of what you saw. When it has changed since: 412 `precondition_failed`, with what is there now as `current`.",
)


class Schema(AutoSchema):
    """Adds what all operations share: the error shape, and the idempotency key where it is taken."""

    def get_override_parameters(self) -> Any:
        handler = getattr(self.view, getattr(self.view, "action", "") or "", None)
        parameters = list(super().get_override_parameters())
        if getattr(handler, "is_idempotent", False):
            parameters.append(IDEMPOTENCY_KEY)
        if _is_conditional(self.view):
            parameters.append(IF_MATCH)
        return parameters

    def get_operation_id(self) -> str:
        """As a name in a program: `entries.csv` has a dot."""
        return str(super().get_operation_id()).replace(".", "_")

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        bodies = super()._get_response_bodies(direction)
        return {**bodies, "4XX": self._get_response_for_code(Error, "4XX")}  # type: ignore[no-untyped-call]


def _is_conditional(view: Any) -> bool:
    return getattr(getattr(view, getattr(view, "action", "") or "", None), "is_conditional", False)


class AlwaysJson(DefaultContentNegotiation):
    """Answers are JSON, and a download is what its address says, whatever `Accept` or `?format=` ask for."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class Api(Options, GenericViewSet):
    """What every view of the API is.

    Rows that people edit have a `version`, which is also their ETag. A handler that is `conditional` refuses with 412 what was
    asked for about another version, and says what is there now.
    """

    authentication_classes = [TokenAuthentication, SessionAuthentication]
    parser_classes: Any = [JSONParser]
    content_negotiation_class = AlwaysJson
    filter_backends: Any = [Filters, Ordering]
    pagination_class = Pages
    # The actions that answer with pages, and what else stands behind the `?`, by action.
    paged: tuple[str, ...] = ("list",)
    queries: Mapping[str, Iterable[str]] = {}
    throttle_classes = [Throttle]
    schema = Schema()
    lookup_value_converter = "uuid"

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Filters narrow lists; one row is found by its id alone."""
        return super().filter_queryset(queryset) if self.action == "list" else queryset

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method != "OPTIONS":
            require_known(request, self.query_parameters())
        if request.method not in SAFE_METHODS and "If-Match" in request.headers and not _is_conditional(self):
            raise ApiError(
                status.HTTP_400_BAD_REQUEST,
                "if_match_not_taken",
                "If-Match would be ignored here: leave it out. The API's documentation says where it is taken.",
            )

    def query_parameters(self) -> dict[str, bool]:
        """What may stand behind the `?`, and whether several times."""
        taken: dict[str, bool] = {}
        if self.action == "list":
            for backend in self.filter_backends:
                taken |= backend().taken(self)
        if self.action in self.paged:
            taken |= {"page": False, "page_size": False}
        return taken | dict.fromkeys(self.queries.get(self.action, ()), False)

    @property
    def expected(self) -> frozenset[int] | None:
        """The versions that the request may start from; None: any."""
        return expected_versions(self.request.headers.get("If-Match"))

    def handle_exception(self, exc: Exception) -> Response:
        if not isinstance(exc, Stale):
            return super().handle_exception(exc)
        current = self.as_now(exc.row)
        refusal = ApiError(status.HTTP_412_PRECONDITION_FAILED, "precondition_failed", str(exc), current=current)
        response = super().handle_exception(refusal)
        response["ETag"] = f'"{current["version"]}"'
        return response

    def as_now(self, row: Any) -> dict[str, Any]:
        """The row of a `Stale`, which nothing was written to, as this view shows it."""
        shown: dict[str, Any] = self.get_serializer_class()(row, context=self.get_serializer_context()).data
        return shown

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        data = getattr(final, "data", None)
        if isinstance(data, Mapping) and isinstance(data.get("version"), int):
            final["ETag"] = f'"{data["version"]}"'
        return final

    @property
    def person(self) -> User:
        """Who asks; the permission class has seen to it that somebody does."""
        assert isinstance(self.request.user, User)
        return self.request.user

    def get_exception_handler(self) -> Any:
        return exception_handler

    def valid(self, serializer: type[serializers.Serializer], **options: Any) -> dict[str, Any]:
        """The fields of the body, checked; raises ValidationError."""
        checked = serializer(data=self.request.data, context=self.get_serializer_context(), **options)
        checked.is_valid(raise_exception=True)
        values: dict[str, Any] = checked.validated_data
        return values

    def listed(self, rows: Any, serializer: type[serializers.Serializer]) -> Response:
        """One page of `rows`."""
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(serializer(page, many=True, context=self.get_serializer_context()).data)

    def shown(self, row: Any, serializer: type[serializers.Serializer], status_code: int = 200) -> Response:
        return Response(serializer(row, context=self.get_serializer_context()).data, status=status_code)
