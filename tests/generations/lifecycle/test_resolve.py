"""A request whose reply was lost: found again for sure, or left to an owner; never sent twice, and its money held until it is known."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.contrib.auth.models import User
from django.utils import timezone

from generations import lifecycle, provider
from generations.lifecycle import matching
from generations.models import Exchange, Generation, Status, UnassignedPrediction, Video
from generations.services import decisions, drafts, orders
from generations.services.refusals import Refused
from generations.wavespeed.transport import Reply
from projects.models import Alert, AlertKind, Project, Role
from tests import factories
from tests.pipeline import ENDPOINT, file_sha256, history, money, poll_to_end, submit_next, until
from tests.sandbox import SandboxControl
from tests.threads import at_once, one_test_at_a_time
from wavespeed_sandbox import Sandbox

__all__ = ["one_test_at_a_time"]

PRICE = 2_100_000
HIDDEN = pytest.mark.parametrize("sandbox", [{"list_inputs": False}], indirect=True, ids=["inputs hidden"])
LOST = ["submit_drop_after", "submit_504_created", "submit_500_created", "submit_garbage_created", "submit_no_id"]


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox], request: pytest.FixtureRequest) -> Sandbox:
    return make_sandbox(**getattr(request, "param", {}))


def lose(generation: Generation, wavespeed: SandboxControl, fault: str = "submit_drop_after") -> None:
    wavespeed.arm(fault)
    submit_next()
    generation.refresh_from_db()
    assert generation.status == Status.UNCONFIRMED


def another(generation: Generation, prompt: str = "Another take", *, project: Project | None = None) -> Generation:
    project = project or generation.project
    by = project.created_by
    image = factories.source_image(project, by)
    inputs = {"image": str(image.pk), "prompt": prompt, "duration": 5}
    return orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)


def finish(generation: Generation) -> None:
    poll_to_end(generation)
    if generation.status == Status.STORING:
        lifecycle.store(generation.pk)
    lifecycle.settle(generation.pk)
    generation.refresh_from_db()


def is_paid_once_and_stored(generation: Generation, wavespeed: SandboxControl) -> None:
    made = next(each for each in wavespeed.predictions() if each["id"] == generation.prediction_id)
    assert (generation.status, generation.charged) == (Status.COMPLETED, PRICE)
    assert file_sha256(generation) == made["output_sha256"]
    assert wavespeed.posts()["count"] == 1
    assert wavespeed.bill()["total_micros"] == PRICE
    assert money(generation) == (0, PRICE)


def candidates(generation: Generation) -> list[str]:
    return [each.prediction_id for each in decisions.candidates_of(generation)]


def owner_of(generation: Generation) -> User:
    return factories.member(generation.project, Role.OWNER)


# --- Sure matches -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", LOST)
def test_a_lost_reply_is_found_by_its_own_picture_and_goes_on_to_the_stored_video(
    fault: str, queued: Generation, wavespeed: SandboxControl
) -> None:
    lose(queued, wavespeed, fault)
    assert queued.next_action_at <= timezone.now() + timedelta(seconds=1)

    assert lifecycle.resolve(queued.pk) == Status.PROCESSING
    finish(queued)

    is_paid_once_and_stored(queued, wavespeed)
    assert history(queued)[-4:] == ["unconfirmed", "processing", "storing", "completed"]
    assert not UnassignedPrediction.objects.exists()


def test_a_reply_that_comes_beyond_the_deadline_is_found(
    queued: Generation, wavespeed: SandboxControl, settings: object
) -> None:
    settings.WAVESPEED_DEADLINE = settings.WAVESPEED_READ_TIMEOUT = 1.0
    provider.client.cache_clear()
    wavespeed.arm("submit_slow", seconds=20.0)
    submit_next()
    queued.refresh_from_db()
    assert queued.status == Status.UNCONFIRMED

    assert lifecycle.resolve(queued.pk) == Status.PROCESSING
    finish(queued)

    is_paid_once_and_stored(queued, wavespeed)


def test_it_is_found_among_many_on_all_pages(queued: Generation, wavespeed: SandboxControl) -> None:
    """A page of the provider has a hundred, newest first."""
    lose(queued, wavespeed)
    for take in range(101):
        # Asked for elsewhere, with the same account.
        provider.client().submit(ENDPOINT, {**queued.request_body, "image": f"https://example.com/{take}.jpg"})

    assert lifecycle.resolve(queued.pk) == Status.PROCESSING
    queued.refresh_from_db()
    assert queued.prediction_id == wavespeed.posts()["posts"][0]["prediction_id"]


def test_a_kept_reply_is_believed_before_anything_else(queued: Generation, wavespeed: SandboxControl) -> None:
    lose(queued, wavespeed, "submit_drop_before")
    Exchange.objects.create(generation=queued, kind="submit", prediction_id="a" * 32, summary="Accepted")

    assert lifecycle.resolve(queued.pk) == Status.PROCESSING

    queued.refresh_from_db()
    assert queued.prediction_id == "a" * 32


def test_a_list_that_can_not_be_read_is_no_verdict(queued: Generation, wavespeed: SandboxControl) -> None:
    lose(queued, wavespeed)
    for fault in ("free_500", "free_429", "free_garbage", "free_401"):
        wavespeed.arm(fault, times=None, route="predictions")
        assert lifecycle.resolve(queued.pk) is None
        wavespeed.disarm()

    queued.refresh_from_db()
    assert (queued.status, money(queued), queued.lease_token) == (Status.UNCONFIRMED, (PRICE, 0), None)
    assert queued.next_action_at is not None
    assert lifecycle.resolve(queued.pk) == Status.PROCESSING


def test_a_picture_that_the_provider_keeps_elsewhere_is_left_to_an_owner(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    """Its address says nothing: it may be a copy of the very picture that was sent."""
    lose(queued, wavespeed, "submit_drop_before")
    body = {**queued.request_body, "image": "https://cdn.example.com/9f3c.jpg"}
    found = provider.client().submit(ENDPOINT, body).id
    provider.client().submit(ENDPOINT, {**body, "prompt": "Something else"})

    assert lifecycle.resolve(queued.pk) is None

    assert candidates(queued) == [found]


def test_what_names_the_picture_of_another_generation_is_no_candidate(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    second = another(queued, queued.prompt)
    lose(queued, wavespeed, "submit_drop_before")
    lose(second, wavespeed, "submit_drop_before")
    # An address without a name, which only the other one's own uploads tell.
    hidden = "https://cdn.example.com/9f3c.jpg"
    Generation.objects.filter(pk=second.pk).update(uploads={"image": hidden}, status=Status.FAILED)
    for image in (hidden, f"https://cdn.example.com/{second.pk}-image.jpg"):
        provider.client().submit(ENDPOINT, {**queued.request_body, "image": image})

    assert lifecycle.resolve(queued.pk) is None

    assert candidates(queued) == []


# --- Weak matches -----------------------------------------------------------------------------------------------------


@HIDDEN
@pytest.mark.parametrize("fault", LOST)
def test_with_inputs_hidden_every_lost_reply_ends_at_an_owner_with_the_video_stored(
    fault: str, queued: Generation, wavespeed: SandboxControl
) -> None:
    lose(queued, wavespeed, fault)

    assert lifecycle.resolve(queued.pk) is None
    assert candidates(queued) == [wavespeed.predictions()[0]["id"]]
    until(lambda: lifecycle.store_unassigned(UnassignedPrediction.objects.get().pk))

    queued.refresh_from_db()
    unassigned = decisions.candidates_of(queued)[0]
    assert (queued.status, money(queued)) == (Status.UNCONFIRMED, (PRICE, 0))
    assert unassigned.videos.get().sha256 == wavespeed.predictions()[0]["output_sha256"]
    assert unassigned.stored_at is not None

    decisions.assign(queued, unassigned, by=owner_of(queued), reason="It shows our cup.")
    finish(queued)

    is_paid_once_and_stored(queued, wavespeed)
    assert Video.objects.get().unassigned is None
    unassigned.refresh_from_db()
    assert unassigned.assigned_to == queued
    assert unassigned.assigned_by is not None


@HIDDEN
def test_two_that_are_lost_together_share_their_candidates_until_each_has_one(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    second = another(queued)
    lose(queued, wavespeed)
    lose(second, wavespeed)
    for generation in (queued, second):
        assert lifecycle.resolve(generation.pk) is None
    both = candidates(queued)
    assert len(both) == 2
    assert candidates(second) == both

    owner = owner_of(queued)
    taken, left = decisions.candidates_of(queued)
    decisions.assign(queued, taken, by=owner, reason="The first.")

    assert [candidates(queued), candidates(second)] == [[left.prediction_id], [left.prediction_id]]
    decisions.assign(second, left, by=owner, reason="The other one.")
    for generation in (queued, second):
        finish(generation)
        assert generation.status == Status.COMPLETED
    assert wavespeed.posts()["count"] == 2
    assert {queued.prediction_id, second.prediction_id} == set(both)
    assert (queued.charged, second.charged) == (PRICE, PRICE)
    assert wavespeed.bill()["total_micros"] == 2 * PRICE


@HIDDEN
def test_what_is_looked_at_again_is_kept_as_evidence_only_when_it_changes(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    lose(queued, wavespeed)
    for _ in range(3):
        lifecycle.resolve(queued.pk)

    kept = queued.exchanges.get(kind=Exchange.Kind.LIST)
    assert kept.summary == "1 prediction at the provider may be it"

    provider.client().submit(ENDPOINT, queued.request_body)
    lifecycle.resolve(queued.pk)
    assert queued.exchanges.filter(kind=Exchange.Kind.LIST).count() == 2


@HIDDEN
def test_what_may_be_of_a_submit_under_way_waits(queued: Generation, wavespeed: SandboxControl) -> None:
    second = another(queued)
    lose(queued, wavespeed, "submit_drop_before")
    lease = lifecycle.admit()
    assert lease
    Generation.objects.filter(pk=second.pk).update(
        status=Status.SUBMITTING, submitted_at=timezone.now(), lease_until=timezone.now() + timedelta(minutes=1)
    )
    accepted = provider.client().submit(ENDPOINT, {"image": "https://example.com/x.jpg", "prompt": "x"})

    lifecycle.resolve(queued.pk)
    assert candidates(queued) == []

    assert lifecycle.adopt(second.pk, accepted.id, reason="Accepted by the provider.")
    lifecycle.resolve(queued.pk)
    assert candidates(queued) == []


@HIDDEN
def test_a_candidate_whose_own_reply_comes_late_is_taken_by_it(queued: Generation, wavespeed: SandboxControl) -> None:
    second = another(queued)
    lose(queued, wavespeed, "submit_drop_before")
    lose(second, wavespeed)
    lifecycle.resolve(queued.pk)
    candidate = decisions.candidates_of(queued)[0]

    assert lifecycle.adopt(second.pk, candidate.prediction_id, reason="The provider's answer came late.")

    candidate.refresh_from_db()
    assert (candidate.assigned_to, candidate.assigned_by, candidate.next_action_at) == (second, None, None)
    assert candidates(queued) == []
    assert lifecycle.adopt(queued.pk, candidate.prediction_id, reason="Not this one.") is False


@HIDDEN
def test_the_bill_names_what_the_list_does_not_show(
    queued: Generation, wavespeed: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider whose list lags: it is empty here, whatever was asked for."""
    lose(queued, wavespeed)
    transport = provider.client()._transport
    ask = transport.send

    def lagging(method: str, url: str, **how: Any) -> Reply:
        reply = ask(method, url, **how)
        nothing = b'{"code": 200, "message": "success", "data": {"page": 1, "items": []}}'
        return replace(reply, content=nothing) if url.endswith("/predictions") else reply

    monkeypatch.setattr(transport, "send", lagging)
    wavespeed.doctor(add=[{"prediction_id": "d" * 32, "billing_type": "deduct", "price": 2.1}])

    assert lifecycle.resolve(queued.pk) is None

    # The other row's prediction is unknown to the provider itself.
    found = decisions.candidates_of(queued)
    assert [each.prediction_id for each in found] == [wavespeed.predictions()[0]["id"]]
    assert found[0].found_by == "bill"


