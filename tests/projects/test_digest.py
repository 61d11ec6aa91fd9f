"""E-mails: one for several things, sent once, and not lost while the mail server is down."""

import re
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core import mail
from django.utils import timezone

from projects import alerts, digest
from projects.models import AlertKind, Notification, NotificationPreference, Project
from tests import factories
from tests.projects.money.test_spend_concurrency import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


@pytest.fixture
def person() -> User:
    return factories.UserFactory(username="mia", first_name="Mia")


def tell(person: User, title: str, kind: AlertKind = AlertKind.REFUSED, **fields: object) -> None:
    values = {"text": "Some words.", "path": "/admin/projects/budget/"} | fields
    assert alerts.tell(kind, f"{kind}:{title}", people=[person], title=title, **values)


def subjects() -> list[str]:
    return [message.subject for message in mail.outbox]


def html_of(message: mail.EmailMultiAlternatives) -> str:
    (alternative,) = message.alternatives
    assert alternative.mimetype == "text/html"
    return alternative.content


def test_one_alert_is_mailed_with_its_title_text_and_absolute_link(person: User, settings: object) -> None:
    settings.PUBLIC_URL = "https://studio.example.com"
    tell(person, "Coffee: 80% of the budget is spent")

    digest.send()

    (message,) = mail.outbox
    assert (message.subject, message.to) == ("Coffee: 80% of the budget is spent", ["mia@example.com"])
    assert message.body == (
        "Hello Mia,\n\n"
        "Coffee: 80% of the budget is spent\n"
        "Some words.\n"
        "https://studio.example.com/admin/projects/budget/\n\n"
        "--\n"
        "All of it, and what you want to hear by e-mail: https://studio.example.com/admin/projects/notification/\n"
    )
    assert 'href="https://studio.example.com/admin/projects/budget/"' in html_of(message)


def test_several_alerts_are_one_mail_and_are_not_sent_again(person: User) -> None:
    for title in ("First", "Second", "Third"):
        tell(person, title)

    digest.send()
    digest.send()

    (message,) = mail.outbox
    assert message.subject == "3 things to know about your videos and budgets"
    assert re.findall("First|Second|Third", message.body) == ["First", "Second", "Third"]
    assert list(Notification.objects.values_list("email_at", flat=True)) == [None] * 3
    assert Notification.objects.filter(emailed_at=None).count() == 0


def test_everybody_gets_their_own_mail(person: User) -> None:
    other = factories.UserFactory(username="noa")
    tell(person, "For Mia")
    tell(other, "For Noa")

    digest.send()

    assert sorted((message.to, message.subject) for message in mail.outbox) == [
        (["mia@example.com"], "For Mia"),
        (["noa@example.com"], "For Noa"),
    ]


def test_what_comes_within_the_digests_minutes_waits_for_the_next_mail(
    person: User, clock: time_machine.Traveller, settings: object
) -> None:
    settings.DIGEST_MINUTES = 10
    tell(person, "First")
    digest.send()
    for minute in range(1, 10):
        clock.move_to(NOW + timedelta(minutes=minute))
        tell(person, f"Minute {minute}")
        digest.send()
    assert subjects() == ["First"]

    clock.move_to(NOW + timedelta(minutes=10))
    digest.send()

    assert subjects() == ["First", "9 things to know about your videos and budgets"]


def test_a_paused_lane_does_not_wait(person: User, clock: time_machine.Traveller) -> None:
    tell(person, "First")
    digest.send()
    clock.shift(timedelta(minutes=1))
    tell(person, "Waits")
    digest.send()
    tell(person, "Submitting is paused", AlertKind.LANE_PAUSED)
    digest.send()

    assert subjects() == ["First", "Submitting is paused"]
    assert "Waits" not in mail.outbox[1].body
    clock.shift(timedelta(minutes=10))
    digest.send()
    assert subjects() == ["First", "Submitting is paused", "Waits"]


def test_what_is_urgent_comes_alone_and_first_however_much_else_there_is(person: User) -> None:
    for number in range(14):
        tell(person, f"Ready {number}")
    tell(person, "Submitting is paused: the key is refused", AlertKind.LANE_PAUSED)
    tell(person, "The storage is full", AlertKind.STORAGE)

    digest.send()

    assert subjects() == [
        "Submitting is paused: the key is refused, and 1 more",
        "14 things to know about your videos and budgets",
    ]
    assert "Ready" not in mail.outbox[0].body
    assert "Submitting" not in mail.outbox[1].body


def test_texts_of_people_are_escaped_and_no_header_is_forged(person: User) -> None:
    hostile = "<script>alert(1)</script>\r\nBcc: everybody@example.com"
    tell(person, hostile, text="<img src=x> & more", links=[["<b>one</b>", "/admin/"]])

    digest.send()

    (message,) = mail.outbox
    assert message.subject == "<script>alert(1)</script> Bcc: everybody@example.com"
    assert message.recipients() == ["mia@example.com"]
    assert "<script>alert(1)</script>" in message.body
    html = html_of(message)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;img src=x&gt; &amp; more" in html
    assert ">&lt;b&gt;one&lt;/b&gt;</a>" in html
    assert not re.search("<script|<img|<b>", html)


