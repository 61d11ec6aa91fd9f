"""Each webhook fault of the sandbox against the studio's real web server: the video comes all the same, and only what is proved is kept."""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from generations import provider
from generations.models import Exchange, Generation
from generations.services import orders
from tests.faults.days import deliver, live
from tests.generations.conftest import budget, control, draft, make_sandbox, sandbox, wavespeed
from tests.pipeline import money, until
from tests.sandbox import SandboxControl
from wavespeed_sandbox.faults import KINDS

__all__ = ["budget", "control", "draft", "make_sandbox", "sandbox", "wavespeed"]

pytestmark = pytest.mark.django_db(transaction=True)

TAKEN, REFUSED = ("delivered", "HTTP 204"), ("given up", "HTTP 403")
COMPLETED, PROCESSING = "Told by the provider: completed", "Told by the provider: processing"


@dataclass(frozen=True)
class Row:
    """A fault, what the provider is answered to each of its deliveries, and what stands on the generation's page of them."""

    fault: str
    parameters: dict[str, Any] = field(default_factory=dict)
    answers: tuple[tuple[str, str], ...] = ()
    evidence: tuple[str, ...] = ()


TABLE = [
    Row("webhook_lost"),
    Row("webhook_duplicate", {"copies": 3}, (TAKEN,) * 3, (COMPLETED,) * 3),
    Row("webhook_late", {"seconds": 3600}, (TAKEN,), (COMPLETED,)),
    Row("webhook_out_of_order", {}, (TAKEN, TAKEN), (COMPLETED, PROCESSING)),
    Row("webhook_bad_signature", {}, (REFUSED,), ()),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.fault)
def test_what_a_user_sees_of_a_webhook_that_goes_wrong(
    row: Row, draft: Generation, wavespeed: SandboxControl, live_server: Any, owner_client: Client, settings: Any
) -> None:
    settings.WAVESPEED_WEBHOOK_BASE_URL = live_server.url
    provider.client.cache_clear()
    wavespeed.arm(row.fault, **row.parameters)

    with time_machine.travel(timezone.now(), tick=True) as traveller:
        orders.queue(draft, by=draft.requested_by)
        live(traveller, timedelta(minutes=30))
        told = owner_client.get(f"/api/v1/generations/{draft.pk}/").json()
        assert (told["status"], money(draft)) == ("completed", (0, 2_100_000))

        # What comes when it is over changes nothing any more.
        traveller.shift(timedelta(hours=1))
        until(lambda: wavespeed.predictions()[0]["webhook_planned"] and answers(wavespeed) == list(row.answers))
        deliver()
        live(traveller, timedelta(hours=1))

    draft.refresh_from_db()
    assert (draft.status, money(draft)) == ("completed", (0, 2_100_000))
    assert list(draft.events.values_list("new_status", flat=True)) == [
        "draft",
        "queued",
        "submitting",
        "processing",
        "storing",
        "completed",
    ]
    kept = draft.exchanges.filter(kind=Exchange.Kind.WEBHOOK).order_by("pk").values_list("summary", flat=True)
    assert sorted(kept) == sorted(row.evidence)
    page = owner_client.get(reverse("admin:generations_generation_change", args=[draft.pk])).content.decode()
    assert page.count("Told by the provider") == len(row.evidence)
    assert (wavespeed.posts()["count"], wavespeed.bill()["total_micros"]) == (1, 2_100_000)
    assert draft.videos.get().sha256 == wavespeed.predictions()[0]["output_sha256"]
    assert [fault["taken"] for fault in wavespeed.faults()] == [1], "the fault never struck"


def answers(wavespeed: SandboxControl) -> list[tuple[str, str]]:
    """What became of each delivery, in their order; none for one that may still be tried again."""
    return [(each["state"], each["last_answer"]) for each in wavespeed.webhooks() if each["state"] != "pending"]


def test_a_webhook_names_what_the_providers_list_hides(
    draft: Generation, make_sandbox: Any, live_server: Any, studio_owner: User, settings: Any
) -> None:
    """The answer was lost and the list shows no inputs: the webhook's own path says whose it is, and an owner has nothing to decide."""
    control = SandboxControl(make_sandbox(list_inputs=False).url)
    settings.WAVESPEED_BASE_URL = control.url
    settings.WAVESPEED_WEBHOOK_BASE_URL = live_server.url
    provider.client.cache_clear()
    control.arm("submit_drop_after")

    with time_machine.travel(timezone.now(), tick=True) as traveller:
        orders.queue(draft, by=draft.requested_by)
        live(traveller, timedelta(seconds=1))
        until(lambda: answers(control) == [TAKEN])
        live(traveller, timedelta(minutes=30))
    provider.client.cache_clear()

    draft.refresh_from_db()
    assert (draft.status, money(draft), control.posts()["count"]) == ("completed", (0, 2_100_000), 1)
    assert "The provider's own message named it: accepted." in draft.events.values_list("reason", flat=True)


def test_every_webhook_fault_has_its_row() -> None:
    assert {row.fault for row in TABLE} == {kind for kind in KINDS if kind.startswith("webhook_")}