# --- Time -------------------------------------------------------------------------------------------------------------


def test_owners_are_told_once_after_a_quarter_of_an_hour(queued: Generation, wavespeed: SandboxControl) -> None:
    owner = owner_of(queued)
    lose(queued, wavespeed, "submit_drop_before")
    with time_machine.travel(timezone.now() + timedelta(minutes=14)):
        lifecycle.resolve(queued.pk)
        assert not Alert.objects.filter(kind=AlertKind.UNCONFIRMED).exists()
    for minutes in (16, 40):
        with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
            lifecycle.resolve(queued.pk)

    alert = Alert.objects.get(kind=AlertKind.UNCONFIRMED)
    assert {note.user for note in alert.notifications.all()} == {owner, queued.project.created_by}
    assert str(queued.pk) in alert.path
    assert "$2.10 stays held" in alert.text


def test_owners_are_told_when_the_provider_is_away_too(queued: Generation, wavespeed: SandboxControl) -> None:
    lose(queued, wavespeed)
    wavespeed.arm("free_500", times=None)

    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        lifecycle.resolve(queued.pk)

    assert Alert.objects.filter(kind=AlertKind.UNCONFIRMED).count() == 1


def test_it_is_looked_for_ever_more_rarely_and_at_last_not_any_more(settings: object) -> None:
    settings.WAVESPEED_POLL_SECONDS = 5.0
    looks, age = [], timedelta(seconds=5)
    while wait := lifecycle.look_interval(age):
        looks.append(wait)
        age += wait

    assert looks[0] == timedelta(seconds=5)
    first = [wait for wait in looks if wait < timedelta(minutes=10)]
    assert max(first) <= timedelta(minutes=1)
    assert sum(first, timedelta(seconds=5)) == timedelta(minutes=15)
    assert max(looks) == timedelta(hours=1)
    assert 7 * 24 < len(looks) < 300
    assert timedelta(days=7) <= age < timedelta(days=7, hours=1, seconds=1)


