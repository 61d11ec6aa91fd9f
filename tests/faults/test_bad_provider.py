"""Each fault of the sandbox, one by one: what a user sees of it, what it costs, and how often the paid request was sent.

Nothing is driven by hand: the dispatcher's jobs and the actors run while the clock flies (tests/faults/days.py). Where a row's end is
`unconfirmed`, an owner then settles that it was not made.
"""

import hashlib
import html
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from generations import provider, reconcile
from generations.failures import SENTENCES
from generations.models import Generation, PausedEndpoint
from generations.services import decisions, drafts, orders
from projects.models import Project
from tests import factories
from tests.faults.days import live
from tests.generations.conftest import budget, control, make_sandbox, sandbox, wavespeed
from tests.pipeline import ENDPOINT, money
from tests.sandbox import SandboxControl
from wavespeed_sandbox.faults import KINDS

__all__ = ["budget", "control", "make_sandbox", "sandbox", "wavespeed"]

PRICE = 1_260_000

HOURS = timedelta(hours=6)
UNTIL_OWNERS_DECIDE = timedelta(minutes=16)
NO_ANSWER = 1.5  # seconds that a call is waited for, where the fault is to be slow
IMPATIENT = {"WAVESPEED_DEADLINE": NO_ANSWER}

UNCLEAR = "The provider gave no clear answer: The request may have been accepted, and billed: {}."
BROKEN = UNCLEAR.format("the connection broke before a whole answer came")
TOO_SLOW = UNCLEAR.format("no whole answer came in time")
AGAIN = "Not accepted, and will be tried again: The request was not accepted: HTTP {}."
FOUND = "The provider's list names this request's own picture: accepted."
STORED = "Stored and checked."


