"""What does not go on by itself: told once, and shown where people look, until it moves."""

import pytest
from django.test import Client
from django.urls import reverse

from generations import lifecycle
from generations.models import Generation, Status
from projects.models import Alert, AlertKind, Notification
from tests import factories

WHY = "The provider says that it is finished, and names no video."
ASKABLE = [Status.QUEUED, Status.SUBMITTING, Status.PROCESSING, Status.UNCONFIRMED, Status.STORING]


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
