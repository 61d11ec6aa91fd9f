"""The export against FOCUS 1.2, which is written down here anew and not taken from the exporter."""

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User

from generations import reports
from generations.models import Generation, Status
from generations.reports import Days
from projects.models import Project
from tests.generations.reports import books

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
YEAR = Days(date(2026, 1, 1), date(2026, 12, 31))

MANDATORY = {
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost",
    "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "ServiceCategory", "ServiceName",
}  # fmt: skip
OTHERS_OF_FOCUS = {
    "ChargeFrequency", "ConsumedQuantity", "ConsumedUnit", "ListUnitPrice", "ResourceId", "ResourceType",
    "ServiceSubcategory", "SkuId", "SubAccountId", "SubAccountName", "Tags",
}  # fmt: skip
MAY_BE_NULL = {
    "BillingAccountName", "ChargeClass", "ChargeDescription", "ConsumedQuantity", "ConsumedUnit", "ListUnitPrice",
    "PricingQuantity", "PricingUnit", "ResourceId", "ResourceType", "SubAccountName",
}  # fmt: skip
DECIMALS = {
    "BilledCost", "ConsumedQuantity", "ContractedCost", "EffectiveCost", "ListCost", "ListUnitPrice", "PricingQuantity",
}  # fmt: skip
TIMES = {"BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"}
ALLOWED = {
    "BillingCurrency": {"USD"},
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"", "Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "ServiceCategory": {"AI and Machine Learning"},
    "ServiceSubcategory": {"Generative AI"},
    "PricingUnit": {"", "Seconds"},
    "ConsumedUnit": {"", "Seconds"},
}
DECIMAL = re.compile(r"-?\d+(\.\d+)?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def exported(project: Project, days: Days = YEAR) -> tuple[list[str], list[dict[str, str]]]:
    """The header and the rows, through CSV as a finance team gets it."""
    text = "".join(reports.csv_lines(reports.focus_table(reports.of_project(project), days)))
    reader = csv.DictReader(io.StringIO(text, newline=""))
    return list(reader.fieldnames or []), list(reader)


def rows(project: Project) -> list[dict[str, str]]:
    header, listed = exported(project)
    for row in listed:
        check(header, row)
    return listed


def check(header: list[str], row: dict[str, str]) -> None:
    """Types, nulls, allowed values, and what the columns say about each other."""
    focus = {name: value for name, value in row.items() if not name.startswith("x_")}
    assert [name for name, value in focus.items() if not value and name not in MAY_BE_NULL] == []
    assert [name for name in DECIMALS if focus[name] and not DECIMAL.fullmatch(focus[name])] == []
    assert [name for name in TIMES if not TIME.fullmatch(focus[name])] == []
    assert {name: focus[name] for name, allowed in ALLOWED.items() if focus[name] not in allowed} == {}
    starts_at, ends_at = (datetime.fromisoformat(focus[f"ChargePeriod{side}"]) for side in ("Start", "End"))
    assert starts_at < ends_at
    billed_from, billed_to = (datetime.fromisoformat(focus[f"BillingPeriod{side}"]) for side in ("Start", "End"))
    assert (billed_from.day, billed_from.hour, billed_to.day, billed_to.hour) == (1, 0, 1, 0)
    assert timedelta(days=28) <= billed_to - billed_from <= timedelta(days=31)
    if focus["ChargeClass"] == "":
        assert billed_from <= starts_at < billed_to
    if focus["ChargeCategory"] == "Usage" and focus["ChargeClass"] != "Correction":
        assert "" not in (focus["PricingQuantity"], focus["PricingUnit"], focus["ListUnitPrice"])
    if focus["ListUnitPrice"]:
        assert Decimal(focus["ListUnitPrice"]) >= 0
        product = Decimal(focus["ListUnitPrice"]) * Decimal(focus["PricingQuantity"])
        assert product.quantize(Decimal("1e-12")) == Decimal(focus["ListCost"]).quantize(Decimal("1e-12"))
    else:
        assert focus["ListCost"] == focus["ContractedCost"] == focus["BilledCost"]
    if focus["ConsumedQuantity"]:
        assert focus["ChargeCategory"] == "Usage"
        assert Decimal(focus["ConsumedQuantity"]) > 0
    assert (focus["ConsumedQuantity"] == "") == (focus["ConsumedUnit"] == "")
    assert (focus["PricingQuantity"] == "") == (focus["PricingUnit"] == "")
    assert (focus["ResourceId"] == "") == (focus["ResourceType"] == "")
    assert isinstance(json.loads(focus["Tags"]), dict)


def test_header_has_every_mandatory_column_once_and_own_ones_as_x(project: Project) -> None:
    header, _ = exported(project)

    assert len(MANDATORY) == 21
    assert len(header) == len(set(header))
    assert MANDATORY - set(header) == set()
    assert {name for name in header if not name.startswith("x_")} == MANDATORY | OTHERS_OF_FOCUS
    assert [name for name in header if not re.fullmatch(r"(x_)?[A-Z][A-Za-z]*", name)] == []


def test_charge_is_usage(project: Project, editor: User) -> None:
    made = books.generation(project, editor, NOON, tags=["winter", "2026"])
    charge = books.charged(made)

    [row] = rows(project)

    assert row == {
        "BilledCost": "2.10",
        "BillingAccountId": "wavespeed",
        "BillingAccountName": "",
        "BillingCurrency": "USD",
        "BillingPeriodStart": "2026-03-01T00:00:00Z",
        "BillingPeriodEnd": "2026-04-01T00:00:00Z",
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": "Charge: Kling Video O3 4K: image to video, 5 seconds",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": "2026-03-10T12:00:00Z",
        "ChargePeriodEnd": "2026-03-10T12:03:01Z",
        "ConsumedQuantity": "5",
        "ConsumedUnit": "Seconds",
        "ContractedCost": "2.10",
        "EffectiveCost": "2.10",
        "InvoiceIssuerName": "Sandbox (no real money)",
        "ListCost": "2.10",
        "ListUnitPrice": "0.42",
        "PricingQuantity": "5",
        "PricingUnit": "Seconds",
        "ProviderName": "Sandbox (no real money)",
        "PublisherName": "Kuaishou",
        "ResourceId": made.prediction_id,
        "ResourceType": "Prediction",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Video generation",
        "ServiceSubcategory": "Generative AI",
        "SkuId": "kwaivgi/kling-video-o3-4k/image-to-video",
        "SubAccountId": str(project.pk),
        "SubAccountName": "Coffee",
        "Tags": '{"winter": true, "2026": true}',
        "x_BookedAt": "2026-03-10T12:03:00Z",
        "x_EntryId": str(charge.pk),
        "x_EntryKind": "charge",
        "x_GenerationId": str(made.pk),
        "x_GenerationStatus": "completed",
        "x_PredictionId": made.prediction_id,
        "x_Reason": "",
        "x_RequestedBy": "eddie",
    }


def test_with_a_key_the_provider_is_named(project: Project, editor: User, settings: Any) -> None:
    settings.WAVESPEED_SANDBOX = False
    settings.WAVESPEED_ACCOUNT_ID = "acme-4711"
    books.paid(project, editor, NOON)

    [row] = rows(project)

    assert (row["ProviderName"], row["InvoiceIssuerName"], row["BillingAccountId"]) == (
        "WaveSpeedAI", "WaveSpeedAI", "acme-4711",
    )  # fmt: skip


def test_refund_in_the_same_month_is_negative_usage(project: Project, editor: User) -> None:
    charge = books.paid(project, editor, NOON, status=Status.FAILED)
    books.refunded(charge, 1_050_000, at=NOON + timedelta(hours=5))

    refund = rows(project)[1]

    wanted = {
        "BilledCost": "-1.05", "EffectiveCost": "-1.05", "ListCost": "-1.05", "ContractedCost": "-1.05",
        "ChargeCategory": "Usage", "ChargeClass": "", "PricingQuantity": "-2.5", "ListUnitPrice": "0.42",
        "ConsumedQuantity": "", "BillingPeriodStart": "2026-03-01T00:00:00Z", "x_EntryKind": "refund",
    }  # fmt: skip
    assert {name: refund[name] for name in wanted} == wanted


def test_refund_of_a_month_before_is_a_correction_billed_when_it_came(project: Project, editor: User) -> None:
    charge = books.paid(project, editor, datetime(2026, 3, 31, 23, 59, tzinfo=UTC))
    books.refunded(charge, 2_100_000, at=datetime(2026, 4, 1, 3, tzinfo=UTC))

    charged, refund = rows(project)

    assert (charged["ChargeClass"], charged["BillingPeriodStart"]) == ("", "2026-03-01T00:00:00Z")
    assert (refund["ChargeClass"], refund["ChargeCategory"]) == ("Correction", "Usage")
    assert (refund["BillingPeriodStart"], refund["BillingPeriodEnd"]) == (
        "2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z",
    )  # fmt: skip
    assert refund["ChargePeriodStart"] == charged["ChargePeriodStart"] == "2026-03-31T23:56:00Z"


def test_charge_belongs_to_the_month_in_which_it_was_submitted(project: Project, editor: User) -> None:
    books.paid(project, editor, datetime(2026, 4, 1, 0, 1, tzinfo=UTC))

    [row] = rows(project)

    assert (row["BillingPeriodStart"], row["ChargeClass"]) == ("2026-03-01T00:00:00Z", "")


@pytest.mark.parametrize(("hours", "charge_class"), [(1, ""), (24 * 40, "Correction")])
def test_adjustment_has_no_quantity(project: Project, editor: User, hours: int, charge_class: str) -> None:
    charge = books.paid(project, editor, NOON)
    books.adjusted(charge, -100_001, at=NOON + timedelta(hours=hours), reason="=HYPERLINK(1)")

    adjustment = rows(project)[1]

    wanted = {
        "BilledCost": "-0.100001", "ListCost": "-0.100001", "ChargeCategory": "Adjustment", "ChargeClass": charge_class,
        "PricingQuantity": "", "PricingUnit": "", "ListUnitPrice": "", "ConsumedQuantity": "",
        "x_Reason": "'=HYPERLINK(1)",
    }  # fmt: skip
    assert {name: adjustment[name] for name in wanted} == wanted


def test_bill_that_differs_from_the_list_price_is_told_apart(project: Project, editor: User) -> None:
    books.paid(project, editor, NOON, 1_680_000)

    [row] = rows(project)

    assert (row["BilledCost"], row["EffectiveCost"]) == ("1.68", "1.68")
    assert (row["ListCost"], row["ContractedCost"]) == ("2.10", "2.10")


@pytest.mark.parametrize("quote", [0, 1_000_000, None])
def test_odd_prices_stay_truthful(project: Project, editor: User, quote: int | None) -> None:
    charge = books.paid(project, editor, NOON, 700_000, quote=quote, duration=3)
    books.refunded(charge, 700_000, at=NOON + timedelta(hours=1))

    charged, refund = rows(project)

    assert (charged["BilledCost"], refund["BilledCost"]) == ("0.70", "-0.70")


def test_costs_add_up_to_the_net_spend_and_holds_are_none(project: Project, editor: User) -> None:
    books.reserved(books.generation(project, editor, NOON, status=Status.QUEUED, submitted_at=None, completed_at=None))
    charge = books.paid(project, editor, NOON)
    books.adjusted(charge, 123_457, at=NOON + timedelta(minutes=1))
    books.refunded(charge, 1_000_001, at=NOON + timedelta(days=40))

    listed = rows(project)

    assert [row["x_EntryKind"] for row in listed] == ["charge", "adjust", "refund"]
    net = reports.report(reports.of_project(project), YEAR).totals.net
    assert sum(Decimal(row["BilledCost"]) for row in listed) * 1_000_000 == net


def test_what_no_generation_is_known_for_is_still_exported(project: Project, editor: User) -> None:
    charge = books.paid(project, editor, NOON)
    Generation.objects.filter(pk=charge.reference).delete()

    [row] = rows(project)

    assert (row["BilledCost"], row["PricingQuantity"], row["ResourceId"]) == ("2.10", "1", "")


def test_days_are_utc_whatever_the_zone_of_the_project(project: Project, editor: User) -> None:
    project.time_zone = "Asia/Kolkata"
    project.save()
    books.paid(project, editor, datetime(2026, 3, 9, 20, tzinfo=UTC))
    march_9, march_10 = (Days(date(2026, 3, day), date(2026, 3, day)) for day in (9, 10))

    assert (len(exported(project, march_9)[1]), len(exported(project, march_10)[1])) == (1, 0)


def test_text_of_people_is_no_formula(project: Project, editor: User) -> None:
    project.name = "=cmd|' /C calc'!A0"
    project.save()
    books.paid(project, editor, NOON)

    [row] = rows(project)

    assert row["SubAccountName"] == "'=cmd|' /C calc'!A0"


def test_many_rows_are_read_in_batches(
    project: Project, editor: User, django_assert_num_queries: Callable[..., Any]
) -> None:
    for _ in range(5):
        books.paid(project, editor, NOON)

    with django_assert_num_queries(2):
        _, listed = exported(project)
    assert len(listed) == 5
