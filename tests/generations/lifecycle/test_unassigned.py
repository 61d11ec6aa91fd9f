"""Predictions that nobody here is known to have asked for: found, stored at once, and adopted by whom they surely belong to."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.files.storage import default_storage
from django.utils import timezone

from generations import lifecycle, provider
from generations.models import Generation, Lane, Status, UnassignedPrediction
from generations.wavespeed import errors
from generations.wavespeed.transport import Reply
from tests import pipeline
from tests.pipeline import ENDPOINT, submit_next, until
from tests.sandbox import SandboxControl
from wavespeed_sandbox import Sandbox


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox], request: pytest.FixtureRequest) -> Sandbox:
    return make_sandbox(**getattr(request, "param", {}))


def asked_elsewhere(processing: Generation, prompt: str = "Made elsewhere") -> str:
    body = {"image": processing.uploads["image"] + "?v=2", "prompt": prompt, "duration": 3}
    return provider.client().submit(ENDPOINT, body).id


def later(minutes: float = 6) -> time_machine.travel:
    return time_machine.travel(timezone.now() + timedelta(minutes=minutes))


def test_what_nobody_here_asked_for_is_found_and_stored(processing: Generation, wavespeed: SandboxControl) -> None:
    prediction = asked_elsewhere(processing)
    assert lifecycle.find_orphans() == 0, "a young one may be of a reply that is on its way"
    with later():
        assert lifecycle.find_orphans() == 1
        assert lifecycle.find_orphans() == 0

    orphan = UnassignedPrediction.objects.get()
    assert (orphan.prediction_id, orphan.endpoint, orphan.found_by) == (prediction, ENDPOINT, "list")
    assert orphan.inputs["prompt"] == "Made elsewhere"
    assert "v=2" not in orphan.inputs["image"], "a query may be a signature"
    until(lambda: lifecycle.store_unassigned(orphan.pk))

    orphan.refresh_from_db()
    made = next(each for each in wavespeed.predictions() if each["id"] == prediction)
    video = orphan.videos.get()
    assert (video.sha256, video.generation) == (made["output_sha256"], None)
    assert video.file.name.startswith(f"unassigned/{orphan.pk}/")
    assert default_storage.size(video.file.name) == made["output_bytes"]
    assert (orphan.provider_status, orphan.error_message, orphan.next_action_at) == ("completed", "", None)
    assert lifecycle.store_unassigned(orphan.pk) is False


def test_many_are_found_on_all_pages_and_from_the_last_look_on(
    processing: Generation, wavespeed: SandboxControl
) -> None:
    for take in range(103):
        asked_elsewhere(processing, f"Take {take}")
    with later():
        assert lifecycle.find_orphans() == 103
    looked_until = Lane.objects.get().orphans_until
    assert looked_until is not None

    asked_elsewhere(processing, "One more")
    with later(20):
        assert lifecycle.find_orphans() == 1
        assert Lane.objects.get().orphans_until > looked_until


def test_what_the_list_shows_late_is_found_all_the_same(
    processing: Generation, wavespeed: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = asked_elsewhere(processing)
    with monkeypatch.context() as lag:
        show_nothing_in_the_list(lag)
        for minutes in (6, 16, 26):
            with later(minutes):
                assert lifecycle.find_orphans() == 0
    with later(36):
        assert lifecycle.find_orphans() == 1
    assert UnassignedPrediction.objects.get().prediction_id == prediction


def test_what_is_listed_only_after_it_was_settled_as_not_made_is_a_late_success(
    queued: Generation, wavespeed: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    wavespeed.arm("charge_late", seconds=3600)
    wavespeed.arm("submit_drop_after")
    submit_next()
    with monkeypatch.context() as lag:
        show_nothing_in_the_list(lag)
        for minutes in (6, 16):
            with later(minutes):
                lifecycle.resolve(queued.pk)
                assert lifecycle.find_orphans() == 0
    with later(16.5):
        queued.refresh_from_db()
        pipeline.settle_not_made(queued, by=queued.project.created_by, reason="It is not in the list.")
    with later(26):
        assert lifecycle.find_orphans() == 0
        until(lambda: lifecycle.poll(queued.pk) == Status.STORING)


def show_nothing_in_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the client's transport: it is empty, whatever was asked for."""
    transport = provider.client()._transport
    ask = transport.send

    def lagging(method: str, url: str, **how: Any) -> Reply:
        reply = ask(method, url, **how)
        nothing = b'{"code": 200, "message": "success", "data": {"page": 1, "items": []}}'
        return replace(reply, content=nothing) if url.endswith("/predictions") else reply

    monkeypatch.setattr(transport, "send", lagging)


def test_a_list_that_can_not_be_read_is_looked_at_again_from_the_same_place(
    processing: Generation, wavespeed: SandboxControl
) -> None:
    asked_elsewhere(processing)
    wavespeed.arm("free_500", times=1, route="predictions")
    with later():
        assert lifecycle.find_orphans() == 0
        assert Lane.objects.get().orphans_until is None
        assert lifecycle.find_orphans() == 1


def test_a_studio_that_never_submitted_takes_nothing_for_its_own(draft: Generation, wavespeed: SandboxControl) -> None:
    provider.client().submit(ENDPOINT, {"image": "https://example.com/a.jpg", "prompt": "Old", "duration": 3})
    with later():
        assert lifecycle.find_orphans() == 0
    assert not UnassignedPrediction.objects.exists()