def test_after_seven_days_only_an_owner_looks(queued: Generation, wavespeed: SandboxControl) -> None:
    lose(queued, wavespeed, "submit_drop_before")
    with time_machine.travel(timezone.now() + timedelta(days=7, minutes=1)):
        assert lifecycle.resolve(queued.pk) is None

    queued.refresh_from_db()
    assert (queued.status, queued.next_action_at, money(queued)) == (Status.UNCONFIRMED, None, (PRICE, 0))


# --- Many at once -----------------------------------------------------------------------------------------------------


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
def test_many_that_resolve_at_once_adopt_once(wavespeed: SandboxControl) -> None:
    project = factories.ProjectFactory()
    factories.budget(project, 10_000_000)
    generation = another_in(project)
    lose(generation, wavespeed)

    told = at_once([lambda: lifecycle.resolve(generation.pk)] * 8)

    assert sorted(map(str, told)) == ["None"] * 7 + ["processing"]
    generation.refresh_from_db()
    assert (generation.status, history(generation).count("processing")) == (Status.PROCESSING, 1)


@HIDDEN
@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
def test_one_candidate_given_to_two_at_once_goes_to_one(wavespeed: SandboxControl) -> None:
    project = factories.ProjectFactory()
    factories.budget(project, 10_000_000)
    first, second = another_in(project), another_in(project)
    lose(first, wavespeed)
    lose(second, wavespeed, "submit_drop_before")
    for generation in (first, second):
        lifecycle.resolve(generation.pk)
    candidate = UnassignedPrediction.objects.get()
    by = project.created_by

    def give(generation: Generation) -> None:
        decisions.assign(generation, candidate, by=by, reason="This one.")

    told = at_once([lambda: give(first), lambda: give(second)] * 3)

    assert told.count(None) == 1
    assert all(isinstance(each, Refused) for each in told if each is not None)
    assert Generation.objects.filter(prediction_id=candidate.prediction_id).count() == 1
    assert sorted(Generation.objects.values_list("status", flat=True)) == ["processing", "unconfirmed"]