@dataclass(frozen=True)
class Row:
    """A fault, and what is seen: `meanwhile` in the history, at the `end` the status and its sentence."""

    fault: str
    parameters: dict[str, Any]
    end: str
    sentence: str | tuple[str, ...]  # of several, the last one depends on what is looked at first
    meanwhile: tuple[str, ...] = ()
    spent: str = "1.26"
    bill: str = "1.26"
    held: str = "0.00"
    posts: int = 1
    video: str = "stored"  # stored: the very bytes of the provider; none
    beside: tuple[tuple[str, dict[str, Any]], ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    leap: timedelta = timedelta(0)  # jumped over, before six more hours

    @property
    def name(self) -> str:
        told = [f"{name}={value}" for name, value in self.parameters.items()]
        return "-".join([self.fault, *told, *(kind for kind, _ in self.beside)])


def row(fault: str, /, **parameters: Any) -> Callable[..., Row]:
    """Reads as a line of the table: fault and parameters first, then what is seen."""
    return lambda end, sentence, **seen: Row(fault, parameters, end, sentence, **seen)


def completed(fault: str, /, *meanwhile: str, seen: dict[str, Any] | None = None, **parameters: Any) -> Row:
    return row(fault, **parameters)("completed", STORED, meanwhile=meanwhile, **(seen or {}))


def slow(fault: str, /, *meanwhile: str, **parameters: Any) -> Row:
    return completed(fault, *meanwhile, seen={"settings": IMPATIENT}, **parameters)


def found(fault: str, unclear: str, /, **parameters: Any) -> Row:
    """Nobody knew whether it was accepted; it was, and is found."""
    return completed(fault, unclear, FOUND, **parameters)


def nobody_knows(fault: str, unclear: str, /, *, seen: dict[str, Any] | None = None, **parameters: Any) -> Row:
    """It was not accepted, but nobody can know: the money stays held until an owner decides."""
    seen = {"spent": "0.00", "bill": "0.00", "held": "1.26", "video": "none", **(seen or {})}
    return row(fault, **parameters)("unconfirmed", unclear, **seen)


def again(fault: str, status: int, /, **parameters: Any) -> Row:
    return completed(fault, AGAIN.format(status), seen={"posts": 2}, **parameters)


def refused(fault: str, /, **parameters: Any) -> Row:
    return row(fault, **parameters)("failed", SENTENCES["rejected"], spent="0.00", bill="0.00", video="none")


def failed(fault: str, code: str, /, *, spent: str = "0.00", beside: Any = (), **parameters: Any) -> Row:
    """The provider says so; what it refunds is free again, what it keeps is charged."""
    seen = {"spent": spent, "bill": spent, "video": "none", "beside": beside}
    return row(fault, **parameters)("failed", SENTENCES[code], **seen)


AND_FAILS = (("task_failed", {}),)
AND_LOST = (("submit_drop_after", {}),)
# While the list fails, the bill names it: it may be stored before the list says whose it is, or after.
STORED_BEFORE_OR_AFTER = ("Stored and checked before it was known whose it was.", STORED)
LIVE_PRICES = {"WAVESPEED_LIVE_PRICES": True}

TABLE = [
    # --- The paid POST: nothing came of it, and nobody can know
    nobody_knows("submit_drop_before", BROKEN),
    nobody_knows("submit_408", UNCLEAR.format("HTTP 408")),
    nobody_knows("submit_409", UNCLEAR.format("HTTP 409")),
    nobody_knows("submit_500", UNCLEAR.format("HTTP 500")),
    nobody_knows("submit_503", UNCLEAR.format("HTTP 503")),
    nobody_knows("submit_504", UNCLEAR.format("HTTP 504")),
    nobody_knows("submit_redirect", UNCLEAR.format("HTTP 307")),
    nobody_knows("submit_redirect", UNCLEAR.format("HTTP 302"), status=302),
    nobody_knows("submit_garbage", UNCLEAR.format("HTTP 200")),
    nobody_knows("submit_error_code", UNCLEAR.format("HTTP 200, code 500")),
    nobody_knows("submit_slow", TOO_SLOW, seen={"settings": IMPATIENT}, seconds=4, created=False),
    # --- … it was accepted, and is found
    found("submit_drop_after", BROKEN),
    found("submit_500_created", UNCLEAR.format("HTTP 500")),
    found("submit_504_created", UNCLEAR.format("HTTP 504")),
    found("submit_garbage_created", UNCLEAR.format("HTTP 200")),
    found("submit_no_id", UNCLEAR.format("HTTP 200")),
    slow("submit_slow", TOO_SLOW, FOUND, seconds=4),
    completed("submit_slow", "Accepted by the provider.", seconds=0.5),
    # --- … it was surely refused, and passes later
    again("submit_429", 429),
    again("submit_concurrency", 429),
    again("submit_401", 401),
    again("submit_403", 403),
    again("submit_insufficient_credits", 400),
    # --- … it was surely refused, and never passes
    refused("submit_400"),
    refused("submit_404"),
    refused("submit_413"),
    refused("submit_422"),
    row("submit_403", times=3)("failed", SENTENCES["key_refused"], spent="0.00", bill="0.00", posts=3, video="none"),
    # --- What becomes of the task
    failed("task_failed", "execution_failed", code=1403),
    failed("task_failed", "media_fetch_failed", code=1402),
    failed("task_failed", "provider_internal_error", code=5000),
    failed("task_nsfw", "content_moderation"),
    failed("task_cancelled", "cancelled"),
    failed("task_timeout", "provider_timed_out"),
    # The provider does not give this one back.
    failed("task_deleted", "deleted", spent="1.26"),
    row("task_endless")("failed", SENTENCES["result_expired"], video="none", leap=timedelta(days=8)),
    completed("task_nsfw_flagged"),
    completed("task_slow", factor=100),
    # --- Money
    completed(
        "quote_price",
        "Queued for $1.89 (the provider’s price; the catalogue says $1.26).",
        seen={"settings": LIVE_PRICES},
        factor=1.5,
    ),
    completed("charge_price", "Made by the provider for $1.89.", seen={"spent": "1.89", "bill": "1.89"}, factor=1.5),
    completed("charge_price", "Made by the provider for $1.05.", seen={"spent": "1.05", "bill": "1.05"}, price=1.05),
    completed("charge_late", "Made by the provider for $1.26.", seconds=3600),
    failed("refund_late", "execution_failed", beside=AND_FAILS, seconds=3 * 3600),
    failed("refund_never", "execution_failed", beside=AND_FAILS, spent="1.26"),
    # --- What is said of the result
    completed("result_404", times=3),
    completed("result_429", times=2),
    completed("result_500", times=3),
    completed("result_drop", times=3),
    completed("result_garbage", times=3),
    completed("result_error_code", times=3),
    slow("result_timeout", seconds=3),
    completed("result_unknown_status", times=3),
    completed("result_null_outputs", times=5),
    completed("result_null_nsfw", times=None),
    completed("result_no_timings", times=None),
    completed("result_extra_fields", times=None),
    completed("result_object_outputs", times=None),
    completed("result_word", times=None),
    completed("result_word", times=None, status="SUCCESS"),
    *(
        completed("result_form", times=None, form=form)
        for form in ("text", "object", "object_of_objects", "video_urls", "videos", "output", "video", "nested")
    ),
    *(
        completed("result_form", times=None, form=form)
        for form in ("line_end", "no_scheme", "host_and_path", "twice", "many")
    ),
    completed("result_form", times=4, form="elsewhere"),
    completed("result_no_outputs", times=4),
    failed("result_no_outputs", "content_moderation", spent="1.26", times=None, flagged=True),
    failed("result_error_object", "execution_failed", beside=AND_FAILS, times=None),
    completed("result_absurd", times=None),
    completed("result_bare", times=None),
    completed("result_other_id", times=4),
    completed(
        "result_false_failure",
        SENTENCES["provider_internal_error"],
        "It came after all: made by the provider for $1.26.",
    ),
    # --- How it comes home
    completed("download_truncated", times=2),
    completed("download_reset", times=2),
    completed("download_slow", bytes_per_second=200_000),
    completed("download_wrong_length", times=2),
    completed("download_wrong_length", extra=-1000),
    completed("download_expired", times=2),
    completed("download_500", times=3),
    completed("download_no_range"),
    completed("download_changed"),
    completed("download_corrupt", times=2),
    completed("download_corrupt", times=12),
    completed("download_page", times=8),
    completed("download_page", body='{"error": "try again"}', content_type="application/json", times=8),
    completed("download_page", status=204, body="", times=3),
    completed("download_cut", times=8),
    completed("download_half", times=8),
    completed("download_endless", seen={"settings": {"STORE_MOST_MEGABYTES_PER_SECOND": 1}}, times=3),
    completed("download_encoding", times=None),
    completed("download_encoding", encoding="gzip", packed=True, times=None),
    completed("download_encoding", encoding="deflate", packed=True, times=None),
    completed("download_encoding", encoding="aws-chunked", packed=True, times=None),
    completed("download_encoding", encoding="br", times=None),
    completed("download_status", times=None),
    completed("download_status", status=206, times=None),
    row("download_page", times=None)("failed", SENTENCES["never_readable"], video="none", leap=timedelta(days=8)),
    row("download_corrupt", times=None)("failed", SENTENCES["never_readable"], video="none", leap=timedelta(days=8)),
    # --- What stands beside it
    completed("result_beside", times=None),
    completed("result_beside", before=False, times=None),
    completed("result_beside", what="twin", times=None),
    completed("result_odd_address", times=None),
    completed("result_odd_address", how="without_scheme", times=None),
    # --- Uploads: nothing is asked for before they are done
    completed("upload_ticket_500"),
    completed("upload_ticket_drop"),
    completed("upload_put_500"),
    completed("upload_put_drop"),
    completed("upload_binary_500", seen={"beside": (("upload_ticket_500", {"status": 404, "times": None}),)}),
    # --- Calls that cost nothing: the bill is read later, the lost request found later
    completed("free_500", route="billings", times=3),
    completed("free_401", route="billings", times=3),
    completed("free_429", route="billings", times=3),
    completed("free_garbage", route="billings", times=3),
    slow("free_timeout", route="billings", seconds=3),
    completed("free_absurd", route="billings", times=3),
    completed("free_endless", route="billings", times=3),
    *(
        row(fault, route="predictions", times=2)(
            "completed", STORED_BEFORE_OR_AFTER, meanwhile=(BROKEN, FOUND), beside=AND_LOST
        )
        for fault in ("free_500", "free_401", "free_429", "free_garbage")
    ),
    row("free_timeout", route="predictions", times=2, seconds=3)(
        "completed", STORED_BEFORE_OR_AFTER, meanwhile=(BROKEN, FOUND), beside=AND_LOST, settings=IMPATIENT
    ),
]


@pytest.fixture
def draft(project: Project, studio_owner: User, budget: int) -> Generation:
    """The shortest that there is, for $1.26."""
    inputs = {"image": str(factories.source_image(project).pk), "prompt": "Steam rises from the cup", "duration": 3}
    return drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=studio_owner)


