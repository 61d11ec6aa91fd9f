from datetime import timedelta
from io import StringIO

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.utils import timezone
from knox.auth import TokenAuthentication
from knox.models import AuthToken
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.test import APIRequestFactory

from tests import factories


def create_token(*arguments: str) -> str:
    out = StringIO()
    call_command("create_token", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue()


def authenticated(token: str) -> User:
    request = APIRequestFactory().get("/", headers={"Authorization": f"Bearer {token}"})
    user, _ = TokenAuthentication().authenticate(request)
    return user


def test_create_token_prints_a_token_that_works_and_is_not_kept(editor: User) -> None:
    printed = create_token("eddie")

    assert authenticated(printed.strip()) == editor
    assert printed.strip() not in str(AuthToken.objects.values().get())


def test_create_token_works_for_as_many_days_as_asked(editor: User) -> None:
    token = create_token("eddie", "--days", "2").strip()
    with time_machine.travel(timezone.now() + timedelta(days=1, hours=23)):
        assert authenticated(token) == editor
    with time_machine.travel(timezone.now() + timedelta(days=2, minutes=1)), pytest.raises(AuthenticationFailed):
        authenticated(token)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nobody"], "There is no user “nobody”."),
        (["off"], "off is switched off: a token would not work."),
        (["off", "--days", "0"], "--days must be from 1 to 3650, not 0."),
    ],
)
def test_create_token_refused_says_why(db: None, arguments: list[str], sentence: str) -> None:
    factories.UserFactory(username="off", is_active=False)
    with pytest.raises(CommandError) as refusal:
        create_token(*arguments)

    assert str(refusal.value) == sentence
    assert AuthToken.objects.count() == 0
