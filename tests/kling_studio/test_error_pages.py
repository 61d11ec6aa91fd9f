"""What goes wrong is a page of the studio's own: it says what was wrong in a sentence, and leads back."""

import re
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils.html import escape

from kling_studio import error_pages, unanswered
from projects.models import Project, Role
from tests import factories

ADD = reverse("admin:generations_generation_add")


def shown(response: HttpResponse) -> str:
    """The sentence of an error's page, which is in the studio's look and asks for nothing elsewhere."""
    page = response.content.decode()
    assert response["Content-Type"].startswith("text/html")
    assert "/static/studio/admin.css" in page
    assert "/static/studio/admin.js" in page, "without it htmx adds a style that the Content-Security-Policy refuses"
    assert 'href="/admin/"' in page
    assert re.findall(r'(?:src|href)="(?:https?:)?//(?!testserver)', page) == []
    found = re.search(r'role="alert">(.*?)</p>', page)
    assert found
    return found[1]


@pytest.fixture
def viewer_client(client: Client, project: Project) -> Client:
    client.force_login(factories.member(project, Role.VIEWER))
    return client


def test_who_may_not_is_told_what_it_takes(viewer_client: Client) -> None:
    response = viewer_client.get(ADD, headers={"Referer": "http://testserver/admin/generations/video/"})

    assert response.status_code == 403
    assert shown(response) == "Making a video takes the role “Editor” or higher in a project. Ask one of its owners."
    assert 'href="http://testserver/admin/generations/video/"' in response.content.decode()


def test_what_is_not_there_is_told_in_the_sentence_that_was_raised(viewer_client: Client) -> None:
    response = viewer_client.get(reverse("admin:generations_generation_change", args=[uuid.uuid4()]))

    assert response.status_code == 404
    assert shown(response) == "This generation doesn’t exist, or is in a project that you are not a member of."


@pytest.mark.parametrize("address", ["/nothing/", "/admin/nothing/", "/admin/generations/nothing/"])
def test_an_address_that_leads_nowhere_shows_no_patterns(viewer_client: Client, address: str) -> None:
    response = viewer_client.get(address)

    assert response.status_code == 404
    assert shown(response) == escape(error_pages.SENTENCES[404])


@pytest.mark.parametrize("label", ["generations", "auth", "nothing"])
def test_who_is_in_no_project_is_told_the_same_of_each_part_of_the_admin(client: Client, db: None, label: str) -> None:
    client.force_login(User.objects.create_user("stranger", is_staff=True))
    response = client.get(f"/admin/{label}/")

    assert response.status_code == 404
    assert shown(response) == escape(error_pages.SENTENCES[404])


def test_nobody_is_led_back_to_elsewhere(client: Client, db: None) -> None:
    response = client.get("/nothing/", headers={"Referer": "https://evil.example.com/"})
    assert "evil.example.com" not in response.content.decode()


def test_a_sentence_is_text(rf: RequestFactory) -> None:
    response = error_pages.permission_denied(rf.get("/admin/"), Exception("<script>alert(1)</script>"))
    assert "<script>alert(1)" not in response.content.decode()
    assert shown(response) == "&lt;script&gt;alert(1)&lt;/script&gt;"


def test_a_form_without_its_token_says_what_to_do(editor: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(editor)
    response = client.post(ADD, {})

    assert response.status_code == 403
    assert shown(response) == escape(error_pages.CSRF)


def test_too_much_at_once_is_told(client: Client, editor: User, settings: Any) -> None:
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 2
    client.force_login(editor)
    response = client.post(reverse("admin:projects_sourceimage_add"), dict.fromkeys("abcdef", "1"))

    assert response.status_code == 413
    assert shown(response) == escape(error_pages.SENTENCES[413])


def test_a_host_that_is_not_ours_is_told(client: Client, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["studio.example.com"]
    response = client.get("/admin/login/", headers={"Host": "evil.example.com"})

    assert response.status_code == 400
    assert shown(response) == escape(error_pages.SENTENCES[400])


def test_a_bug_is_no_white_page_and_asks_the_database_nothing(rf: RequestFactory, db: None) -> None:
    with CaptureQueriesContext(connection) as queries:
        response = unanswered.server_error(rf.get("/admin/"))

    assert response.status_code == 500
    assert shown(response) == escape(error_pages.SENTENCES[500])
    assert len(queries) == 0


def test_the_api_gets_its_own_shape(rf: RequestFactory) -> None:
    response = unanswered.server_error(rf.get("/api/v1/generations/"))

    assert response["Content-Type"] == "application/json"
    assert b'"type": "server_error", "errors": [{"code": "error"' in response.content


def test_browsers_find_the_icon_where_they_look_for_it(client: Client) -> None:
    response = client.get("/favicon.ico")

    assert (response.status_code, response["Location"]) == (301, "/static/studio/favicon.svg")
