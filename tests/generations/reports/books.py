"""Books of past months: generations with their ledger entries, dated as a test needs them."""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import User

from generations.models import Generation, Status
from projects.models import EntryKind, Project, SpendEntry
from tests.pipeline import ENDPOINT

MINUTES = timedelta(minutes=3)
QUOTE = 2_100_000


def generation(project: Project, user: User, at: datetime, **fields: Any) -> Generation:
    """A completed one of five seconds for $2.10, submitted at `at`."""
    made: dict[str, Any] = {
        "endpoint": ENDPOINT,
        "duration": 5,
        "status": Status.COMPLETED,
        "quote": QUOTE,
        "prediction_id": uuid.uuid4().hex,
        "created_at": at,
        "queued_at": at,
        "submitted_at": at,
        "completed_at": at + MINUTES,
    }
    return Generation.objects.create(project=project, requested_by=user, prompt="Steam rises", **made | fields)


def reserved(made: Generation, at: datetime | None = None) -> SpendEntry:
    return _entry(made, EntryKind.RESERVE, at or made.created_at, reserved_delta=made.quote or 0)


def charged(made: Generation, amount: int = QUOTE, *, at: datetime | None = None) -> SpendEntry:
    """Reserved when it was queued, and charged when it was done."""
    reservation = reserved(made)
    return _entry(
        made,
        EntryKind.CHARGE,
        at or made.completed_at,
        reserved_delta=-(made.quote or 0),
        spent_delta=amount,
        reservation=reservation,
        ends=reservation,
    )


def refunded(charge: SpendEntry, amount: int, *, at: datetime) -> SpendEntry:
    return _follows(charge, EntryKind.REFUND, -amount, at)


def adjusted(charge: SpendEntry, amount: int, *, at: datetime, reason: str = "Another amount.") -> SpendEntry:
    return _follows(charge, EntryKind.ADJUST, amount, at, reason=reason)


def paid(project: Project, user: User, at: datetime, amount: int = QUOTE, **fields: Any) -> SpendEntry:
    """The charge of a generation that ended three minutes before `at`, when it is booked."""
    return charged(generation(project, user, at - MINUTES, **fields), amount, at=at)


def _follows(charge: SpendEntry, kind: EntryKind, amount: int, at: datetime, **fields: Any) -> SpendEntry:
    made = Generation.objects.get(pk=charge.reference)
    return _entry(made, kind, at, spent_delta=amount, reservation=charge.reservation, **fields)


def _entry(made: Generation, kind: EntryKind, at: datetime, **fields: Any) -> SpendEntry:
    return SpendEntry.objects.create(
        key=f"{kind}:{uuid.uuid4()}",
        kind=kind,
        project=made.project,
        user=made.requested_by,
        reference=made.pk,
        endpoint=made.endpoint,
        created_at=at,
        **fields,
    )