def another_in(project: Project) -> Generation:
    by = project.created_by
    image = factories.source_image(project, by)
    inputs = {"image": str(image.pk), "prompt": "Steam", "duration": 5}
    return orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)


# --- Matching ---------------------------------------------------------------------------------------------------------

UPLOAD = "https://files.example.com/up/3f2a/own-image.jpg"
OWN, OTHER = uuid4(), uuid4()
SENT = datetime(2026, 11, 22, 12, tzinfo=UTC)


def sent(**fields: Any) -> Generation:
    values: dict[str, Any] = {
        "pk": OWN,
        "endpoint": ENDPOINT,
        "submitted_at": SENT,
        "uploads": {"image": UPLOAD},
        "request_body": {"image": UPLOAD, "prompt": "Steam rises"},
    }
    return Generation(**values | fields)


@pytest.mark.parametrize(
    ("inputs", "sure", "perhaps"),
    [
        ({"image": UPLOAD}, True, True),
        ({"image": f"{UPLOAD}?signature=abc&expires=9"}, True, True),
        ({"image": "https://FILES.example.com/up/3f2a/own%2Dimage.jpg"}, True, True),
        ({"image": [UPLOAD]}, True, True),
        # An address that says nothing may be a copy of the very picture.
        ({"image": "https://files.example.com/up/other/own-image.jpg"}, False, True),
        ({"image": "https://cdn.example.org/up/3f2a/x.jpg", "prompt": "Steam rises"}, False, True),
        ({"image": "https://cdn.example.org/up/3f2a/x.jpg", "prompt": "Something else"}, False, False),
        ({"image": f"https://cdn.example.org/{OWN}-image.jpg", "prompt": "Steam rises"}, False, True),
        ({"image": f"https://cdn.example.org/{OTHER}-image.jpg", "prompt": "Steam rises"}, False, False),
        ({"image": [f"https://cdn.example.org/7/{str(OTHER).upper()}%2Dend_image.png"]}, False, False),
        # Somebody may write an address into a prompt; it proves nothing.
        ({"prompt": UPLOAD, "image": "https://files.example.com/x.jpg"}, False, False),
        ({"prompt": "Something else"}, False, False),
        ({"prompt": " Steam rises "}, False, True),
        ({"image": "[hidden]", "prompt": "Steam rises"}, False, True),
        ({"image": None}, False, True),
        ({"image": "http://[", "prompt": 7}, False, True),
        ({}, False, True),
        (None, False, True),
    ],
)
def test_whose_it_is_by_its_inputs(inputs: dict[str, Any] | None, sure: bool, perhaps: bool) -> None:
    generation = sent()

    assert matching.is_sure(generation, inputs) is sure
    assert matching.may_be(generation, endpoint=ENDPOINT, made_at=SENT, inputs=inputs) is perhaps


