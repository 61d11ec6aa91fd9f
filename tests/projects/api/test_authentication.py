from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from knox.models import AuthToken
from rest_framework.test import APIClient

from projects.models import Project
from tests.projects.api.client import API, errors


@pytest.mark.parametrize(
    ("authorization", "detail"),
    [
        (None, "Authentication credentials were not provided."),
        ("Bearer", "Invalid token header. No credentials provided."),
        ("Bearer " + "0" * 64, "Invalid token."),
        ("Bearer \xff\xfe", "Invalid token."),
        ("Bearer a\0b", "Invalid token."),
        ("Bearer one two", "Invalid token header. Token string should not contain spaces."),
        ("Token " + "0" * 64, "Authentication credentials were not provided."),
    ],
)
def test_without_a_valid_token_nobody_is_let_in(db: None, authorization: str | None, detail: str) -> None:
    client = APIClient(raise_request_exception=False)
    if authorization is not None:
        client.credentials(HTTP_AUTHORIZATION=authorization)

    response = client.get(f"{API}/projects/")

    assert response.status_code == 401
    assert response["WWW-Authenticate"] == "Bearer"
    assert [error[2] for error in errors(response)] == [detail]


def test_expired_token_and_switched_off_person_are_not_let_in(editor: User, project: Project) -> None:
    _, expired = AuthToken.objects.create(editor, expiry=timedelta(seconds=-1))
    _, token = AuthToken.objects.create(editor)
    client = APIClient()

    assert client.get(f"{API}/projects/", headers={"Authorization": f"Bearer {expired}"}).status_code == 401
    assert client.get(f"{API}/projects/", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    User.objects.filter(pk=editor.pk).update(is_active=False)
    assert client.get(f"{API}/projects/", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_session_reads_but_writes_with_a_csrf_token_only(studio_owner: User) -> None:
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(studio_owner)

    assert client.get(f"{API}/projects/").status_code == 200
    refused = client.post(f"{API}/projects/", {"name": "Tea"})

    assert refused.status_code == 403
    assert errors(refused)[0][2].startswith("CSRF Failed")
    assert not Project.objects.exists()
    client.cookies["csrftoken"] = "a" * 32
    assert client.post(f"{API}/projects/", {"name": "Tea"}, headers={"X-CSRFToken": "a" * 32}).status_code == 201


def test_too_many_requests_are_told_when_to_come_back(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projects.api.base.views.Throttle.rate", "2/minute")

    answers = [api.get(f"{API}/projects/") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert errors(answers[2])[0][0] == "throttled"
    assert 0 < int(answers[2]["Retry-After"]) <= 60