# One of each kind of trouble at each run; the others with script/test --rest.
AT_EACH_RUN = {
    "submit_drop_before",
    "submit_504_created",
    "submit_429",
    "submit_422",
    "submit_403-times=3",
    "task_failed-code=1403",
    "task_deleted",
    "task_nsfw_flagged",
    "quote_price-factor=1.5",
    "charge_price-factor=1.5",
    "refund_late-seconds=10800-task_failed",
    "result_500-times=3",
    "result_form-times=4-form=elsewhere",
    "result_no_outputs-times=None-flagged=True",
    "result_false_failure",
    "download_reset-times=2",
    "download_page-times=8",
    "download_corrupt-times=None",
    "download_encoding-encoding=gzip-packed=True-times=None",
    "result_beside-times=None",
    "upload_put_500",
    "free_500-route=billings-times=3",
    "free_500-route=predictions-times=2-submit_drop_after",
}


def with_its_marks(row: Row) -> Any:
    """The provider is asked for prices outside transactions only, and a test is one."""
    marks = [pytest.mark.django_db(transaction=True)] if row.settings == LIVE_PRICES else []
    if row.name not in AT_EACH_RUN:
        marks.append(pytest.mark.slow)
    return pytest.param(row, id=row.name, marks=marks)


@pytest.mark.parametrize("row", [with_its_marks(row) for row in TABLE])
def test_what_a_user_sees_of_a_fault(
    row: Row,
    draft: Generation,
    wavespeed: SandboxControl,
    studio_owner: User,
    owner_client: Client,
    settings: Any,
) -> None:
    settings.WAVESPEED_POLL_SECONDS = 20.0
    for name, value in row.settings.items():
        setattr(settings, name, value)
    provider.client.cache_clear()
    for kind, parameters in ((row.fault, row.parameters), *row.beside):
        wavespeed.arm(kind, **parameters)

    with time_machine.travel(timezone.now(), tick=True) as traveller:
        orders.queue(draft, by=draft.requested_by)
        held = money(draft)[0]
        live(traveller, UNTIL_OWNERS_DECIDE if row.end == "unconfirmed" or row.leap else HOURS)
        if row.leap:
            traveller.shift(row.leap)
            live(traveller, HOURS)

        assert held >= PRICE
        assert_seen(row, draft, owner_client, wavespeed)
        if row.end == "unconfirmed":
            decisions.settle_not_made(draft, by=studio_owner, reason="The provider's support looked it up.")
            assert_released(draft, owner_client)
    assert all(fault["taken"] for fault in wavespeed.faults()), "the fault never struck"


