"""People pause and resume the lane, a project or a model: who may, what it means, what stays of it."""

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from generations import models
from generations.models import Generation, Lane, PauseCause, PausedEndpoint, PausedProject, PauseEvent, Status
from generations.services import drafts, orders, pauses, refusals
from projects.models import Project, Role
from tests import factories
from tests.generations.conftest import ENDPOINT
from tests.pipeline import money
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

pytestmark = pytest.mark.django_db


@pytest.fixture
def owner(project: Project) -> User:
    return factories.member(project, Role.OWNER, username="otto")


def said() -> list[tuple[str, bool, str, str]]:
    """What was paused or resumed, why and by whom, the oldest first."""
    return [
        (str(event.project or event.endpoint), event.is_pause, event.reason, str(event.by))
        for event in PauseEvent.objects.order_by("at", "pk")
    ]


def test_a_projects_owner_pauses_and_resumes_it_and_both_are_kept(
    project: Project, owner: User, queued: Generation
) -> None:
    paused = pauses.pause_project(project, reason=" The brief is being changed. ", by=owner)

    assert (paused.reason, paused.paused_by, paused.is_the_studios) == ("The brief is being changed.", owner, False)
    assert pauses.what_holds_up(queued) == "The project is paused, by otto: The brief is being changed."
    # Nothing of what waits is lost or let go.
    queued.refresh_from_db()
    assert (queued.status, money(queued)) == (Status.QUEUED, (2_100_000, 0))

    pauses.resume_project(project, reason="It is settled.", by=owner)

    assert not PausedProject.objects.exists()
    assert pauses.what_holds_up(queued) == ""
    assert said() == [
        ("Coffee", True, "The brief is being changed.", "otto"),
        ("Coffee", False, "It is settled.", "otto"),
    ]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR, Role.APPROVER])
def test_others_neither_pause_nor_resume_a_project(role: Role, project: Project, owner: User) -> None:
    person = factories.member(project, role)
    with pytest.raises(PermissionDenied):
        pauses.pause_project(project, reason="No.", by=person)
    pauses.pause_project(project, reason="Yes.", by=owner)
    with pytest.raises(PermissionDenied):
        pauses.resume_project(project, by=person)

    assert PausedProject.objects.get().paused_by == owner


def test_an_owner_of_another_project_may_nothing_here(project: Project) -> None:
    stranger = factories.member(factories.ProjectFactory(), Role.OWNER)

    with pytest.raises(PermissionDenied):
        pauses.pause_project(project, reason="No.", by=stranger)


def test_what_a_studio_owner_paused_only_studio_owners_resume(
    project: Project, owner: User, studio_owner: User
) -> None:
    pauses.pause_project(project, reason="The invoice is open.", by=studio_owner)

    with pytest.raises(PermissionDenied, match="Only studio owners resume what a studio owner paused"):
        pauses.resume_project(project, by=owner)
    # Also when who paused it is no studio owner any more.
    User.objects.filter(pk=studio_owner.pk).update(is_superuser=False)
    another = factories.UserFactory(is_superuser=True)
    with pytest.raises(PermissionDenied):
        pauses.resume_project(project, by=owner)
    pauses.resume_project(project, by=another)
    assert not PausedProject.objects.exists()


def test_a_studio_owner_takes_over_the_pause_of_a_projects_owner_and_not_the_other_way_round(
    project: Project, owner: User, studio_owner: User
) -> None:
    pauses.pause_project(project, reason="The brief.", by=owner)
    with pytest.raises(refusals.WrongStatus, match="Coffee is paused already, by otto: The brief"):
        pauses.pause_project(project, reason="Again.", by=factories.member(project, Role.OWNER))

    pauses.pause_project(project, reason="The invoice.", by=studio_owner)

    with pytest.raises(refusals.WrongStatus, match="by olive: The invoice"):
        pauses.pause_project(project, reason="The brief.", by=owner)
    assert PausedProject.objects.get().is_the_studios


@pytest.mark.parametrize(
    ("reason", "refusal"), [("", "Say why"), ("   ", "Say why"), ("x" * 401, "at most 400 characters")]
)
def test_a_pause_needs_a_reason_that_is_kept_whole(
    reason: str, refusal: str, project: Project, studio_owner: User
) -> None:
    for pause in (
        lambda: pauses.pause_lane(reason=reason, by=studio_owner),
        lambda: pauses.pause_project(project, reason=reason, by=studio_owner),
        lambda: pauses.pause_endpoint(ENDPOINT, reason=reason, by=studio_owner),
    ):
        with pytest.raises(refusals.ReasonMissing, match=refusal):
            pause()
    assert not PauseEvent.objects.exists()


def test_resuming_what_is_not_paused_is_told(project: Project, owner: User) -> None:
    with pytest.raises(refusals.WrongStatus, match="Coffee is not paused"):
        pauses.resume_project(project, by=owner)


