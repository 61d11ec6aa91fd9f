"""Each step against the sandbox over real HTTP: what a user sees, what it costs, what the provider's book says."""

import threading
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from structlog.testing import capture_logs

from generations import alerts, lifecycle, provider
from generations.models import Exchange, Generation, Lane, PauseCause, Status
from generations.services import drafts, orders, pauses
from projects.models import Alert, AlertKind, Notification, Project, SpendEntry
from tests import factories
from tests.generations.wavespeed.wire import Request, always, envelope, serving
from tests.pipeline import ENDPOINT, booked, file_sha256, history, money, poll_to_end, run_to_end, submit_next, until
from tests.sandbox import SandboxControl

PRICE = 2_100_000


def test_a_generation_becomes_a_stored_video_that_is_charged_once(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    assert money(queued) == (PRICE, 0)

    run_to_end(queued)

    made = wavespeed.predictions()[0]
    video = queued.videos.get()
    assert history(queued) == ["draft", "queued", "submitting", "processing", "storing", "completed"]
    assert (queued.status, queued.prediction_id, queued.charged) == (Status.COMPLETED, made["id"], PRICE)
    assert money(queued) == (0, PRICE)
    assert booked(queued) == [("reserve", PRICE, 0), ("charge", -PRICE, PRICE)]
    assert file_sha256(queued) == video.sha256 == made["output_sha256"]
    assert video.bytes == default_storage.size(video.file.name) == made["output_bytes"]
    assert (video.width, video.height, video.codec, video.has_audio, video.fps) == (320, 180, "h264", True, 24)
    assert abs(video.duration - 5) < Decimal("0.05")
    with video.poster.open("rb") as poster:
        assert poster.read(3) == b"\xff\xd8\xff"
    assert wavespeed.posts()["count"] == 1
    assert wavespeed.bill()["total_micros"] == PRICE


def test_the_request_names_its_own_upload_and_nothing_that_was_not_set(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    submit_next()
    queued.refresh_from_db()

    sent = wavespeed.predictions()[0]["inputs"]
    assert sent == queued.request_body
    assert sent.keys() == {"image", "prompt", "duration", "sound", "shot_type"}
    assert sent["image"] == queued.uploads["image"]
    assert [upload["filename"] for upload in wavespeed.uploads()] == [f"{queued.pk}-image.jpg"]


AMBIGUOUS = [
    ("submit_drop_before", 0),
    ("submit_drop_after", 1),
    ("submit_408", 0),
    ("submit_409", 0),
    ("submit_500", 0),
    ("submit_500_created", 1),
    ("submit_503", 0),
    ("submit_504", 0),
    ("submit_504_created", 1),
    ("submit_redirect", 0),
    ("submit_garbage", 0),
    ("submit_garbage_created", 1),
    ("submit_error_code", 0),
    ("submit_no_id", 1),
]


@pytest.mark.parametrize(("fault", "tasks"), AMBIGUOUS)
def test_an_ambiguous_answer_holds_the_money_and_is_never_sent_again(
    fault: str, tasks: int, queued: Generation, wavespeed: SandboxControl, caplog: pytest.LogCaptureFixture
) -> None:
    wavespeed.arm(fault)

    submit_next()

    queued.refresh_from_db()
    assert queued.status == Status.UNCONFIRMED
    reason = queued.events.last().reason
    assert "gave no clear answer" in reason
    lines = [record.msg for record in caplog.records if record.name == "generations.lifecycle.submit"]
    (line,) = [line for line in lines if line["event"] == "submit_unclear"]
    assert (line["generation"], line["level"]) == (str(queued.pk), "warning")
    assert reason.endswith(line["reason"])
    assert money(queued) == (PRICE, 0)
    assert (wavespeed.posts()["count"], len(wavespeed.predictions())) == (1, tasks)
    # Nothing that runs later sends it again or gives the money back.
    with time_machine.travel(timezone.now() + timedelta(days=3)):
        assert lifecycle.admit() is None
        assert lifecycle.recover_submit(queued.pk) is False
        lifecycle.settle(queued.pk)
    assert money(queued) == (PRICE, 0)
    assert wavespeed.posts()["count"] == 1


def test_an_answer_that_comes_after_we_gave_up_is_not_waited_for(
    queued: Generation, wavespeed: SandboxControl, settings: object
) -> None:
    settings.WAVESPEED_DEADLINE = 1.0
    provider.client.cache_clear()
    wavespeed.arm("submit_slow", seconds=3)

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, money(queued)) == (Status.UNCONFIRMED, (PRICE, 0))
    assert wavespeed.posts()["count"] == 1


@pytest.mark.parametrize("fault", ["submit_429", "submit_concurrency"])
def test_too_many_requests_slow_the_lane_and_the_generation_waits(
    fault: str, queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm(fault)

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, money(queued)) == (Status.QUEUED, (PRICE, 0))
    assert Lane.objects.get().slowed_until > timezone.now()
    assert lifecycle.admit() is None
    with time_machine.travel(timezone.now() + timedelta(seconds=30)):
        run_to_end(queued)
    assert queued.status == Status.COMPLETED
    assert (wavespeed.bill()["total_micros"], wavespeed.posts()["count"]) == (PRICE, 2)


def test_a_dead_provider_gets_no_post_and_everything_waits(queued: Generation, settings: object) -> None:
    settings.WAVESPEED_BASE_URL = "http://127.0.0.1:9"
    provider.client.cache_clear()

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, queued.attempts, money(queued)) == (Status.QUEUED, 1, (PRICE, 0))
    assert queued.next_action_at > timezone.now()
    assert not Exchange.objects.filter(kind="submit").exists()


