"""What owners decide of a request whose reply was lost: who may, when, with what reason, and what it does to the money."""

from collections.abc import Callable
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from generations import lifecycle, provider
from generations.lifecycle.needs_look import TRIES_UNTIL_LOOK
from generations.models import Generation, Status, UnassignedPrediction
from generations.services import decisions, drafts, orders, trash
from generations.services.refusals import BadAddress, NoCandidate, NotRead, ReasonMissing, TooSoon, WrongStatus
from generations.storage import retention
from projects.models import Alert, AlertKind, Project, Role
from tests import factories, pipeline
from tests.pipeline import ENDPOINT, booked, file_sha256, history, money, poll_to_end, submit_next, until
from tests.sandbox import SandboxControl
from tests.threads import at_once, one_test_at_a_time
from wavespeed_sandbox import Sandbox

__all__ = ["one_test_at_a_time"]

PRICE = 2_100_000
DAY = 24 * 60  # minutes


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """One that hides the inputs, so that owners have to decide."""
    return make_sandbox(list_inputs=False)


@pytest.fixture
def owner(project: Project) -> User:
    return factories.member(project, Role.OWNER, username="olga")


def lost(generation: Generation, wavespeed: SandboxControl, fault: str) -> Generation:
    wavespeed.arm(fault)
    submit_next()
    lifecycle.resolve(generation.pk)
    generation.refresh_from_db()
    assert generation.status == Status.UNCONFIRMED
    return generation


@pytest.fixture
def never_made(queued: Generation, wavespeed: SandboxControl) -> Generation:
    return lost(queued, wavespeed, "submit_drop_before")


@pytest.fixture
def made(queued: Generation, wavespeed: SandboxControl) -> Generation:
    return lost(queued, wavespeed, "submit_drop_after")


def later(minutes: float = 16) -> time_machine.travel:
    return time_machine.travel(timezone.now() + timedelta(minutes=minutes))


# --- Not made ---------------------------------------------------------------------------------------------------------


def test_in_the_first_quarter_of_an_hour_nobody_may_say_that_it_was_not_made(
    never_made: Generation, owner: User
) -> None:
    never_made.project.time_zone = "Europe/Berlin"
    never_made.project.save()
    Generation.objects.filter(pk=never_made.pk).update(submitted_at=timezone.now().replace(hour=12, minute=0))
    never_made.refresh_from_db()
    with time_machine.travel(never_made.submitted_at + timedelta(minutes=14.9)), pytest.raises(TooSoon) as refusal:
        pipeline.settle_not_made(never_made, by=owner, reason="It is not in the list.")

    assert decisions.may_settle_at(never_made) == never_made.submitted_at + timedelta(minutes=15)
    assert "13:15 on" in str(refusal.value) or "14:15 on" in str(refusal.value)
    assert "(Europe/Berlin)" in str(refusal.value)
    never_made.refresh_from_db()
    assert (never_made.status, money(never_made)) == (Status.UNCONFIRMED, (PRICE, 0))


