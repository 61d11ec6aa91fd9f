"""The spend as FOCUS 1.2 (https://focus.finops.org): a row for each charge, refund and adjustment.

docs/money.md says what each column holds. Days and billing periods are UTC here, whatever the zone of the project.
Reservations and releases are no costs, so they are not in it.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from zoneinfo import ZoneInfo

from django.conf import settings

from generations import catalog
from generations.models import Generation
from generations.reports.breakdown import SPENDING, effective_tags
from generations.reports.exports import CHUNK, Cell, Table
from generations.reports.scope import Days, Scope
from projects.models import EntryKind, Period, SpendEntry
from projects.money import to_dollars

CURRENCY = "USD"
PROVIDER = "WaveSpeedAI"
SANDBOX = "Sandbox (no real money)"
PUBLISHER = "Kuaishou"
SECONDS = "Seconds"
SECOND = timedelta(seconds=1)

HEADER = [
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodStart",
    "BillingPeriodEnd",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "ListUnitPrice",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ResourceId",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "SubAccountId",
    "SubAccountName",
    "Tags",
    "x_BookedAt",
    "x_EntryId",
    "x_EntryKind",
    "x_GenerationId",
    "x_GenerationStatus",
    "x_PredictionId",
    "x_Reason",
    "x_RequestedBy",
]


def focus_table(scope: Scope, days: Days) -> Table:
    """What was booked in these days (UTC), the oldest first."""
    return Table(name=f"focus-{days.first}-to-{days.last}", header=HEADER, rows=_rows(scope, days))


def _rows(scope: Scope, days: Days) -> Iterator[list[Cell]]:
    entries = days.narrow(scope.entries(), UTC).filter(kind__in=SPENDING).order_by("created_at", "id")
    entries = entries.select_related("project", "user")
    batches = entries.iterator(chunk_size=CHUNK)
    while batch := list(islice(batches, CHUNK)):
        generations = Generation.objects.select_related("image").in_bulk({entry.reference for entry in batch})
        yield from (_row(entry, generations.get(entry.reference)) for entry in batch)


def _row(entry: SpendEntry, generation: Generation | None) -> list[Cell]:
    starts_at, ends_at = _charge_period(entry, generation)
    billing_starts_at, billing_ends_at, is_correction = _billing_period(entry, starts_at)
    cost = to_dollars(entry.spent_delta)
    is_charge, is_adjustment = entry.kind == EntryKind.CHARGE, entry.kind == EntryKind.ADJUST
    unit_price, quantity, list_cost = (None, None, cost) if is_adjustment else _priced(entry, generation)
    prediction_id = generation.prediction_id if generation else None
    issuer = SANDBOX if settings.WAVESPEED_SANDBOX else PROVIDER
    values: dict[str, Cell] = {
        "BilledCost": cost,
        "BillingAccountId": settings.WAVESPEED_ACCOUNT_ID,
        "BillingAccountName": None,
        "BillingCurrency": CURRENCY,
        "BillingPeriodStart": billing_starts_at,
        "BillingPeriodEnd": billing_ends_at,
        "ChargeCategory": "Adjustment" if is_adjustment else "Usage",
        "ChargeClass": "Correction" if is_correction else None,
        "ChargeDescription": _description(entry, generation),
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": starts_at,
        "ChargePeriodEnd": ends_at,
        "ConsumedQuantity": quantity if is_charge else None,
        "ConsumedUnit": SECONDS if is_charge else None,
        "ContractedCost": list_cost,
        "EffectiveCost": cost,
        "InvoiceIssuerName": issuer,
        "ListCost": list_cost,
        "ListUnitPrice": unit_price,
        "PricingQuantity": quantity,
        "PricingUnit": None if quantity is None else SECONDS,
        "ProviderName": issuer,
        "PublisherName": PUBLISHER,
        "ResourceId": prediction_id,
        "ResourceType": "Prediction" if prediction_id else None,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Video generation",
        "ServiceSubcategory": "Generative AI",
        "SkuId": entry.endpoint,
        "SubAccountId": str(entry.project_id),
        "SubAccountName": entry.project.name,
        "Tags": _tags(generation),
        "x_BookedAt": entry.created_at,
        "x_EntryId": str(entry.pk),
        "x_EntryKind": entry.kind,
        "x_GenerationId": str(entry.reference),
        "x_GenerationStatus": generation.status if generation else None,
        "x_PredictionId": prediction_id,
        "x_Reason": entry.reason,
        "x_RequestedBy": entry.user.username,
    }
    return [values[name] for name in HEADER]


def _charge_period(entry: SpendEntry, generation: Generation | None) -> tuple[datetime, datetime]:
    """From the submission to the end of the generation, widened to whole seconds; the end is exclusive."""
    started = generation and (generation.submitted_at or generation.queued_at)
    ended = generation and generation.completed_at
    starts_at = (started or entry.created_at).replace(microsecond=0)
    return starts_at, max(ended or entry.created_at, starts_at).replace(microsecond=0) + SECOND


def _billing_period(entry: SpendEntry, starts_at: datetime) -> tuple[datetime, datetime, bool]:
    """The month in UTC in which the provider bills it, and whether it corrects a month before.

    The provider takes a charge when it accepts the request; what comes later is billed when it is booked.
    """
    used_in, booked_in = (Period.MONTH.bounds(moment, ZoneInfo("UTC")) for moment in (starts_at, entry.created_at))
    is_correction = entry.kind != EntryKind.CHARGE and booked_in != used_in
    billed_from, billed_to = booked_in if is_correction else used_in
    assert billed_to is not None
    return billed_from, billed_to, is_correction


def _priced(entry: SpendEntry, generation: Generation | None) -> tuple[Decimal, Decimal, Decimal]:
    """List price of a second, seconds, list cost. The list price is the quote, frozen when it was queued; without one, the bill.

    A refund has as many seconds below zero as it pays back.
    """
    cost = to_dollars(entry.spent_delta)
    seconds = Decimal(generation.duration if generation else 1)
    quoted = abs(cost) if generation is None or generation.quote is None else to_dollars(generation.quote)
    unit_price = quoted / seconds
    if entry.kind == EntryKind.CHARGE:
        return unit_price, seconds, quoted
    return (unit_price, cost / unit_price, cost) if unit_price else (unit_price, -seconds, unit_price)


def _description(entry: SpendEntry, generation: Generation | None) -> str:
    known = catalog.ENDPOINTS.get(entry.endpoint)
    seconds = f", {generation.duration} seconds" if generation else ""
    return f"{EntryKind(entry.kind).label}: {known.title if known else entry.endpoint}{seconds}"


def _tags(generation: Generation | None) -> str:
    """FOCUS has keys with values; a tag of ours is a key that is true."""
    image = generation.image if generation else None
    tags = effective_tags(generation.tags, image.tags if image else []) if generation else []
    return json.dumps(dict.fromkeys(tags, True), ensure_ascii=False)
