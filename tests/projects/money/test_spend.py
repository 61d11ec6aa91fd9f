import uuid
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import Error, connection, transaction
from django.db.models import Sum
from django.utils import timezone

from projects.models import (
    Budget,
    BudgetPeriod,
    Enforcement,
    EntryKind,
    LedgerIsAppendOnly,
    Period,
    Project,
    SpendEntry,
    SpendLine,
)
from projects.money import budgets, spend
from tests import factories
from tests.pipeline import project_totals

pytestmark = pytest.mark.django_db

DOLLAR = 1_000_000
PRICE = 2_100_000
ENDPOINT = "kwaivgi/kling-video-o3-4k/image-to-video"


@pytest.fixture
def budget(project: Project) -> Budget:
    return factories.budget(project, 10 * DOLLAR)


def balances(budget: Budget) -> tuple[int, int]:
    """`spent` and `reserved` of the only period; fails unless they are the sums of its lines."""
    period = budget.periods.get()
    sums = period.lines.aggregate(spent=Sum("spent_delta", default=0), reserved=Sum("reserved_delta", default=0))
    assert (period.spent, period.reserved) == (sums["spent"], sums["reserved"])
    return period.spent, period.reserved


def refusal(operation: Callable[[], object]) -> str:
    """The message of the refusal, after which nothing has changed."""
    before = (SpendEntry.objects.count(), SpendLine.objects.count(), list(BudgetPeriod.objects.values()))
    with pytest.raises(spend.SpendRefused) as refused:
        operation()
    assert (SpendEntry.objects.count(), SpendLine.objects.count(), list(BudgetPeriod.objects.values())) == before
    return str(refused.value)


# --- Reserve ----------------------------------------------------------------------------------------------------------


def test_reserve_holds_the_amount(project: Project, editor: User, studio_owner: User, budget: Budget) -> None:
    reference = uuid.uuid4()

    entry = spend.reserve(
        project=project,
        user=editor,
        reference=reference,
        endpoint=ENDPOINT,
        amount=PRICE,
        key="queue",
        by=studio_owner,
    )

    entry = SpendEntry.objects.get(pk=entry.pk)
    assert (entry.key, entry.kind, entry.project, entry.user) == ("queue", EntryKind.RESERVE, project, editor)
    assert (entry.reference, entry.endpoint, entry.created_by) == (reference, ENDPOINT, studio_owner)
    assert (entry.reserved_delta, entry.spent_delta, entry.reservation, entry.ends) == (PRICE, 0, None, None)
    assert balances(budget) == (0, PRICE)
    assert spend.is_held(entry)
    assert spend.reservation_of(reference) == entry
    assert spend.charged(reference) == 0


def test_reserve_fills_a_hard_budget_to_the_last_micro_dollar(project: Project) -> None:
    budget = factories.budget(project, 2 * PRICE)
    factories.reservation(project)
    assert "this needs $2.11, $2.10 is free" in refusal(lambda: factories.reservation(project, amount=PRICE + 1))
    factories.reservation(project)

    assert balances(budget) == (0, 2 * PRICE)
    assert "this needs $0.01, $0.00 is free" in refusal(lambda: factories.reservation(project, amount=1))


def test_reserve_counts_what_is_spent(project: Project, budget: Budget) -> None:
    spend.charge(factories.reservation(project), amount=9 * DOLLAR, key="charge")

    assert refusal(lambda: factories.reservation(project)) == (
        "Not enough budget: this needs $2.10, $1.00 is free (Coffee budget, in total, hard, limit $10.00)."
    )


def test_reserve_of_a_negative_amount_is_refused(project: Project, budget: Budget) -> None:
    with pytest.raises(ValueError, match=r"^A reservation is not negative\.$"):
        factories.reservation(project, amount=-1)


def test_reserve_with_the_same_key_reserves_once(project: Project, editor: User, budget: Budget) -> None:
    request: dict[str, Any] = {"project": project, "user": editor, "reference": uuid.uuid4(), "endpoint": ENDPOINT}
    first = spend.reserve(**request, amount=PRICE, key="queue", by=None)

    again = spend.reserve(**request, amount=2 * PRICE, key="queue", by=None)

    assert again == first
    assert again.reserved_delta == PRICE
    assert balances(budget) == (0, PRICE)