def test_an_orphan_that_names_an_own_picture_is_adopted(queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("submit_drop_after")
    submit_next()
    with later():
        assert lifecycle.find_orphans() == 0

    queued.refresh_from_db()
    assert (queued.status, queued.prediction_id) == (Status.PROCESSING, wavespeed.predictions()[0]["id"])
    assert not UnassignedPrediction.objects.exists()


def test_an_orphan_of_what_was_settled_as_not_made_is_a_late_success(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("submit_drop_after")
    submit_next()
    with later(16):
        queued.refresh_from_db()
        pipeline.settle_not_made(queued, by=queued.project.created_by, reason="Nobody looked.")
        assert lifecycle.find_orphans() == 0
        until(lambda: lifecycle.poll(queued.pk) == Status.STORING)


@pytest.mark.parametrize("sandbox", [{"list_inputs": False}], indirect=True)
def test_what_may_be_of_a_submit_under_way_is_looked_at_again(
    processing: Generation, wavespeed: SandboxControl
) -> None:
    Generation.objects.filter(pk=processing.pk).update(status=Status.SUBMITTING, prediction_id=None)
    with later():
        assert lifecycle.find_orphans() == 0
        Generation.objects.filter(pk=processing.pk).update(status=Status.CANCELLED)
        assert lifecycle.find_orphans() == 1


# --- Storing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def orphan(processing: Generation, wavespeed: SandboxControl) -> UnassignedPrediction:
    asked_elsewhere(processing)
    with later():
        lifecycle.find_orphans()
    return UnassignedPrediction.objects.get()


@pytest.mark.parametrize("fault", ["result_500", "result_404", "result_garbage", "download_expired"])
def test_what_goes_wrong_is_tried_again_while_the_provider_has_it(
    fault: str, orphan: UnassignedPrediction, wavespeed: SandboxControl, settings: object
) -> None:
    settings.WAVESPEED_DEADLINE = 1.0
    provider.client.cache_clear()
    until(lambda: wavespeed.predictions()[0]["status"] == "completed")
    wavespeed.arm(fault, times=None if fault.startswith("result") else 1)

    assert lifecycle.store_unassigned(orphan.pk) is False

    orphan.refresh_from_db()
    assert orphan.error_message
    assert (orphan.lease_token, orphan.attempts) == (None, 1)
    assert orphan.next_action_at is not None
    wavespeed.disarm()
    assert lifecycle.store_unassigned(orphan.pk)


def test_one_that_the_provider_has_lost_ends(orphan: UnassignedPrediction, wavespeed: SandboxControl) -> None:
    wavespeed.advance(8 * 24 * 3600)
    with later(8 * 24 * 60):
        assert lifecycle.store_unassigned(orphan.pk) is False

    orphan.refresh_from_db()
    assert orphan.next_action_at is None
    assert orphan.error_message.startswith("The provider does not have it any more.")


def test_one_that_the_provider_does_not_answer_for_is_asked_for_again_however_long(
    orphan: UnassignedPrediction, wavespeed: SandboxControl, settings: object
) -> None:
    settings.WAVESPEED_DEADLINE = 1.0
    provider.client.cache_clear()
    until(lambda: wavespeed.predictions()[0]["status"] == "completed")
    wavespeed.arm("result_500", times=None)
    UnassignedPrediction.objects.filter(pk=orphan.pk).update(made_at=timezone.now() - timedelta(days=30))

    assert lifecycle.store_unassigned(orphan.pk) is False

    orphan.refresh_from_db()
    assert (orphan.next_action_at is not None, orphan.lease_token) == (True, None)
    wavespeed.disarm()
    assert lifecycle.store_unassigned(orphan.pk)


def test_one_that_is_assigned_while_it_is_stored_leaves_nothing_behind(
    orphan: UnassignedPrediction, processing: Generation, wavespeed: SandboxControl
) -> None:
    """Its generation stores what it made; the files of the other attempt are deleted."""
    until(lambda: wavespeed.predictions()[0]["status"] == "completed")
    UnassignedPrediction.objects.filter(pk=orphan.pk).update(assigned_to=processing)

    assert lifecycle.store_unassigned(orphan.pk) is False
    assert not orphan.videos.exists()


def test_on_a_shared_account_what_nobody_here_asked_for_is_left_alone(
    processing: Generation, wavespeed: SandboxControl, settings: Any
) -> None:
    settings.WAVESPEED_ACCOUNT_IS_SHARED = True
    Generation.objects.filter(pk=processing.pk).update(prediction_id=None, status=Status.COMPLETED)

    with time_machine.travel(timezone.now() + timedelta(minutes=10)):
        assert lifecycle.find_orphans() == 0

    assert not UnassignedPrediction.objects.exists()


def test_a_list_without_end_is_given_up_in_bounded_time(
    queued: Generation, wavespeed: SandboxControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generations.wavespeed.client.MOST_LISTED", 500)
    wavespeed.arm("free_endless", times=None, route="predictions")

    with pytest.raises(errors.NotUnderstood, match="does not end: more than 500"):
        list(provider.client().all_predictions())
    # What is older than was asked for ends it, as the newest come first.
    assert list(provider.client().all_predictions(created_after=timezone.now() + timedelta(days=1))) == []
    wavespeed.arm("free_endless", times=None, route="billings")
    with pytest.raises(errors.NotUnderstood, match="does not end: more than 500"):
        provider.client().billings()
