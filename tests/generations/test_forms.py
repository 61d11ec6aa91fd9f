"""Answers of the provider in other words and forms: what is known is taken, what is not is for people, and nobody else waits for it."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.utils import timezone

from generations import lifecycle, provider
from generations.lifecycle.needs_look import TRIES_UNTIL_LOOK
from generations.models import Exchange, Generation, Status
from generations.services import drafts, orders
from generations.wavespeed import errors
from generations.wavespeed.replies import MOST_OUTPUTS
from projects.models import Alert, AlertKind
from tests import factories
from tests.pipeline import ENDPOINT, file_sha256, money, poll_to_end, run_to_end, submit_next, until
from tests.sandbox import SandboxControl
from wavespeed_sandbox.forms import FORMS

PRICE = 2_100_000
NOT_UNDERSTOOD = ("elsewhere", "too_deep", "number")
WORDS = ["succeeded", "Completed", "success", "SUCCESS", "done", "finished", " complete\n", "Succeeded"]


def is_completed(wavespeed: SandboxControl) -> bool:
    return bool(wavespeed.predictions()) and all(each["status"] == "completed" for each in wavespeed.predictions())


def look_often(generation: Generation, times: int = TRIES_UNTIL_LOOK) -> None:
    """As often as the studio asks within some minutes."""
    for _ in range(times):
        assert lifecycle.poll(generation.pk) is None
    generation.refresh_from_db()


@pytest.mark.parametrize("form", sorted(FORMS.keys() - {*NOT_UNDERSTOOD, "many_different"}))
def test_outputs_are_taken_in_whatever_form_they_come(form: str, queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("result_form", times=None, form=form)

    run_to_end(queued)

    assert (queued.status, money(queued)) == (Status.COMPLETED, (0, PRICE))
    assert file_sha256(queued) == wavespeed.predictions()[0]["output_sha256"]


def test_of_outputs_without_end_the_first_are_taken(queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("result_form", times=None, form="many_different")

    run_to_end(queued)

    assert (queued.status, money(queued)) == (Status.COMPLETED, (0, PRICE))
    assert (len(queued.outputs), queued.videos.count()) == (MOST_OUTPUTS, MOST_OUTPUTS)


@pytest.mark.parametrize("word", WORDS)
def test_completed_is_understood_by_other_words(word: str, queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("result_word", times=None, status=word)

    run_to_end(queued)

    assert (queued.status, money(queued)) == (Status.COMPLETED, (0, PRICE))


@pytest.mark.parametrize("fault", ["result_bare", "result_absurd"])
def test_a_strange_envelope_or_number_holds_nothing_up(
    fault: str, queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm(fault, times=None)

    run_to_end(queued)

    assert (queued.status, money(queued)) == (Status.COMPLETED, (0, PRICE))


@pytest.mark.parametrize(
    ("fault", "parameters", "sentence"),
    [
        ("result_no_outputs", {}, "The provider says that it has finished, and its answer names no video."),
        *(
            ("result_form", {"form": form}, "The provider says that it has finished, and its answer names no video.")
            for form in NOT_UNDERSTOOD
        ),
        ("result_unknown_status", {"status": "paused"}, "The provider says “paused”, which is no word that the studio"),
        ("result_unknown_status", {"status": ""}, "The provider's answer does not say how far it is."),
        ("result_other_id", {}, "The provider answered, and not in a form that the studio knows."),
    ],
)
def test_what_is_not_understood_is_told_within_minutes_and_frees_its_slot(
    fault: str,
    parameters: dict[str, Any],
    sentence: str,
    processing: Generation,
    wavespeed: SandboxControl,
    settings: Any,
) -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE = 1
    until(lambda: is_completed(wavespeed))
    wavespeed.arm(fault, times=None, **parameters)

    lifecycle.poll(processing.pk)

    processing.refresh_from_db()
    assert processing.error_message.startswith(sentence)
    waited = processing.next_action_at - timezone.now()
    assert timedelta(0) < waited <= timedelta(seconds=1)
    look_often(processing, TRIES_UNTIL_LOOK - 1)
    assert processing.needs_look_why.startswith(sentence)
    assert Alert.objects.filter(kind=AlertKind.NEEDS_LOOK).count() == 1
    kept = Exchange.objects.filter(generation=processing, kind=Exchange.Kind.RESULT)
    assert kept.count() == TRIES_UNTIL_LOOK
    assert kept.last().detail["body"]
    assert (processing.status, money(processing)) == (Status.PROCESSING, (PRICE, 0))
    look_often(processing, 3)
    assert kept.count() == TRIES_UNTIL_LOOK
    # The next one is let in.
    other = drafts.create(
        processing.project,
        endpoint=ENDPOINT,
        inputs={"image": str(factories.source_image(processing.project).pk), "prompt": "Another"},
        by=processing.requested_by,
    )
    orders.queue(other, by=other.requested_by)
    submit_next()
    # And once it is understood, all is well.
    wavespeed.disarm()
    poll_to_end(processing)
    assert (processing.status, processing.needs_look_since) == (Status.STORING, None)


def test_what_is_being_made_after_all_needs_no_look_any_more(processing: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("result_unknown_status", times=TRIES_UNTIL_LOOK)
    look_often(processing)
    assert processing.needs_look_since
    wavespeed.arm("result_unknown_status", status="In Progress")

    lifecycle.poll(processing.pk)

    processing.refresh_from_db()
    assert (processing.needs_look_since, processing.error_code, processing.error_message) == (None, "", "")


def test_what_nobody_looks_at_fails_on_the_eighth_day_and_follows_the_bill(
    processing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("result_other_id", times=None)
    look_often(processing)

    with time_machine.travel(timezone.now() + timedelta(days=8, hours=1)):
        assert lifecycle.poll(processing.pk) == Status.FAILED

    processing.refresh_from_db()
    assert (processing.error_code, processing.settle_at is not None) == ("result_expired", True)


def test_a_flagged_result_without_outputs_is_a_refusal_of_the_moderation(
    queued: Generation, wavespeed: SandboxControl, settings: Any
) -> None:
    wavespeed.arm("result_no_outputs", times=None, flagged=True)

    run_to_end(queued)

    assert (queued.status, queued.error_code) == (Status.FAILED, "content_moderation")
    # The provider keeps it: it is charged when no refund has come in time.
    with time_machine.travel(timezone.now() + timedelta(hours=5)):
        lifecycle.settle(queued.pk)
    assert money(queued) == (0, PRICE)


def test_the_message_of_an_error_that_is_an_object_is_shown(queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("task_failed", code=1200)
    wavespeed.arm("result_error_object", times=None)

    run_to_end(queued)

    failure = wavespeed.predictions()[0]
    assert (queued.status, queued.error_code) == (Status.FAILED, "content_moderation")
    assert queued.error_message == failure.get("error", queued.error_message) != ""
    assert "{" not in queued.error_message


@pytest.mark.parametrize("number", ["1e1000000", "NaN", "-1e400", "1e300", "9" * 5000])
def test_an_absurd_balance_price_or_bill_is_none(number: Any, queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("free_absurd", times=None, number=number)

    assert provider.balance() is None
    with pytest.raises(errors.Unreadable):
        provider.client().price(ENDPOINT, {})
    run_to_end(queued)
    assert (queued.status, money(queued)) == (Status.COMPLETED, (0, PRICE))
    assert queued.settle_at
