import tempfile
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from generations import lifecycle
from generations.lifecycle import lane
from generations.models import Generation, Lane, PauseCause, PausedEndpoint, PausedProject, Priority, Status
from generations.services import pauses
from projects.models import Project, Role
from tests import factories
from tests.generations.conftest import ENDPOINT

LANE = reverse("admin:generations_lane_changelist")


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


def told(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def page_of(project: Project) -> str:
    return reverse("admin:projects_project_change", args=[project.pk])


def post(client: Client, name: str, *args: Any, **data: Any) -> Any:
    return client.post(reverse(f"admin:{name}", args=args), data, follow=True)


# --- The lane's page --------------------------------------------------------------------------------------------------


def test_the_page_shows_limits_and_what_uses_them(
    owner_client: Client, queued: Generation, settings: Any, editor: User
) -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE, settings.WAVESPEED_VIDEOS_PER_MINUTE = 8, 6
    now = timezone.now()
    for status in (Status.PROCESSING, Status.UNCONFIRMED, Status.STORING):
        Generation.objects.create(
            project=queued.project, requested_by=editor, endpoint=ENDPOINT, inputs_digest="x", status=status,
            submitted_at=now - timedelta(minutes=3),
        )  # fmt: skip
    lifecycle.admit()

    standing = owner_client.get(LANE).context["standing"]

    assert (standing.used, standing.limits) == (lane.Slots(3, 1), lane.Slots(8, 6))
    assert (standing.uploading, standing.at_provider, standing.maybe_at_provider, standing.storing) == (1, 1, 1, 1)
    shown = text_of(owner_client.get(LANE))
    assert "<strong>3</strong> of 8 videos" in shown
    assert "1; 1 may still be at the provider and so occupies a slot" in shown


def test_a_slowed_lane_says_until_when_and_how_it_recovers(owner_client: Client, settings: Any, db: None) -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE = settings.WAVESPEED_VIDEOS_PER_MINUTE = 10
    until = lane.slow()
    shown = text_of(owner_client.get(LANE))
    assert f"nothing is submitted until {until:%H:%M:%S} UTC. Then it goes on by itself, at 50% of the account" in shown
    assert "of 5 videos <span" in shown
    assert "(10 when not slowed)" in shown

    Lane.objects.update(slowed_until=timezone.now() - timedelta(seconds=61), rate_changed_at=timezone.now())
    Lane.objects.update(rate_changed_at=timezone.now() - timedelta(seconds=61))

    assert "60% of the account’s limits are used for now. All of it again after 4 quiet minutes." in text_of(
        owner_client.get(LANE)
    )


def test_the_page_shows_who_waits_in_the_order_of_their_turns(
    owner_client: Client, queued: Generation, studio_owner: User
) -> None:
    other, paused = factories.ProjectFactory(name="Tea"), factories.ProjectFactory(name="Juice")
    for project, number in ((other, 3), (paused, 2)):
        Generation.objects.bulk_create(
            Generation(
                project=project, requested_by=studio_owner, endpoint=ENDPOINT, inputs_digest="x", quote=420_000,
                status=Status.QUEUED, queued_at=timezone.now() - timedelta(hours=each + 1), next_action_at=timezone.now(),
                priority=Priority.HIGH if each else Priority.NORMAL,
            )
            for each in range(number)
        )  # fmt: skip
    lease = lifecycle.admit()
    assert lease
    Generation.objects.filter(pk=lease.pk).update(lease_until=None)
    pauses.pause_project(paused, reason="The label changes.", by=studio_owner)

    response = owner_client.get(LANE)

    assert [(str(queue.project), queue.waiting, queue.urgent, held) for queue, held in response.context["queues"]] == [
        ("Tea", 3, 2, "$1.26"),
        ("Coffee", 1, 0, "$2.10"),
        ("Juice", 2, 1, "$0.84"),
    ]
    shown = text_of(response)
    assert "The oldest waits for 3 hours" in shown
    assert "Paused: it takes no turn." in shown
    assert "<p>The label changes.</p>" in shown


def test_the_page_asks_the_database_as_often_for_one_project_as_for_thirty(
    owner_client: Client, queued: Generation, studio_owner: User
) -> None:
    with CaptureQueriesContext(connection) as few:
        owner_client.get(LANE)
    for each in range(30):
        project = factories.ProjectFactory(created_by=studio_owner)
        Generation.objects.create(
            project=project, requested_by=studio_owner, endpoint=ENDPOINT, inputs_digest="x", status=Status.QUEUED,
            queued_at=timezone.now(), next_action_at=timezone.now(),
        )  # fmt: skip
        if each % 3 == 0:
            pauses.pause_project(project, reason="Not now.", by=studio_owner)

    with CaptureQueriesContext(connection) as many:
        owner_client.get(LANE)

    assert len(many) <= len(few)


@pytest.mark.parametrize(
    ("cause", "what_ends_it"),
    [
        (PauseCause.KEY_REFUSED, "The key is tried every minute"),
        (PauseCause.NO_CREDITS, "The balance is read every minute"),
        (PauseCause.RESTORED, "Run “manage.py after_restore”"),
        (PauseCause.OWNER, "It goes on when a studio owner resumes it."),
    ],
)
def test_a_paused_lane_says_what_ends_it(cause: str, what_ends_it: str, owner_client: Client, db: None) -> None:
    Lane.objects.create(paused_at=timezone.now(), paused_cause=cause, paused_reason="Because.")

    shown = text_of(owner_client.get(LANE))

    assert what_ends_it in shown
    assert "What is queued waits and keeps its money held. What was submitted goes on." in shown


def test_a_want_of_room_is_told_on_the_page(owner_client: Client, settings: Any, db: None) -> None:
    settings.STORAGE_ROOM_MEGABYTES = 10**12

    assert "nothing is submitted until there is room" in text_of(owner_client.get(LANE))


def test_a_disk_that_can_not_be_read_is_told_and_the_switches_go_on_working(
    owner_client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/a/disk/that/went/away")
    assert "How much room this machine’s disks have can’t be read" in text_of(owner_client.get(LANE))

    post(owner_client, "generations_lane_pause", reason="The disk is broken.")
    shown = text_of(post(owner_client, "generations_lane_resume"))

    assert "<strong>Everything</strong> paused by olive: The disk is broken." in shown
    assert "<strong>Everything</strong> resumed by olive" in shown


def test_pausing_needs_a_reason_and_leaves_a_history(owner_client: Client, db: None) -> None:
    assert told(post(owner_client, "generations_lane_pause", reason=" ")) == [
        "Say why: everybody who waits for it reads the reason."
    ]
    post(owner_client, "generations_lane_pause", reason="The invoice looks wrong.")
    shown = text_of(post(owner_client, "generations_lane_resume"))

    assert "<strong>Everything</strong> paused by olive: The invoice looks wrong." in shown
    assert "<strong>Everything</strong> resumed by olive" in shown


def test_a_model_is_paused_and_resumed_by_its_name(owner_client: Client, editor_client: Client) -> None:
    assert editor_client.post(reverse("admin:generations_lane_pause_endpoint"), {}).status_code == 403
    done = post(owner_client, "generations_lane_pause_endpoint", endpoint=ENDPOINT, reason="The looks are off.")
    [title] = [title for title, _ in done.context["paused_endpoints"]]
    assert told(done) == [f"Paused: nothing more is submitted to {title}. Other models go on."]
    assert title != ENDPOINT
    assert f"<strong>{title}</strong> <p>The looks are off.</p>" in text_of(done)

    post(owner_client, "generations_lane_resume_endpoint", endpoint=ENDPOINT)

    assert not PausedEndpoint.objects.exists()
    assert "There is no endpoint" in told(post(owner_client, "generations_lane_pause_endpoint", reason="x"))[0]


# --- A project's page -------------------------------------------------------------------------------------------------


@pytest.fixture
def manager(project: Project) -> Client:
    client = Client()
    client.force_login(factories.member(project, Role.OWNER, username="otto"))
    return client


def test_a_projects_owner_pauses_it_on_its_page(
    manager: Client, editor_client: Client, project: Project, queued: Generation
) -> None:
    assert "What is queued waits and keeps its money held (1 now)" in text_of(manager.get(page_of(project)))

    done = post(manager, "projects_project_pause", project.pk, reason="The brief is being changed.")

    assert told(done) == [
        "Coffee is paused: nothing more of it is submitted until somebody resumes it. What was submitted goes on."
    ]
    for client in (manager, editor_client):
        shown = text_of(client.get(page_of(project)))
        assert "This project is paused: nothing of it is submitted" in shown
        assert "The brief is being changed." in shown
        assert "1 video waits, and keeps its money held." in shown
    resume = reverse("admin:projects_project_resume", args=[project.pk])
    assert resume in text_of(manager.get(page_of(project)))
    assert resume not in text_of(editor_client.get(page_of(project)))

    shown = text_of(post(manager, "projects_project_resume", project.pk))

    assert "This project is paused" not in shown
    assert "paused by otto: The brief is being changed." in shown
    assert "resumed by otto" in shown


def test_who_may_not_pause_gets_no_button_and_a_refusal(editor_client: Client, project: Project) -> None:
    pause = reverse("admin:projects_project_pause", args=[project.pk])

    assert pause not in text_of(editor_client.get(page_of(project)))
    assert editor_client.post(pause, {"reason": "No."}).status_code == 403
    assert not PausedProject.objects.exists()


def test_a_project_that_one_does_not_see_is_not_there(project: Project, client: Client) -> None:
    client.force_login(factories.member(factories.ProjectFactory(), Role.OWNER))
    for what in ("pause", "resume"):
        url = reverse(f"admin:projects_project_{what}", args=[project.pk])
        assert client.post(url, {"reason": "No."}).status_code == 404


def test_the_studios_pause_offers_no_button_to_a_projects_owner(
    manager: Client, project: Project, studio_owner: User
) -> None:
    pauses.pause_project(project, reason="The invoice is open.", by=studio_owner)

    shown = text_of(manager.get(page_of(project)))

    assert "Only studio owners resume it: olive." in shown
    assert reverse("admin:projects_project_resume", args=[project.pk]) not in shown
    assert "Paused" in text_of(manager.get(reverse("admin:projects_project_changelist")))


def test_a_queued_generation_says_what_holds_it_up(
    editor_client: Client, queued: Generation, studio_owner: User
) -> None:
    pauses.pause_project(queued.project, reason="The invoice is open.", by=studio_owner)

    shown = text_of(editor_client.get(reverse("admin:generations_generation_change", args=[queued.pk])))

    assert "The project is paused, by olive: The invoice is open." in shown


# --- Priority ---------------------------------------------------------------------------------------------------------


def test_the_form_takes_a_priority_and_keeps_it(editor_client: Client, project: Project, editor: User) -> None:
    image = factories.source_image(project, editor)
    form = {"endpoint": ENDPOINT, "image": str(image.pk), "prompt": "Steam", "duration": "5", "priority": "1"}
    editor_client.post(f"{reverse('admin:generations_generation_add')}?project={project.pk}", form)
    made = Generation.objects.get()
    assert made.priority == Priority.HIGH

    page = reverse("admin:generations_generation_change", args=[made.pk])
    assert editor_client.get(page).context["form"]["priority"].value() == Priority.HIGH
    editor_client.post(page, {**form, "prompt": "More steam", "priority": "-1"})

    made.refresh_from_db()
    assert (made.prompt, made.priority) == ("More steam", Priority.LOW)


def test_a_form_without_a_priority_means_normal(editor_client: Client, project: Project, editor: User) -> None:
    image = factories.source_image(project, editor)
    form = {"endpoint": ENDPOINT, "image": str(image.pk), "prompt": "Steam", "duration": "5"}
    editor_client.post(f"{reverse('admin:generations_generation_add')}?project={project.pk}", form)

    assert Generation.objects.get().priority == Priority.NORMAL


def test_the_list_shows_what_is_not_normal_and_changes_it(editor_client: Client, queued: Generation) -> None:
    url = reverse("admin:generations_generation_changelist")
    assert "priority</span>" not in text_of(editor_client.get(url))

    chosen = {"action": "high_priority", "_selected_action": [str(queued.pk)]}
    done = editor_client.post(url, chosen, follow=True)

    assert told(done) == ["High priority for 1 generation."]
    assert "High priority</span>" in text_of(done)
    Generation.objects.update(status=Status.PROCESSING)
    assert (
        "a priority only counts for what was not submitted yet" in told(editor_client.post(url, chosen, follow=True))[0]
    )


def test_the_page_of_a_queued_one_changes_its_priority(
    editor_client: Client, queued: Generation, project: Project, client: Client
) -> None:
    done = post(editor_client, "generations_generation_priority", queued.pk, priority="-1")

    queued.refresh_from_db()
    assert (queued.priority, told(done)) == (-1, ["Low priority among what its project has queued."])
    assert '<option value="-1" selected>Low</option>' in text_of(done)
    assert post(editor_client, "generations_generation_priority", queued.pk, priority="9").status_code == 404
    client.force_login(factories.member(project, Role.VIEWER))
    post(client, "generations_generation_priority", queued.pk, priority="1")
    queued.refresh_from_db()
    assert queued.priority == -1