@pytest.mark.parametrize(
    ("minutes", "perhaps"), [(-5.1, False), (-4.9, True), (0, True), (15, True), (16.9, True), (17.1, False)]
)
def test_whose_it_is_by_its_time(minutes: float, perhaps: bool, settings: object) -> None:
    settings.WAVESPEED_DEADLINE = 120.0
    made_at = SENT + timedelta(minutes=minutes)

    assert matching.may_be(sent(), endpoint=ENDPOINT, made_at=made_at) is perhaps


def test_what_is_not_known_speaks_for_nothing_and_another_endpoint_against_it() -> None:
    assert matching.may_be(sent())
    assert not matching.may_be(sent(), endpoint="kwaivgi/kling-video-o3-4k/text-to-video")
    assert not matching.may_be(sent(submitted_at=None))
    assert not matching.is_sure(sent(uploads={}), {"image": ""})


@pytest.mark.parametrize(
    ("inputs", "perhaps"), [({"prompt": "Steam rises"}, True), ({"prompt": "Another"}, False), ({}, True)]
)
def test_without_an_upload_of_its_own_nothing_is_sure(inputs: dict[str, Any], perhaps: bool) -> None:
    generation = sent(uploads={}, request_body={"prompt": "Steam rises"})

    assert not matching.is_sure(generation, inputs)
    assert matching.may_be(generation, endpoint=ENDPOINT, made_at=SENT, inputs=inputs) is perhaps


@HIDDEN
def test_on_a_shared_account_no_words_of_a_candidate_are_kept(
    queued: Generation, wavespeed: SandboxControl, settings: Any
) -> None:
    settings.WAVESPEED_ACCOUNT_IS_SHARED = True
    lose(queued, wavespeed)

    assert lifecycle.resolve(queued.pk) is None

    [candidate] = decisions.candidates_of(queued)
    assert candidate.inputs == {}
