"""Guessing passwords: how often, from where, and what it says; and new passwords by e-mail."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from projects.people.throttling import client_ip
from tests import factories, post

LOGIN = reverse("admin:login")
RESET = reverse("admin_password_reset")
PASSWORD = "a-good-password"


@pytest.fixture(autouse=True)
def counted(settings: Any) -> None:
    settings.AXES_ENABLED = True
    post.forget()


@pytest.fixture
def eddie(db: None) -> User:
    user = factories.UserFactory(username="eddie", is_staff=True)
    user.set_password(PASSWORD)
    user.save()
    return user


def tries(client: Client, password: str, *, username: str = "eddie", ip: str = "192.0.2.1", **headers: str) -> Any:
    return client.post(LOGIN, {"username": username, "password": password}, REMOTE_ADDR=ip, **headers)


def lock(client: Client, **where: str) -> Any:
    return [tries(client, "wrong", **where) for _ in range(5)][-1]


def test_some_failures_close_the_name_to_the_address(client: Client, eddie: User, settings: Any) -> None:
    answers = [tries(client, f"wrong {number}") for number in range(5)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 429]
    right = tries(client, PASSWORD)
    assert right.status_code == 429
    assert right["Retry-After"] == "900"
    assert "no-store" in right["Cache-Control"]
    page = right.content.decode()
    assert "Too many tries" in page
    assert "Come back in\n        15 minutes." in page
    assert PASSWORD not in page
    assert not client.session.get("_auth_user_id")


def test_it_opens_again_by_itself_and_tries_meanwhile_don_t_prolong_it(client: Client, eddie: User) -> None:
    lock(client)
    with time_machine.travel(timezone.now() + timedelta(minutes=14)):
        assert tries(client, PASSWORD).status_code == 429
    with time_machine.travel(timezone.now() + timedelta(minutes=15, seconds=5)):
        assert tries(client, PASSWORD)["Location"] == reverse("admin:index")


def test_others_and_the_same_person_elsewhere_are_let_in(client: Client, eddie: User) -> None:
    olive = factories.UserFactory(username="olive", is_staff=True)
    olive.set_password(PASSWORD)
    olive.save()
    lock(client)

    assert tries(Client(), PASSWORD, ip="192.0.2.2").status_code == 302
    assert tries(Client(), PASSWORD, username="olive").status_code == 302
    assert tries(Client(), PASSWORD).status_code == 429


def test_a_right_password_forgets_the_wrong_ones(client: Client, eddie: User) -> None:
    for _ in range(2):
        assert [tries(Client(), "wrong").status_code for _ in range(4)] == [200] * 4
        assert tries(Client(), PASSWORD).status_code == 302


def test_a_name_that_nobody_has_looks_the_same(client: Client, eddie: User) -> None:
    known, unknown = lock(Client()), lock(Client(), username="nobody")

    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)


def test_who_goes_through_many_names_is_stopped_too(db: None) -> None:
    """Whatever the clock shows meanwhile: there is no moment at which the count begins anew."""
    with time_machine.travel(datetime(2026, 11, 22, 11, 59, 50, tzinfo=UTC), tick=False) as clock:
        answers = []
        for number in range(31):
            answers.append(tries(Client(), "Password123", username=f"user{number}").status_code)
            clock.shift(1)

    assert answers == [200] * 30 + [429]


def test_another_browser_is_no_other_address(client: Client, eddie: User) -> None:
    answers = [tries(Client(), "wrong", HTTP_USER_AGENT=f"browser {number}").status_code for number in range(5)]

    assert answers[-1] == 429


def test_made_up_addresses_don_t_help(client: Client, eddie: User) -> None:
    answers = [tries(Client(), "wrong", HTTP_X_FORWARDED_FOR=f"203.0.113.{number}") for number in range(5)]

    assert answers[-1].status_code == 429


def test_no_password_is_kept(client: Client, eddie: User) -> None:
    lock(client)

    kept = json.dumps(list(AccessAttempt.objects.values()), default=str)
    assert "eddie" in kept
    assert "wrong" not in kept


def test_odd_names_do_no_harm(client: Client, db: None) -> None:
    for username in ("", "x" * 300, "a\0b", "'; --", "<script>", "\u202e", "ｅddie"):
        assert tries(Client(), "wrong", username=username).status_code == 200
    assert tries(Client(), "wrong", HTTP_USER_AGENT="x" * 5000).status_code == 200


@pytest.mark.parametrize(
    ("proxies", "forwarded", "told"),
    [
        (0, "203.0.113.9", "192.0.2.1"),
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "10.9.9.9, 203.0.113.9", "203.0.113.9"),
        (2, "10.9.9.9, 203.0.113.9, 198.51.100.1", "203.0.113.9"),
        (2, "203.0.113.9", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "what is this", "192.0.2.1"),
        (1, "203.0.113.9:51000", "203.0.113.9"),
        (1, "[2001:db8:1:2:3::4]:443", "2001:db8:1:2::"),
        (1, "2001:db8:1:2:ffff::9", "2001:db8:1:2::"),
        (1, "::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
def test_client_ip_takes_the_word_of_as_many_proxies_as_there_are(
    settings: Any, proxies: int, forwarded: str, told: str
) -> None:
    settings.TRUSTED_PROXIES = proxies
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR=forwarded)

    assert client_ip(request) == told


def test_login_works_behind_a_unix_socket(client: Client, eddie: User) -> None:
    """There is no address then: the name alone is counted."""
    assert lock(client, ip="").status_code == 429
    assert tries(Client(), PASSWORD, ip="").status_code == 429
    assert tries(Client(), PASSWORD).status_code == 302


# --- New passwords ----------------------------------------------------------------------------------------------------


def test_one_address_gets_a_few_messages_an_hour(eddie: User) -> None:
    answers = [Client().post(RESET, {"email": "Eddie@example.com"}, REMOTE_ADDR=f"192.0.2.{n}") for n in range(5)]
    post.deliver()

    assert {answer["Location"] for answer in answers} == {reverse("password_reset_done")}
    assert len(mail.outbox) == 3


def test_one_client_asks_ten_times_an_hour(eddie: User) -> None:
    answers = [Client().post(RESET, {"email": f"who{number}@example.com"}).status_code for number in range(11)]

    assert answers == [302] * 10 + [429]


def test_asking_tells_nobody_who_has_an_account(eddie: User) -> None:
    known = Client().post(RESET, {"email": "eddie@example.com"}, follow=True)
    unknown = Client().post(RESET, {"email": "nobody@example.com"}, follow=True)

    assert known.content == unknown.content
    assert known.redirect_chain == unknown.redirect_chain


def test_a_new_password_opens_a_locked_name_from_elsewhere_only(client: Client, eddie: User) -> None:
    """Whoever reads the person's mail is the person; the lock of the address that guessed stays."""
    lock(client)
    eddie.set_password("another-good-one")
    eddie.save()

    assert tries(Client(), "another-good-one").status_code == 429
    assert tries(Client(), "another-good-one", ip="192.0.2.7").status_code == 302
