from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from projects.models import Budget, Period, Project, TopUp
from projects.money import budgets
from tests import factories
from tests.projects.admin.test_projects import text_of, told

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
DOLLAR = 1_000_000


@pytest.fixture
def budget(project: Project) -> Any:
    project.time_zone = "America/Los_Angeles"
    project.save()
    with time_machine.travel(NOON):
        yield factories.budget(project, 10 * DOLLAR, period=Period.MONTH)


def page(budget: Budget) -> str:
    return reverse("admin:projects_budget_change", args=[budget.pk])


def form_of(budget: Budget) -> str:
    return reverse("admin:projects_budget_top-up", args=[budget.pk])


def top_up(budget: Budget) -> TopUp:
    return budgets.top_up(
        budget, amount=DOLLAR, ends_at=NOON + timedelta(days=2), reason="The fair", by=budget.created_by
    )


def test_top_up_lasts_until_the_midnight_of_the_project(owner_client: Client, budget: Budget) -> None:
    assert 'value="2026-11-30"' in text_of(owner_client.get(form_of(budget))), "the last day of the month is offered"
    answer = owner_client.post(
        form_of(budget), {"amount": "2.50", "last_day": "2026-11-24", "reason": "The fair"}, follow=True
    )

    made = TopUp.objects.get()
    assert (made.amount, made.reason, made.created_by.username) == (2_500_000, "The fair", "olive")
    assert made.ends_at == datetime(2026, 11, 25, 8, tzinfo=UTC)
    assert told(answer) == ["Topped up by $2.50."]
    assert "$12.50 free of $12.50" in text_of(answer)
    assert "Topped up by $2.50 for now." in text_of(answer)
    assert "In force: 22 November 2026, 04:00 to 25 November 2026, 00:00 (America/Los_Angeles) · olive" in text_of(
        answer
    )
    assert "$12.50" in text_of(owner_client.get(reverse("admin:projects_budget_changelist")))


def test_a_top_up_over_the_turn_of_a_period_is_told_line_by_line_first(owner_client: Client, budget: Budget) -> None:
    wanted = {"amount": "10", "last_day": "2026-12-05", "reason": "The fair"}

    asked = owner_client.post(form_of(budget), wanted)

    assert not TopUp.objects.exists()
    assert "to 1 December 2026, 00:00</li>" in text_of(asked)
    assert "$10.00 from 1 December 2026, 00:00 to 6 December 2026, 00:00" in text_of(asked)
    agreed = asked.context["question"]["agreed"]
    again = owner_client.post(form_of(budget), {**wanted, "amount": "100", "agreed": agreed})
    assert not TopUp.objects.exists()
    assert "$100.00 from 1 December 2026" in text_of(again), "another amount is asked about anew"

    owner_client.post(form_of(budget), {**wanted, "agreed": agreed})
    assert TopUp.objects.get().ends_at == datetime(2026, 12, 6, 8, tzinfo=UTC)


def test_a_top_up_of_many_periods_is_told_by_its_first_ones(project: Project) -> None:
    with time_machine.travel(NOON, tick=False):
        budget = factories.budget(project, DOLLAR, period=Period.DAY)
        spans = budgets.top_up_by_period(budget, None, NOON + timedelta(days=3650))
        total = budgets.top_up_by_period(factories.budget(project, DOLLAR), None, NOON + timedelta(days=3650))

    assert (len(spans), spans[0]) == (12, (NOON, datetime(2026, 11, 23, tzinfo=UTC)))
    assert total == [(NOON, NOON + timedelta(days=3650))]


