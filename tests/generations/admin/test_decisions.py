"""What owners see of an unconfirmed generation, and decide; and the page of what belongs to nobody yet."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from generations.models import Generation, Status, UnassignedPrediction
from projects.models import Project, Role
from tests import factories
from tests.pipeline import booked

UNASSIGNED = reverse("admin:generations_unassignedprediction_changelist")


def page(generation: Generation) -> str:
    return reverse("admin:generations_generation_change", args=[generation.pk])


def do(name: str, generation: Generation) -> str:
    return reverse(f"admin:generations_generation_{name}", args=[generation.pk])


def shown(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return str(answer.content.decode())


def told(answer: Any) -> list[str]:
    return [str(message) for message in answer.context["messages"]]


def client_for(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def owner(project: Project) -> User:
    """An owner of the project, no studio owner."""
    return factories.member(project, Role.OWNER, username="oona")


def test_an_owner_sees_the_candidates_and_takes_one(
    owner: User, unconfirmed: Generation, candidate: UnassignedPrediction
) -> None:
    client = client_for(owner)
    text = shown(client, page(unconfirmed))
    assert (
        "1 prediction at the provider may be it. Nothing says so for sure. Take it only if you know that it is yours."
        in text
    )
    assert "<video" in text

    done = client.post(
        do("assign", unconfirmed), {"candidate": candidate.pk, "reason": "I know the picture"}, follow=True
    )

    assert told(done) == ["It is this one: it is charged as the provider billed it, and its video comes here."]
    unconfirmed.refresh_from_db()
    candidate.refresh_from_db()
    assert (unconfirmed.status, unconfirmed.prediction_id) == (Status.PROCESSING, candidate.prediction_id)
    assert (candidate.assigned_to, candidate.assigned_by) == (unconfirmed, owner)
    event = unconfirmed.events.last()
    assert event
    assert (event.by, "I know the picture" in event.reason) == (owner, True)
    assert "Was it made?" not in done.content.decode()


def test_an_owner_settles_it_as_not_made(owner: User, unconfirmed: Generation) -> None:
    client = client_for(owner)
    assert "Settle as not made, and free $2.10" in shown(client, page(unconfirmed))

    done = client.post(do("not_made", unconfirmed), {"reason": "The provider lists nothing"}, follow=True)

    assert told(done) == [
        "Settled as not made: $2.10 is free again. If it was made after all, its video still comes here."
    ]
    unconfirmed.refresh_from_db()
    assert (unconfirmed.status, unconfirmed.error_code) == (Status.FAILED, "not_made")
    assert booked(unconfirmed) == [("reserve", 2_100_000, 0), ("release", -2_100_000, 0)]


def test_nobody_settles_it_in_the_first_15_minutes(owner: User, unconfirmed: Generation) -> None:
    Generation.objects.update(submitted_at=timezone.now() - timedelta(minutes=14))
    client = client_for(owner)
    text = shown(client, page(unconfirmed))
    assert "nobody can say yet that it was not made" in text
    assert "Settle as not made, and free" not in text

    done = client.post(do("not_made", unconfirmed), {"reason": "I can't wait"}, follow=True)

    assert "nobody can say yet that it was not made" in told(done)[0]
    assert booked(unconfirmed) == [("reserve", 2_100_000, 0)]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR, Role.APPROVER])
def test_others_see_who_decides_and_decide_nothing(
    project: Project, unconfirmed: Generation, candidate: UnassignedPrediction, role: Role
) -> None:
    client = client_for(factories.member(project, role))
    text = shown(client, page(unconfirmed))
    assert "An owner of Coffee decides." in text
    assert "It is this one" not in text

    for name, fields in (("assign", {"candidate": candidate.pk}), ("not_made", {})):
        done = client.post(do(name, unconfirmed), {**fields, "reason": "Because"}, follow=True)
        assert told(done) == [
            "This takes the role “Owner” or higher in Coffee; an owner of the project can give it to you."
        ]
    unconfirmed.refresh_from_db()
    assert unconfirmed.status == Status.UNCONFIRMED


@pytest.mark.parametrize("candidate_pk", ["", "nonsense", "0" * 32])
def test_a_candidate_has_to_be_one(
    owner: User, unconfirmed: Generation, candidate: UnassignedPrediction, candidate_pk: str
) -> None:
    done = client_for(owner).post(
        do("assign", unconfirmed), {"candidate": candidate_pk, "reason": "Because"}, follow=True
    )
    assert told(done) == ["Choose which of the predictions it is."]


def test_a_decision_needs_its_reason(owner: User, unconfirmed: Generation, candidate: UnassignedPrediction) -> None:
    client = client_for(owner)
    for name, fields in (("assign", {"candidate": candidate.pk}), ("not_made", {})):
        done = client.post(do(name, unconfirmed), {**fields, "reason": "  "}, follow=True)
        assert told(done) == ["Say why: the decision is kept with its reason."]


def test_what_belongs_to_nobody_is_seen_by_studio_owners_alone(
    owner_client: Client, owner: User, candidate: UnassignedPrediction
) -> None:
    url = reverse("admin:generations_unassignedprediction_change", args=[candidate.pk])
    assert "Stored" in shown(owner_client, UNASSIGNED)
    text = shown(owner_client, url)
    assert "Whose is it?" in text
    assert "· fits" in text

    other = client_for(owner)
    assert "Unassigned videos" not in shown(other, reverse("admin:index"))
    assert other.get(url).status_code in {302, 403, 404}
    assert other.get(UNASSIGNED).status_code in {302, 403}


def test_a_studio_owner_assigns_it_also_after_it_was_settled_as_not_made(
    owner_client: Client, owner: User, unconfirmed: Generation, candidate: UnassignedPrediction
) -> None:
    client_for(owner).post(do("not_made", unconfirmed), {"reason": "The provider lists nothing"})
    url = reverse("admin:generations_unassignedprediction_change", args=[candidate.pk])

    done = owner_client.post(url, {"generation": unconfirmed.pk, "reason": "It turned up"}, follow=True)

    assert told(done) == [f"It belongs to “{unconfirmed}” now, and is charged to Coffee."]
    unconfirmed.refresh_from_db()
    assert unconfirmed.prediction_id == candidate.prediction_id
    assert unconfirmed.next_action_at
    assert "It belongs to" in done.content.decode()
    assert candidate.prediction_id not in shown(owner_client, UNASSIGNED)


def test_a_hostile_provider_is_shown_as_text(owner_client: Client, candidate: UnassignedPrediction) -> None:
    hostile = "<script>alert(1)</script>"
    UnassignedPrediction.objects.update(inputs={"prompt": hostile}, provider_status=hostile, endpoint=hostile)

    for url in (UNASSIGNED, reverse("admin:generations_unassignedprediction_change", args=[candidate.pk])):
        assert hostile not in shown(owner_client, url)


def test_the_page_says_when_list_and_bill_were_read_and_offers_nothing_before(
    owner: User, unconfirmed: Generation
) -> None:
    client = client_for(owner)
    assert "Settle as not made" in shown(client, page(unconfirmed))
    unconfirmed.looks.filter(source="list").update(read_at=None, error="The call was not answered: HTTP 500.")

    text = shown(client, page(unconfirmed))

    assert "could not be read (The call was not answered: HTTP 500), last tried" in text
    assert "last read: never. Do not decide yet" in text
    assert "Settle as not made" not in text
    assert "Nothing at the provider may be it" not in text
    done = client.post(do("not_made", unconfirmed), {"reason": "I guess"}, follow=True)
    assert "Do not decide yet" in told(done)[0]
    unconfirmed.refresh_from_db()
    assert unconfirmed.status == Status.UNCONFIRMED


def test_what_is_unconfirmed_is_not_running_now(owner: User, unconfirmed: Generation) -> None:
    lists = client_for(owner).get(reverse("admin:index")).context["lists"]

    counts = {each["title"]: each["count"] for each in lists}
    assert (counts["Running now"], counts["Unconfirmed"]) == (0, 1)


def test_where_the_answer_is_not_understood_an_owner_ends_it_on_the_page(owner: User, queued: Generation) -> None:
    address = "https://cdn.example/a.mp4?x=<b>"
    Generation.objects.filter(pk=queued.pk).update(
        status=Status.PROCESSING,
        prediction_id="p" * 32,
        submitted_at=timezone.now(),
        needs_look_since=timezone.now(),
        needs_look_why="Its answer names no video.",
        outputs=[address],
    )
    text = shown(client_for(owner), page(queued))
    assert "Its answer names no video." in text
    assert "https://cdn.example/a.mp4?x=&lt;b&gt;" in text
    viewer = factories.member(queued.project, Role.VIEWER)
    assert "Take this video" not in shown(client_for(viewer), page(queued))

    done = client_for(owner).post(do("no_video", queued), {"reason": "Their page says so"}, follow=True)

    assert told(done)[0].startswith("Ended without a video.")
    queued.refresh_from_db()
    assert (queued.status, queued.error_code, queued.needs_look_since) == (Status.FAILED, "no_video", None)
