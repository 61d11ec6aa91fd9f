"""What every view of the API is, and what it says of itself in the schema."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpResponse
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import force_instance
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers, status
from rest_framework.authentication import SessionAuthentication
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from projects.api.base import answers
from projects.api.base.bodies import Strict
from projects.api.base.errors import ApiError, Error, ErrorItem, exception_handler
from projects.api.base.preconditions import SAFE_METHODS, expected_versions, is_conditional
from projects.api.base.query import Filters, Ordering, Pages, require_known
from projects.api.base.reading import JSONParser, TokenAuthentication
from projects.versions import Stale


class Throttle(UserRateThrottle):
    """Per person, of all processes that share `CACHE_URL`: a runaway loop is stopped, a page that polls is not."""

    rate = "1200/minute"


class Options(APIView):
    """OPTIONS says which methods there are, and no more."""

    # Django's own answer: DRF's would be rendered, by a template in `docs/`.
    def options(self, request: Request, *args: Any, **kwargs: Any) -> HttpResponse:  # type: ignore[override]
        return HttpResponse(status=status.HTTP_204_NO_CONTENT, headers={"Allow": ", ".join(self.allowed_methods)})


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
    """Adds what all operations share: refusals, headers, and which fields an answer always has and a body never."""

    @property
    def handler(self) -> Any:
        return getattr(self.view, getattr(self.view, "action", "") or "", None)

    def get_override_parameters(self) -> Any:
        parameters = list(super().get_override_parameters())
        if self._is_idempotent():
            parameters.append(IDEMPOTENCY_KEY)
        if is_conditional(self.view):
            parameters.append(IF_MATCH)
        return parameters

    def get_operation_id(self) -> str:
        """As a name in a program: `entries.csv` has a dot."""
        return str(super().get_operation_id()).replace(".", "_")

    def _is_idempotent(self) -> bool:
        return getattr(self.handler, "is_idempotent", False)

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        bodies = super()._get_response_bodies(direction)
        self.resolve_serializer(Error, direction)
        return bodies | {
            str(code): answers.refusal(code) for code in sorted(self._refusals()) if str(code) not in bodies
        }

    def _refusals(self) -> set[int]:
        view: Any = self.view
        met = answers.OF_ALL | set(view.refuses.get(view.action, ()))
        if view.authentication_classes:
            met.add(401)
        if "{" in self.path or view.action in view.paged:
            met.add(404)
        if self.method not in SAFE_METHODS:
            met |= {403, 409}
        if self.method in ("POST", "PATCH"):
            met |= {413, 415}
        if is_conditional(view):
            met.add(412)
        if self._is_idempotent():
            met.add(422)
        return met

    def _get_response_for_code(
        self, serializer: Any, status_code: str, media_types: Any = None, direction: Any = "response"
    ) -> Any:
        answer = super()._get_response_for_code(serializer, status_code, media_types, direction)  # type: ignore[no-untyped-call]
        view: Any = self.view
        names = []
        if self._is_idempotent():
            names.append("Idempotency-Replayed")
        row = force_instance(serializer)  # type: ignore[no-untyped-call]
        if isinstance(row, serializers.Serializer) and "version" in row.fields and view.action not in view.paged:
            names.append("ETag")
        if media_types:
            names.append("Content-Disposition")
        if status_code == "302":
            names.append("Location")
        headers = {"headers": {name: answers.header(name) for name in names}} if names else {}
        return {**answer, **headers, "description": answer["description"] or HTTPStatus(int(status_code)).phrase}

    def _get_request_body(self, direction: Any = "request") -> Any:
        body = super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        if body:
            inline = [content["schema"] for content in body["content"].values()]
            if self.method == "PATCH" or any(schema.get("required") for schema in inline):
                body["required"] = True
        return body

    def _map_basic_serializer(self, serializer: Any, direction: Any) -> Any:
        """An answer has all its fields, always; a strict body has no others."""
        schema = super()._map_basic_serializer(serializer, direction)  # type: ignore[no-untyped-call]
        if type(force_instance(serializer)).__doc__ is None:  # type: ignore[no-untyped-call]
            schema.pop("description", None)
        if direction == "request":
            return schema | ({"additionalProperties": False} if isinstance(serializer, Strict) else {})
        if not isinstance(serializer, ErrorItem):
            schema["required"] = sorted(schema["properties"])
        return schema


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
    # What actions refuse with besides what all of their kind do, for the schema.
    refuses: Mapping[str, Iterable[int]] = {}
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
        if request.method not in SAFE_METHODS and "If-Match" in request.headers and not is_conditional(self):
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
