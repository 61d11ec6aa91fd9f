"""What does not go on by itself: told once, and shown where people look, until it moves."""

from datetime import timedelta

import pytest
import time_machine
from django.core import mail
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from generations import lifecycle
from generations.models import Generation, Status
from projects import digest
from projects.models import Alert, AlertKind, Notification, Project
from tests import factories
from tests.pipeline import ENDPOINT

WHY = "The provider says that it is finished, and names no video."
ASKABLE = [Status.QUEUED, Status.SUBMITTING, Status.PROCESSING, Status.UNCONFIRMED, Status.STORING]


def waiting(project: Project, number: int, status: Status) -> list[Generation]:
    return [
        Generation.objects.create(
            project=project, requested_by=project.created_by, endpoint=ENDPOINT, prompt=f"Steam {each}", status=status
        )
        for each in range(number)
    ]


@pytest.mark.parametrize("status", ASKABLE)
def test_whatever_waits_can_need_a_look_and_its_owners_hear_of_it_once(status: Status, queued: Generation) -> None:
    owner = factories.member(queued.project, role="owner")
    Generation.objects.filter(pk=queued.pk).update(status=status)

    lifecycle.ask_for_look(queued.pk, WHY)
    queued.refresh_from_db()
    since = queued.needs_look_since
    lifecycle.ask_for_look(queued.pk, f"{WHY} Still.")

    queued.refresh_from_db()
    assert (queued.needs_look_since, queued.needs_look_why) == (since, f"{WHY} Still.")
    alert = Alert.objects.get(kind=AlertKind.NEEDS_LOOK)
    assert (alert.title, alert.text) == (
        f"{queued.project}: “{queued}” needs a look",
        f"It is {status.label.lower()}. {WHY}",
    )
    assert Notification.objects.filter(alert=alert, user=owner).exists()


def test_many_at_once_are_one_alert_that_names_how_many(queued: Generation, owner_client: Client) -> None:
    owner = factories.member(queued.project, role="owner", email="owner@example.com")
    rows = [queued, *waiting(queued.project, 59, Status.PROCESSING)]
    Generation.objects.filter(pk=queued.pk).update(status=Status.PROCESSING)

    lifecycle.ask_for_look(queued.pk, WHY)
    digest.send()
    mail.outbox.clear()
    owner.notifications.update(read_at=timezone.now())
    for row in rows:
        lifecycle.ask_for_look(row.pk, WHY)
    with time_machine.travel(timezone.now() + timedelta(minutes=30)):
        digest.send()

    alert = Alert.objects.get(kind=AlertKind.NEEDS_LOOK)
    assert (alert.title, len(alert.links)) == (f"{queued.project}: 60 generations need a look", 50)
    assert alert.text == f"They are processing. “{rows[-1]}”: {WHY}"
    assert owner.notifications.get().read_at is None, "it is news again"
    [told] = [each for each in mail.outbox if each.to == [owner.email]]
    assert told.subject == alert.title
    assert owner_client.get(alert.path).context["cl"].result_count == 60


def test_projects_and_days_have_alerts_of_their_own(queued: Generation) -> None:
    [other] = waiting(factories.ProjectFactory(), 1, Status.QUEUED)
    lifecycle.ask_for_look(queued.pk, WHY)
    lifecycle.ask_for_look(other.pk, WHY)
    [later] = waiting(queued.project, 1, Status.QUEUED)

    with time_machine.travel(timezone.now() + timedelta(days=1)):
        lifecycle.ask_for_look(later.pk, WHY)

    titles = Alert.objects.order_by("created_at").values_list("title", flat=True)
    assert list(titles) == [f"{each.project}: “{each}” needs a look" for each in (queued, other, later)]


def test_a_move_ends_it(queued: Generation) -> None:
    lifecycle.ask_for_look(queued.pk, WHY)

    assert Generation.objects.move(queued.pk, Status.QUEUED, Status.CANCELLED)

    queued.refresh_from_db()
    assert (queued.needs_look_since, queued.needs_look_why) == (None, "")


def test_the_api_says_why_and_since_when(queued: Generation, owner_client: Client) -> None:
    client = owner_client
    row = f"/api/v1/generations/{queued.pk}/"
    assert client.get(row).json()["needs_look"] is None

    lifecycle.ask_for_look(queued.pk, WHY)

    queued.refresh_from_db()
    told = client.get(row).json()["needs_look"]
    assert told == {"since": f"{queued.needs_look_since:%Y-%m-%dT%H:%M:%S.%fZ}", "why": WHY, "addresses": []}
    listed = [client.get(f"/api/v1/generations/?needs_look={value}").json()["count"] for value in ("true", "false")]
    assert listed == [1, 0]


def test_pages_show_it_where_people_look(queued: Generation, owner_client: Client) -> None:
    lifecycle.ask_for_look(queued.pk, WHY)
    changelist = reverse("admin:generations_generation_changelist")
    page = reverse("admin:generations_generation_change", args=[queued.pk])

    operations = owner_client.get(reverse("admin:generations_process_changelist"))
    matter = next(each for each in operations.context["matters"] if "look" in each.title)
    assert (matter.title, matter.text, matter.url) == ("1 generation needs a look", f"“{queued}”: {WHY}", page)
    assert WHY in owner_client.get(page).content.decode()
    assert "Needs a look" in owner_client.get(f"{changelist}?needs_look=yes").content.decode()
    Generation.objects.update(needs_look_since=None)
    assert str(queued) not in owner_client.get(f"{changelist}?needs_look=yes").content.decode()
