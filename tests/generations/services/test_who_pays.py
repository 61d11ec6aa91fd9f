"""Who queues, pays: whose draft it is, and who edited it, does not matter to the books."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from generations import announcements
from generations.admin.confirmation import Kind
from generations.admin.generations import confirm_url
from generations.models import Generation, Status
from generations.services import approvals, orders, refusals
from generations.services.drafts import create, update
from generations.services.inputs import inputs_of
from projects.models import Alert, AlertKind, Budget, Notification, Project, Role, SpendEntry
from projects.money import budgets
from projects.money.spend import OverBudget
from tests import factories
from tests.pipeline import ENDPOINT, booked
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

PRICE = 2_100_000
pytestmark = pytest.mark.django_db


@pytest.fixture
def project(project: Project) -> Project:
    factories.budget(project, 100_000_000)
    return project


@pytest.fixture
def poor(project: Project) -> User:
    """A member who may spend nothing."""
    person = factories.member(project, username="penny")
    factories.budget(project, 0, user=person)
    return person


@pytest.fixture
def anna(project: Project) -> User:
    return factories.member(project, Role.APPROVER, username="anna")


@pytest.fixture
def inputs(project: Project, editor: User) -> dict[str, Any]:
    return {"image": str(factories.source_image(project, editor).pk), "prompt": "Steam", "duration": 5}


@pytest.fixture
def theirs(project: Project, editor: User, inputs: dict[str, Any]) -> Generation:
    """The editor's draft."""
    return create(project, endpoint=ENDPOINT, inputs=inputs, by=editor)


def spender(generation: Generation) -> str:
    return SpendEntry.objects.get(reference=generation.pk, kind="reserve").user.username


def used_by(user: User) -> int:
    [figures] = budgets.figures(Budget.objects.filter(user=user))
    return figures.used


def test_who_queues_anothers_draft_pays_for_it(project: Project, theirs: Generation, anna: User) -> None:
    factories.budget(project, 5_000_000, user=anna)
    factories.budget(project, 0, user=theirs.requested_by)

    orders.queue(theirs, by=anna)

    assert (spender(theirs), used_by(anna), theirs.requested_by) == ("anna", PRICE, anna)


@pytest.mark.parametrize("edits", [True, False])
def test_a_member_without_money_spends_nobody_elses(
    edits: bool, theirs: Generation, poor: User, inputs: dict[str, Any]
) -> None:
    if edits:
        update(theirs, inputs=inputs | {"duration": 15}, by=poor)

    with pytest.raises(OverBudget, match="penny in Coffee"):
        orders.queue(theirs, by=poor)

    assert booked(theirs) == []
    orders.queue(theirs, by=theirs.requested_by)
    assert spender(theirs) == "eddie"


def test_who_retries_pays(theirs: Generation, editor: User, poor: User, anna: User) -> None:
    orders.queue(theirs, by=editor)
    orders.cancel(theirs, by=editor)

    with pytest.raises(OverBudget, match="penny in Coffee"):
        orders.retry(theirs, by=poor, confirm=True)

    assert spender(orders.retry(theirs, by=anna, confirm=True)) == "anna"


def test_several_peoples_drafts_are_one_persons_money(
    project: Project, editor: User, anna: User, inputs: dict[str, Any]
) -> None:
    people = [editor, anna, project.created_by]
    drafts = [
        create(project, endpoint=ENDPOINT, inputs=inputs | {"prompt": f"Take {person}"}, by=person) for person in people
    ]
    budget = factories.budget(project, 3 * PRICE - 1, user=anna)

    with pytest.raises(OverBudget, match="anna in Coffee"):
        orders.queue_many(drafts, by=anna)
    assert {Generation.objects.get(pk=draft.pk).status for draft in drafts} == {Status.DRAFT}

    budgets.change_limit(budget, limit=3 * PRICE, by=project.created_by)
    orders.queue_many(drafts, by=anna)
    assert {spender(draft) for draft in drafts} == {"anna"}


@pytest.mark.django_db(transaction=True)
def test_the_refusal_names_who_queued(theirs: Generation, poor: User) -> None:
    with pytest.raises(OverBudget):
        orders.queue(theirs, by=poor)

    assert "a request of penny was refused" in Alert.objects.get(kind=AlertKind.REFUSED).title


