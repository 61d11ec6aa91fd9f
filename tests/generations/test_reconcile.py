"""The books against the provider's bill: a run with faults is explained to the cent, and whatever is false in a bill is found."""

import io
import json
import random
from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import time_machine
from django.core.exceptions import PermissionDenied
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from generations import dispatch, lifecycle, provider, reconcile
from generations.models import Generation, Lane, PausedEndpoint, Reconciliation, Status, UnassignedPrediction
from generations.services import drafts, orders, pauses, reconciliations
from generations.services.inputs import inputs_of
from projects.models import Alert, AlertKind, BudgetPeriod, Project, SpendEntry, SpendLine, Studio
from projects.money import budgets, spend
from tests import factories, pipeline
from tests.generations.lifecycle.test_unassigned import show_nothing_in_the_list
from tests.pipeline import ENDPOINT, booked, project_totals, run_to_end, submit_next, until
from tests.sandbox import SandboxControl
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

PRICE = 2_100_000


@pytest.fixture
def start(wavespeed: SandboxControl) -> datetime:
    return timezone.now()


def made(project: Project, prompt: str) -> Generation:
    """Queued, for $2.10."""
    image = project.source_images.first() or factories.source_image(project)
    inputs = {"image": str(image.pk), "prompt": prompt, "duration": 5}
    by = project.created_by
    return orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)


def ended(project: Project, prompt: str, wavespeed: SandboxControl, **faults: dict[str, Any]) -> Generation:
    for kind, parameters in faults.items():
        wavespeed.arm(kind, prompt=prompt, **parameters)
    generation = made(project, prompt)
    run_to_end(generation)
    return generation


def settle_all() -> None:
    for pk in Generation.objects.filter(settle_at__isnull=False).values_list("pk", flat=True):
        lifecycle.settle(pk)


def reconciled(**how: Any) -> Reconciliation:
    reconciliation = reconcile.run(reconcile.begin(), **how)
    assert reconciliation.error == ""
    report = reconciliation.report
    assert report["theirs"] - report["ours"] == sum(
        finding["difference"] for finding in report["findings"] if finding["kind"] not in ("balance", "ledger")
    )
    return reconciliation


def findings(reconciliation: Reconciliation) -> list[tuple[str, str, int, int]]:
    """Kind, what it is about, ours and theirs."""
    return [
        (found["kind"], found["generation"] or found["prediction"], found["ours"], found["theirs"])
        for found in reconciliation.report["findings"]
    ]


def row_of(generation: Generation, wavespeed: SandboxControl, billing_type: str = "deduct") -> dict[str, Any]:
    rows = wavespeed.bill()["rows"]
    return next(
        row for row in rows if (row["prediction_id"], row["billing_type"]) == (generation.prediction_id, billing_type)
    )


def refund_of(generation: Generation, price: float) -> dict[str, Any]:
    return {"prediction_id": generation.prediction_id, "billing_type": "refund", "price": price}


def deduct_of(generation: Generation, price: float) -> dict[str, Any]:
    return {"prediction_id": generation.prediction_id, "billing_type": "deduct", "price": price}


# --- A run with faults ------------------------------------------------------------------------------------------------


