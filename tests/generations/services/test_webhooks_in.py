"""The provider's webhooks: proved by their signature, kept once, a reason to look, and never believed by themselves."""

import json
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import dramatiq
import pytest
import time_machine
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer

from generations import dispatch, lifecycle, provider, tasks
from generations.models import Exchange, Generation, Lane, Status
from generations.services import decisions, drafts, orders, webhooks
from generations.timetable import Timetable
from tests import factories, pipeline
from tests.generations.wavespeed.wire import Request, envelope, serving
from tests.pipeline import ENDPOINT, file_sha256, history, money, poll_to_end, submit_next, until
from tests.sandbox import SandboxControl
from wavespeed_sandbox import Sandbox
from wavespeed_sandbox.webhooks import signature

PRICE = 2_100_000
SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw=="


@pytest.fixture
def sandbox(make_sandbox: Callable[..., Sandbox], request: pytest.FixtureRequest) -> Sandbox:
    return make_sandbox(**getattr(request, "param", {}))


@pytest.fixture(autouse=True)
def _secret(settings: object) -> None:
    settings.WAVESPEED_WEBHOOK_SECRET = SECRET


class Provider:
    """Sends webhooks as the provider does."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def tell(
        self,
        generation: UUID,
        prediction: str,
        status: str = "completed",
        *,
        delivery: str = "",
        secret: str = SECRET,
        age: float = 0,
        body: bytes | None = None,
        **headers: str,
    ) -> Any:
        told = {"id": prediction, "model": ENDPOINT, "status": status, "outputs": [], "input": {"prompt": "Steam"}}
        body = json.dumps(told).encode() if body is None else body
        sent_at = str(int(time.time() - age))
        delivery = delivery or f"msg_{uuid4().hex}"
        signed = {
            "webhook-id": delivery,
            "webhook-timestamp": sent_at,
            "webhook-signature": signature(secret, delivery, sent_at, body),
        }
        url = reverse("wavespeed-webhook", args=[generation])
        return self.client.post(url, body, content_type="application/json", headers=signed | headers)


@pytest.fixture
def sender() -> Provider:
    return Provider(Client(enforce_csrf_checks=True))


def due_at_once(generation: Generation) -> bool:
    generation.refresh_from_db()
    return generation.next_action_at is not None and generation.next_action_at <= timezone.now()


# --- From end to end --------------------------------------------------------------------------------------------------


@pytest.fixture
def reachable(wavespeed: SandboxControl, live_server: LiveServer, settings: object) -> SandboxControl:
    """The provider reaches the studio, which asks it for the secret."""
    settings.WAVESPEED_WEBHOOK_BASE_URL = live_server.url
    settings.WAVESPEED_WEBHOOK_SECRET = ""
    webhooks.refresh_secret()
    return wavespeed


def made(prompt: str = "Steam") -> Generation:
    project = factories.ProjectFactory()
    factories.budget(project, 100_000_000)
    by = project.created_by
    inputs = {"image": str(factories.source_image(project, by).pk), "prompt": prompt, "duration": 5}
    return orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)


def told(generation: Generation) -> int:
    return Exchange.objects.filter(generation=generation, kind=Exchange.Kind.WEBHOOK).count()


@pytest.mark.django_db(transaction=True)
def test_the_provider_tells_when_it_is_done_and_the_result_is_asked_for(
    reachable: SandboxControl, broker: dramatiq.Broker
) -> None:
    generation = made()
    submit_next()
    assert reachable.posts()["posts"][0]["webhook"] == provider.webhook_url(generation.pk)

    until(lambda: told(generation) == 1)

    # The provider has its answer a moment after the studio wrote down what it told.
    until(lambda: [each["state"] for each in reachable.webhooks()] == ["delivered"])
    until(lambda: broker.queues["poll"].qsize() == 1)
    assert due_at_once(generation)
    poll_to_end(generation)
    assert generation.status == Status.STORING


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("sandbox", [{"list_inputs": False}], indirect=True, ids=["inputs hidden"])
@pytest.mark.parametrize("fault", ["submit_drop_after", "submit_504_created", "submit_no_id"])
def test_a_webhook_finds_a_lost_reply_for_sure_though_inputs_are_hidden(fault: str, reachable: SandboxControl) -> None:
    generation = made()
    reachable.arm(fault)
    submit_next()
    until(lambda: told(generation) == 1)

    assert lifecycle.resolve(generation.pk) == Status.PROCESSING
    poll_to_end(generation)
    assert lifecycle.store(generation.pk) == Status.COMPLETED
    lifecycle.settle(generation.pk)

    generation.refresh_from_db()
    assert file_sha256(generation) == reachable.predictions()[0]["output_sha256"]
    assert reachable.posts()["count"] == 1
    assert (money(generation), reachable.bill()["total_micros"]) == ((0, PRICE), PRICE)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "fault", ["webhook_duplicate", "webhook_out_of_order", "webhook_lost", "webhook_bad_signature"]
)
def test_whatever_becomes_of_webhooks_the_video_is_stored_and_paid_once(fault: str, reachable: SandboxControl) -> None:
    generation = made()
    reachable.arm(fault)
    submit_next()
    poll_to_end(generation)
    assert lifecycle.store(generation.pk) == Status.COMPLETED
    expected = {"webhook_duplicate": 2, "webhook_out_of_order": 2}.get(fault, 0)

    until(lambda: told(generation) == expected)

    generation.refresh_from_db()
    assert (generation.status, money(generation)) == (Status.COMPLETED, (0, PRICE))
    assert history(generation)[-1] == "completed"
    assert reachable.posts()["count"] == 1


# --- Proof ------------------------------------------------------------------------------------------------------------


def test_a_webhook_is_kept_redacted_and_has_the_result_asked_for(
    processing: Generation, sender: Provider, broker: dramatiq.Broker, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = sender.tell(processing.pk, processing.prediction_id, delivery="msg_1")

    kept = processing.exchanges.get(kind=Exchange.Kind.WEBHOOK)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (kept.prediction_id, kept.delivery_id) == (processing.prediction_id, "msg_1")
    assert kept.summary == "Told by the provider: completed"
    assert "Steam" not in json.dumps(kept.detail)
    assert processing.prediction_id in kept.detail["body"]
    assert due_at_once(processing)
    assert processing.status == Status.PROCESSING, "it is not believed by itself"
    assert broker.queues["poll"].qsize() == 1


@pytest.mark.parametrize(
    ("how", "headers"),
    [
        ({"secret": "whsec_wrong"}, {}),
        ({"age": 301}, {}),
        ({"age": -330}, {}),
        ({}, {"webhook-signature": ""}),
        ({}, {"webhook-signature": "v3,00"}),
        ({}, {"webhook-timestamp": "yesterday"}),
        ({}, {"webhook-timestamp": "1764000000"}),
        ({}, {"webhook-id": "msg_other"}),
        ({"secret": "whsec_wrong", "body": b"{"}, {}),
    ],
)
def test_what_the_provider_did_not_sign_just_now_changes_nothing(
    how: dict[str, Any], headers: dict[str, str], processing: Generation, sender: Provider
) -> None:
    before = Generation.objects.values().get(pk=processing.pk)

    answer = sender.tell(processing.pk, processing.prediction_id, **how, **headers)

    refused = {"code": "bad_signature", "detail": "This is not signed by the provider, or too old.", "attr": None}
    assert (answer.status_code, answer.json()["errors"]) == (403, [refused])
    assert Generation.objects.values().get(pk=processing.pk) == before
    assert told(processing) == 0
    # Nor does a forger learn which addresses there are.
    assert sender.tell(uuid4(), "a" * 32, **how, **headers).json() == answer.json()


def test_a_body_that_was_changed_on_the_way_is_refused(processing: Generation, sender: Provider) -> None:
    sent_at, delivery, body = str(int(time.time())), "msg_1", b'{"id": "' + b"a" * 32 + b'"}'
    signed = {
        "webhook-id": delivery,
        "webhook-timestamp": sent_at,
        "webhook-signature": signature(SECRET, delivery, sent_at, body),
    }
    url = reverse("wavespeed-webhook", args=[processing.pk])

    answer = sender.client.post(url, body + b" ", content_type="application/json", headers=signed)

    assert (answer.status_code, told(processing)) == (403, 0)


def test_unknown_addresses_are_not_found(processing: Generation, sender: Provider) -> None:
    answer = sender.tell(uuid4(), "a" * 32)

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "not_found")
    assert (
        sender.client.post("/api/v1/webhooks/wavespeed/7/", b"{}", content_type="application/json").status_code == 404
    )
    assert sender.client.get(reverse("wavespeed-webhook", args=[processing.pk])).status_code == 405


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"status": "completed"}', b'{"id": "../x"}', b"\xff\xfe"]
)
def test_what_is_no_prediction_is_refused(body: bytes, processing: Generation, sender: Provider) -> None:
    answer = sender.tell(processing.pk, "", body=body)

    assert (answer.status_code, answer.json()["errors"][0]["detail"]) == (400, "This webhook is not a prediction.")
    assert told(processing) == 0


def test_a_huge_body_is_refused_before_it_is_read(processing: Generation, sender: Provider) -> None:
    answer = sender.tell(processing.pk, "", body=b" " * (webhooks.MAX_BODY + 1))

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (413, "too_large")


def test_it_takes_at_most_four_queries(
    processing: Generation, sender: Provider, settings: object, django_assert_max_num_queries: Any
) -> None:
    settings.WAVESPEED_WEBHOOK_SECRET = ""
    Lane.objects.update_or_create(pk=Lane.WAVESPEED, defaults={"webhook_secret": SECRET})
    for delivery in ("msg_1", "msg_1", "msg_2"):
        with django_assert_max_num_queries(4):
            answer = sender.tell(processing.pk, processing.prediction_id, delivery=delivery)
        assert answer.status_code == 204


def test_a_login_or_its_lack_is_of_no_matter(processing: Generation, editor_client: Client) -> None:
    assert Provider(editor_client).tell(processing.pk, processing.prediction_id).status_code == 204


def test_the_same_delivery_is_kept_once(processing: Generation, sender: Provider) -> None:
    for _ in range(3):
        assert sender.tell(processing.pk, processing.prediction_id, delivery="msg_1").status_code == 204
    assert told(processing) == 1

    sender.tell(processing.pk, processing.prediction_id, delivery="msg_2")
    assert told(processing) == 2


@pytest.mark.parametrize("delivery", ["msg_1", ""], ids=["one delivery", "each a delivery of its own"])
def test_what_says_the_same_again_and_again_asks_the_provider_once(
    delivery: str,
    processing: Generation,
    sender: Provider,
    broker: dramatiq.Broker,
    django_capture_on_commit_callbacks: Any,
) -> None:
    later = timezone.now() + timedelta(hours=1)
    with django_capture_on_commit_callbacks(execute=True):
        for number in range(30):
            sender.tell(processing.pk, processing.prediction_id, "processing", delivery=delivery)
            if number == 0:
                assert due_at_once(processing)
                Generation.objects.filter(pk=processing.pk).update(next_action_at=later)
        assert not due_at_once(processing)
        sender.tell(processing.pk, processing.prediction_id, "completed")

    assert due_at_once(processing), "what is new is a reason to look"
    assert broker.queues["poll"].qsize() == 2


def test_what_is_kept_of_a_webhook_names_no_key_wherever_it_stood(
    processing: Generation, sender: Provider, settings: object
) -> None:
    settings.WAVESPEED_API_KEY = key = "wsk_live_0123456789abcdef"
    told = {
        "id": processing.prediction_id,
        "status": key,
        "model": f"x{key}",
        "error": f"Bearer {key}",
        "more": {key: 1},
    }

    answer = sender.tell(processing.pk, processing.prediction_id, body=json.dumps(told).encode(), delivery=f"msg_{key}")

    kept = processing.exchanges.get(kind=Exchange.Kind.WEBHOOK)
    assert answer.status_code == 204
    assert key not in json.dumps([kept.detail, kept.summary, kept.delivery_id])
    assert kept.detail["body"].count("[hidden]") == 4


def test_a_webhook_of_another_prediction_is_kept_and_not_believed(
    processing: Generation, sender: Provider, broker: dramatiq.Broker
) -> None:
    Generation.objects.filter(pk=processing.pk).update(next_action_at=timezone.now() + timedelta(hours=1))

    assert sender.tell(processing.pk, "b" * 32).status_code == 204

    kept = processing.exchanges.get(kind=Exchange.Kind.WEBHOOK)
    assert (kept.prediction_id, kept.detail["prediction"]) == ("", "b" * 32)
    assert kept.summary.endswith("not believed")
    assert not due_at_once(processing)
    assert broker.queues["poll"].qsize() == 0


@pytest.mark.parametrize("status", ["processing", "failed", "cancelled", "nonsense"])
def test_whatever_a_webhook_says_the_result_decides(
    status: str, processing: Generation, wavespeed: SandboxControl, sender: Provider
) -> None:
    sender.tell(processing.pk, processing.prediction_id, status)

    poll_to_end(processing)
    assert processing.status == Status.STORING


# --- What it is about -------------------------------------------------------------------------------------------------


def lose(generation: Generation, wavespeed: SandboxControl, fault: str = "submit_drop_after") -> str:
    wavespeed.arm(fault)
    submit_next()
    generation.refresh_from_db()
    assert generation.status == Status.UNCONFIRMED
    predictions = wavespeed.predictions()
    return predictions[0]["id"] if predictions else "c" * 32


HIDDEN = pytest.mark.parametrize("sandbox", [{"list_inputs": False}], indirect=True, ids=["inputs hidden"])


@HIDDEN
def test_an_unconfirmed_one_is_resolved_once_the_provider_confirms_it(
    queued: Generation,
    wavespeed: SandboxControl,
    sender: Provider,
    broker: dramatiq.Broker,
    django_capture_on_commit_callbacks: Any,
) -> None:
    prediction = lose(queued, wavespeed)
    with django_capture_on_commit_callbacks(execute=True):
        sender.tell(queued.pk, prediction)
    assert [message.actor_name for message in messages(broker)] == ["resolve"]

    wavespeed.arm("result_404", times=None)
    assert lifecycle.resolve(queued.pk) is None, "nobody has confirmed it"
    wavespeed.disarm()
    assert lifecycle.resolve(queued.pk) == Status.PROCESSING

    queued.refresh_from_db()
    assert queued.prediction_id == prediction


def messages(broker: dramatiq.Broker) -> list[dramatiq.Message]:
    queue = broker.queues["poll"]
    return [dramatiq.Message.decode(queue.get()) for _ in range(queue.qsize())]


@HIDDEN
def test_a_webhook_that_names_what_nobody_knows_proves_nothing(
    queued: Generation, wavespeed: SandboxControl, sender: Provider
) -> None:
    lose(queued, wavespeed, "submit_drop_before")
    sender.tell(queued.pk, "c" * 32)

    assert lifecycle.resolve(queued.pk) is None
    queued.refresh_from_db()
    assert (queued.status, queued.prediction_id) == (Status.UNCONFIRMED, None)


@HIDDEN
def test_a_webhook_replayed_to_another_address_takes_nothing_from_its_owner(
    processing: Generation, wavespeed: SandboxControl, sender: Provider
) -> None:
    other = made("Another")
    lose(other, wavespeed, "submit_drop_before")
    sender.tell(other.pk, processing.prediction_id)

    assert lifecycle.resolve(other.pk) is None
    other.refresh_from_db()
    assert (other.status, other.prediction_id) == (Status.UNCONFIRMED, None)


@HIDDEN
def test_two_predictions_for_one_request_are_for_people(
    queued: Generation, wavespeed: SandboxControl, sender: Provider
) -> None:
    first = lose(queued, wavespeed)
    second = provider.client().submit(ENDPOINT, queued.request_body).id
    sender.tell(queued.pk, first)
    sender.tell(queued.pk, second)

    assert lifecycle.resolve(queued.pk) is None
    assert {each.prediction_id for each in decisions.candidates_of(queued)} == {first, second}


def test_a_webhook_before_the_reply_is_kept_until_it_matters(
    queued: Generation, wavespeed: SandboxControl, sender: Provider
) -> None:
    Generation.objects.filter(pk=queued.pk).update(
        status=Status.SUBMITTING, submitted_at=timezone.now(), lease_until=timezone.now() - timedelta(seconds=1)
    )
    prediction = provider.client().submit(ENDPOINT, {"image": "https://example.com/a.jpg", "prompt": "x"}).id
    sender.tell(queued.pk, prediction)
    queued.refresh_from_db()
    assert queued.status == Status.SUBMITTING

    lifecycle.recover_submit(queued.pk)
    assert lifecycle.resolve(queued.pk) == Status.PROCESSING


def refused_though_made(generation: Generation, wavespeed: SandboxControl) -> str:
    """The provider says that it took nothing, and makes it all the same."""
    wavespeed.arm("submit_429", created=True)
    submit_next()
    generation.refresh_from_db()
    assert generation.status == Status.QUEUED
    return wavespeed.predictions()[0]["id"]


@HIDDEN
def test_what_shows_as_queued_is_looked_for_as_soon_as_a_webhook_names_it(
    queued: Generation,
    wavespeed: SandboxControl,
    sender: Provider,
    broker: dramatiq.Broker,
    django_capture_on_commit_callbacks: Any,
) -> None:
    prediction = refused_though_made(queued, wavespeed)
    sent = queued.exchanges.get(kind=Exchange.Kind.SUBMIT).at

    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        with django_capture_on_commit_callbacks(execute=True):
            sender.tell(queued.pk, prediction)
        assert [message.actor_name for message in messages(broker)] == ["resolve"]
        tasks.resolve(str(queued.pk))

    queued.refresh_from_db()
    assert (queued.status, queued.prediction_id) == (Status.PROCESSING, prediction)
    assert queued.submitted_at == sent, "it was made then, so that is when its prediction is looked for"
    assert history(queued)[-3:] == ["submitting", "unconfirmed", "processing"]
    poll_to_end(queued)
    assert lifecycle.store(queued.pk) == Status.COMPLETED
    assert (wavespeed.posts()["count"], money(queued), wavespeed.bill()["total_micros"]) == (1, (0, PRICE), PRICE)


@HIDDEN
def test_what_a_webhook_has_named_is_never_sent_though_nobody_was_woken(
    queued: Generation, wavespeed: SandboxControl, sender: Provider
) -> None:
    prediction = refused_though_made(queued, wavespeed)
    sender.tell(queued.pk, prediction)

    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        submit_next()

    queued.refresh_from_db()
    assert (queued.status, money(queued), wavespeed.posts()["count"]) == (Status.UNCONFIRMED, (PRICE, 0), 1)
    assert lifecycle.resolve(queued.pk) == Status.PROCESSING


def test_what_a_webhook_named_is_not_failed_when_its_picture_is_gone(
    queued: Generation, wavespeed: SandboxControl, sender: Provider
) -> None:
    sender.tell(queued.pk, "c" * 32)
    default_storage.delete(queued.image.file.name)

    submit_next()

    queued.refresh_from_db()
    assert (queued.status, money(queued), wavespeed.posts()["count"]) == (Status.UNCONFIRMED, (PRICE, 0), 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("status", [429, 400])
def test_a_refusal_does_not_outdo_a_webhook_that_came_before_it(
    status: int, sender: Provider, wavespeed: SandboxControl, settings: object
) -> None:
    generation = made()
    Generation.objects.filter(pk=generation.pk).update(
        uploads={"image": "https://a.example/a"}, uploaded_at=timezone.now()
    )

    def answer(request: Request) -> list[bytes]:
        sender.tell(generation.pk, "c" * 32)
        connection.close()
        return [envelope(None, code=status, message="no", status=status)]

    with serving(answer) as server:
        settings.WAVESPEED_BASE_URL = server.url
        provider.client.cache_clear()
        submit_next()

    generation.refresh_from_db()
    assert (generation.status, money(generation)) == (Status.UNCONFIRMED, (PRICE, 0))


def test_a_webhook_that_names_anothers_prediction_holds_nothing_up(
    processing: Generation, wavespeed: SandboxControl, sender: Provider
) -> None:
    other = made("Another")
    sender.tell(other.pk, processing.prediction_id)
    tasks.resolve(str(other.pk))
    other.refresh_from_db()
    assert (other.status, other.lease_token) == (Status.QUEUED, None)

    submit_next()

    other.refresh_from_db()
    assert (other.status, wavespeed.posts()["count"]) == (Status.PROCESSING, 2)


def test_what_was_settled_as_not_made_comes_after_all_by_a_webhook(
    queued: Generation, wavespeed: SandboxControl, sender: Provider
) -> None:
    prediction = lose(queued, wavespeed)
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        pipeline.settle_not_made(queued, by=queued.project.created_by, reason="Not in the list.")
        assert money(queued) == (0, 0)
        sender.tell(queued.pk, prediction)
        assert due_at_once(queued)
        wavespeed.arm("result_404", times=1)
        assert lifecycle.poll(queued.pk) is None
        until(lambda: lifecycle.poll(queued.pk) == Status.STORING)
        assert lifecycle.store(queued.pk) == Status.COMPLETED

    assert money(queued) == (0, PRICE)


def test_a_webhook_to_what_was_not_made_that_names_nothing_leaves_it_failed(
    queued: Generation, wavespeed: SandboxControl, sender: Provider, processing: Generation
) -> None:
    other = made("Another")
    lose(other, wavespeed, "submit_drop_before")
    with time_machine.travel(timezone.now() + timedelta(minutes=16)):
        pipeline.settle_not_made(other, by=other.project.created_by, reason="Not in the list.")
        sender.tell(other.pk, processing.prediction_id)
        assert lifecycle.poll(other.pk) is None

    other.refresh_from_db()
    assert (other.status, other.error_code, other.next_action_at) == (Status.FAILED, "not_made", None)
    assert money(other) == (0, 0)


@pytest.mark.parametrize("status", [Status.STORING, Status.COMPLETED])
def test_what_has_ended_is_not_woken(status: Status, processing: Generation, sender: Provider) -> None:
    Generation.objects.filter(pk=processing.pk).update(status=status, next_action_at=None)

    assert sender.tell(processing.pk, processing.prediction_id).status_code == 204

    processing.refresh_from_db()
    assert (processing.next_action_at, told(processing)) == (None, 1)


# --- The secret -------------------------------------------------------------------------------------------------------


def test_without_a_secret_nobody_is_believed(
    processing: Generation, sender: Provider, settings: object, caplog: pytest.LogCaptureFixture
) -> None:
    settings.WAVESPEED_WEBHOOK_SECRET = ""
    caplog.clear()

    answer = sender.tell(processing.pk, processing.prediction_id)

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "no_secret")
    assert told(processing) == 0
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (line.levelname, line.exc_info) == ("WARNING", None)
    assert line.getMessage().startswith("Webhooks can't be proved now")


def test_the_secret_is_asked_for_and_follows_a_change(
    processing: Generation, wavespeed: SandboxControl, sender: Provider, settings: object
) -> None:
    settings.WAVESPEED_WEBHOOK_SECRET = ""
    webhooks.refresh_secret()
    assert not Lane.objects.exclude(webhook_secret="").exists(), "no webhooks are expected"
    settings.WAVESPEED_WEBHOOK_BASE_URL = "https://studio.example.com"
    Lane.objects.update_or_create(pk=Lane.WAVESPEED, defaults={"webhook_secret": SECRET})
    assert sender.tell(processing.pk, processing.prediction_id).status_code == 204

    wavespeed.arm("free_500", times=None, route="webhook_secret")
    webhooks.refresh_secret()
    assert Lane.objects.get().webhook_secret == SECRET, "one that can't be asked for is kept"
    wavespeed.disarm()
    webhooks.refresh_secret()

    secret = Lane.objects.get().webhook_secret
    assert secret == provider.client().webhook_secret()
    assert sender.tell(processing.pk, processing.prediction_id).status_code == 403
    assert sender.tell(processing.pk, processing.prediction_id, secret=secret).status_code == 204


def test_while_the_secret_is_changed_both_are_good(processing: Generation, sender: Provider, settings: object) -> None:
    settings.WAVESPEED_WEBHOOK_SECRET = f"{SECRET} whsec_new"
    for secret, status in ((SECRET, 204), ("whsec_new", 204), ("whsec_other", 403)):
        assert sender.tell(processing.pk, processing.prediction_id, secret=secret).status_code == status


def test_the_dispatcher_asks_for_the_secret_and_for_orphans() -> None:
    timetable = Timetable()
    dispatch.schedule(timetable)

    assert {"refresh_secret", "find_orphans"} <= set(timetable.jobs)


def test_polls_are_sparser_where_the_provider_calls_back(settings: object) -> None:
    settings.WAVESPEED_POLL_SECONDS = 5.0

    def polls(usual: float, takes: float) -> int:
        elapsed, count = 0.0, 0
        while elapsed < takes:
            elapsed += lifecycle.poll_interval(elapsed, usual)
            count += 1
        return count

    without = polls(150, 180)
    settings.WAVESPEED_WEBHOOK_BASE_URL = "https://studio.example.com"
    assert polls(150, 180) < without
    assert lifecycle.poll_interval(160, 150) == 20, "what a lost webhook costs"
    assert lifecycle.poll_interval(16, 15) == 5


def test_the_address_is_the_route(settings: object, processing: Generation) -> None:
    settings.WAVESPEED_WEBHOOK_BASE_URL = "https://studio.example.com"
    expected = f"https://studio.example.com{reverse('wavespeed-webhook', args=[processing.pk])}"
    assert provider.webhook_url(processing.pk) == expected