def test_a_refused_key_pauses_the_lane_and_loses_nothing(queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("submit_401", times=None)
    wavespeed.arm("free_401", times=None, route="balance")

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, money(queued)) == (Status.QUEUED, (PRICE, 0))
    assert Lane.objects.get().paused_reason == (
        "The provider refuses the studio's API key. Check WAVESPEED_API_KEY; submitting goes on by itself once it is accepted."
    )
    with time_machine.travel(timezone.now() + timedelta(minutes=10)):
        assert lifecycle.admit() is None
        wavespeed.disarm()
        pauses.resume_lane(by=queued.project.created_by)
        run_to_end(queued)
    assert (queued.status, wavespeed.bill()["total_micros"]) == (Status.COMPLETED, PRICE)


def test_a_generation_that_alone_is_refused_three_times_fails_and_the_lane_goes_on(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("submit_403", times=None)

    for minutes in (0, 10, 20):
        with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
            submit_next()

    queued.refresh_from_db()
    assert (queued.status, queued.error_code, money(queued)) == (Status.FAILED, "key_refused", (0, 0))
    assert Lane.objects.get().paused_at is None
    assert wavespeed.bill()["total_micros"] == 0


def test_missing_credits_pause_the_lane(queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("submit_insufficient_credits")
    wavespeed.arm("free_500", times=None, route="balance")

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, money(queued)) == (Status.QUEUED, (PRICE, 0))
    assert Lane.objects.get().paused_reason == (
        "The provider's account has not enough credits. Top it up; submitting goes on by itself once they cover the next video."
    )


@pytest.mark.parametrize("fault", ["submit_400", "submit_404", "submit_413", "submit_422"])
def test_a_rejected_request_fails_and_costs_nothing(fault: str, queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm(fault)

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, queued.error_code) == (Status.FAILED, "rejected")
    assert booked(queued) == [("reserve", PRICE, 0), ("release", -PRICE, 0)]
    assert money(queued) == (0, 0)


@pytest.mark.parametrize("fault", ["upload_ticket_500", "upload_ticket_drop", "upload_put_500", "upload_put_drop"])
def test_an_upload_that_fails_is_done_again_before_anything_is_asked_for(
    fault: str, queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm(fault)

    submit_next()
    queued.refresh_from_db()

    assert (queued.status, wavespeed.posts()["count"]) == (Status.QUEUED, 0)
    with time_machine.travel(timezone.now() + timedelta(seconds=30)):
        run_to_end(queued)
    assert (queued.status, wavespeed.posts()["count"]) == (Status.COMPLETED, 1)


def test_a_picture_that_is_gone_fails_before_anything_is_asked_for(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    default_storage.delete(queued.image.file.name)

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, queued.error_code, money(queued)) == (Status.FAILED, "picture_missing", (0, 0))
    assert wavespeed.posts()["count"] == 0


def test_a_storage_that_can_not_be_read_now_is_tried_again(queued: Generation, wavespeed: SandboxControl) -> None:
    path = Path(default_storage.path(queued.image.file.name))
    kept = path.rename(path.with_suffix(".kept"))
    path.mkdir()  # reading it fails, though it is there

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, queued.attempts, queued.lease_token) == (Status.QUEUED, 1, None)
    assert (money(queued), wavespeed.posts()["count"]) == ((PRICE, 0), 0)
    path.rmdir()
    kept.rename(path)
    with time_machine.travel(timezone.now() + timedelta(seconds=30)):
        run_to_end(queued)
    assert (queued.status, wavespeed.posts()["count"]) == (Status.COMPLETED, 1)


def test_an_upload_that_fails_again_and_again_is_told(
    queued: Generation, wavespeed: SandboxControl, editor_client: Client
) -> None:
    wavespeed.arm("upload_ticket_500", times=None)

    with capture_logs() as logs:
        for minutes in (0, 10, 20):
            with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
                submit_next()

    queued.refresh_from_db()
    trouble = "Not uploaded, and will be tried again: The call was not answered: HTTP 500."
    assert (queued.status, queued.attempts, queued.error_code) == (Status.QUEUED, 3, "not_uploaded")
    assert queued.error_message == trouble
    assert [log["reason"] for log in logs if log["event"] == "not_uploaded"] == [trouble] * 3
    assert queued.exchanges.filter(kind=Exchange.Kind.UPLOAD, detail__status=500).count() == 3
    told = editor_client.get(f"/api/v1/generations/{queued.pk}/").json()
    assert (told["error"], told["trouble"]) == (None, trouble)
    page = editor_client.get(reverse("admin:generations_generation_change", args=[queued.pk])).content.decode()
    assert f"Last trouble: <q>{trouble}</q>" in page

    wavespeed.disarm()
    with time_machine.travel(timezone.now() + timedelta(minutes=40)):
        submit_next()
    queued.refresh_from_db()
    assert (queued.status, queued.error_code, queued.error_message) == (Status.PROCESSING, "", "")


def test_owners_hear_once_a_day_of_what_can_not_be_uploaded(
    queued: Generation, wavespeed: SandboxControl, studio_owner: User
) -> None:
    wavespeed.arm("upload_ticket_500", times=None)
    project_owner = factories.member(queued.project, role="owner")
    tried, now = 0, timezone.now()
    while not Alert.objects.exists() and tried < 40:
        now += timedelta(minutes=6)
        with time_machine.travel(now):
            submit_next()
            tried += 1
            alerts.check_not_sent()
            alerts.check_not_sent()

    alert = Alert.objects.get(kind=AlertKind.LANE_PAUSED)
    assert (alert.title, tried) == ("1 generation can't be submitted", alerts.TRIES_UNTIL_TOLD)
    assert "HTTP 500" in alert.text
    assert [path for _, path in alert.links] == [f"/admin/generations/generation/{queued.pk}/change/"]
    assert [notification.user for notification in alert.notifications.all()] == [studio_owner]
    own = Alert.objects.get(kind=AlertKind.NEEDS_LOOK)
    assert [notification.user for notification in own.notifications.all()] == [project_owner], "each hears of it once"

    wavespeed.disarm()
    with time_machine.travel(now + timedelta(days=1)):
        alerts.check_not_sent()
        assert Alert.objects.filter(kind=AlertKind.LANE_PAUSED).count() == 2, (
            "told again the next day, as long as it lasts"
        )
    with time_machine.travel(now + timedelta(days=2)):
        submit_next()
        alerts.check_not_sent()
    queued.refresh_from_db()
    assert (queued.status, Alert.objects.filter(kind=AlertKind.LANE_PAUSED).count()) == (Status.PROCESSING, 2)


def test_an_upload_to_an_address_that_the_guard_refuses_is_told(queued: Generation, settings: object) -> None:
    put = {"method": "PUT", "url": "https://10.0.0.1/a.jpg?signature=s1", "headers": {}}
    ticket = envelope({"download_url": "https://203.0.113.7/a.jpg?signature=s2", "upload": put})
    with serving(always(ticket)) as server, capture_logs() as logs:
        settings.WAVESPEED_BASE_URL = server.url
        provider.client.cache_clear()
        submit_next()
    provider.client.cache_clear()

    queued.refresh_from_db()
    assert (queued.status, queued.error_code) == (Status.QUEUED, "not_uploaded")
    assert "The provider named a URL that is not allowed" in queued.error_message
    assert [log["event"] for log in logs if log["log_level"] == "warning"] == ["not_uploaded"]
    assert "signature" not in f"{queued.error_message} {logs} {queued.exchanges.get().detail}"


def test_too_many_uploads_slow_the_lane_as_too_many_requests_do(queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("upload_ticket_500", status=429)

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, queued.attempts, queued.lease_token) == (Status.QUEUED, 0, None)
    assert Lane.objects.get().slowed_until == queued.next_action_at > timezone.now()
    assert lifecycle.admit() is None


def test_a_key_that_is_refused_at_an_upload_pauses_the_lane(queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("upload_ticket_500", status=401)
    wavespeed.arm("free_401", times=None, route="balance")

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, Lane.objects.get().paused_cause) == (Status.QUEUED, PauseCause.KEY_REFUSED)


def test_an_upload_that_alone_is_refused_three_times_fails_and_the_lane_goes_on(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("upload_ticket_500", times=2)
    wavespeed.arm("upload_ticket_500", times=None, status=401)

    for minutes in range(5):
        with time_machine.travel(timezone.now() + timedelta(minutes=10 * minutes)):
            queued.refresh_from_db()
            assert queued.status == Status.QUEUED
            submit_next()

    queued.refresh_from_db()
    assert (queued.status, queued.error_code, money(queued)) == (Status.FAILED, "key_refused", (0, 0))
    assert (Lane.objects.get().paused_at, wavespeed.posts()["count"]) == (None, 0)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_each_call_of_a_submit_is_covered_by_a_lease_that_ends_soon_after_it(settings: object) -> None:
    """So nobody else acts while a call is under way, and a worker that dies holds its slot for one call at most."""
    settings.WAVESPEED_DEADLINE = 100.0
    project: Project = factories.ProjectFactory()
    factories.budget(project, 100_000_000)
    by, image = project.created_by, str(factories.source_image(project).pk)
    inputs = {"image": image, "end_image": image, "prompt": "Steam", "duration": 3}
    generation = drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by)
    orders.queue(generation, by=by)
    left: list[float] = []

    def answer(request: Request) -> list[bytes]:
        lease_until = Generation.objects.values_list("lease_until", flat=True).get(pk=generation.pk)
        connection.close()
        left.append((lease_until - timezone.now()).total_seconds())
        traveller.shift(50)
        upload = {"method": "PUT", "url": f"{server.url}/put", "headers": {}}
        return [envelope({"id": "a" * 32, "download_url": f"{server.url}/a.jpg", "upload": upload})]

    with serving(answer) as server, time_machine.travel(timezone.now()) as traveller:
        settings.WAVESPEED_BASE_URL = server.url
        provider.client.cache_clear()
        submit_next()
    provider.client.cache_clear()

    assert [request.method for request in server.requests] == ["POST", "PUT", "POST", "PUT", "POST"]
    assert all(100 < seconds <= 100 + settings.LEASE_MARGIN_SECONDS for seconds in left), left


def test_a_worker_that_finds_its_lease_taken_uploads_and_asks_no_more(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    lease = lifecycle.admit()
    assert Generation.objects.take_over(queued.pk, 60)

    lifecycle.submit(lease)

    queued.refresh_from_db()
    assert (queued.status, queued.error_code) == (Status.QUEUED, "")
    assert (wavespeed.uploads(), wavespeed.posts()["count"]) == ([], 0)


# --- A worker that dies -----------------------------------------------------------------------------------------------


def leased_and_submitting(generation: Generation) -> None:
    lease = lifecycle.admit()
    assert lease
    now = timezone.now()
    assert Generation.objects.move(
        lease.pk,
        Status.QUEUED,
        Status.SUBMITTING,
        token=lease.token,
        submitted_at=now,
        lease_token=lease.token,
        lease_until=now,
    )


def test_a_submit_whose_worker_died_is_unconfirmed(queued: Generation) -> None:
    leased_and_submitting(queued)

    assert lifecycle.recover_submit(queued.pk)

    queued.refresh_from_db()
    assert (queued.status, money(queued)) == (Status.UNCONFIRMED, (PRICE, 0))


def test_a_submit_whose_reply_was_kept_goes_on(queued: Generation) -> None:
    leased_and_submitting(queued)
    Exchange.objects.create(generation=queued, kind="submit", prediction_id="a" * 32, summary="Accepted")

    assert lifecycle.recover_submit(queued.pk)

    queued.refresh_from_db()
    assert (queued.status, queued.prediction_id) == (Status.PROCESSING, "a" * 32)


def test_a_kept_reply_that_names_anothers_prediction_is_for_people(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    """A gateway may answer from its cache: what became of the request nobody knows."""
    run_to_end(queued)
    second = orders.retry(queued, by=queued.requested_by, confirm=True)
    leased_and_submitting(second)
    Exchange.objects.create(generation=second, kind="submit", prediction_id=queued.prediction_id, summary="Accepted")

    assert lifecycle.recover_submit(second.pk)

    second.refresh_from_db()
    assert (second.status, second.prediction_id, booked(second)) == (Status.UNCONFIRMED, None, [("reserve", PRICE, 0)])
    assert second.events.last().reason == (
        f"The provider's answer names the prediction {queued.prediction_id}, which is another generation's; "
        "whether it accepted this one is unknown."
    )
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        lifecycle.resolve(second.pk)
    assert Alert.objects.filter(title__contains="nobody knows whether").exists()


def test_an_answer_that_names_anothers_prediction_is_for_people(
    queued: Generation, wavespeed: SandboxControl, settings: object
) -> None:
    run_to_end(queued)
    second = orders.retry(queued, by=queued.requested_by, confirm=True)
    uploads = {"image": "https://203.0.113.7/a.jpg"}
    Generation.objects.filter(pk=second.pk).update(uploads=uploads, uploaded_at=timezone.now())
    with serving(always(envelope({"id": queued.prediction_id}))) as server:
        settings.WAVESPEED_BASE_URL = server.url
        provider.client.cache_clear()
        submit_next()

    second.refresh_from_db()
    assert (second.status, second.prediction_id) == (Status.UNCONFIRMED, None)
    assert second.next_action_at is not None


def test_a_living_submit_is_left_alone(queued: Generation) -> None:
    leased_and_submitting(queued)
    Generation.objects.filter(pk=queued.pk).update(lease_until=timezone.now() + timedelta(minutes=1))

    assert lifecycle.recover_submit(queued.pk) is False
    queued.refresh_from_db()
    assert queued.status == Status.SUBMITTING


def test_a_late_reply_is_the_sure_match_of_an_unconfirmed_request(queued: Generation) -> None:
    leased_and_submitting(queued)
    lifecycle.recover_submit(queued.pk)

    assert lifecycle.adopt(queued.pk, "b" * 32, reason="The answer came late.")

    queued.refresh_from_db()
    assert (queued.status, queued.prediction_id) == (Status.PROCESSING, "b" * 32)


# --- Poll -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        "result_404",
        "result_429",
        "result_500",
        "result_drop",
        "result_garbage",
        "result_error_code",
        "result_unknown_status",
    ],
)
def test_a_bad_answer_to_a_poll_is_no_verdict(
    fault: str, processing: Generation, wavespeed: SandboxControl, settings: object
) -> None:
    settings.WAVESPEED_DEADLINE = 1.0
    provider.client.cache_clear()
    wavespeed.arm(fault, times=None)

    assert lifecycle.poll(processing.pk) is None

    processing.refresh_from_db()
    assert (processing.status, processing.lease_token) == (Status.PROCESSING, None)
    assert processing.next_action_at > timezone.now()
    wavespeed.disarm()
    poll_to_end(processing)
    assert processing.status == Status.STORING


@pytest.mark.parametrize(
    "fault",
    ["result_null_nsfw", "result_no_timings", "result_extra_fields", "result_object_outputs", "task_nsfw_flagged"],
)
def test_a_strange_but_clear_result_is_taken(fault: str, queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm(fault, times=None)

    run_to_end(queued)

    assert queued.status == Status.COMPLETED
    assert file_sha256(queued) == wavespeed.predictions()[0]["output_sha256"]


def test_a_completed_result_without_outputs_is_asked_for_again(
    processing: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("result_null_outputs", times=None)
    until(lambda: lifecycle.poll(processing.pk) is None and wavespeed.predictions()[0]["status"] == "completed")
    assert lifecycle.poll(processing.pk) is None
    processing.refresh_from_db()
    assert processing.status == Status.PROCESSING

    wavespeed.disarm()
    poll_to_end(processing)
    assert processing.status == Status.STORING


def test_endless_processing_is_given_up_on_the_eighth_day(processing: Generation, wavespeed: SandboxControl) -> None:
    Generation.objects.filter(pk=processing.pk).update(prediction_id="0" * 32)

    with time_machine.travel(timezone.now() + timedelta(days=7, hours=23)):
        assert lifecycle.poll(processing.pk) is None
    with time_machine.travel(timezone.now() + timedelta(days=8, hours=1)):
        assert lifecycle.poll(processing.pk) == Status.FAILED

    processing.refresh_from_db()
    assert (processing.error_code, money(processing)) == ("result_expired", (PRICE, 0))
    assert processing.settle_at is not None


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [("result_500", {}), ("result_drop", {}), ("result_garbage", {}), ("result_error_code", {"code": 401})],
)
def test_silence_is_no_verdict_however_long_it_lasts(
    fault: str, parameters: dict[str, int], processing: Generation, wavespeed: SandboxControl, settings: object
) -> None:
    settings.WAVESPEED_DEADLINE = 1.0
    provider.client.cache_clear()
    wavespeed.arm(fault, times=None, **parameters)
    Generation.objects.filter(pk=processing.pk).update(submitted_at=timezone.now() - timedelta(days=30))

    assert lifecycle.poll(processing.pk) is None
    processing.refresh_from_db()
    assert (processing.status, money(processing)) == (Status.PROCESSING, (PRICE, 0))
    assert processing.next_action_at is not None

    # The provider's own answer is one: it does not have it any more.
    wavespeed.reset()
    assert lifecycle.poll(processing.pk) == Status.FAILED
    processing.refresh_from_db()
    assert (processing.error_code, money(processing)) == ("result_expired", (PRICE, 0))


def test_a_key_that_is_refused_on_a_poll_pauses_the_lane_and_is_told(
    processing: Generation, studio_owner: User, wavespeed: SandboxControl
) -> None:
    """Nothing is queued, so no submit would find it out."""
    wavespeed.arm("result_error_code", times=None, code=401)
    assert lifecycle.poll(processing.pk) is None
    assert Lane.objects.get().paused_at is None, "the free call says that the key is good"

    wavespeed.arm("free_401", times=None, route="balance")
    assert lifecycle.poll(processing.pk) is None
    assert lifecycle.poll(processing.pk) is None

    processing.refresh_from_db()
    assert (processing.status, processing.lease_token) == (Status.PROCESSING, None)
    assert Lane.objects.get().paused_cause == PauseCause.KEY_REFUSED
    assert [told.user for told in Notification.objects.filter(alert__kind=AlertKind.LANE_PAUSED)] == [studio_owner]
    wavespeed.disarm()
    assert lifecycle.resume_if_account_is_back()
    poll_to_end(processing)
    assert processing.status == Status.STORING


def test_a_three_minute_job_takes_at_most_twenty_polls(settings: object) -> None:
    settings.WAVESPEED_POLL_SECONDS = 5.0
    elapsed, polls = 0.0, 0
    while elapsed < 180:
        elapsed += lifecycle.poll_interval(elapsed, usual=150)
        polls += 1
    assert polls <= 20


# --- Failure and settlement -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "parameters", "code"),
    [
        ("task_failed", {"code": 1200}, "content_moderation"),
        ("task_failed", {"code": 1402}, "media_fetch_failed"),
        ("task_failed", {"code": 1403}, "execution_failed"),
        ("task_failed", {"code": 1405}, "task_failed"),
        ("task_failed", {"code": 5000}, "provider_internal_error"),
        ("task_nsfw", {}, "content_moderation"),
        ("task_cancelled", {}, "cancelled"),
        ("task_timeout", {}, "provider_timed_out"),
        ("task_deleted", {}, "deleted"),
    ],
)
def test_a_failed_task_keeps_its_money_held_until_the_bill_is_read(
    fault: str, parameters: dict[str, int], code: str, queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm(fault, **parameters)

    run_to_end(queued)

    assert (queued.status, queued.error_code) == (Status.FAILED, code)
    assert queued.events.last().reason.endswith((".", "again."))
    assert money(queued) == (PRICE, 0)
    assert booked(queued) == [("reserve", PRICE, 0)]


def failed(generation: Generation, wavespeed: SandboxControl, *faults: str) -> None:
    wavespeed.arm("task_failed", code=1403)
    for fault in faults:
        wavespeed.arm(fault)
    run_to_end(generation)
    assert generation.status == Status.FAILED


def test_a_refunded_failure_is_released(queued: Generation, wavespeed: SandboxControl) -> None:
    failed(queued, wavespeed)

    wavespeed.advance(3600)
    lifecycle.settle(queued.pk)

    queued.refresh_from_db()
    assert (money(queued), queued.charged, queued.settle_at) == ((0, 0), 0, None)
    assert wavespeed.bill()["total_micros"] == 0


def test_a_failure_that_is_billed_and_never_refunded_is_charged_after_four_hours(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    failed(queued, wavespeed, "refund_never")
    with time_machine.travel(timezone.now() + timedelta(hours=3.9)):
        lifecycle.settle(queued.pk)
        assert money(queued) == (PRICE, 0)
    with time_machine.travel(timezone.now() + timedelta(hours=4.1)):
        lifecycle.settle(queued.pk)

    queued.refresh_from_db()
    assert (money(queued), queued.charged) == ((0, PRICE), PRICE)
    assert wavespeed.bill()["total_micros"] == PRICE


def test_a_failure_that_was_never_billed_is_released_after_four_hours(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("charge_late", seconds=1e6)
    failed(queued, wavespeed, "refund_never")
    with time_machine.travel(timezone.now() + timedelta(hours=3.9)):
        lifecycle.settle(queued.pk)
        assert money(queued) == (PRICE, 0)
    with time_machine.travel(timezone.now() + timedelta(hours=4.1)):
        lifecycle.settle(queued.pk)
    assert money(queued) == (0, 0)


@pytest.mark.parametrize(
    "row",
    [
        {"billing_type": "fee", "price": 2.1},
        {"billing_type": "deduct", "price": 0},
        {"billing_type": "refund", "price": 2.1},
        {"billing_type": "refund", "price": 0},
    ],
)
def test_a_row_that_is_no_deduct_releases_nothing_before_the_hours_are_over(
    row: dict[str, Any], queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("charge_late", seconds=1e6)
    failed(queued, wavespeed, "refund_never")
    wavespeed.doctor(add=[row | {"prediction_id": queued.prediction_id}])

    lifecycle.settle(queued.pk)
    assert money(queued) == (PRICE, 0)

    with time_machine.travel(timezone.now() + timedelta(hours=4.1)):
        lifecycle.settle(queued.pk)
    assert booked(queued)[1:] == [("release", -PRICE, 0)]
    assert SpendEntry.objects.get(kind="release").reason == "The provider never deducted anything for it."


def test_a_deduct_whose_price_is_still_to_come_is_waited_for(queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("charge_price", price=0)
    failed(queued, wavespeed, "refund_never")
    [deduct] = wavespeed.bill()["rows"]
    lifecycle.settle(queued.pk)
    assert money(queued) == (PRICE, 0)

    wavespeed.doctor(change=[{"uuid": deduct["uuid"], "price": 2.1}])
    with time_machine.travel(timezone.now() + timedelta(hours=4.1)):
        lifecycle.settle(queued.pk)

    assert money(queued) == (0, PRICE)


def test_a_video_whose_deduct_has_no_price_yet_costs_what_was_quoted(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("charge_price", price=0)
    run_to_end(queued)
    [deduct] = wavespeed.bill()["rows"]
    assert (queued.charged, queued.settle_at is None) == (PRICE, False)

    wavespeed.doctor(change=[{"uuid": deduct["uuid"], "price": 1.5}])
    lifecycle.settle(queued.pk)

    queued.refresh_from_db()
    assert (queued.charged, money(queued), queued.settle_at) == (1_500_000, (0, 1_500_000), None)


def test_of_a_failure_that_is_refunded_in_part_the_rest_is_charged(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    failed(queued, wavespeed, "refund_never")
    wavespeed.doctor(add=[{"prediction_id": queued.prediction_id, "billing_type": "refund", "price": 2}])
    lifecycle.settle(queued.pk)
    assert money(queued) == (PRICE, 0)

    with time_machine.travel(timezone.now() + timedelta(hours=4.1)):
        lifecycle.settle(queued.pk)

    assert booked(queued)[1:] == [("charge", -PRICE, PRICE), ("refund", 0, -2_000_000)]


def test_settling_twice_books_once(queued: Generation, wavespeed: SandboxControl) -> None:
    failed(queued, wavespeed)
    wavespeed.advance(3600)

    lifecycle.settle(queued.pk)
    lifecycle.settle(queued.pk)

    assert booked(queued) == [("reserve", PRICE, 0), ("release", -PRICE, 0)]


@pytest.mark.parametrize("price", ["1.05", "2.50"])
def test_the_charge_is_what_the_provider_billed(price: str, queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("charge_price", price=float(price))

    run_to_end(queued)

    micros = int(Decimal(price) * 1_000_000)
    assert (queued.charged, money(queued)) == (micros, (0, micros))
    assert wavespeed.bill()["total_micros"] == micros


def test_a_bill_that_lags_is_settled_later(queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("charge_price", price=2.5)
    wavespeed.arm("charge_late", seconds=600)
    run_to_end(queued)
    assert (queued.charged, money(queued)) == (PRICE, (0, PRICE))

    wavespeed.advance(700)
    lifecycle.settle(queued.pk)

    queued.refresh_from_db()
    assert (queued.charged, money(queued), queued.settle_at) == (2_500_000, (0, 2_500_000), None)
    assert booked(queued)[-1] == ("adjust", 0, 400_000)


# --- The lane ---------------------------------------------------------------------------------------------------------


def more_queued(generation: Generation, number: int) -> list[Generation]:
    image = str(generation.image_id)
    by = generation.requested_by
    made = []
    for each in range(number):
        inputs = {"image": image, "prompt": f"Take {each}", "duration": 3}
        made.append(orders.queue(drafts.create(generation.project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by))
    return made


def test_the_lane_lets_in_as_many_at_once_as_the_account_may_run(queued: Generation, settings: object) -> None:
    more_queued(queued, 3)
    settings.WAVESPEED_VIDEOS_AT_ONCE = 2
    settings.WAVESPEED_VIDEOS_PER_MINUTE = 100

    assert [lifecycle.admit() is not None for _ in range(3)] == [True, True, False]


def test_the_lane_counts_the_submits_of_the_last_minute(queued: Generation, settings: object) -> None:
    settings.WAVESPEED_VIDEOS_PER_MINUTE = 1
    settings.WAVESPEED_VIDEOS_AT_ONCE = 100
    more_queued(queued, 1)
    leased_and_submitting(queued)

    assert lifecycle.admit() is None
    with time_machine.travel(timezone.now() + timedelta(seconds=61)):
        assert lifecycle.admit() is not None


def test_a_paused_lane_lets_nothing_in(queued: Generation) -> None:
    pauses.pause_lane(reason="The campaign is on hold.", by=queued.project.created_by)
    assert lifecycle.admit() is None
    pauses.resume_lane(by=queued.project.created_by)
    assert lifecycle.admit() is not None


def test_a_cancelled_generation_is_not_submitted_by_a_worker_that_has_it(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    lease = lifecycle.admit()
    orders.cancel(queued, by=queued.requested_by)

    lifecycle.submit(lease)

    queued.refresh_from_db()
    assert (queued.status, money(queued)) == (Status.CANCELLED, (0, 0))
    assert wavespeed.posts()["count"] == 0


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_twenty_workers_submit_each_generation_once(wavespeed: SandboxControl, settings: object) -> None:
    project: Project = factories.ProjectFactory()
    factories.budget(project, 100_000_000)
    by = project.created_by
    image = factories.source_image(project, by)
    for each in range(6):
        inputs = {"image": str(image.pk), "prompt": f"Take {each}", "duration": 3}
        orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)
    settings.WAVESPEED_VIDEOS_AT_ONCE = 4
    errors: list[BaseException] = []

    def work() -> None:
        try:
            if lease := lifecycle.admit():
                lifecycle.submit(lease)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    assert wavespeed.posts()["count"] == 4
    assert Generation.objects.filter(status=Status.PROCESSING).count() == 4
    assert Generation.objects.filter(status=Status.QUEUED).count() == 2
