"""How a request is read: who asks, and a body within its bounds."""

import json
import re
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from knox.auth import TokenAuthentication as KnoxAuthentication
from rest_framework import exceptions
from rest_framework.parsers import JSONParser as PlainJSONParser
from rest_framework.parsers import MultiPartParser as PlainMultiPartParser
from rest_framework.request import Request

from projects.api.base.errors import too_large
from projects.people import throttling

# A form's other fields and the lines between its parts, in bytes.
FORM_OVERHEAD = 1_000_000
DISPOSITION = re.compile(rb"content-disposition:[^\r\n]*", re.IGNORECASE)
ODD_NAME = "The file's name is not in UTF-8: send it in UTF-8, or another name."
NO_FORM = "The body can't be read as a form: is its Content-Type that of multipart/form-data, with the boundary?"
WRONG_TOKENS, WRONG_TOKENS_SECONDS = 60, 60


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