def assert_seen(row: Row, generation: Generation, client: Client, wavespeed: SandboxControl) -> None:
    told = client.get(f"/api/v1/generations/{generation.pk}/").json()
    events = client.get(f"/api/v1/generations/{generation.pk}/events/").json()["results"]
    page = client.get(reverse("admin:generations_generation_change", args=[generation.pk])).content.decode()
    history = [event["reason"] for event in events]
    sentence = told["error"]["message"] if told["error"] else history[-1]
    sentences = row.sentence if isinstance(row.sentence, tuple) else (row.sentence,)
    assert (told["status"], [each for each in sentences if each == sentence]) == (row.end, [sentence])
    assert [reason for reason in row.meanwhile if reason not in history] == [], history
    for text in (*row.meanwhile, sentence):
        assert html.escape(text) in page
    spend = client.get(f"/api/v1/projects/{generation.project_id}/spend/").json()
    figures = (spend["spent"], spend["reserved"], f"{wavespeed.bill()['total']:.2f}")
    assert figures == (row.spent, row.held, row.bill)
    charged = row.spent if row.end != "unconfirmed" else None
    assert (told["charged"] or "0.00") == (charged or "0.00")
    assert wavespeed.posts()["count"] == row.posts
    assert video_of(told, client, wavespeed) == row.video


