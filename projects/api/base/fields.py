"""Fields of the API: strict ones, where a guess could cost money or delete videos, and addresses of files, which expire."""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.core.files.storage import default_storage
from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from rest_framework import serializers
from rest_framework.request import Request

from projects.money import to_dollars, to_micros


class StrictBooleanField(serializers.BooleanField):
    """JSON's true or false. DRF's own takes “yes”, “on” and 1 too, and takes “no” for an answer where nobody asked."""

    default_error_messages = {"invalid": "Give true or false, without quotation marks."}

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class WholeNumberField(serializers.IntegerField):
    """A number of JSON without a fraction. DRF's own takes text too."""

    default_error_messages = {
        "invalid": "Give a whole number, without quotation marks.",
        "max_value": "At most {max_value}.",
        "min_value": "At least {min_value}.",
    }

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return data


class MoneyField(serializers.Field):
    """Micro-dollars inside, a decimal string in US dollars outside. Only null is “none”: an emptied box must not lift a limit.

    A number of JSON is refused: many clients hold it as a float, and what they meant to send is not what arrives.
    """

    DIGITS = r"[0-9]{1,9}(\.[0-9]{1,6})?"
    default_error_messages = {
        "invalid": "Give US dollars as text in quotation marks, digits with at most six decimals: “5.10”.",
        "min_value": "At least ${min_value}.",
    }

    def __init__(self, *, min_value: Decimal | int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.min_value = Decimal(min_value)

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, str) or not re.fullmatch(f"-?{self.DIGITS}", data):
            self.fail("invalid")
        dollars = Decimal(data)
        if dollars < self.min_value:
            self.fail("min_value", min_value=self.min_value)
        return to_micros(dollars)

    def to_representation(self, value: int) -> str:
        return dollars(value)


class MoneySchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    target_class = MoneyField
    match_subclasses = True

    def map_serializer_field(self, auto_schema: Any, direction: str) -> dict[str, Any]:
        # Sums may be longer than what anybody may ask for, and below zero.
        digits = MoneyField.DIGITS if direction == "request" else r"-?[0-9]+(\.[0-9]{1,6})?"
        return {"type": "string", "format": "decimal", "pattern": f"^{digits}$", "example": "2.10"}


def dollars(micros: int) -> str:
    return f"{to_dollars(micros):f}"


class Address(str):
    """A signed address of a file; `name` is the file's in the storage."""

    name: str


class AddressField(serializers.FileField):
    """Where a file can be fetched for `MEDIA_URL_SECONDS`."""

    def to_representation(self, value: Any) -> str | None:
        if not value:
            return None
        return _signed(value.name, self.context.get("request"))


def _signed(name: str, request: HttpRequest | Request | None) -> Address:
    url = default_storage.url(name)
    address = Address(request.build_absolute_uri(url) if request else url)
    address.name = name
    return address


# What stands for an address in an answer that is kept.
FILE = "__file__"


def with_names(answer: Any) -> Any:
    """The answer with the files' names in place of their addresses."""
    match answer:
        case Address():
            return {FILE: answer.name}
        case Mapping():
            return {name: with_names(value) for name, value in answer.items()}
        case list() | tuple():
            return [with_names(each) for each in answer]
    return answer


def with_addresses(answer: Any, request: HttpRequest | Request) -> Any:
    """The answer with addresses that are signed now."""
    match answer:
        case {"__file__": name}:
            return _signed(name, request)
        case Mapping():
            return {name: with_addresses(value, request) for name, value in answer.items()}
        case list():
            return [with_addresses(each, request) for each in answer]
    return answer
