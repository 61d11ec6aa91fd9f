"""The Operations page, as a studio owner reads it."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from generations.models import (
    Exchange,
    Generation,
    Lane,
    PausedEndpoint,
    PausedProject,
    Process,
    ProviderCall,
    Reconciliation,
    Status,
    UnassignedPrediction,
)
from generations.services import drafts
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT

PAGE = reverse("admin:generations_process_changelist")
INDEX = reverse("admin:index")
LONG_AGO = timedelta(hours=2)


@pytest.fixture
def running(db: None) -> Process:
    return Process.objects.create(kind=Process.Kind.STUDIO, host="studio-1", pid=4711)


def make(project: Project, by: User, status: Status, prompt: str = "Steam rises", **fields: Any) -> Generation:
    inputs = {"image": str(factories.source_image(project, by).pk), "prompt": prompt}
    generation = drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by)
    Generation.objects.filter(pk=generation.pk).update(status=status, **fields)
    generation.refresh_from_db()
    return generation


def words(response: Any) -> str:
    """What is read on the page, without its tags."""
    content = response.content.decode().partition("data-refresh")[2]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", content)).replace("\xa0", " ").split())


def titles(client: Client) -> list[str]:
    """What needs a person."""
    return [matter.title for matter in client.get(PAGE).context["matters"]]


def test_page_is_for_studio_owners(editor_client: Client, owner_client: Client, running: Process) -> None:
    assert editor_client.get(PAGE).status_code == 403
    assert PAGE not in editor_client.get(INDEX).content.decode()
    assert owner_client.get(PAGE).status_code == 200
    assert PAGE in owner_client.get(INDEX).content.decode()
    answer = owner_client.get(reverse("admin:generations_process_change", args=[running.pk]))
    assert (answer.status_code, answer.headers["Location"]) == (302, PAGE)


def test_studio_in_which_nothing_waits(owner_client: Client, running: Process) -> None:
    shown = words(owner_client.get(PAGE))

    assert titles(owner_client) == []
    for sentence in (
        "Nothing needs a person What is queued, made and stored goes on by itself.",
        "Nothing waits.",
        "All in one studio-1, process 4711 · started just now · last sign of life just now Alive",
        "Not compared yet; every night by itself.",
    ):
        assert sentence in shown
    assert "need" not in words(owner_client.get(INDEX))


def test_what_waits_on_what_since_when(
    owner_client: Client, editor: User, project: Project, running: Process, settings: Any
) -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE = 1
    now = timezone.now()
    make(project, editor, Status.QUEUED, queued_at=now - LONG_AGO)
    make(project, editor, Status.QUEUED, queued_at=now)
    make(project, editor, Status.PROCESSING, submitted_at=now, next_action_at=now + LONG_AGO)
    make(project, editor, Status.STORING, submitted_at=now, next_action_at=now - LONG_AGO)
    shown = words(owner_client.get(PAGE))

    assert "Queued 2 A free place at the provider. 2 hours ago" in shown
    assert "Processing 1 The provider, which is making the video. Next look " in shown
    assert "Storing 1 The copy from the provider to the studio. Overdue since " in shown
    assert "At the provider 1 of 1" in shown
    Lane.objects.update_or_create(pk=Lane.WAVESPEED, defaults={"paused_at": now, "paused_reason": "Wait"})
    assert "Queued 2 The lane, which is paused." in words(owner_client.get(PAGE))


def test_what_needs_a_person(owner_client: Client, studio_owner: User, editor: User, project: Project) -> None:
    now = timezone.now()
    Lane.objects.update_or_create(pk=Lane.WAVESPEED, defaults={"paused_at": now, "paused_reason": "Wait"})
    make(project, editor, Status.UNCONFIRMED, submitted_at=now - LONG_AGO)
    make(project, editor, Status.UNCONFIRMED, submitted_at=now)
    make(project, editor, Status.STORING, submitted_at=now, error_code="not_stored", error_message="HTTP 500")
    UnassignedPrediction.objects.create(prediction_id="p1", found_by="list")
    PausedEndpoint.objects.create(endpoint=ENDPOINT, reason="It charged too much.")
    PausedProject.objects.create(project=project, reason="Wait for Mia", paused_by=studio_owner)
    Reconciliation.objects.create(since=now, until=now, finished_at=now, differences=2)

    assert titles(owner_client) == [
        "No dispatcher runs",
        "No worker runs",
        "The lane is paused: nothing is submitted",
        "1 generation is unconfirmed",
        "1 finished video is not stored yet",
        "1 prediction belongs to no generation",
        f"{ENDPOINT} is paused",
        "Submitting for Coffee is paused",
        "Books and bill: 2 differences",
    ]
    assert "9 things need a person." in owner_client.get(INDEX).content.decode()


def test_queue_that_no_worker_takes(owner_client: Client) -> None:
    Process.objects.create(kind=Process.Kind.DISPATCHER, host="a", pid=1)
    for pid, queues in enumerate(["default", "submit", "store"], start=2):
        Process.objects.create(kind=Process.Kind.WORKER, host="a", pid=pid, queues=queues)
    shown = words(owner_client.get(PAGE))

    assert titles(owner_client) == ["A worker is missing"]
    assert "What is sent to poll waits for one. Start it with “manage.py rundramatiq --queues poll”." in shown
    assert "Worker: store a, process 4" in shown


def test_what_no_worker_has_taken(owner_client: Client, editor: User, project: Project, running: Process) -> None:
    now = timezone.now()
    sent_at = now - timedelta(seconds=20)
    make(project, editor, Status.PROCESSING, submitted_at=now, next_action_at=now + LONG_AGO, sent_at=sent_at)

    assert f"Handed out at {sent_at:%H:%M:%S} UTC, and no worker has taken it yet." in words(owner_client.get(PAGE))


def test_links_of_what_needs_a_person_lead_somewhere(
    owner_client: Client, studio_owner: User, editor: User, project: Project
) -> None:
    make(project, editor, Status.UNCONFIRMED, submitted_at=timezone.now() - LONG_AGO)
    PausedProject.objects.create(project=project, reason="Wait", paused_by=studio_owner)
    UnassignedPrediction.objects.create(prediction_id="p1", found_by="list")
    links = {matter.url for matter in owner_client.get(PAGE).context["matters"] if matter.url}

    assert len(links) == 4
    assert {owner_client.get(link).status_code for link in links} == {200}


def test_editors_dashboard_says_nothing_of_operations(editor_client: Client, project: Project) -> None:
    Lane.objects.update_or_create(pk=Lane.WAVESPEED, defaults={"paused_at": timezone.now(), "paused_reason": "Wait"})

    assert "a person" not in editor_client.get(INDEX).content.decode()


def test_dead_process_is_shown(owner_client: Client, running: Process) -> None:
    seen_at = timezone.now() - timedelta(minutes=7)
    Process.objects.create(kind=Process.Kind.WORKER, host="b <b>", pid=8, started_at=seen_at, seen_at=seen_at)
    answer = owner_client.get(PAGE)

    assert "last sign of life 7 minutes ago Dead" in words(answer)
    assert "b &lt;b&gt;" in answer.content.decode()


def test_last_errors_are_shown_and_escaped(
    owner_client: Client, editor: User, project: Project, running: Process
) -> None:
    trouble = make(
        project,
        editor,
        Status.FAILED,
        prompt="<script>alert(1)</script>",
        error_code="rejected",
        error_message="<img src=x onerror=alert(2)>",
        completed_at=timezone.now(),
    )
    detail = {"status": None, "failure": "no whole answer came in time"}
    Exchange.objects.create(generation=trouble, kind="submit", summary="Unclear: <b>", detail=detail)
    Exchange.objects.create(generation=trouble, kind="result", summary="completed", detail={"status": 200})
    answer = owner_client.get(PAGE)

    assert "Submit: Unclear: <b> no whole answer came in time · just now" in words(answer)
    assert "<script>alert" not in answer.content.decode()
    assert "<img src=x" not in answer.content.decode()
    assert "Result: completed" not in words(answer)


def test_as_many_queries_for_thirty_rows_as_for_one(
    owner_client: Client, studio_owner: User, editor: User, project: Project, running: Process
) -> None:
    def fill(count: int) -> None:
        for number in range(count):
            generation = make(project, editor, Status.STORING, submitted_at=timezone.now(), error_message="No")
            Exchange.objects.create(generation=generation, kind="result", summary="x", detail={"status": 500})
            make(project, editor, Status.FAILED, completed_at=timezone.now(), error_code="rejected")
            Process.objects.create(kind=Process.Kind.WORKER, host="a", pid=number)
            paused = factories.ProjectFactory(created_by=studio_owner)
            PausedProject.objects.create(project=paused, reason="Wait", paused_by=studio_owner)

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert owner_client.get(PAGE).status_code == 200
        return len(captured)

    fill(1)
    queries()
    one = queries()
    fill(29)

    assert queries() == one
    assert one < 45


def test_calls_to_the_provider_that_fail_are_told_with_their_beginning(owner_client: Client, running: Process) -> None:
    now = timezone.now()
    ProviderCall.objects.create(route="/balance", good_at=now)
    ProviderCall.objects.create(
        route="/predictions",
        failing_since=now - timedelta(minutes=9),
        failed_at=now,
        error="The call was not answered: HTTP 500.",
    )
    ProviderCall.objects.create(route="/models", failing_since=now, failed_at=now, error="Too slow.")

    # What began just now may pass.
    assert titles(owner_client) == ["The provider's list can’t be had"]
    shown = words(owner_client.get(PAGE))
    assert "The provider's list" in shown
    assert "Fails since" in shown
    assert "The call was not answered: HTTP 500. Last good answer: never Fails" in shown
    assert "The balance Last good answer" in shown
