"""API tokens: nobody but who it was shown to has one, and it ends when somebody ends it."""

from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from knox.models import AuthToken
from rest_framework.test import APIClient

from projects.models import Project
from projects.people import members, tokens
from tests import factories
from tests.projects.api.client import API, client_of, errors

PAGE = reverse("tokens")


def asks(key: str) -> int:
    """What the API answers to who comes with `key`."""
    headers = {"Authorization": f"Bearer {key}"}
    return int(APIClient(raise_request_exception=False).get(f"{API}/projects/", headers=headers).status_code)


def test_only_a_digest_is_kept(editor: User) -> None:
    _, key = tokens.make(editor)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM knox_authtoken")
        kept = str(cursor.fetchall())

    assert asks(key) == 200
    assert len(key) == 64
    assert key not in kept
    # What follows the part that it is found by can't be read from anywhere.
    assert key[15:] not in kept


def test_token_ends_when_its_days_are_over(editor: User) -> None:
    _, key = tokens.make(editor, days=2)
    with time_machine.travel(timezone.now() + timedelta(days=1, hours=23)):
        assert asks(key) == 200
    with time_machine.travel(timezone.now() + timedelta(days=2, minutes=1)):
        assert asks(key) == 401


def test_token_ends_when_it_is_revoked_and_another_goes_on(editor: User) -> None:
    token, key = tokens.make(editor)
    _, other = tokens.make(editor)

    assert tokens.revoke(token.pk, by=editor)

    assert (asks(key), asks(other)) == (401, 200)
    assert not tokens.revoke(token.pk, by=editor)


def test_tokens_of_who_is_switched_off_end_for_good(editor: User, studio_owner: User) -> None:
    _, key = tokens.make(editor)
    User.objects.filter(pk=editor.pk).update(is_active=False)
    assert asks(key) == 401

    members.switch_off(editor, by=studio_owner)
    members.switch_on(editor, by=studio_owner)

    assert asks(key) == 401


@pytest.mark.parametrize("pk", ["", "%", "a" * 31, "a" * 33, "_" * 32, "\0" * 32, "é" * 32, "0" * 32])
def test_what_is_no_id_finds_nothing(editor: User, pk: str) -> None:
    tokens.make(editor)

    assert tokens.find(pk, editor) is None


# --- The page ---------------------------------------------------------------------------------------------------------


def test_page_shows_a_new_token_once(editor: User, editor_client: Client) -> None:
    made = editor_client.post(PAGE)
    key = made.context["key"]
    again = editor_client.get(PAGE).content.decode()

    assert asks(key) == 200
    assert key in made.content.decode()
    assert "no-store" in made["Cache-Control"]
    assert key not in again
    assert f"<code>{key[:8]}…</code>" in again
    # In no cookie either.
    assert all(key not in morsel.value for morsel in editor_client.cookies.values())


def test_page_revokes_ones_own(editor: User, editor_client: Client) -> None:
    token, key = tokens.make(editor)

    answer = editor_client.post(reverse("token-revoke", args=[token.pk]), {"sure": "1"}, follow=True)

    assert f"Revoked: whatever uses the token {key[:8]}… is no longer let in." in answer.content.decode()
    assert asks(key) == 401


def test_page_hides_other_people_s_from_all_but_studio_owners(
    editor_client: Client, owner_client: Client, project: Project
) -> None:
    vic = factories.member(project, username="vic")
    token, key = tokens.make(vic)

    assert key[:8] not in editor_client.get(PAGE).content.decode()
    assert editor_client.post(reverse("token-revoke", args=[token.pk]), {"sure": "1"}).status_code == 404
    assert asks(key) == 200

    shown = owner_client.get(PAGE).content.decode()
    assert f"<strong>vic</strong> · <code>{key[:8]}…</code>" in shown
    assert owner_client.post(reverse("token-revoke", args=[token.pk]), {"sure": "1"}).status_code == 302
    assert asks(key) == 401


def test_page_says_when_there_are_enough(editor: User, editor_client: Client) -> None:
    for _ in range(tokens.MOST_EACH):
        tokens.make(editor)

    answer = editor_client.post(PAGE)

    assert "There are 20 tokens already: revoke one that is not used any more." in answer.content.decode()
    assert AuthToken.objects.filter(user=editor).count() == tokens.MOST_EACH


def test_what_has_expired_makes_room(editor: User) -> None:
    for _ in range(tokens.MOST_EACH):
        AuthToken.objects.create(editor, expiry=timedelta(seconds=-1))

    tokens.make(editor)

    assert len(tokens.own(editor)) == 1


# --- The API ----------------------------------------------------------------------------------------------------------


def test_api_lists_ones_own_without_the_tokens(editor: User, studio_owner: User) -> None:
    tokens.make(studio_owner)
    api = client_of(editor)
    other, key = tokens.make(editor)

    [newest, current] = api.get(f"{API}/tokens/").json()["results"]

    assert newest == {
        "id": other.pk,
        "begins_with": key[:8],
        "created_at": newest["created_at"],
        "expires_at": newest["expires_at"],
        "is_current": False,
    }
    assert current["is_current"] is True


def test_api_revokes_ones_own_and_no_other(editor: User, studio_owner: User) -> None:
    api, (mine, key), (theirs, other) = client_of(editor), tokens.make(editor), tokens.make(studio_owner)

    assert api.delete(f"{API}/tokens/{mine.pk}/").status_code == 204
    assert api.delete(f"{API}/tokens/{theirs.pk}/").status_code == 404
    assert client_of(studio_owner).delete(f"{API}/tokens/{mine.pk}/").status_code == 404
    assert (asks(key), asks(other)) == (401, 200)


def test_who_sends_wrong_tokens_without_end_is_told_to_stop(editor: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projects.api.base.reading.WRONG_TOKENS", 3)
    client = APIClient(raise_request_exception=False)

    answers = [client.get(f"{API}/projects/", headers={"Authorization": f"Bearer {'0' * 64}"}) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]
    assert (errors(answers[3])[0][0], answers[3]["Retry-After"]) == ("throttled", "60")
    _, key = tokens.make(editor)
    assert asks(key) == 200, "who has a right one is let in, also from the same address"
    cache.clear()
