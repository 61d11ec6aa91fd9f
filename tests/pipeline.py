"""Drives the lifecycle's steps by hand, as workers would, and reads what they left."""

import hashlib
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.db.models import Sum
from django.utils import timezone

from generations import lifecycle
from generations.models import Generation, Look, Status
from generations.services import decisions
from projects.models import SpendEntry
from projects.money import budgets, spend

ENDPOINT = "kwaivgi/kling-video-o3-4k/image-to-video"
PATIENCE = 30


def submit_next() -> None:
    lease = lifecycle.admit()
    assert lease is not None, "the lane let nothing in"
    lifecycle.submit(lease)


def poll_to_end(generation: Generation) -> None:
    """Polls until the provider's verdict moved the generation."""
    until(lambda: lifecycle.poll(generation.pk) is not None)
    generation.refresh_from_db()


def run_to_end(generation: Generation) -> None:
    """From `queued` to its end, as far as it comes without an owner."""
    submit_next()
    generation.refresh_from_db()
    if generation.status == Status.PROCESSING:
        poll_to_end(generation)
    if generation.status == Status.STORING:
        lifecycle.store(generation.pk)
    lifecycle.settle(generation.pk)
    generation.refresh_from_db()


def list_and_bill_were_read(generation: Generation) -> None:
    """The studio has read both, now: an owner may decide by them."""
    for source in Look.Source:
        Look.objects.update_or_create(
            generation=generation,
            source=source,
            defaults={"tried_at": timezone.now(), "read_at": timezone.now(), "error": ""},
        )


def settle_not_made(generation: Generation, **how: Any) -> None:
    """As an owner does, once the provider's list and bill were read."""
    list_and_bill_were_read(generation)
    decisions.settle_not_made(generation, **how)


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends, "it took too long"
        time.sleep(0.05)


def money(generation: Generation) -> tuple[int, int]:
    """(reserved, spent) of the project in micro-dollars, after checking that the budget's period agrees with the ledger."""
    totals = project_totals(generation.project_id)
    for figures in budgets.figures(budgets.of_project(generation.project)):
        assert (figures.reserved, figures.spent) == (totals["reserved"], totals["spent"])
    assert spend.charged(generation.pk) == totals["spent"]
    return totals["reserved"], totals["spent"]


def booked(generation: Generation) -> list[tuple[str, int, int]]:
    """The ledger of one generation: kind, reserved and spent."""
    entries = SpendEntry.objects.filter(reference=generation.pk).order_by("created_at")
    return [(entry.kind, entry.reserved_delta, entry.spent_delta) for entry in entries]


def history(generation: Generation) -> list[str]:
    return list(generation.events.values_list("new_status", flat=True))


def file_sha256(generation: Generation) -> str:
    with generation.videos.get().file.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def project_totals(project_id: uuid.UUID) -> dict[str, int]:
    """`spent` and `reserved` of the project since it began, in micro-dollars, by the ledger alone, whatever budgets there were."""
    totals: dict[str, int] = SpendEntry.objects.filter(project_id=project_id).aggregate(
        spent=Sum("spent_delta", default=0), reserved=Sum("reserved_delta", default=0)
    )
    return totals
