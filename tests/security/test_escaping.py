"""What people type and what the provider says is text, on every page, in every answer, e-mail and file name."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from projects import digest
from projects.models import Notification, Role
from projects.people import members
from tests import factories, post
from tests.security.expected import QUERIES
from tests.security.hostile import TEXTS, UNESCAPED, everywhere
from tests.security.routes import every_route
from tests.security.test_matrix import body_of
from tests.security.world import CONTENT, OWNER, STUDIO_OWNER, VIEWER, World, build

PICTURES = {"media/<str:signature>/<path:name>"}


def shown(world: World, role: str) -> list[tuple[str, Any]]:
    """Every page that reads, with all that can be shown on it."""
    client, found = world.admin(role), []
    paths = {
        f"{route.path(world)}?{QUERIES[route.pattern](world)}" if route.pattern in QUERIES else route.path(world)
        for route in every_route()
        if "GET" in route.methods and route.pattern not in PICTURES
    }
    for status in ("asked", "failed", "done", "unconfirmed"):
        paths.add(reverse("admin:generations_generation_change", args=[world.rows[status].pk]))
    paths |= {
        f"{reverse('admin:generations_generation_add')}?project={world.project.pk}",
        f"{reverse('admin:generations_generation_confirm', args=['retry'])}?ids={world.rows['failed'].pk}",
        f"{reverse('spend')}?project={world.project.pk}",
        f"{reverse('spend')}?from=<xss>&to=<xss>",
        "/admin/login/?next=<xss>",
        "/admin/generations/generation/?q=<xss>&project=<xss>&status__exact=<xss>",
    }
    for path in sorted(paths):
        response = client.get(path)
        assert response.status_code < 500 or path == "/readyz", path
        found.append((path, response))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_no_page_takes_a_text_for_markup(db: None, text: str) -> None:
    world = build(everywhere(text))
    unescaped = []
    for path, response in shown(world, STUDIO_OWNER):
        if response.headers.get("Content-Type", "").startswith("text/html"):
            content = body_of(response)
            unescaped += [f"{path}: {each}" for each in UNESCAPED if each in content]
            if "{{ 7*7 }}" in text:
                assert ">49" not in content

    assert unescaped == []


@pytest.mark.parametrize("role", [STUDIO_OWNER, pytest.param(VIEWER, marks=pytest.mark.slow)])
def test_no_page_takes_markup_for_markup(db: None, role: str) -> None:
    """The one of the above that runs each time."""
    unescaped = [
        f"{path}: {each}"
        for path, response in shown(build(everywhere('"><xss onload=alert(1)>')), role)
        if response.headers.get("Content-Type", "").startswith("text/html")
        for each in UNESCAPED
        if each in body_of(response)
    ]

    assert unescaped == []


@pytest.mark.slow
def test_json_is_sent_as_json(db: None) -> None:
    world = build(everywhere("<xss>"))
    wrong = [
        path
        for path, response in shown(world, OWNER)
        if "<xss" in body_of(response) and response.headers["Content-Type"].startswith("text/html")
    ]

    assert wrong == []


@pytest.mark.parametrize("text", TEXTS[:12], ids=range(12))
def test_e_mails_show_it_as_text(db: None, text: str, django_capture_on_commit_callbacks: Callable[..., Any]) -> None:
    post.forget()
    world = build(everywhere(text))
    Notification.objects.update(email_at=timezone.now())
    person = world.rows["uma"]
    person.first_name = text[:150]
    person.save()
    with django_capture_on_commit_callbacks(execute=True):
        digest.send()
        members.invite(world.project, email="new@example.com", role=Role.VIEWER, by=world.people[STUDIO_OWNER])
    post.deliver()

    pages = [content for message in mail.outbox for content, _ in getattr(message, "alternatives", [])]
    assert len(mail.outbox) >= 2
    assert pages
    assert [each for page in pages for each in UNESCAPED if each in page] == []
    # A line break in a name makes no further header.
    assert all("\n" not in message.subject and "\r" not in message.subject for message in mail.outbox)


def test_a_line_break_in_a_name_makes_no_header(
    db: None, django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    post.forget()
    project = factories.ProjectFactory(name="Coffee\r\nBcc: eve@example.com")
    with django_capture_on_commit_callbacks(execute=True):
        members.invite(project, email="new@example.com", role=Role.VIEWER, by=project.created_by)
    post.deliver()

    [message] = mail.outbox
    assert "\n" not in message.subject
    assert "\r" not in message.subject
    assert message.recipients() == ["new@example.com"]


@pytest.mark.parametrize(
    "name", [*TEXTS[:14], "a\r\nSet-Cookie: a=b", "..\\..\\a.mp4", 'a";filename="b.html', "e\u0301\u202e.mp4"]
)
def test_file_names_end_no_header(client: Client, db: None, name: str) -> None:
    world = build()
    response = client.get(world.rows["media"], {"download": name})
    assert b"".join(response.streaming_content) == CONTENT
    header = response["Content-Disposition"]

    assert header.startswith("attachment; filename")
    assert not set(header) & set("\r\n\0")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Type"] == "video/mp4"
    assert "Set-Cookie" not in response.headers