def test_every_cent_of_a_run_with_faults_is_explained(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    budgets.change_limit(project.budgets.get(), limit=100_000_000, by=project.created_by)
    good = ended(project, "good", wavespeed)
    failed = ended(project, "failed", wavespeed, task_failed={})
    late = ended(project, "late refund", wavespeed, task_failed={}, refund_late={"seconds": 6 * 3600})
    never = ended(project, "no refund", wavespeed, task_failed={}, refund_never={})
    cheaper = ended(project, "cheaper", wavespeed, charge_price={"price": 1.05})
    lagging = ended(project, "lagging", wavespeed, charge_price={"price": 1.5}, charge_late={"seconds": 3600})
    refused = ended(project, "refused", wavespeed, submit_400={})
    ambiguous = ended(project, "ambiguous", wavespeed, submit_drop_after={})
    orphan = wavespeed.predictions()[0]["id"]
    until(lambda: wavespeed.predictions()[0]["status"] == "completed")

    young = reconciled()
    assert young.differences == 0
    assert Counter(kind for kind, *_ in findings(young)) == {"waiting": 4, "orphan": 1, "held": 1}

    with time_machine.travel(start + timedelta(hours=5)):
        settle_all()
        settled = reconciled()
    assert findings(settled) == [
        ("orphan", str(ambiguous.pk), 0, PRICE),
        ("held", str(ambiguous.pk), 0, 0),
    ]
    assert settled.differences == 0
    with time_machine.travel(start + timedelta(hours=7)):
        refunded = reconciled()
        assert findings(refunded)[0] == ("refund", str(late.pk), PRICE, 0)
        assert (refunded.differences, reconciled().differences) == (1, 0)
        bill = wavespeed.bill()

    spent = {generation: spend.charged(generation.pk) for generation in Generation.objects.all()}
    assert spent == {
        good: PRICE,
        failed: 0,
        late: 0,
        never: PRICE,
        cheaper: 1_050_000,
        lagging: 1_500_000,
        refused: 0,
        ambiguous: 0,
    }
    assert booked(late) == [("reserve", PRICE, 0), ("charge", -PRICE, PRICE), ("refund", 0, -PRICE)]
    held = project_totals(project.pk)["reserved"]
    assert (held, bill["total_micros"]) == (PRICE, sum(spent.values()) + PRICE)
    report = refunded.report["findings"]
    known = next(found for found in report if found["kind"] == "orphan")
    assert (known["prediction"], known["details"]["model"], known["details"]["status"]) == (
        orphan,
        ENDPOINT,
        "completed",
    )
    assert (known["details"]["prompt"], known["details"]["deducted"]) == ("ambiguous", PRICE)
    assert next(found for found in report if found["kind"] == "held")["details"] == {"candidates": [orphan]}


@pytest.fixture
def four(project: Project, wavespeed: SandboxControl) -> list[Generation]:
    """Four that are made, stored, charged and settled."""
    factories.budget(project, 100_000_000)
    generations = [ended(project, f"take {number}", wavespeed) for number in range(4)]
    assert Generation.objects.filter(settle_at__isnull=False).count() == 0
    assert reconciled().differences == 0
    return generations


@pytest.mark.both_databases
def test_each_doctored_row_is_found_and_booked_when_told_to(
    four: list[Generation], wavespeed: SandboxControl, capsys: Any
) -> None:
    dearer, unbilled, twice, refunded = four
    unknown = "f" * 32
    wavespeed.doctor(
        change=[{"uuid": row_of(dearer, wavespeed)["uuid"], "price": 2.5}],
        remove=[row_of(unbilled, wavespeed)["uuid"]],
        add=[
            deduct_of(twice, 2.1),
            refund_of(refunded, 0.6),
            {"prediction_id": unknown, "billing_type": "deduct", "price": 0.42},
            {"prediction_id": refunded.prediction_id, "billing_type": "fee", "price": 0.01},
        ],
    )

    with pytest.raises(CommandError) as exit_code:
        call_command("reconcile", "--strict")
    assert (exit_code.value.returncode, str(exit_code.value)) == (1, "6 differences.")
    printed = capsys.readouterr().out
    assert "The provider billed more than was charged here." in printed
    assert "It was charged here, and is on no bill." in printed
    assert "The provider billed it, and nothing here asked for it." in printed
    assert "The bill has a row of the unknown kind “fee” over $0.01" in printed
    looked = Reconciliation.objects.first()
    drift = {
        ("drift", str(dearer.pk), PRICE, 2_500_000),
        ("drift", str(unbilled.pk), PRICE, 0),
        ("drift", str(twice.pk), PRICE, 2 * PRICE),
    }
    others = {("orphan", unknown, 0, 420_000), ("drift", refunded.prediction_id, 0, 0)}
    assert set(findings(looked)) == drift | others | {("refund", str(refunded.pk), PRICE, PRICE - 600_000)}
    assert [entry.kind for entry in SpendEntry.objects.filter(kind__in=("adjust", "refund"))] == ["refund"]

    applied = reconciled(apply=True)
    assert set(findings(applied)) == drift | others
    assert set(findings(reconciled(apply=True))) == others
    drifts = SpendEntry.objects.filter(kind="adjust").order_by("spent_delta")
    assert [(entry.reference, entry.spent_delta, entry.reason) for entry in drifts] == [
        (unbilled.pk, -PRICE, "drift: It was charged here, and is on no bill."),
        (dearer.pk, 400_000, "drift: The provider billed more than was charged here."),
        (twice.pk, PRICE, "drift: The provider billed more than was charged here."),
    ]
    assert {entry.key for entry in drifts} == {
        f"drift:{applied.pk}:{each.prediction_id}" for each in (dearer, unbilled, twice)
    }
    totals = project_totals(dearer.project_id)
    assert totals == {"reserved": 0, "spent": sum(spend.charged(each.pk) for each in four)}
    assert wavespeed.bill()["deducted"] * 1_000_000 - 600_000 == pytest.approx(totals["spent"] + 420_000)
    assert [Generation.objects.get(pk=each.pk).charged for each in four] == [2_500_000, 0, 2 * PRICE, 1_500_000]


def test_what_nothing_here_asked_for_is_kept_and_stored(
    four: list[Generation], wavespeed: SandboxControl, start: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what the list does not show: the bill names it, and the provider has its result."""
    body = {"image": Generation.objects.get(pk=four[0].pk).uploads["image"], "duration": 5}
    listed = provider.client().submit(ENDPOINT, {**body, "prompt": "Theirs"}).id
    assert reconciled().report["findings"][0]["done"] == "", "a young one may be of a reply that is on its way"
    with time_machine.travel(start + timedelta(days=1)):
        looked = reconciled()
        unlisted = provider.client().submit(ENDPOINT, {**body, "prompt": "More"}).id
    with time_machine.travel(start + timedelta(days=2)), monkeypatch.context() as lag:
        show_nothing_in_the_list(lag)
        reconciled()
        for pk in UnassignedPrediction.objects.values_list("pk", flat=True):
            until(lambda pk=pk: lifecycle.store_unassigned(pk))

    assert findings(looked) == [("orphan", listed, 0, PRICE)]
    assert looked.report["findings"][0]["done"] == "kept as an unassigned video"
    kept = UnassignedPrediction.objects.order_by("found_at")
    assert [(row.prediction_id, row.endpoint, row.found_by) for row in kept] == [
        (listed, ENDPOINT, "bill"),
        (unlisted, ENDPOINT, "bill"),
    ]


def test_what_was_settled_as_not_made_and_is_on_the_bill_goes_to_its_generation(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    wavespeed.arm("submit_drop_after")
    generation = made(project, "lost")
    submit_next()
    with time_machine.travel(start + timedelta(days=1)):
        generation.refresh_from_db()
        pipeline.settle_not_made(generation, by=project.created_by, reason="Nobody looked.")
        looked = reconciled()
        until(lambda: lifecycle.poll(generation.pk) == Status.STORING)

    assert looked.report["findings"][0]["done"] == f"given to generation {generation.pk}"
    assert not UnassignedPrediction.objects.exists()


def test_a_generation_that_was_never_booked_is_told_and_stops_nothing(
    four: list[Generation], project: Project, wavespeed: SandboxControl
) -> None:
    by = project.created_by
    unbooked = drafts.create(project, endpoint=ENDPOINT, inputs=inputs_of(four[0]), by=by)
    prediction = provider.client().submit(ENDPOINT, {"image": "https://example.com/a.jpg", "prompt": "unbooked"}).id
    Generation.objects.filter(pk=unbooked.pk).update(
        status=Status.COMPLETED, submitted_at=timezone.now(), prediction_id=prediction
    )

    looked = reconciled()

    assert findings(looked) == [("drift", str(unbooked.pk), 0, PRICE)]
    assert looked.report["findings"][0]["why"] == "The provider billed it, and no money was ever reserved."


def test_a_clean_bill_passes_strictly(four: list[Generation], capsys: Any) -> None:
    call_command("reconcile", "--strict")

    printed = capsys.readouterr().out
    assert "Compared 4 generations: our books say $8.40, the provider's bill $8.40, a difference of $0.00." in printed
    assert printed.endswith("No difference: every cent is explained.\n")


def test_the_report_is_printed_as_json(four: list[Generation], wavespeed: SandboxControl, capsys: Any) -> None:
    wavespeed.doctor(add=[refund_of(four[0], 0.5)])

    call_command("reconcile", "--json")

    report = json.loads(capsys.readouterr().out)
    assert (report["ours"], report["theirs"], report["differences"]) == (4 * PRICE, 4 * PRICE - 500_000, 1)
    assert report["findings"][0]["done"] == "booked"
    assert report["id"] == str(Reconciliation.objects.first().pk)


# --- Refunds, told apart ----------------------------------------------------------------------------------------------


def test_a_refund_that_the_settlement_counted_is_not_booked_again(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    """Deducted $2.10; $0.50 given back before the settlement, and $0.50 after it: alike but for their rows."""
    generation = ended(project, "partial", wavespeed, task_failed={}, refund_never={})
    wavespeed.doctor(add=[refund_of(generation, 0.5)])
    with time_machine.travel(start + timedelta(hours=5)):
        settle_all()
        assert booked(generation)[1:] == [("charge", -PRICE, PRICE), ("refund", 0, -500_000)]
        assert findings(reconciled()) == []

        wavespeed.doctor(add=[refund_of(generation, 0.5)])
        assert findings(reconciled()) == [("refund", str(generation.pk), 1_600_000, 1_100_000)]
        assert findings(reconciled()) == []
        assert wavespeed.bill()["total_micros"] == spend.charged(generation.pk) == 1_100_000


def test_the_refund_of_a_release_is_not_booked_when_the_bill_is_false_later(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    generation = ended(project, "released", wavespeed, task_failed={})
    with time_machine.travel(start + timedelta(hours=1)):
        settle_all()
        wavespeed.doctor(change=[{"uuid": row_of(generation, wavespeed)["uuid"], "price": 3}])
        looked = reconciled()
    assert findings(looked) == [("drift", str(generation.pk), 0, 900_000)]
    assert booked(generation) == [("reserve", PRICE, 0), ("release", -PRICE, 0)]


def test_a_refund_is_not_settled_before_its_deduct_row_is_seen(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    generation = ended(project, "odd", wavespeed, charge_late={"seconds": 3600})
    wavespeed.doctor(add=[refund_of(generation, 0.5)])

    lifecycle.settle(generation.pk)
    assert (spend.charged(generation.pk), Generation.objects.get().settle_at is None) == (PRICE, False)
    with time_machine.travel(start + timedelta(hours=2)):
        settle_all()
        assert (spend.charged(generation.pk), findings(reconciled())) == (1_600_000, [])


def test_a_deduct_that_is_seen_after_the_release_is_booked_and_told_once(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    generation = ended(
        project, "slow bill", wavespeed, task_failed={}, charge_late={"seconds": 6 * 3600}, refund_never={}
    )
    with time_machine.travel(start + timedelta(hours=5)):
        settle_all()
        assert (booked(generation)[-1], reconciled().differences) == (("release", -PRICE, 0), 0)
    with time_machine.travel(start + timedelta(hours=7)):
        looked = reconciled()
        assert findings(looked) == [("charge", str(generation.pk), 0, PRICE)]
        assert looked.report["findings"][0]["why"] == "The provider deducted it after its hold was released."
        assert findings(reconciled()) == []
        assert booked(generation) == [("reserve", PRICE, 0), ("release", -PRICE, 0), ("charge", 0, PRICE)]
        assert SpendEntry.objects.get(kind="charge").key == f"late-deduct:{generation.pk}"
        told = Alert.objects.get(kind=AlertKind.LATE_DEDUCT)
        assert told.title == "Coffee: $2.10 was deducted for what had failed and cost nothing"
        assert [each.user for each in told.notifications.all()] == [project.created_by]

        wavespeed.doctor(add=[refund_of(generation, 2.1)])
        assert findings(reconciled()) == [("refund", str(generation.pk), PRICE, 0)]
        assert spend.charged(generation.pk) == 0


def test_a_late_deduct_above_its_reservation_lands_and_stops_the_endpoint(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    generation = ended(project, "slow", wavespeed, task_failed={}, charge_late={"seconds": 1e6}, refund_never={})
    with time_machine.travel(start + timedelta(hours=5)):
        settle_all()
        budgets.change_limit(project.budgets.get(), limit=0, by=project.created_by)
        wavespeed.doctor(add=[deduct_of(generation, 12.5), refund_of(generation, 0.5)])
        looked = reconciled()

    assert findings(looked) == [("charge", str(generation.pk), 0, 12_000_000)]
    assert booked(generation)[2:] == [("charge", 0, 12_500_000), ("refund", 0, -500_000)]
    assert PausedEndpoint.objects.get().endpoint == ENDPOINT
    assert Generation.objects.get().charged == 12_000_000


def test_a_late_deduct_that_was_refunded_before_it_was_seen_costs_nothing(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    generation = ended(project, "slow", wavespeed, task_failed={}, charge_late={"seconds": 1e6}, refund_never={})
    wavespeed.doctor(add=[refund_of(generation, 2.1)])
    lifecycle.settle(generation.pk)
    assert booked(generation) == [("reserve", PRICE, 0)], "a refund of nothing that is known releases nothing"
    with time_machine.travel(start + timedelta(hours=5)):
        settle_all()
        wavespeed.doctor(add=[deduct_of(generation, 2.1)])
        assert findings(reconciled()) == []
    assert booked(generation)[1:] == [("release", -PRICE, 0)]


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
def test_several_who_reconcile_at_once_book_a_late_deduct_once(project: Project, wavespeed: SandboxControl) -> None:
    factories.budget(project, 10_000_000)
    now = timezone.now()
    generation = ended(project, "slow", wavespeed, task_failed={}, charge_late={"seconds": 1e6}, refund_never={})
    with time_machine.travel(now + timedelta(hours=5)):
        settle_all()
        wavespeed.doctor(add=[deduct_of(generation, 2.1)])
        runs = at_once([reconciled] * 4)

    assert [run for run in runs if isinstance(run, Exception)] == []
    assert booked(generation)[1:] == [("release", -PRICE, 0), ("charge", 0, PRICE)]
    assert Alert.objects.filter(kind=AlertKind.LATE_DEDUCT).count() == 1


def test_a_refund_above_the_charge_never_makes_a_negative_cost_by_itself(
    four: list[Generation], wavespeed: SandboxControl
) -> None:
    wavespeed.doctor(add=[refund_of(four[0], 5)])

    looked = reconciled()

    assert findings(looked) == [("drift", str(four[0].pk), PRICE, PRICE - 5_000_000)]
    assert looked.report["findings"][0]["why"] == "The provider refunded more than it deducted."
    assert spend.charged(four[0].pk) == PRICE


@pytest.mark.both_databases
def test_a_late_refund_lands_in_the_period_of_its_reservation(project: Project, wavespeed: SandboxControl) -> None:
    now = timezone.now()
    november = datetime(now.year + 1, 11, 30, 20, tzinfo=now.tzinfo)
    with time_machine.travel(november):
        budget = factories.budget(project, 10_000_000, period="month")
        generation = ended(project, "over the turn", wavespeed)
    with time_machine.travel(november + timedelta(days=1)):
        made(project, "december")
        wavespeed.doctor(add=[refund_of(generation, 2.1)])
        reconciled()
    assert list(budget.periods.order_by("starts_at").values_list("spent", "reserved")) == [(0, 0), (0, PRICE)]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_comes_onto_the_bill_in_whatever_order_is_booked_once(
    seed: int, project: Project, wavespeed: SandboxControl, start: datetime
) -> None:
    """Without `apply` only refunds are booked, and never more than was charged; with it the books are the bill."""
    dice = random.Random(seed)
    factories.budget(project, 100_000_000)
    fates: list[dict[str, Any]] = [{}, {"task_failed": {}, "refund_never": {}}, {"charge_late": {"seconds": 7200}}]
    generations = [ended(project, f"fate {number}", wavespeed, **fate) for number, fate in enumerate(fates)]
    for hour in range(1, 9):
        with time_machine.travel(start + timedelta(hours=hour)):
            victim = dice.choice(generations)
            cents = dice.choice([10, 50, 105, 210])
            actions = [
                lambda victim=victim, cents=cents: wavespeed.doctor(add=[refund_of(victim, cents / 100)]),
                lambda victim=victim, cents=cents: wavespeed.doctor(add=[deduct_of(victim, cents / 100)]),
                settle_all,
                partial(reconciled, apply=hour % 3 == 0),
            ]
            for action in dice.choices(actions, k=4):
                action()
            reconciled()
            assert all(spend.charged(each.pk) >= min(0, _net(each, wavespeed)) for each in generations)
    with time_machine.travel(start + timedelta(hours=9)):
        settle_all()
        reconciled(apply=True)
        assert findings(reconciled()) == []
        nets = [_net(each, wavespeed) for each in generations]
    assert [spend.charged(each.pk) for each in generations] == nets
    assert project_totals(project.pk) == {"reserved": 0, "spent": sum(nets)}
    for period in BudgetPeriod.objects.all():
        assert (period.spent, period.reserved) == (sum(nets), 0)


def _net(generation: Generation, wavespeed: SandboxControl) -> int:
    rows = [row for row in wavespeed.bill()["rows"] if row["prediction_id"] == generation.prediction_id]
    sign = {"deduct": 1, "refund": -1}
    return sum(sign[row["billing_type"]] * row["price_micros"] for row in rows)


# --- Runs -------------------------------------------------------------------------------------------------------------


def test_a_provider_that_can_not_be_reached_changes_nothing(
    four: list[Generation], wavespeed: SandboxControl, capsys: Any
) -> None:
    BudgetPeriod.objects.update(spent=1)
    wavespeed.doctor(add=[refund_of(four[0], 0.5)])
    wavespeed.arm("free_500", times=None, route="billings")
    before = list(SpendEntry.objects.values_list("pk", flat=True))

    with pytest.raises(CommandError) as exit_code:
        call_command("reconcile", "--apply")

    assert exit_code.value.returncode == 2
    assert str(exit_code.value).startswith("The provider's bill can't be read, so nothing was changed: ")
    kept = Reconciliation.objects.first()
    assert (kept.error, kept.report, kept.applied, kept.finished_at is None) == (str(exit_code.value), {}, False, False)
    assert list(SpendEntry.objects.values_list("pk", flat=True)) == before
    assert list(BudgetPeriod.objects.values_list("spent", flat=True)) == [1]


def test_the_next_one_goes_on_where_the_last_good_one_ended(four: list[Generation], wavespeed: SandboxControl) -> None:
    first = Reconciliation.objects.get()
    assert first.since == Generation.objects.earliest("submitted_at").submitted_at - reconcile.OVERLAP
    wavespeed.arm("free_500", route="billings")
    reconcile.run(reconcile.begin())
    assert reconcile.begin().since == first.until - reconcile.OVERLAP

    # One that was told to begin later leaves a gap, which the next one closes.
    gap = reconcile.run(reconcile.begin(since=first.until + timedelta(hours=1)))
    assert (gap.error, reconcile.begin().since) == ("", first.until - reconcile.OVERLAP)
    last = reconcile.run(reconcile.begin())
    assert reconcile.begin().since == last.until - reconcile.OVERLAP


def test_a_refund_of_something_older_than_the_window_is_seen_with_its_whole_bill(
    four: list[Generation], wavespeed: SandboxControl, start: datetime
) -> None:
    with time_machine.travel(start + timedelta(days=30)):
        reconciled()
        wavespeed.doctor(add=[refund_of(four[0], 0.5)])
        assert findings(reconciled()) == [("refund", str(four[0].pk), PRICE, 1_600_000)]


def test_the_bill_is_read_from_a_given_day(four: list[Generation], wavespeed: SandboxControl, start: datetime) -> None:
    with time_machine.travel(start + timedelta(days=30)):
        reconciled()
        wavespeed.doctor(change=[{"uuid": row_of(four[0], wavespeed)["uuid"], "price": 1}])
        assert reconciled().differences == 0
        with pytest.raises(CommandError, match="1 difference"):
            call_command("reconcile", "--strict", since=start - timedelta(days=1), stdout=io.StringIO())
    with pytest.raises(CommandError, match="“Monday” is no date: write it as 2026-01-31"):
        call_command("reconcile", "--since", "Monday")


def test_what_should_long_be_settled_is_a_difference(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    ended(project, "stuck", wavespeed, charge_late={"seconds": 1e7})
    with time_machine.travel(start + timedelta(days=8)):
        assert reconciled().differences == 0
    with time_machine.travel(start + timedelta(days=10)):
        looked = reconciled()
    assert (findings(looked)[0][0], looked.differences) == ("waiting", 1)
    assert looked.report["findings"][0]["why"].endswith("which is long overdue.")


def test_a_charge_that_is_on_no_bill_after_a_week_is_a_difference(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    generation = ended(project, "never billed", wavespeed, charge_late={"seconds": 1e7})
    with time_machine.travel(start + timedelta(days=7, hours=1)):
        lifecycle.settle(generation.pk)
        assert findings(reconciled()) == [("drift", str(generation.pk), PRICE, 0)]


@pytest.mark.both_databases
def test_balances_are_repaired_from_the_lines_when_told_to(four: list[Generation]) -> None:
    BudgetPeriod.objects.update(spent=5, reserved=7)
    Generation.objects.filter(pk=four[0].pk).update(charged=9)

    looked = reconciled()
    assert sorted((kind, ours, theirs) for kind, _, ours, theirs in findings(looked)) == [
        ("balance", 5, 4 * PRICE),
        ("balance", 7, 0),
        ("balance", 9, PRICE),
    ]
    assert list(BudgetPeriod.objects.values_list("spent", "reserved")) == [(5, 7)]
    assert {found["done"] for found in reconciled(apply=True).report["findings"]} == {"repaired"}
    assert list(BudgetPeriod.objects.values_list("spent", "reserved")) == [(4 * PRICE, 0)]
    assert Generation.objects.get(pk=four[0].pk).charged == PRICE
    assert findings(reconciled()) == []


@pytest.mark.both_databases
def test_entries_and_lines_that_disagree_are_named(project: Project, wavespeed: SandboxControl) -> None:
    factories.budget(project, 10_000_000)
    entry = factories.reservation(project)
    budget = factories.budget(project, 5, period="year")
    alone = SpendEntry.objects.create(
        key="alone", kind="charge", project=project, user=entry.user, reference=uuid4(), endpoint=ENDPOINT
    )
    period = BudgetPeriod.objects.create(budget=budget, starts_at=entry.created_at)
    SpendLine.objects.create(entry=entry, budget_period=period, reserved_delta=1, spent_delta=0)

    found = reconciled(apply=True)

    assert [finding["why"] for finding in found.report["findings"]] == [
        f"A line of the entry “{entry.key}” says another amount than the entry.",
        f"The entry “{alone.key}” has 0 lines, its reservation 0: each has one for each budget period.",
        "Its column “reserved” is not the sum of its lines.",
    ]
    assert reconciled().differences == 2  # lines are never changed: people have to look


def test_the_night_is_reconciled_once_at_ten_past_three_of_the_studio(
    four: list[Generation], wavespeed: SandboxControl, start: datetime
) -> None:
    Studio.objects.update(time_zone="Asia/Kolkata")  # UTC + 5:30
    Reconciliation.objects.all().delete()
    due = datetime(start.year + 1, 6, 14, 21, 40, tzinfo=start.tzinfo)
    with time_machine.travel(due - timedelta(minutes=1), tick=False):
        reconcile.run(reconcile.begin())
        assert reconcile.tonight() is None
    with time_machine.travel(due, tick=False):
        wavespeed.arm("free_500", route="billings")
        begun = reconcile.tonight()
        assert begun
        assert reconcile.tonight() is None
        assert reconcile.run(begun).error
    with time_machine.travel(due + timedelta(minutes=61), tick=False):
        again = reconcile.tonight()
        assert again
        assert reconcile.run(again).error == ""
    with time_machine.travel(due + timedelta(hours=23), tick=False):
        assert reconcile.tonight() is None
    with time_machine.travel(due + timedelta(days=1), tick=False):
        assert reconcile.tonight()


def test_a_studio_that_never_submitted_is_not_reconciled(draft: Generation) -> None:
    dispatch.reconcile_tonight()
    assert not Reconciliation.objects.exists()


def test_only_studio_owners_reconcile_by_hand(project: Project) -> None:
    with pytest.raises(PermissionDenied):
        reconciliations.reconcile_now(by=factories.member(project, "owner"))
    assert reconciliations.reconcile_now(by=project.created_by).started_by == project.created_by


# --- At the same time -------------------------------------------------------------------------------------------------


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
def test_many_reconciliations_at_once_book_once(four: list[Generation], wavespeed: SandboxControl) -> None:
    wavespeed.doctor(
        add=[refund_of(four[0], 0.5), deduct_of(four[1], 1), refund_of(four[2], 2.1)],
        remove=[row_of(four[3], wavespeed)["uuid"]],
    )

    runs = at_once([partial(reconciled, apply=True)] * 6)

    assert [run for run in runs if not isinstance(run, Reconciliation)] == []
    entries = SpendEntry.objects.filter(kind__in=("adjust", "refund")).order_by("spent_delta")
    assert [entry.spent_delta for entry in entries] == [-PRICE, -PRICE, -500_000, 1_000_000]
    assert [spend.charged(each.pk) for each in four] == [1_600_000, 3_100_000, 0, 0]
    assert reconciled().differences == 0


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
def test_two_dispatchers_begin_one_night(four: list[Generation]) -> None:
    Reconciliation.objects.all().delete()

    begun = at_once([reconcile.tonight] * 8)

    assert Counter(type(each).__name__ for each in begun) == {"Reconciliation": 1, "NoneType": 7}


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
def test_what_is_running_meanwhile_is_no_difference(project: Project, wavespeed: SandboxControl) -> None:
    """Submits, verdicts and settlements go on while the books are compared, and are applied if they were wrong."""
    factories.budget(project, 100_000_000)
    wavespeed.arm("charge_late", times=4, seconds=0.4)
    wavespeed.arm("charge_price", times=3, price=1.05)
    wavespeed.arm("task_failed", times=2)
    generations = [made(project, f"take {number}") for number in range(9)]

    def work() -> None:
        while lease := lifecycle.admit():
            lifecycle.submit(lease)
            until(lambda lease=lease: lifecycle.poll(lease.pk) is not None)
            lifecycle.store(lease.pk)
            lifecycle.settle(lease.pk)

    def compare() -> list[Reconciliation]:
        runs = []
        while not runs or Generation.objects.filter(status__in=(Status.QUEUED, Status.SUBMITTING, Status.PROCESSING)):
            runs.append(reconciled(apply=True))
        return runs

    *workers, runs = at_once([work, work, work, compare])

    assert workers == [None] * 3
    assert isinstance(runs, list), runs
    assert len(runs) > 1
    assert [run.report["findings"] for run in runs if run.differences] == []
    assert not SpendEntry.objects.filter(reason__startswith="drift").exists()
    assert len(wavespeed.predictions()) == len(generations)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_a_request_whose_answer_is_on_its_way_is_no_orphan(
    project: Project, wavespeed: SandboxControl, settings: object
) -> None:
    factories.budget(project, 10_000_000)
    generation = made(project, "slow answer")
    wavespeed.arm("submit_slow", seconds=1.5)

    def compare_meanwhile() -> Reconciliation:
        until(lambda: bool(wavespeed.predictions()))
        return reconciled()

    def submit() -> None:
        try:
            submit_next()
        finally:
            connection.close()

    looked, _ = at_once([compare_meanwhile, submit])

    assert isinstance(looked, Reconciliation), looked
    assert sorted(kind for kind, *_ in findings(looked)) == ["held", "waiting"]
    assert looked.differences == 0
    generation.refresh_from_db()
    assert generation.status == Status.PROCESSING


# --- A charge above its reservation -----------------------------------------------------------------------------------


def test_a_charge_above_its_reservation_lands_and_pauses_its_endpoint_alone(
    project: Project, wavespeed: SandboxControl
) -> None:
    factories.budget(project, 100_000_000)
    dear = ended(project, "dear", wavespeed, charge_price={"price": 2.5})
    assert (dear.status, dear.charged) == (Status.COMPLETED, 2_500_000)
    paused = PausedEndpoint.objects.get()
    assert (paused.endpoint, paused.paused_by) == (ENDPOINT, None)
    assert paused.reason == (
        f"The provider charged $2.50 where $2.10 was reserved (generation {dear.pk}). Check its price, then resume."
    )

    waiting = made(project, "waits")
    other = made(project, "goes on")
    Generation.objects.filter(pk=other.pk).update(endpoint="another/model")
    lease = lifecycle.admit()
    assert lease
    assert lease.pk == other.pk
    assert lifecycle.admit() is None
    Generation.objects.filter(pk=other.pk).update(lease_until=None)
    assert lifecycle.ask_for_worker() is True
    Lane.objects.update(sent_at=None)
    Generation.objects.filter(pk=other.pk).update(status=Status.FAILED)
    assert lifecycle.ask_for_worker() is False

    pauses.resume_endpoint(ENDPOINT, by=project.created_by)
    run_to_end(waiting)
    assert waiting.status == Status.COMPLETED
    # What was settled before does not pause it again.
    lifecycle.settle(dear.pk)
    assert not PausedEndpoint.objects.exists()


def test_a_bill_that_turns_out_dearer_at_the_settlement_pauses_too(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime
) -> None:
    ended(project, "dear", wavespeed, charge_price={"price": 2.5}, charge_late={"seconds": 60})
    assert not PausedEndpoint.objects.exists()

    with time_machine.travel(start + timedelta(minutes=5)):
        settle_all()

    assert PausedEndpoint.objects.get().endpoint == ENDPOINT


def test_owners_pause_and_resume_an_endpoint(project: Project, budget: int, wavespeed: SandboxControl) -> None:
    owner = project.created_by
    pauses.pause_endpoint(ENDPOINT, reason="The looks are off.", by=owner)
    assert (PausedEndpoint.objects.get().reason, PausedEndpoint.objects.get().paused_by) == (
        "The looks are off.",
        owner,
    )
    made(project, "waits")
    assert lifecycle.admit() is None
    with pytest.raises(PermissionDenied):
        pauses.resume_endpoint(ENDPOINT, by=factories.member(project, "owner"))
    pauses.resume_endpoint(ENDPOINT, by=owner)
    assert lifecycle.admit() is not None
    provider.client.cache_clear()


def test_on_a_shared_account_rows_of_others_are_no_findings_and_no_words_are_kept(
    project: Project, budget: int, wavespeed: SandboxControl, start: datetime, settings: Any
) -> None:
    settings.WAVESPEED_ACCOUNT_IS_SHARED = True
    theirs = ended(project, "theirs", wavespeed)
    Generation.objects.filter(pk=theirs.pk).update(prediction_id=None)
    ambiguous = ended(project, "ambiguous", wavespeed, submit_drop_after={})

    with time_machine.travel(start + timedelta(hours=5)):
        report = reconcile.run(reconcile.begin()).report

    [orphan] = [found for found in report["findings"] if found["kind"] == "orphan"]
    assert orphan["generation"] == str(ambiguous.pk)
    assert orphan["details"]["prompt"] == ""