def test_reserve_with_the_same_key_gives_the_entry_when_nothing_is_free(project: Project) -> None:
    factories.budget(project, PRICE)
    first = factories.reservation(project, key="queue")

    again = spend.reserve(
        project=project,
        user=first.user,
        reference=first.reference,
        endpoint=ENDPOINT,
        amount=PRICE,
        key="queue",
        by=None,
    )
    assert again == first


def test_key_of_another_booking_is_refused(project: Project, budget: Budget) -> None:
    first, second = factories.reservation(project, key="queue"), factories.reservation(project)
    released = spend.release(first, key="end")

    for attempt, message in (
        (
            lambda: factories.reservation(project, key="queue"),
            f"The key “queue” stands for another booking: Reserve {first.reference}.",
        ),
        (
            lambda: spend.charge(first, amount=PRICE, key="end"),
            f"The key “end” stands for another booking: Release {first.reference}.",
        ),
        (
            lambda: spend.release(second, key="end"),
            f"The key “end” stands for another booking: Release {first.reference}.",
        ),
    ):
        with pytest.raises(ValueError) as misused:  # noqa: PT011
            attempt()
        assert str(misused.value) == message
    assert spend.release(first, key="end") == released
    assert balances(budget) == (0, PRICE)


def test_reserve_for_one_reference_happens_once(project: Project, budget: Budget) -> None:
    first = factories.reservation(project)

    with pytest.raises(ValueError, match=f"^Money for {first.reference} was reserved before, under another key\\.$"):
        spend.reserve(
            project=project,
            user=first.user,
            reference=first.reference,
            endpoint=ENDPOINT,
            amount=PRICE,
            key="other",
            by=None,
        )
    assert balances(budget) == (0, PRICE)


# --- No budget --------------------------------------------------------------------------------------------------------


def test_project_without_a_budget_says_who_can_set_one(project: Project, editor: User) -> None:
    factories.UserFactory(username="ada", first_name="Ada", last_name="Lovelace", is_superuser=True)
    factories.UserFactory(username="gone", is_superuser=True, is_active=False)
    factories.member(project, username="not an owner")

    assert refusal(lambda: factories.reservation(project, editor)) == (
        "Coffee has no budget, so nothing can be spent in it. A studio owner can set one: Ada Lovelace, olive."
    )


def test_budgets_of_the_studio_or_of_a_member_are_none_of_the_project(project: Project, editor: User) -> None:
    other = factories.ProjectFactory(created_by=project.created_by)
    factories.budget(other, 10 * DOLLAR)
    factories.budget(project, 10 * DOLLAR, user=editor)
    factories.budget(None, 10 * DOLLAR)
    archived = factories.budget(project, 10 * DOLLAR)
    budgets.archive(archived, by=project.created_by)

    with pytest.raises(spend.NoBudget):
        factories.reservation(project, editor)


def test_budget_of_nothing_is_a_budget(project: Project) -> None:
    factories.budget(project, 0)

    assert refusal(lambda: factories.reservation(project)) == (
        "Not enough budget: this needs $2.10, $0.00 is free (Coffee budget, in total, hard, limit $0.00)."
    )


# --- Over budget ------------------------------------------------------------------------------------------------------


