"""The API as a program uses it: a real token, JSON, and errors as (code, attr, detail)."""

from typing import Any

from django.contrib.auth.models import User
from knox.models import AuthToken
from rest_framework.test import APIClient

API = "/api/v1"


def client_of(user: User) -> APIClient:
    """Logged in with a token of its own; a bug is a 500, as for everybody."""
    _, token = AuthToken.objects.create(user)
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return client


def errors(response: Any) -> list[tuple[str, str | None, str]]:
    return [(error["code"], error["attr"], error["detail"]) for error in response.json()["errors"]]


def ids(response: Any) -> list[str]:
    return [row["id"] for row in response.json()["results"]]
