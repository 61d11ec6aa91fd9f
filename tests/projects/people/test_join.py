"""The pages that people see before they are in: invitations and forgotten passwords."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client

from projects import permissions
from projects.models import Project, Role
from projects.people import members
from tests import factories, post

PASSWORD = "correct horse 9 staple"


@pytest.fixture(autouse=True)
def _empty_post() -> None:
    post.forget()


@pytest.fixture
def path(project: Project, studio_owner: User) -> str:
    _, link = members.invite(project, email="nina@example.com", role=Role.APPROVER, by=studio_owner)
    return link.removeprefix("http://127.0.0.1:8000")


def text(content: bytes) -> str:
    """What a reader sees of a page's body."""
    body = content.decode().partition("<body")[2]
    return " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", body, flags=re.DOTALL).split())


def new_member(**changes: str) -> dict[str, str]:
    return {"username": "nina", "password1": PASSWORD, "password2": PASSWORD} | changes


def test_join_shows_project_role_and_inviter(client: Client, path: str) -> None:
    response = client.get(path)
    shown = text(response.content)

    assert response.status_code == 200
    assert "You are invited to Coffee" in shown
    assert "olive invites you as Approver ." in shown
    assert "Make your account for nina@example.com, or log in if you have one." in shown
    assert f'href="/admin/login/?next={path}"' in response.content.decode()
    assert "no-store" in response["Cache-Control"]


def test_join_makes_an_account_that_reaches_the_admin(client: Client, path: str, project: Project) -> None:
    response = client.post(path, new_member(), follow=True)

    nina = User.objects.get(username="nina")
    assert response.redirect_chain == [("/admin/", 302)]
    assert "Welcome to Coffee. Your role there: approver." in text(response.content)
    assert (nina.email, nina.is_staff, nina.is_superuser) == ("nina@example.com", True, False)
    assert permissions.roles(nina) == {project.pk: Role.APPROVER}
    assert nina.check_password(PASSWORD)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"username": "olive"}, "A user with that username already exists."),
        ({"username": "ni na"}, "Enter a valid username."),
        (
            {"password1": "short", "password2": "short"},
            "This password is too short. It must contain at least 10 characters.",
        ),
        ({"password2": "another 9 staple"}, "The two password fields didn’t match."),
    ],
)
def test_join_with_a_bad_form_says_why_and_keeps_the_invitation(
    client: Client, path: str, changes: dict[str, str], told: str
) -> None:
    response = client.post(path, new_member(**changes))

    assert response.status_code == 200
    assert told in text(response.content)
    assert User.objects.count() == 1
    assert client.post(path, new_member()).status_code == 302


def test_join_by_somebody_logged_in_takes_one_click(client: Client, path: str, project: Project) -> None:
    user = factories.UserFactory(username="nora", email="nina@example.com", is_staff=True)
    client.force_login(user)
    shown = text(client.get(path).content)
    client.post(path)

    assert "You are logged in as nora ." in shown
    assert permissions.roles(user) == {project.pk: Role.APPROVER}


def test_join_by_get_alone_accepts_nothing(client: Client, path: str) -> None:
    client.force_login(factories.UserFactory(email="nina@example.com"))
    client.get(path)

    assert members.find_invitation(path.split("/")[2]).accepted_at is None


def test_join_needs_the_csrf_token(path: str) -> None:
    assert Client(enforce_csrf_checks=True).post(path, new_member()).status_code == 403
    assert User.objects.filter(username="nina").count() == 0


def test_join_with_a_used_link_says_so(client: Client, path: str) -> None:
    client.post(path, new_member())
    for method in (Client().get, Client().post):
        response = method(path, new_member(username="late"))

        assert response.status_code == 410
        assert "This invitation has been used. Ask olive for a new one if that was not you." in text(response.content)
    assert not User.objects.filter(username="late").exists()


def test_join_with_an_unknown_link_is_not_found(client: Client, db: None) -> None:
    response = client.get("/join/nonsense/")

    assert response.status_code == 404
    assert "There is no such invitation. Check that the whole link was copied." in text(response.content)


def test_join_by_a_member_says_so(client: Client, path: str, editor: User) -> None:
    client.force_login(editor)
    response = client.post(path)

    assert response.status_code == 409
    assert "You are a member of Coffee already, as Editor." in text(response.content)


def test_login_page_offers_a_new_password(client: Client, db: None) -> None:
    assert 'href="/accounts/password-reset/"' in client.get("/admin/login/").content.decode()


def test_password_reset_by_e_mail(client: Client, editor: User) -> None:
    editor.set_password("the old password 1")
    editor.save()
    asked = client.post(
        "/accounts/password-reset/", {"email": editor.email}, headers={"host": "localhost"}, follow=True
    )
    assert mail.outbox == [], "the request takes no longer for who has an account"
    post.deliver()
    [message] = mail.outbox
    [link] = re.findall(r"^http://127\.0\.0\.1:8000(/\S+)$", message.body, re.MULTILINE)
    form = client.get(link, follow=True)
    done = client.post(form.redirect_chain[-1][0], {"new_password1": PASSWORD, "new_password2": PASSWORD}, follow=True)

    assert "Check your e-mail" in text(asked.content)
    assert (message.to, message.subject) == ([editor.email], "A new password for kling_studio")
    assert "The link works once, for 3 days." in message.body
    assert "Set a new password" in text(form.content)
    assert "Your new password is set" in text(done.content)
    editor.refresh_from_db()
    assert editor.check_password(PASSWORD)
    assert "This link can’t be used" in text(Client().get(link).content)


@pytest.mark.parametrize("email", ["nobody@example.com", "off@example.com"])
def test_password_reset_answers_strangers_the_same_and_sends_nothing(client: Client, db: None, email: str) -> None:
    off = factories.UserFactory(username="off", is_active=False)
    off.set_password(PASSWORD)
    off.save()
    response = client.post("/accounts/password-reset/", {"email": email}, follow=True)
    post.deliver()

    assert "Check your e-mail" in text(response.content)
    assert mail.outbox == []


@pytest.mark.parametrize("email", ["nobody@example.com", "eddie@example.com"])
def test_a_request_for_a_new_password_asks_nothing_of_the_database_or_the_mail_server(
    client: Client, editor: User, email: str, django_assert_num_queries: Any, settings: Any
) -> None:
    """So that its time tells nobody who has an account."""
    settings.EMAIL_BACKEND = "nowhere.EmailBackend"
    with django_assert_num_queries(0):
        response = client.post("/accounts/password-reset/", {"email": email})

    assert response["Location"] == "/accounts/password-reset/sent/"