@time_machine.travel("2026-11-22T12:00Z", tick=False)
@pytest.mark.parametrize(
    ("period", "until"),
    [
        (Period.TOTAL, ""),
        (Period.DAY, " until 23 November 2026"),
        (Period.WEEK, " until 23 November 2026"),
        (Period.MONTH, " until 1 December 2026"),
        (Period.QUARTER, " until 1 January 2027"),
        (Period.YEAR, " until 1 January 2027"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles", "Asia/Kolkata"])
def test_over_budget_says_what_is_needed_free_and_when_it_resets(
    project: Project, zone: str, period: Period, until: str
) -> None:
    project.time_zone = zone
    project.save()
    budget = factories.budget(project, 3_500_000, period=period)
    factories.reservation(project)

    with pytest.raises(spend.OverBudget) as refused:
        factories.reservation(project)
    assert str(refused.value) == (
        f"Not enough budget: this needs $2.10, $1.40 is free{until} "
        f"(Coffee budget, {period.label.lower()}, hard, limit $3.50)."
    )
    assert (refused.value.needed, refused.value.free) == (PRICE, 1_400_000)
    assert refused.value.budget == budget
    assert refused.value.resets_at == budget.periods.get().ends_at


def test_over_budget_names_the_budget_that_refused(project: Project, editor: User) -> None:
    factories.budget(project, 100 * DOLLAR)
    factories.budget(project, 1 * DOLLAR, user=editor)
    studio = factories.budget(None, 100 * DOLLAR)

    assert refusal(lambda: factories.reservation(project, editor)) == (
        "Not enough budget: this needs $2.10, $1.00 is free (eddie in Coffee budget, in total, hard, limit $1.00)."
    )
    budgets.change_limit(studio, limit=2 * DOLLAR, by=project.created_by)
    assert refusal(lambda: factories.reservation(project)) == (
        "Not enough budget: this needs $2.10, $2.00 is free (Studio budget, in total, hard, limit $2.00)."
    )


@time_machine.travel("2026-11-22T12:00Z", tick=False)
def test_over_budget_names_the_tightest_of_several_that_refuse(project: Project, editor: User) -> None:
    limits = {"studio": 2 * DOLLAR, "project": 1 * DOLLAR, "member": 1_500_000}
    factories.budget(None, limits["studio"])
    factories.budget(project, limits["project"], period=Period.MONTH)
    factories.budget(project, limits["member"], user=editor)

    assert "$1.00 is free until 1 December 2026 (Coffee budget, per month" in refusal(
        lambda: factories.reservation(project, editor)
    )


@time_machine.travel("2026-11-22T12:00Z", tick=False)
def test_over_budget_names_the_one_that_resets_last_of_several_that_are_as_tight(project: Project) -> None:
    for period in (Period.YEAR, Period.DAY, Period.MONTH):
        factories.budget(project, DOLLAR, period=period)
    assert "until 1 January 2027 (Coffee budget, per year" in refusal(lambda: factories.reservation(project))

    factories.budget(project, DOLLAR, period=Period.TOTAL)
    assert "$1.00 is free (Coffee budget, in total" in refusal(lambda: factories.reservation(project))


def test_archived_project_spends_nothing_new_and_ends_its_holds(project: Project, budget: Budget) -> None:
    held = factories.reservation(project, key="queue")
    stale = Project.objects.get()
    Project.objects.update(archived_at=timezone.now())

    assert refusal(lambda: factories.reservation(stale)) == (
        "Coffee is archived, so nothing can be spent in it any more."
    )
    spend.charge(held, amount=PRICE, key="charge")
    assert balances(budget) == (PRICE, 0)


def test_over_budget_never_shows_two_equal_amounts(project: Project) -> None:
    factories.budget(project, PRICE - 1)

    assert "this needs $2.10, $2.09 is free" in refusal(lambda: factories.reservation(project))


def test_limit_below_what_is_held_lets_nothing_pass_and_holds_go_on(
    project: Project, studio_owner: User, budget: Budget
) -> None:
    held = factories.reservation(project, amount=6 * DOLLAR)
    budgets.change_limit(budget, limit=5 * DOLLAR, by=studio_owner)

    assert "$0.00 is free (Coffee budget, in total, hard, limit $5.00)" in refusal(
        lambda: factories.reservation(project, amount=0)
    )
    spend.charge(held, amount=6 * DOLLAR, key="charge")
    assert balances(budget) == (6 * DOLLAR, 0)
    budgets.change_limit(budget, limit=7 * DOLLAR, by=studio_owner)
    factories.reservation(project, amount=1 * DOLLAR)


def test_several_budgets_must_all_agree_and_nothing_is_half_reserved(project: Project, editor: User) -> None:
    scopes: list[tuple[Project | None, User | None]] = [(project, None), (project, editor), (None, None)]
    kinds = [
        factories.budget(scope, 10 * DOLLAR, user=user, period=period)
        for scope, user in scopes
        for period in (Period.TOTAL, Period.MONTH)
    ]
    for tight in kinds:
        budgets.change_limit(tight, limit=PRICE - 1, by=project.created_by)
        assert f"({tight}, limit $2.10)" in refusal(lambda: factories.reservation(project, editor))
        budgets.change_limit(tight, limit=10 * DOLLAR, by=project.created_by)

    entry = factories.reservation(project, editor)
    assert entry.lines.count() == 6
    assert {balances(budget) for budget in kinds} == {(0, PRICE)}


def test_refusal_in_a_larger_transaction_undoes_only_itself(project: Project) -> None:
    budget = factories.budget(project, PRICE)
    with transaction.atomic():
        factories.reservation(project)
        refusal(lambda: factories.reservation(project))

    assert balances(budget) == (0, PRICE)


def test_member_budget_binds_its_member_alone(project: Project, editor: User) -> None:
    factories.budget(project, 100 * DOLLAR)
    own = factories.budget(project, PRICE, user=editor)
    factories.reservation(project, editor)
    factories.reservation(project)
    factories.reservation(project, factories.member(project))

    assert "eddie in Coffee budget" in refusal(lambda: factories.reservation(project, editor))
    assert balances(own) == (0, PRICE)


def test_soft_budget_lets_through_and_counts(project: Project) -> None:
    soft = factories.budget(project, 1 * DOLLAR, enforcement=Enforcement.SOFT)
    factories.reservation(project)
    factories.reservation(project)

    assert balances(soft) == (0, 2 * PRICE)
    assert budgets.figures(Budget.objects.all())[0].free == DOLLAR - 2 * PRICE


def test_soft_budget_beside_a_hard_one_does_not_loosen_it(project: Project) -> None:
    factories.budget(project, 1 * DOLLAR, enforcement=Enforcement.SOFT)
    factories.budget(project, PRICE, enforcement=Enforcement.HARD)
    factories.reservation(project)

    assert "in total, hard, limit $2.10" in refusal(lambda: factories.reservation(project))


# --- Charge, release, adjust ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [0, PRICE - 1, PRICE, 20 * DOLLAR])
def test_charge_ends_the_hold_and_always_lands(
    project: Project, studio_owner: User, budget: Budget, amount: int
) -> None:
    held = factories.reservation(project)

    entry = spend.charge(held, amount=amount, key="charge", reason="stored", by=studio_owner)

    entry = SpendEntry.objects.get(pk=entry.pk)
    assert (entry.kind, entry.reservation, entry.ends) == (EntryKind.CHARGE, held, held)
    assert (entry.reserved_delta, entry.spent_delta) == (-PRICE, amount)
    assert (entry.project, entry.user, entry.reference) == (held.project, held.user, held.reference)
    assert (entry.endpoint, entry.reason, entry.created_by) == (ENDPOINT, "stored", studio_owner)
    assert balances(budget) == (amount, 0)
    assert not spend.is_held(held)
    assert spend.charged(held.reference) == amount


def test_charge_with_the_same_key_happens_once_with_the_first_amount(project: Project, budget: Budget) -> None:
    held = factories.reservation(project)
    first = spend.charge(held, amount=PRICE, key="charge")

    assert spend.charge(held, amount=3 * PRICE, key="charge") == first
    assert balances(budget) == (PRICE, 0)


def test_charge_under_another_key_is_refused(project: Project, budget: Budget) -> None:
    held, late = factories.reservation(project), factories.reservation(project)
    spend.charge(held, amount=PRICE, key="charge")
    spend.release(late, key="release")
    spend.charge(late, amount=PRICE, key="late charge")

    for reservation in (held, late):
        with pytest.raises(spend.HoldEnded) as ended:
            spend.charge(reservation, amount=PRICE, key=f"again {reservation.pk}")
        assert str(ended.value) == f"The reservation for {reservation.reference} was charged before."
    assert balances(budget) == (2 * PRICE, 0)


def test_charge_of_a_negative_amount_is_refused(project: Project, budget: Budget) -> None:
    held = factories.reservation(project)
    with pytest.raises(ValueError, match=r"^A charge is not negative\.$"):
        spend.charge(held, amount=-1, key="charge")
    assert spend.is_held(held)


def test_release_gives_back_what_was_held(project: Project, budget: Budget) -> None:
    held = factories.reservation(project)

    entry = spend.release(held, key="release", reason="cancelled")

    assert (entry.kind, entry.reserved_delta, entry.spent_delta) == (EntryKind.RELEASE, -PRICE, 0)
    assert (entry.ends, entry.reason) == (held, "cancelled")
    assert balances(budget) == (0, 0)
    assert not spend.is_held(held)
    assert spend.release(held, key="release") == entry
    assert balances(budget) == (0, 0)


def test_release_of_an_ended_hold_is_refused(project: Project, budget: Budget) -> None:
    charged, released = factories.reservation(project), factories.reservation(project)
    spend.charge(charged, amount=PRICE, key="charge")
    spend.release(released, key="release")

    for reservation in (charged, released):
        with pytest.raises(spend.HoldEnded) as ended:
            spend.release(reservation, key=f"again {reservation.pk}")
        assert str(ended.value) == f"The reservation for {reservation.reference} was ended before."
    assert balances(budget) == (PRICE, 0)


def test_late_charge_after_a_release_lands_past_the_limit(project: Project) -> None:
    budget = factories.budget(project, PRICE)
    late = factories.reservation(project)
    spend.release(late, key="release")
    factories.reservation(project)

    entry = spend.charge(late, amount=PRICE, key="late success")

    assert (entry.reserved_delta, entry.spent_delta, entry.ends) == (0, PRICE, None)
    assert balances(budget) == (PRICE, PRICE)
    assert spend.charged(late.reference) == PRICE


@pytest.mark.parametrize("amount", [-PRICE, -1, 0, 5 * DOLLAR])
def test_adjust_corrects_what_was_charged(project: Project, budget: Budget, amount: int) -> None:
    held = factories.reservation(project)
    spend.charge(held, amount=PRICE, key="charge")

    entry = spend.adjust(held, amount=amount, key="adjust", reason="the provider's bill")

    assert (entry.kind, entry.reserved_delta, entry.spent_delta) == (EntryKind.ADJUST, 0, amount)
    assert (entry.reservation, entry.ends, entry.reason) == (held, None, "the provider's bill")
    assert spend.adjust(held, amount=9 * DOLLAR, key="adjust", reason="the provider's bill") == entry
    assert balances(budget) == (PRICE + amount, 0)
    assert spend.charged(held.reference) == PRICE + amount


def test_adjust_leaves_the_hold(project: Project, budget: Budget) -> None:
    held = factories.reservation(project)
    spend.adjust(held, amount=1, key="adjust", reason="")

    assert spend.is_held(held)
    assert balances(budget) == (1, PRICE)


def test_later_entries_land_in_the_period_of_the_reservation(project: Project) -> None:
    with time_machine.travel("2026-11-30T23:59:59Z", tick=False):
        budget = factories.budget(project, 10 * DOLLAR, period=Period.MONTH)
        held, released = factories.reservation(project), factories.reservation(project)
    with time_machine.travel("2026-12-01T00:00Z", tick=False):
        factories.reservation(project, amount=10 * DOLLAR)
        spend.charge(held, amount=PRICE, key="charge")
        spend.release(released, key="release")
        spend.charge(released, amount=PRICE, key="late success")
        spend.adjust(released, amount=-1, key="adjust", reason="bill")

    assert list(budget.periods.order_by("starts_at").values_list("spent", "reserved")) == [
        (2 * PRICE - 1, 0),
        (0, 10 * DOLLAR),
    ]


def test_reason_that_is_too_long_is_cut_and_the_charge_lands(project: Project, budget: Budget) -> None:
    held = factories.reservation(project)

    spend.charge(held, amount=PRICE, key="charge", reason="x" * 1000)

    assert SpendEntry.objects.get(key="charge").reason == "x" * 300


# --- Refund -----------------------------------------------------------------------------------------------------------


def test_refund_lowers_what_was_spent_in_the_period_of_the_reservation(project: Project, studio_owner: User) -> None:
    with time_machine.travel("2026-11-30T23:00Z", tick=False):
        month = factories.budget(project, PRICE, period=Period.MONTH)
        held = factories.reservation(project)
    with time_machine.travel("2026-12-01T03:00Z", tick=False):
        spend.charge(held, amount=PRICE, key="charge")
        entry = spend.refund(held, amount=PRICE, key="refund:row-1", reason="The provider refunded it.", by=None)
        again = spend.refund(held, amount=PRICE, key="refund:row-1", reason="The provider refunded it.")

    assert again == entry
    assert (entry.kind, entry.spent_delta, entry.reserved_delta, entry.ends) == (EntryKind.REFUND, -PRICE, 0, None)
    assert (entry.reservation, entry.reason) == (held, "The provider refunded it.")
    assert balances(month) == (0, 0)
    assert spend.charged(held.reference) == 0
    assert SpendEntry.objects.filter(ends=held).get().kind == EntryKind.CHARGE
    assert not spend.is_held(held)
    assert project_totals(project.pk) == {"spent": 0, "reserved": 0}


def test_refunds_of_several_rows_add_up_to_the_charge_at_most(project: Project, budget: Budget) -> None:
    held = factories.reservation(project)
    spend.charge(held, amount=PRICE, key="charge")
    spend.refund(held, amount=DOLLAR, key="refund:row-1", reason="In part.")
    spend.refund(held, amount=DOLLAR, key="refund:row-2", reason="In part.")

    with pytest.raises(spend.RefundExceedsCharge) as refused:
        spend.refund(held, amount=100_001, key="refund:row-3", reason="In part.")
    assert str(refused.value) == f"$0.10 can't be refunded for {held.reference}: $0.10 was spent on it."
    spend.refund(held, amount=100_000, key="refund:row-3", reason="In part.")
    assert balances(budget) == (0, 0)


def test_refund_of_what_is_only_held_is_refused_and_the_hold_stays(project: Project, budget: Budget) -> None:
    held = factories.reservation(project)

    with pytest.raises(spend.RefundExceedsCharge):
        spend.refund(held, amount=1, key="refund:row-1", reason="Early.")
    assert spend.is_held(held)
    assert balances(budget) == (0, PRICE)


@pytest.mark.parametrize("amount", [0, -1])
def test_refund_that_would_inflate_the_total_is_refused(project: Project, budget: Budget, amount: int) -> None:
    held = factories.reservation(project)
    spend.charge(held, amount=PRICE, key="charge")

    with pytest.raises(ValueError, match=r"^A refund is the amount that is given back, above zero\.$"):
        spend.refund(held, amount=amount, key="refund:row-1", reason="?")
    assert balances(budget) == (PRICE, 0)


# --- Append-only ------------------------------------------------------------------------------------------------------


def booked(project: Project) -> tuple[SpendEntry, SpendLine]:
    factories.budget(project, 10 * DOLLAR)
    entry = factories.reservation(project)
    return SpendEntry.objects.get(pk=entry.pk), SpendLine.objects.get()


def test_ledger_refuses_change_and_delete_in_the_model(project: Project) -> None:
    entry, line = booked(project)
    entry.reserved_delta = line.reserved_delta = 0
    changed, deleted = (f"Ledger entries are never {done}; book an adjustment." for done in ("changed", "deleted"))
    forbidden: list[tuple[Callable[[], object], str]] = [
        (entry.save, changed),
        (lambda: entry.save(update_fields=["reserved_delta"]), changed),
        (entry.delete, deleted),
        (line.save, changed),
        (line.delete, deleted),
        (lambda: SpendEntry.objects.update(reserved_delta=0), changed),
        (lambda: SpendEntry.objects.filter(pk=entry.pk).delete(), deleted),
        (lambda: SpendEntry.objects.bulk_update([entry], ["reserved_delta"]), changed),
        (lambda: SpendEntry.objects.update_or_create(pk=entry.pk, defaults={"reserved_delta": 0}), changed),
        (lambda: entry.lines.update(reserved_delta=0), changed),
        (lambda: entry.lines.all().delete(), deleted),
        (
            lambda: SpendLine.objects.bulk_create(
                [line], update_conflicts=True, update_fields=["reserved_delta"], unique_fields=["id"]
            ),
            changed,
        ),
    ]
    for attempt, message in forbidden:
        with pytest.raises(LedgerIsAppendOnly) as refused:
            attempt()
        assert str(refused.value) == message

    assert SpendEntry.objects.get().reserved_delta == PRICE
    assert SpendLine.objects.get().reserved_delta == PRICE


def test_ledger_is_not_overwritten_by_a_new_instance_with_an_old_key(project: Project) -> None:
    entry, line = booked(project)

    for twin in (
        SpendLine(pk=line.pk, entry=entry, budget_period=line.budget_period, reserved_delta=0, spent_delta=0),
        SpendEntry(pk=entry.pk, key=entry.key, kind=entry.kind, project=project, user=entry.user, reference=entry.pk),
    ):
        with pytest.raises(Error), transaction.atomic():
            twin.save()
    assert SpendEntry.objects.get().reserved_delta == PRICE
    assert SpendLine.objects.get().reserved_delta == PRICE


@pytest.mark.services
@pytest.mark.parametrize("table", ["projects_spendentry", "projects_spendline"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET spent_delta = 1", "DELETE FROM {}"])
def test_ledger_refuses_raw_sql_on_postgresql(project: Project, table: str, statement: str) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no such trigger: the model refuses there.")
    booked(project)

    with pytest.raises(Error, match=r"The ledger is append-only: book an adjustment instead\."), transaction.atomic():
        connection.cursor().execute(statement.format(table))
    assert SpendEntry.objects.get().spent_delta == SpendLine.objects.get().spent_delta == 0