@pytest.mark.parametrize(
    ("route", "sentence"),
    [
        ("predictions", "The provider's list could not be read (The call was not answered: HTTP 500), last tried "),
        ("billings", "The provider's bill could not be read (The call was not answered: HTTP 500), last tried "),
    ],
)
def test_nobody_says_that_it_was_not_made_before_list_and_bill_were_read_after_the_lag(
    route: str, sentence: str, never_made: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("free_500", times=None, route=route)
    with later():
        lifecycle.resolve(never_made.pk)
        never_made.refresh_from_db()
        # It is tried again soon.
        assert never_made.next_action_at <= timezone.now() + timedelta(minutes=5)

        with pytest.raises(NotRead) as refusal:
            decisions.settle_not_made(never_made, by=owner, reason="I do not see it.")

        assert str(refusal.value).startswith(sentence)
        # Before the lag was over it was read, which is too early.
        assert "; last read: " in str(refusal.value)
        assert "never" not in str(refusal.value)
        assert str(refusal.value).endswith("Do not decide yet: it is tried again every few minutes.")
        assert money(never_made) == (PRICE, 0)

        wavespeed.disarm()
    with later(22):
        lifecycle.resolve(never_made.pk)
        decisions.settle_not_made(never_made, by=owner, reason="Now I know.")
    assert money(never_made) == (0, 0)


def test_the_bill_is_looked_in_also_when_the_list_fails(made: Generation, wavespeed: SandboxControl) -> None:
    Generation.objects.filter(pk=made.pk).update(next_action_at=timezone.now())
    made.candidates.clear()
    made.looks.all().delete()
    UnassignedPrediction.objects.all().delete()
    wavespeed.arm("free_500", times=None, route="predictions")

    lifecycle.resolve(made.pk)

    assert [each.found_by for each in decisions.candidates_of(made)] == ["bill"]
    listed, billed = decisions.looks(made)
    assert (listed.read_at, listed.error) == (None, "The call was not answered: HTTP 500.")
    assert (billed.read_at is not None, billed.error) == (True, "")


def test_what_was_never_read_in_seven_days_is_decided_by_the_bill(
    never_made: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    never_made.looks.all().delete()
    with later(8 * DAY):
        assert decisions.why_not_yet(never_made).startswith("The provider's bill was not read since it may have lagged")
        lifecycle.resolve(never_made.pk)
        assert decisions.why_not_yet(never_made) == ""


def test_settled_as_not_made_it_has_failed_and_its_money_is_released(
    never_made: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    with later():
        pipeline.settle_not_made(never_made, by=owner, reason="  It is not\n in the list. ")

    event = never_made.events.last()
    assert (never_made.status, never_made.error_code, never_made.charged) == (Status.FAILED, "not_made", None)
    assert (event.by, event.reason) == (owner, "Decided by an owner: it was not made. It is not in the list.")
    assert booked(never_made) == [("reserve", PRICE, 0), ("release", -PRICE, 0)]
    assert money(never_made) == (0, 0)
    assert wavespeed.posts()["count"] == 1
    assert wavespeed.bill()["total_micros"] == 0


@pytest.mark.parametrize("reason", ["", "  \n ", "x" * 401])
def test_a_decision_takes_a_reason(reason: str, never_made: Generation, owner: User) -> None:
    with later():
        with pytest.raises(ReasonMissing):
            pipeline.settle_not_made(never_made, by=owner, reason=reason)
        with pytest.raises(ReasonMissing):
            decisions.assign(never_made, UnassignedPrediction(), by=owner, reason=reason)

    never_made.refresh_from_db()
    assert never_made.status == Status.UNCONFIRMED


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR, Role.APPROVER])
def test_only_owners_decide(role: Role, made: Generation) -> None:
    person = factories.member(made.project, role)
    stranger = factories.member(factories.ProjectFactory(), Role.OWNER)
    candidate = decisions.candidates_of(made)[0]
    with later():
        for somebody in (person, stranger):
            with pytest.raises(PermissionDenied):
                pipeline.settle_not_made(made, by=somebody, reason="No.")
            with pytest.raises(PermissionDenied):
                decisions.assign(made, candidate, by=somebody, reason="Yes.")
            assert not decisions.may_decide(somebody, made)

    assert decisions.may_decide(made.project.created_by, made)


def test_what_is_known_by_now_is_not_decided(made: Generation, owner: User) -> None:
    candidate = decisions.candidates_of(made)[0]
    lifecycle.adopt(made.pk, candidate.prediction_id, reason="The provider's answer came late.")

    with later(), pytest.raises(WrongStatus, match="it is processing"):
        pipeline.settle_not_made(made, by=owner, reason="Not in the list.")
    with pytest.raises(WrongStatus):
        decisions.assign(made, candidate, by=owner, reason="This one.")
    assert money(made) == (PRICE, 0)


# --- Made -------------------------------------------------------------------------------------------------------------


def test_a_candidate_that_is_stored_completes_it_though_the_provider_has_lost_it(
    made: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    candidate = decisions.candidates_of(made)[0]
    until(lambda: lifecycle.store_unassigned(candidate.pk))
    wavespeed.advance(8 * 24 * 3600)
    wavespeed.arm("free_500", times=None)

    with later(8 * 24 * 60):
        decisions.assign(made, candidate, by=owner, reason="It shows our cup.")
        assert lifecycle.poll(made.pk) == Status.STORING
        assert lifecycle.store(made.pk) == Status.COMPLETED
        wavespeed.disarm()
        lifecycle.settle(made.pk)

    made.refresh_from_db()
    event = made.events.get(new_status="processing")
    assert (event.by, event.reason.endswith("It shows our cup.")) == (owner, True)
    assert file_sha256(made) == wavespeed.predictions()[0]["output_sha256"]
    assert (made.charged, money(made)) == (PRICE, (0, PRICE))
    assert wavespeed.posts()["count"] == 1


def test_a_candidate_that_is_not_stored_yet_is_stored_by_its_generation(
    made: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    candidate = decisions.candidates_of(made)[0]
    decisions.assign(made, candidate, by=owner, reason="It is the only one.")

    assert lifecycle.store_unassigned(candidate.pk) is False
    poll_to_end(made)
    assert lifecycle.store(made.pk) == Status.COMPLETED

    assert file_sha256(made) == wavespeed.predictions()[0]["output_sha256"]
    assert not candidate.videos.exists()


def test_a_candidate_that_failed_makes_it_fail_and_the_bill_settles_it(
    queued: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("task_failed", code=1200)
    generation = lost(queued, wavespeed, "submit_drop_after")
    candidate = decisions.candidates_of(generation)[0]
    until(lambda: lifecycle.store_unassigned(candidate.pk) or ended(candidate))
    assert "failed at the provider" in candidate.error_message

    decisions.assign(generation, candidate, by=owner, reason="It is the only one.")
    poll_to_end(generation)
    wavespeed.advance(3600)
    lifecycle.settle(generation.pk)

    assert (generation.status, generation.error_code) == (Status.FAILED, "content_moderation")
    assert money(generation) == (0, 0)


def ended(unassigned: UnassignedPrediction) -> bool:
    unassigned.refresh_from_db()
    return unassigned.next_action_at is None


def test_only_studio_owners_assign_what_is_no_candidate(
    made: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    orphan = UnassignedPrediction.objects.create(prediction_id="e" * 32, endpoint=ENDPOINT, found_by="list")
    element = UnassignedPrediction.objects.create(
        prediction_id="f" * 32, endpoint="kwaivgi/kling-elements", found_by="list"
    )
    studio_owner = made.project.created_by
    with pytest.raises(PermissionDenied):
        decisions.assign(made, orphan, by=owner, reason="Perhaps.")
    with pytest.raises(NoCandidate):
        decisions.assign(made, element, by=studio_owner, reason="Perhaps.")

    decisions.assign(made, orphan, by=studio_owner, reason="The provider's support says so.")

    assert (made.status, made.prediction_id) == (Status.PROCESSING, "e" * 32)


# --- It comes after all -----------------------------------------------------------------------------------------------


def test_what_was_settled_as_not_made_and_comes_after_all_is_stored_and_charged(
    made: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    prediction = wavespeed.predictions()[0]["id"]
    with later():
        pipeline.settle_not_made(made, by=owner, reason="Nobody remembers it.")
        assert money(made) == (0, 0)

        assert lifecycle.adopt(made.pk, prediction, reason="The provider's answer came late: accepted.")
        until(lambda: lifecycle.poll(made.pk) == Status.STORING)
        assert lifecycle.store(made.pk) == Status.COMPLETED
        lifecycle.settle(made.pk)

    made.refresh_from_db()
    assert history(made)[-5:] == ["unconfirmed", "failed", "failed", "storing", "completed"]
    assert (made.error_code, made.charged) == ("", PRICE)
    assert booked(made) == [("reserve", PRICE, 0), ("release", -PRICE, 0), ("charge", 0, PRICE)]
    assert money(made) == (0, PRICE)
    assert wavespeed.bill()["total_micros"] == PRICE
    alert = Alert.objects.get(kind=AlertKind.LATE_SUCCESS)
    told = {note.user for note in alert.notifications.all()}
    assert told == {owner, made.requested_by, made.project.created_by}
    assert "It cost $2.10" in alert.text


def test_an_owner_may_be_wrong_and_assign_it_later(made: Generation, owner: User, wavespeed: SandboxControl) -> None:
    candidate = decisions.candidates_of(made)[0]
    until(lambda: lifecycle.store_unassigned(candidate.pk))
    with later():
        pipeline.settle_not_made(made, by=owner, reason="It is another film.")
        decisions.assign(made, candidate, by=owner, reason="No, it is this one.")
        assert lifecycle.poll(made.pk) == Status.STORING
        assert lifecycle.store(made.pk) == Status.COMPLETED

    made.refresh_from_db()
    assert money(made) == (0, PRICE)


@pytest.fixture
def thrown_away(made: Generation, owner: User) -> UnassignedPrediction:
    """The video of what was settled as not made, in the trash."""
    candidate = decisions.candidates_of(made)[0]
    until(lambda: lifecycle.store_unassigned(candidate.pk))
    with later():
        pipeline.settle_not_made(made, by=owner, reason="It is another film.")
    trash.trash(candidate.videos.get(), by=made.project.created_by)
    return candidate


@pytest.mark.both_databases
def test_a_video_in_the_trash_is_out_of_it_once_it_belongs_to_a_generation(
    made: Generation, owner: User, thrown_away: UnassignedPrediction, wavespeed: SandboxControl
) -> None:
    Project.objects.update(retention_days=10)
    with later(29 * DAY):
        decisions.assign(made, thrown_away, by=owner, reason="No, it is this one.")
        with pytest.raises(WrongStatus):
            trash.trash(thrown_away.videos.get(), by=made.project.created_by)
    with later(31 * DAY):
        assert retention.empty() == 0
        assert lifecycle.poll(made.pk) == Status.STORING
        assert lifecycle.store(made.pk) == Status.COMPLETED
        assert (retention.apply_retention(), retention.empty()) == (0, 0)
    with later(40 * DAY):
        assert (retention.apply_retention(), retention.empty()) == (0, 0)

    video = made.videos.get()
    assert (video.trashed_at, video.trashed_by, video.purged_at) == (None, None, None)
    assert file_sha256(made) == wavespeed.predictions()[0]["output_sha256"]


def test_a_video_whose_files_were_deleted_is_fetched_again_while_the_provider_has_it(
    made: Generation, owner: User, thrown_away: UnassignedPrediction, wavespeed: SandboxControl, settings: object
) -> None:
    settings.TRASH_DAYS = 1
    with later(2 * DAY):
        assert retention.empty() == 1
        decisions.assign(made, thrown_away, by=owner, reason="No, it is this one.")
        assert lifecycle.poll(made.pk) == Status.STORING
        assert lifecycle.store(made.pk) == Status.COMPLETED

    assert file_sha256(made) == wavespeed.predictions()[0]["output_sha256"]
    assert thrown_away.videos.get().purged_at is not None


def test_a_video_whose_files_were_deleted_and_that_nobody_has_completes_nothing(
    made: Generation, owner: User, thrown_away: UnassignedPrediction, wavespeed: SandboxControl
) -> None:
    """Its price is booked as it was billed, so that the books are right."""
    wavespeed.advance(40 * DAY * 60)
    with later(40 * DAY):
        assert retention.empty() == 1
        decisions.assign(made, thrown_away, by=owner, reason="No, it is this one.")
        assert lifecycle.poll(made.pk) is None
        lifecycle.settle(made.pk)

    made.refresh_from_db()
    assert (made.status, made.next_action_at, made.videos.count()) == (Status.FAILED, None, 0)
    assert money(made) == (0, PRICE)


def test_what_comes_after_all_and_has_failed_there_costs_what_the_bill_says(
    queued: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("task_failed")
    wavespeed.arm("refund_never")
    generation = lost(queued, wavespeed, "submit_drop_after")
    prediction = wavespeed.predictions()[0]["id"]
    until(lambda: wavespeed.predictions()[0]["status"] == "failed")
    with later():
        pipeline.settle_not_made(generation, by=owner, reason="Nobody remembers it.")
        lifecycle.adopt(generation.pk, prediction, reason="The provider's answer came late: accepted.")
        assert lifecycle.poll(generation.pk) is None
        generation.refresh_from_db()
        assert (generation.status, generation.next_action_at) == (Status.FAILED, None)
        lifecycle.settle(generation.pk)
        assert money(generation) == (0, 0)
    with later(6 * 60):
        lifecycle.settle(generation.pk)

    assert money(generation) == (0, PRICE)
    assert booked(generation)[-1] == ("charge", 0, PRICE)
    assert wavespeed.bill()["total_micros"] == PRICE


def test_a_false_failure_becomes_a_late_success(queued: Generation, wavespeed: SandboxControl) -> None:
    submit_next()
    until(lambda: wavespeed.predictions()[0]["status"] == "completed")
    wavespeed.arm("result_false_failure")
    poll_to_end(queued)
    assert (queued.status, queued.error_code, money(queued)) == (Status.FAILED, "provider_internal_error", (PRICE, 0))

    lifecycle.settle(queued.pk)

    queued.refresh_from_db()
    assert (queued.status, queued.error_code, queued.completed_at) == (Status.STORING, "", None)
    assert lifecycle.store(queued.pk) == Status.COMPLETED
    lifecycle.settle(queued.pk)
    assert money(queued) == (0, PRICE)
    assert booked(queued) == [("reserve", PRICE, 0), ("charge", -PRICE, PRICE)]
    assert Alert.objects.filter(kind=AlertKind.LATE_SUCCESS).count() == 1


def test_a_failure_that_is_told_too_early_is_followed_until_it_is_made(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.set_speed(20)
    submit_next()
    wavespeed.arm("result_false_failure")
    poll_to_end(queued)

    lifecycle.settle(queued.pk)
    queued.refresh_from_db()
    assert (queued.status, queued.next_action_at is not None) == (Status.FAILED, True)
    until(lambda: lifecycle.poll(queued.pk) == Status.STORING)

    assert lifecycle.store(queued.pk) == Status.COMPLETED
    assert money(queued) == (0, PRICE)


def test_a_failure_that_was_charged_is_not_charged_again_when_it_comes_after_all(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("result_false_failure", times=None)
    submit_next()
    until(lambda: wavespeed.predictions()[0]["status"] == "completed")
    poll_to_end(queued)
    with later(5 * 60):
        lifecycle.settle(queued.pk)
        assert money(queued) == (0, PRICE)
        wavespeed.disarm()
        Generation.objects.filter(pk=queued.pk).update(next_action_at=timezone.now())
        assert lifecycle.poll(queued.pk) == Status.STORING
        assert lifecycle.store(queued.pk) == Status.COMPLETED
        lifecycle.settle(queued.pk)

    queued.refresh_from_db()
    assert booked(queued) == [("reserve", PRICE, 0), ("charge", -PRICE, PRICE)]
    assert (queued.charged, money(queued), queued.settle_at) == (PRICE, (0, PRICE), None)


@pytest.mark.parametrize("price", [1.05, 3.0])
def test_a_late_success_is_adjusted_to_its_bill_each_time_it_differs(
    price: float, made: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    """The refund that came before it counts, and so does what was billed after it."""
    prediction = wavespeed.predictions()[0]["id"]
    with later():
        pipeline.settle_not_made(made, by=owner, reason="Nobody remembers it.")
        lifecycle.adopt(made.pk, prediction, reason="The provider's answer came late: accepted.")
        until(lambda: lifecycle.poll(made.pk) == Status.STORING)
        row = wavespeed.bill()["rows"][0]
        wavespeed.doctor(change=[{"uuid": row["uuid"], "price": price}])
        wavespeed.doctor(add=[{"prediction_id": prediction, "billing_type": "refund", "price": 1.0}])
        lifecycle.settle(made.pk)

    micros = round(price * 1_000_000)
    assert money(made) == (0, micros - 1_000_000)
    assert wavespeed.bill()["total_micros"] == micros - 1_000_000


# --- Many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
def test_made_and_not_made_at_the_same_instant_is_decided_once(wavespeed: SandboxControl) -> None:
    project = factories.ProjectFactory()
    factories.budget(project, 10_000_000)
    by = project.created_by
    inputs = {"image": str(factories.source_image(project, by).pk), "prompt": "Steam", "duration": 5}
    generation = orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)
    lost(generation, wavespeed, "submit_drop_after")
    candidate = decisions.candidates_of(generation)[0]
    Generation.objects.filter(pk=generation.pk).update(submitted_at=timezone.now() - timedelta(hours=1))

    def made() -> None:
        row = Generation.objects.get(pk=generation.pk)
        decisions.assign(row, candidate, by=by, reason="It is.")

    def not_made() -> None:
        row = Generation.objects.get(pk=generation.pk)
        pipeline.settle_not_made(row, by=by, reason="It is not.")

    told = at_once([made, not_made] * 4)

    generation.refresh_from_db()
    assert all(each is None or isinstance(each, WrongStatus | NoCandidate) for each in told), told
    if generation.status == Status.PROCESSING:
        assert (told.count(None), money(generation)) == (1, (PRICE, 0))
    else:
        # Not made, and then it was found all the same: a late success.
        assert (generation.status, money(generation)) == (Status.FAILED, (0, 0))
        assert 1 <= told.count(None) <= 2
    assert provider.client().result(candidate.prediction_id).id == candidate.prediction_id


# --- The provider's answer is not understood --------------------------------------------------------------------------


@pytest.fixture
def puzzling(processing: Generation, wavespeed: SandboxControl) -> Generation:
    """Made, and told in a way that nobody understands."""
    until(lambda: wavespeed.predictions()[0]["status"] == "completed")
    wavespeed.arm("result_form", times=None, form="elsewhere")
    for _ in range(TRIES_UNTIL_LOOK):
        lifecycle.poll(processing.pk)
    processing.refresh_from_db()
    assert processing.needs_look_since
    return processing


def test_an_owner_says_which_address_the_video_is_at(
    puzzling: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    (address,) = puzzling.outputs

    decisions.take_output(puzzling, address, by=owner, reason="I saw it there.")

    assert (puzzling.status, puzzling.needs_look_since, puzzling.events.last().by) == (Status.STORING, None, owner)
    assert money(puzzling) == (0, PRICE)
    lifecycle.store(puzzling.pk)
    lifecycle.settle(puzzling.pk)
    puzzling.refresh_from_db()
    assert puzzling.status == Status.COMPLETED
    assert file_sha256(puzzling) == wavespeed.predictions()[0]["output_sha256"]
    with pytest.raises(WrongStatus):
        decisions.take_output(puzzling, address, by=owner, reason="Again.")
    assert money(puzzling) == (0, PRICE)


@pytest.mark.parametrize("address", ["", "cup.mp4", "ftp://example.com/a.mp4", "http://10.0.0.1/a.mp4"])
def test_nothing_is_taken_from_a_bad_address(address: str, puzzling: Generation, owner: User) -> None:
    with pytest.raises(BadAddress):
        decisions.take_output(puzzling, address, by=owner, reason="I saw it there.")

    puzzling.refresh_from_db()
    assert (puzzling.status, money(puzzling)) == (Status.PROCESSING, (PRICE, 0))


def test_an_owner_says_that_it_ended_without_a_video_and_the_bill_settles_it(
    puzzling: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    decisions.end_without_video(puzzling, by=owner, reason="Their page says so.")

    assert (puzzling.status, puzzling.error_code, money(puzzling)) == (Status.FAILED, "no_video", (PRICE, 0))
    lifecycle.settle(puzzling.pk)
    assert money(puzzling) == (PRICE, 0)
    with time_machine.travel(timezone.now() + timedelta(hours=5)):
        lifecycle.settle(puzzling.pk)
    # It was billed, and never refunded.
    assert money(puzzling) == (0, PRICE)


def test_a_video_that_comes_after_that_is_stored_and_charged_once(
    puzzling: Generation, owner: User, wavespeed: SandboxControl
) -> None:
    decisions.end_without_video(puzzling, by=owner, reason="Their page says so.")
    wavespeed.disarm()

    lifecycle.settle(puzzling.pk)

    puzzling.refresh_from_db()
    assert (puzzling.status, money(puzzling)) == (Status.STORING, (0, PRICE))


def test_only_what_is_not_understood_is_ended_by_people(processing: Generation, owner: User) -> None:
    with pytest.raises(WrongStatus, match="The provider is making it"):
        decisions.end_without_video(processing, by=owner, reason="I am tired of waiting.")
    editor = factories.member(processing.project, Role.EDITOR)
    Generation.objects.filter(pk=processing.pk).update(needs_look_since=timezone.now())
    with pytest.raises(PermissionDenied):
        decisions.end_without_video(processing, by=editor, reason="I am tired of waiting.")