def test_who_queued_is_told_how_it_ended(theirs: Generation, editor: User, anna: User) -> None:
    orders.queue(theirs, by=anna)
    Generation.objects.filter(pk=theirs.pk).update(status=Status.FAILED, completed_at=timezone.now())

    announcements.announce_ended()

    assert [told.user for told in Notification.objects.all()] == [anna]
    assert [(event.new_status, event.by) for event in theirs.events.all()] == [("draft", editor), ("queued", anna)]


# --- Approvals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def needs_approval(project: Project) -> None:
    Project.objects.filter(pk=project.pk).update(approval_above=1_000_000)
    project.refresh_from_db()


@pytest.mark.usefixtures("needs_approval")
def test_an_approved_request_is_paid_by_who_asked(project: Project, theirs: Generation, anna: User, poor: User) -> None:
    olga = factories.member(project, Role.OWNER, username="olga")
    orders.queue(theirs, by=poor)

    with pytest.raises(OverBudget, match="penny in Coffee"):
        approvals.approve(approvals.approval_of(theirs), by=anna)
    approvals.reject(approvals.approval_of(theirs), by=anna, comment="Ask olga")
    theirs.refresh_from_db()
    orders.queue(theirs, by=olga)
    approvals.approve(approvals.approval_of(theirs), by=anna)

    assert spender(theirs) == "olga"
    assert SpendEntry.objects.get(reference=theirs.pk).created_by == anna


@pytest.mark.usefixtures("needs_approval")
def test_what_somebody_edits_is_asked_for_anew_and_not_theirs_to_approve(
    theirs: Generation, editor: User, anna: User, studio_owner: User, inputs: dict[str, Any]
) -> None:
    orders.queue(theirs, by=editor)
    update(theirs, inputs=inputs | {"duration": 15}, by=anna)
    assert theirs.status == Status.DRAFT

    orders.queue(theirs, by=editor)
    approval = approvals.approval_of(theirs)

    assert not approvals.may_decide(approval, anna)
    assert list(approvals.waiting_for(anna)) == []
    assert list(approvals.waiting_for(studio_owner)) == [approval]
    with pytest.raises(PermissionDenied, match="nobody approves what they asked for, made or edited themselves"):
        approvals.approve(approval, by=anna)
    approvals.approve(approval, by=studio_owner)
    assert spender(theirs) == "eddie"


@pytest.mark.usefixtures("needs_approval")
def test_who_made_the_draft_does_not_approve_it(theirs: Generation, project: Project, anna: User) -> None:
    """Also where somebody else asks for it: four eyes, not two."""
    hers = create(project, endpoint=ENDPOINT, inputs=inputs_of(theirs), by=anna)
    orders.queue(hers, by=theirs.requested_by)

    with pytest.raises(PermissionDenied):
        approvals.approve(approvals.approval_of(hers), by=anna)


@pytest.mark.usefixtures("needs_approval")
def test_the_page_of_a_request_shows_the_budget_of_who_asked(theirs: Generation, poor: User, anna: User) -> None:
    orders.queue(theirs, by=poor)
    client = Client()
    client.force_login(anna)

    page = client.get(reverse("admin:generations_approval_change", args=[approvals.approval_of(theirs).pk]))

    assert "penny in Coffee" in page.content.decode()


# --- At the edges -----------------------------------------------------------------------------------------------------


def test_the_api_and_the_admin_ask_the_budget_of_who_clicks(
    theirs: Generation, poor: User, inputs: dict[str, Any]
) -> None:
    client = Client()
    client.force_login(poor)
    page = f"/api/v1/generations/{theirs.pk}"
    assert client.patch(f"{page}/", {"duration": 15}, content_type="application/json").status_code == 200

    refused = client.post(f"{page}/queue/", {}, content_type="application/json")
    confirmation = client.get(confirm_url(Kind.GENERATE, [theirs.pk]))

    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (402, "over_budget")
    assert "penny in Coffee" in refused.json()["errors"][0]["detail"]
    assert "penny in Coffee" in confirmation.content.decode()


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
def test_two_who_queue_one_draft_pay_once_and_the_winner_pays(
    project: Project, theirs: Generation, editor: User, anna: User
) -> None:
    for person in (editor, anna):
        factories.budget(project, 5_000_000, user=person)

    def queues(person: User) -> Callable[[], str]:
        def queue() -> str:
            try:
                return orders.queue(Generation.objects.get(pk=theirs.pk), by=person).requested_by.username
            except refusals.WrongStatus:
                return ""

        return queue

    [winner] = filter(None, at_once([queues(editor), queues(anna)]))

    assert spender(theirs) == winner
    assert {used_by(person): person.username for person in (editor, anna)}[PRICE] == winner
