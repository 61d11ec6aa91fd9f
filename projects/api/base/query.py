"""What stands behind the `?` of an API address: known names with values, or a refusal. A misspelt filter must not list everything."""

import re
from typing import Any

from django.db.models import QuerySet
from django_filters import MultipleChoiceFilter
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import exceptions
from rest_framework.filters import OrderingFilter
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from projects.counting import MoreThan, UpTo

MOST_TOLD = 10
NUMBER = re.compile(r"[0-9]{1,9}")


def require_known(request: Request, taken: dict[str, bool]) -> None:
    """`taken`: the names that this address takes, and whether several values may be given. Raises ValidationError."""
    errors = {}
    for name, values in list(request.query_params.lists())[:MOST_TOLD]:
        if problem := _problem(name, values, taken):
            errors[name[:80]] = [problem]
    if errors:
        raise exceptions.ValidationError(errors)


def _problem(name: str, values: list[str], taken: dict[str, bool]) -> exceptions.ErrorDetail | None:
    if name not in taken:
        takes = f"It takes: {', '.join(taken)}." if taken else "It takes none."
        sentence = f"This address has no parameter “{name[:80]}”. {takes}"
        return exceptions.ErrorDetail(sentence, "unknown_parameter")
    if not all(value.strip() for value in values):
        return exceptions.ErrorDetail("It has no value: give one, or leave the parameter out.", "blank")
    if len(values) > 1 and not taken[name]:
        return exceptions.ErrorDetail("It was given several times: give it once.", "repeated")
    return None


class Filters(DjangoFilterBackend):
    def taken(self, view: Any) -> dict[str, bool]:
        filterset = self.get_filterset_class(view, view.queryset)
        filters = filterset.base_filters if filterset else {}
        return {name: isinstance(each, MultipleChoiceFilter) for name, each in filters.items()}


class CountedRows(UpTo):
    at_least = 10_000


class Pages(PageNumberPagination):
    """Pages whose `count` is null where there are more rows than are counted: each answer takes as long, however many there are."""

    django_paginator_class = CountedRows
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        text = request.query_params.get("page_size", str(self.page_size))
        if not NUMBER.fullmatch(text) or not 1 <= int(text) <= self.max_page_size:
            detail = f"“{text[:80]}” is no size of a page: a whole number from 1 to {self.max_page_size}."
            raise exceptions.ValidationError({"page_size": [detail]})
        return int(text)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        text = request.query_params.get("page", "1")
        if not re.fullmatch("[0-9]+", text) or not int(text[:20]):
            raise exceptions.ValidationError({"page": [f"“{text[:80]}” is no page: a whole number from 1 on."]})
        return super().paginate_queryset(queryset, request, view)

    def get_page_number(self, request: Request, paginator: Any) -> Any:
        number = super().get_page_number(request, paginator)
        paginator.asked_for(str(number))
        return number

    def get_paginated_response(self, data: Any) -> Response:
        response = super().get_paginated_response(data)
        assert self.page is not None
        if isinstance(self.page.paginator.count, MoreThan):
            response.data["count"] = None
        return response

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        paginated = super().get_paginated_response_schema(schema)
        paginated["required"] = list(paginated["properties"])
        described = f"null where there are more than {CountedRows.at_least:,} (or more than up to this page, where that is more)"
        paginated["properties"]["count"] |= {"nullable": True, "description": described}
        return paginated

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        bounds = {"page": {"minimum": 1}, "page_size": {"minimum": 1, "maximum": self.max_page_size, "default": 50}}
        parameters = super().get_schema_operation_parameters(view)
        return [{**each, "schema": {**each["schema"], **bounds[each["name"]]}} for each in parameters]


class Ordering(OrderingFilter):
    """Refuses what can't be ordered by, and ends with the id, so that no row is on two pages."""

    def taken(self, view: Any) -> dict[str, bool]:
        return {self.ordering_param: False} if getattr(view, "ordering_fields", None) else {}

    def get_ordering(self, request: Request, queryset: QuerySet[Any], view: APIView) -> Any:
        asked = [name.strip() for name in request.query_params.get(self.ordering_param, "").split(",") if name.strip()]
        valid = dict(self.get_valid_fields(queryset, view, {"request": request}))
        for name in asked:
            if name.removeprefix("-") not in valid:
                detail = (
                    f"“{name[:80]}” is nothing to order by. Take: {', '.join(valid)}; with “-” the other way round."
                )
                raise exceptions.ValidationError({self.ordering_param: [detail]})
        return [*asked, "id"] if asked else self.get_default_ordering(view)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        fields = getattr(view, "ordering_fields", None)
        if not fields:
            return []
        names = [sign + name for name in fields for sign in ("", "-")]
        [parameter] = super().get_schema_operation_parameters(view)
        described = f"{', '.join(fields)}; with “-” the other way round; several by commas"
        schema = {"type": "array", "minItems": 1, "items": {"type": "string", "enum": names}}
        return [{**parameter, "description": described, "schema": schema, "style": "form", "explode": False}]
