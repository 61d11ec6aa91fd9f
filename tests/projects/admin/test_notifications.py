"""The bell on every page, and the page with what one was told oneself."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from projects import alerts
from projects.admin.notifications import PER_PAGE
from projects.models import AlertKind, Notification, NotificationPreference

pytestmark = pytest.mark.django_db

PAGE = "/admin/projects/notification/"


def tell(person: User, title: str, **fields: object) -> Notification:
    values = {"text": "Some words.", "path": "/admin/projects/budget/"} | fields
    assert alerts.tell(AlertKind.REFUSED, f"{person.pk}:{title}", people=[person], title=title, **values)
    return Notification.objects.get(user=person, alert__title=title)


def titles(client: Client, query: str = "") -> list[str]:
    html = client.get(PAGE + query).content.decode()
    links = re.findall(r'class="studio-notice-title"[^>]*>(.*?)</a>', html)
    return [re.sub(r'<span class="studio-unseen">Unread: </span>', "* ", link) for link in links]


def bell(client: Client, address: str = "/admin/") -> str:
    html = client.get(address).content.decode()
    (label,) = re.findall(r'class="studio-bell"[^>]*aria-label="([^"]*)"', html)
    return label


@pytest.mark.parametrize("address", ["/admin/", "/admin/projects/budget/", "/admin/generations/generation/", PAGE])
def test_the_bell_counts_what_is_unread_on_every_page(
    address: str, editor: User, studio_owner: User, editor_client: Client
) -> None:
    assert bell(editor_client, address) == "Notifications: 0 unread"

    tell(editor, "First")
    tell(editor, "Second")
    tell(studio_owner, "Somebody else's")

    assert bell(editor_client, address) == "Notifications: 2 unread"


def test_who_is_not_logged_in_sees_no_bell() -> None:
    assert "studio-bell" not in Client().get("/admin/login/").content.decode()


def test_the_page_shows_ones_own_newest_first(editor: User, studio_owner: User, editor_client: Client) -> None:
    tell(editor, "First")
    tell(editor, "Second")
    tell(studio_owner, "Somebody else's")

    assert titles(editor_client) == ["* Second", "* First"]


def test_opening_one_marks_it_as_read_and_leads_to_its_page(editor: User, editor_client: Client) -> None:
    notification = tell(editor, "First")

    answer = editor_client.get(f"{PAGE}{notification.pk}/open/")

    assert (answer.status_code, answer.url) == (302, "/admin/projects/budget/")
    assert titles(editor_client) == ["First"]
    assert bell(editor_client) == "Notifications: 0 unread"


def test_one_is_marked_as_read_and_leaves_the_unread_ones(editor: User, editor_client: Client) -> None:
    notification = tell(editor, "First")
    tell(editor, "Second")

    answer = editor_client.post(f"{PAGE}{notification.pk}/read/", {"show": "unread"})

    assert answer.url == f"{PAGE}?show=unread"
    assert titles(editor_client, "?show=unread") == ["* Second"]
    assert titles(editor_client) == ["* Second", "First"]


def test_all_are_marked_as_read_but_nobody_elses(editor: User, studio_owner: User, editor_client: Client) -> None:
    tell(editor, "First")
    tell(editor, "Second")
    theirs = tell(studio_owner, "Somebody else's")

    page = editor_client.post(f"{PAGE}read-all/", follow=True).content.decode()

    assert "Marked 2 notifications as read." in page
    assert bell(editor_client) == "Notifications: 0 unread"
    theirs.refresh_from_db()
    assert theirs.read_at is None


@pytest.mark.parametrize("view", ["open", "read"])
def test_somebody_elses_can_be_neither_opened_nor_marked(view: str, studio_owner: User, editor_client: Client) -> None:
    notification = tell(studio_owner, "Somebody else's")
    address = f"{PAGE}{notification.pk}/{view}/"

    answer = editor_client.post(address) if view == "read" else editor_client.get(address)

    assert answer.status_code == 404
    notification.refresh_from_db()
    assert notification.read_at is None


@pytest.mark.parametrize("address", ["1/read/", "read-all/", "preference/"])
def test_nothing_is_changed_by_a_get(address: str, editor_client: Client) -> None:
    assert editor_client.get(PAGE + address).status_code == 405


def test_texts_are_escaped(editor: User, editor_client: Client) -> None:
    tell(editor, "<script>alert(1)</script>", text="<img src=x>", links=[["<b>one</b>", "/admin/"]])

    page = editor_client.get(PAGE).content.decode()

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r"<script>alert|<img src=x>|<b>one", page)


def test_e_mails_about_own_generations_can_be_switched_off_and_on(editor: User, editor_client: Client) -> None:
    page = editor_client.post(f"{PAGE}preference/", {}, follow=True).content.decode()
    assert "You get no e-mail any more when generations that you asked for have ended." in page
    assert NotificationPreference.objects.get(user=editor).own_generations is False
    assert 'name="own_generations" >' in page

    page = editor_client.post(f"{PAGE}preference/", {"own_generations": "on"}, follow=True).content.decode()
    assert "You get an e-mail when generations that you asked for have ended." in page
    assert NotificationPreference.objects.get(user=editor).own_generations is True
    assert 'name="own_generations" checked>' in page


def test_many_are_shown_in_pages_with_as_many_queries_as_one(
    editor: User, editor_client: Client, django_assert_max_num_queries: object
) -> None:
    for number in range(PER_PAGE + 5):
        tell(editor, f"Number {number}")

    with django_assert_max_num_queries(15):
        first = titles(editor_client)
    assert (len(first), first[0]) == (PER_PAGE, f"* Number {PER_PAGE + 4}")
    assert titles(editor_client, "?page=2") == [f"* Number {number}" for number in range(4, -1, -1)]


def test_nobody_adds_or_changes_one_by_hand(editor: User, studio_owner: User, owner_client: Client) -> None:
    notification = tell(studio_owner, "First")

    assert owner_client.get(f"{PAGE}add/").status_code == 403
    assert owner_client.get(f"{PAGE}{notification.pk}/change/").url == PAGE
    assert owner_client.post(f"{PAGE}{notification.pk}/delete/").status_code == 403
    assert Notification.objects.filter(read_at=None, alert__created_at__lte=timezone.now()).count() == 1