def test_the_lane_and_models_are_the_studio_owners_and_kept_too(
    studio_owner: User, owner: User, queued: Generation
) -> None:
    for attempt in (
        lambda: pauses.pause_lane(reason="No.", by=owner),
        lambda: pauses.resume_lane(by=owner),
        lambda: pauses.pause_endpoint(ENDPOINT, reason="No.", by=owner),
        lambda: pauses.resume_endpoint(ENDPOINT, by=owner),
    ):
        with pytest.raises(PermissionDenied):
            attempt()

    pauses.pause_lane(reason="Holidays.", by=studio_owner)
    assert Lane.objects.get().paused_cause == PauseCause.OWNER
    assert pauses.what_holds_up(queued) == "Nothing is submitted at the moment: Holidays."
    pauses.resume_lane(reason="Back.", by=studio_owner)
    pauses.resume_lane(by=studio_owner)
    pauses.pause_endpoint(ENDPOINT, reason="The looks are off.", by=studio_owner)
    assert pauses.what_holds_up(queued) == "Its model is paused: The looks are off."
    pauses.resume_endpoint(ENDPOINT, by=studio_owner)

    assert (Lane.objects.get().paused_cause, PausedEndpoint.objects.count()) == ("", 0)
    assert said() == [
        ("", True, "Holidays.", "olive"),
        ("", False, "Back.", "olive"),
        (ENDPOINT, True, "The looks are off.", "olive"),
        (ENDPOINT, False, "", "olive"),
    ]


def test_a_restored_database_stays_the_cause_whoever_pauses(studio_owner: User) -> None:
    Lane.objects.create(paused_at=timezone.now(), paused_cause=PauseCause.RESTORED, paused_reason="Restored.")

    with pytest.raises(refusals.WrongStatus, match="restored from a backup"):
        pauses.pause_lane(reason="Holidays.", by=studio_owner)

    assert Lane.objects.get().paused_cause == PauseCause.RESTORED


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_pauses_and_resumes_at_the_same_instant_are_one_after_the_other(
    project: Project, studio_owner: User, one_test_at_a_time: None
) -> None:
    owner = factories.member(project, Role.OWNER)

    def pause() -> object:
        return pauses.pause_project(project, reason="Stop.", by=owner)

    done = at_once([pause] * 8)

    assert sum(isinstance(each, PausedProject) for each in done) == 1
    assert sum(isinstance(each, refusals.WrongStatus) for each in done) == 7
    assert (PausedProject.objects.count(), PauseEvent.objects.count()) == (1, 1)


# --- Priority ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [Status.DRAFT, Status.AWAITING_APPROVAL, Status.QUEUED])
def test_a_priority_changes_until_it_is_submitted(status: Status, draft: Generation, editor: User) -> None:
    Generation.objects.filter(pk=draft.pk).update(status=status)

    drafts.prioritise(draft, priority=models.Priority.HIGH, by=editor)
    drafts.prioritise(draft, priority=models.Priority.HIGH, by=editor)

    draft.refresh_from_db()
    assert (draft.priority, draft.status) == (1, status)
    told = list(draft.events.filter(reason="Priority: High.").values_list("old_status", "new_status", "by"))
    assert told == [(status, status, editor.pk)]


@pytest.mark.parametrize("status", [Status.SUBMITTING, Status.PROCESSING, Status.COMPLETED, Status.FAILED])
def test_later_a_priority_would_mean_nothing(status: Status, draft: Generation, editor: User) -> None:
    Generation.objects.filter(pk=draft.pk).update(status=status)

    with pytest.raises(refusals.WrongStatus, match="a priority only counts for what was not submitted yet"):
        drafts.prioritise(draft, priority=models.Priority.LOW, by=editor)


def test_a_viewer_changes_no_priority(draft: Generation, project: Project) -> None:
    with pytest.raises(PermissionDenied):
        drafts.prioritise(draft, priority=models.Priority.LOW, by=factories.member(project, Role.VIEWER))


def test_a_request_for_approval_goes_on_waiting_when_its_priority_changes(
    draft: Generation, project: Project, editor: User
) -> None:
    Project.objects.filter(pk=project.pk).update(approval_above=1)
    draft.project.refresh_from_db()
    asked: Any = orders.queue(draft, by=editor)
    assert asked.status == Status.AWAITING_APPROVAL

    drafts.prioritise(asked, priority=models.Priority.HIGH, by=editor)

    asked.refresh_from_db()
    assert (asked.status, asked.approval.decision) == (Status.AWAITING_APPROVAL, "waiting")


def test_a_retry_keeps_the_priority(queued: Generation, editor: User) -> None:
    Generation.objects.filter(pk=queued.pk).update(
        status=Status.FAILED, priority=1, queued_at=timezone.now() - timedelta(days=2)
    )
    queued.refresh_from_db()

    assert orders.retry(queued, by=editor, confirm=True).priority == 1