def test_very_many_are_one_mail_of_the_newest(person: User, clock: time_machine.Traveller) -> None:
    for number in range(digest.SHOWN + 3):
        clock.shift(timedelta(seconds=1))
        tell(person, f"Number {number}.")

    digest.send()

    (message,) = mail.outbox
    assert message.subject == "53 things to know about your videos and budgets"
    assert "Number 2." not in message.body
    assert "Number 3." in message.body
    assert "And 3 more, which are older." in message.body


def test_people_who_are_switched_off_or_have_no_address_get_no_mail(person: User) -> None:
    tell(person, "First")
    User.objects.filter(pk=person.pk).update(is_active=False)
    tell(factories.UserFactory(username="noa", email=""), "Second")

    digest.send()

    assert mail.outbox == []
    assert Notification.objects.count() == 2


def test_who_switched_it_off_reads_of_their_generations_in_the_bell_alone(person: User) -> None:
    NotificationPreference.objects.create(user=person, own_generations=False)
    tell(person, "Ready: “Steam”", AlertKind.ENDED)
    tell(person, "Coffee: 80% of the budget is spent", AlertKind.BUDGET_ACTUAL)

    digest.send()

    assert subjects() == ["Coffee: 80% of the budget is spent"]
    assert Notification.objects.filter(user=person, read_at=None).count() == 2


# --- A mail server that fails -----------------------------------------------------------------------------------------


class SmtpServer(socketserver.ThreadingTCPServer):
    """A mail server that refuses the recipients in `refused`, and keeps what it took."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), SmtpConversation)
        self.refused: set[str] = set()
        self.tried: list[str] = []
        self.taken: list[str] = []


class SmtpConversation(socketserver.StreamRequestHandler):
    server: SmtpServer

    def handle(self) -> None:
        self.say("220 test")
        for line in self.rfile:
            command = line.decode().strip()
            match command[:4].upper():
                case "QUIT":
                    self.say("221 bye")
                    return
                case "RCPT":
                    self.recipient(command[9:].strip("<>"))
                case "DATA":
                    self.say("354 go on")
                    while self.rfile.readline().strip() != b".":
                        pass
                    self.server.taken.append(self.address)
                    self.say("250 ok")
                case _:
                    self.say("250 ok")

    def recipient(self, address: str) -> None:
        self.address = address
        self.server.tried.append(address)
        self.say("550 no such address" if address in self.server.refused else "250 ok")

    def say(self, words: str) -> None:
        self.wfile.write(f"{words}\r\n".encode())


@pytest.fixture
def smtp(settings: object) -> Iterator[SmtpServer]:
    server = SmtpServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
    yield server
    server.shutdown()
    server.server_close()


def test_a_mail_server_that_is_down_loses_nothing_and_gets_one_mail_when_it_is_back(
    person: User, clock: time_machine.Traveller, smtp: SmtpServer, settings: object
) -> None:
    up = settings.EMAIL_PORT
    settings.EMAIL_PORT = 1  # nobody listens there
    for minute in range(5):
        clock.move_to(NOW + timedelta(minutes=minute))
        tell(person, f"Minute {minute}")
        digest.send()
    assert Notification.objects.exclude(emailed_at=None).count() == 0

    settings.EMAIL_PORT = up
    digest.send()
    digest.send()

    assert smtp.taken == ["mia@example.com"]
    assert Notification.objects.filter(emailed_at=None).count() == 0


def test_an_address_that_is_refused_holds_nobody_up_and_is_tried_ever_more_rarely(
    person: User, clock: time_machine.Traveller, smtp: SmtpServer
) -> None:
    smtp.refused = {"mia@example.com"}
    tell(person, "First")
    tell(factories.UserFactory(username="noa"), "Second")

    for half_hour in range(4 * 24 * 2):
        clock.move_to(NOW + timedelta(hours=half_hour / 2))
        digest.send()

    assert smtp.taken == ["noa@example.com"]
    assert 10 < smtp.tried.count("mia@example.com") < 40
    assert Notification.objects.get(user=person).email_at is None
    assert Notification.objects.filter(user=person, read_at=None).count() == 1


def test_a_process_that_died_while_it_sent_costs_minutes_not_the_mail(
    person: User, clock: time_machine.Traveller
) -> None:
    tell(person, "First")
    assert len(digest._claim(person.pk)) == 1

    digest.send()
    assert mail.outbox == []
    clock.shift(digest.LEASE)
    digest.send()

    assert subjects() == ["First"]


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_ten_dispatchers_send_one_mail_to_each(project: Project, person: User) -> None:
    other = factories.UserFactory(username="noa")
    for title in ("First", "Second", "Third"):
        tell(person, title)
        tell(other, f"{title} for Noa")

    assert at_once([digest.send] * 10) == [None] * 10

    assert sorted(message.to[0] for message in mail.outbox) == ["mia@example.com", "noa@example.com"]
    assert Notification.objects.filter(emailed_at__isnull=False, emailed_at__lte=timezone.now()).count() == 6