def test_top_up_to_come_is_shown_as_that(owner_client: Client, budget: Budget) -> None:
    fields = {"amount": "1", "first_day": "2026-11-23", "last_day": "2026-11-23", "reason": "The fair"}
    answer = owner_client.post(form_of(budget), fields, follow=True)

    assert "To come: 23 November 2026, 00:00 to 24 November 2026, 00:00 (America/Los_Angeles) · olive" in text_of(
        answer
    )
    assert "$10.00 free of $10.00" in text_of(answer)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"amount": "0"}, "A top-up is more than zero dollars; to take money away, lower the limit."),
        ({"amount": "lots"}, "Type an amount in dollars, such as 10 or 1,250.50; zero or more."),
        ({"last_day": "2026-11-21"}, "A top-up ends in the future: give a later end."),
        ({"last_day": "9999-12-31"}, "A top-up lasts at most ten years."),
        ({"last_day": "soon"}, "Enter a valid date."),
        ({"first_day": "2026-11-20"}, "A top-up starts now or later, not in the past."),
        ({"reason": " "}, "This field is required."),
    ],
)
def test_top_up_that_makes_no_sense_is_a_form_error(
    owner_client: Client, budget: Budget, fields: dict[str, str], message: str
) -> None:
    good = {"amount": "1", "last_day": "2026-11-24", "reason": "The fair"}

    assert message in text_of(owner_client.post(form_of(budget), good | fields))
    assert not TopUp.objects.exists()


def test_top_up_is_ended_by_its_button(owner_client: Client, budget: Budget) -> None:
    made = top_up(budget)
    end = reverse("admin:projects_budget_end-top-up", args=[budget.pk, made.pk])
    assert end in text_of(owner_client.get(page(budget)))

    asked = text_of(owner_client.post(end))
    assert "End this top-up of $1.00 now?" in asked
    assert "There is no way back; top up anew instead." in asked
    made.refresh_from_db()
    assert made.ends_at > timezone.now()
    sure = {"sure": "1"}
    assert told(owner_client.post(end, sure, follow=True)) == ["The top-up of $1.00 has ended."]
    assert told(owner_client.post(end, sure, follow=True)) == ["This top-up has ended already."]
    assert end not in text_of(owner_client.get(page(budget)))
    assert owner_client.get(end).status_code == 405


def test_editor_reads_top_ups_but_makes_and_ends_none(editor_client: Client, editor: User, budget: Budget) -> None:
    made = top_up(budget)
    end = reverse("admin:projects_budget_end-top-up", args=[budget.pk, made.pk])

    shown = text_of(editor_client.get(page(budget)))
    assert "The fair" in shown
    assert end not in shown
    assert form_of(budget) not in shown
    assert editor_client.post(form_of(budget), {"amount": "1"}).status_code == 403
    assert "Studio owners are: olive." in told(editor_client.post(end, {"sure": "1"}, follow=True))[0]
    made.refresh_from_db()
    assert made.ends_at == NOON + timedelta(days=2)


def test_top_up_of_another_projects_budget_is_not_found(editor_client: Client, budget: Budget) -> None:
    elsewhere = factories.budget(factories.ProjectFactory(), DOLLAR)

    assert editor_client.get(form_of(elsewhere)).status_code == 404


def test_thresholds_are_set_as_people_write_them(owner_client: Client, budget: Budget) -> None:
    assert 'value="50, 80, 100"' in text_of(owner_client.get(page(budget)))
    owner_client.post(page(budget), {"limit": "10", "thresholds": "90%, 25"})
    budget.refresh_from_db()
    assert budget.thresholds == [25, 90]

    wrong = {
        "half": "Type whole percents, such as 50, 80, 100; leave it empty to hear of none.",
        "201": "Thresholds are different whole percents from 1 to 200, such as 50, 80, 100.",
        "50, 50": "Thresholds are different whole percents from 1 to 200, such as 50, 80, 100.",
    }
    for typed, message in wrong.items():
        assert message in text_of(owner_client.post(page(budget), {"limit": "10", "thresholds": typed}))
    owner_client.post(page(budget), {"limit": "10", "thresholds": ""})
    budget.refresh_from_db()
    assert budget.thresholds == []