def video_of(told: dict[str, Any], client: Client, wavespeed: SandboxControl) -> str:
    if not told["videos"]:
        return "none"
    video = told["videos"][0]
    answer = client.get(f"/api/v1/videos/{video['id']}/download/", follow=True)
    content = b"".join(answer.streaming_content)
    assert hashlib.sha256(content).hexdigest() == video["sha256"]
    assert video["sha256"] == wavespeed.predictions()[0]["output_sha256"]
    return "stored"


def assert_released(generation: Generation, client: Client) -> None:
    told = client.get(f"/api/v1/generations/{generation.pk}/").json()
    assert (told["status"], told["error"]["message"]) == ("failed", SENTENCES["not_made"])
    assert money(generation) == (0, 0)


def test_every_fault_of_the_sandbox_has_its_row() -> None:
    webhooks = {kind for kind in KINDS if kind.startswith("webhook_")}

    assert {row.fault for row in TABLE} == KINDS.keys() - webhooks
    assert {row.name for row in TABLE} >= AT_EACH_RUN


def test_a_refund_that_comes_after_the_charge_is_given_back_by_the_reconciliation(
    draft: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("task_failed")
    wavespeed.arm("refund_late", seconds=5 * 3600)
    with time_machine.travel(timezone.now(), tick=True) as traveller:
        orders.queue(draft, by=draft.requested_by)
        live(traveller, HOURS)
        assert money(draft) == (0, PRICE)

        traveller.shift(timedelta(hours=6))
        reconcile.run(reconcile.begin())

    assert money(draft) == (0, 0)
    assert wavespeed.bill()["total_micros"] == 0


def test_a_charge_above_what_was_held_stops_the_endpoint_until_an_owner_has_looked(
    draft: Generation, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("charge_price", price=9.0)
    with time_machine.travel(timezone.now(), tick=True) as traveller:
        orders.queue(draft, by=draft.requested_by)
        live(traveller, HOURS)

    assert money(draft) == (0, 9_000_000)
    assert "The provider charged $9.00 where $1.26 was reserved" in PausedEndpoint.objects.get().reason


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("fault", "parameters", "why"),
    [
        ("free_500", {}, "The call was not answered: HTTP 500."),
        ("free_401", {}, "The call was not answered: HTTP 401."),
        ("free_429", {}, "The call was not answered: HTTP 429."),
        ("free_garbage", {}, "The answer can't be understood: HTTP 200."),
        ("free_timeout", {"seconds": 3}, "No whole answer came in time."),
    ],
)
def test_without_the_providers_price_nothing_is_queued_and_the_draft_stays(
    fault: str,
    parameters: dict[str, Any],
    why: str,
    draft: Generation,
    wavespeed: SandboxControl,
    owner_client: Client,
    settings: Any,
) -> None:
    settings.WAVESPEED_LIVE_PRICES = True
    settings.WAVESPEED_DEADLINE = NO_ANSWER
    provider.client.cache_clear()
    wavespeed.arm(fault, times=None, route="price", **parameters)
    owner_client.raise_request_exception = False  # what a 503 is made of is logged

    answer = owner_client.post(f"/api/v1/generations/{draft.pk}/queue/", {}, content_type="application/json")

    assert (answer.status_code, answer.json()["errors"]) == (
        503,
        [
            {
                "code": "price_unknown",
                "detail": f"The provider does not tell its price now ({why}), so nothing is queued: less might be held than it "
                "bills. Try again in a moment.",
                "attr": None,
            }
        ],
    )
    assert owner_client.get(f"/api/v1/generations/{draft.pk}/").json()["status"] == "draft"
    assert (money(draft), wavespeed.posts()["count"]) == ((0, 0), 0)
