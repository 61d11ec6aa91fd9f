"""Who may let expensive things through, at which price, and that it happens once."""

import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.utils import timezone

from generations.catalog.endpoint import InvalidInputs
from generations.models import Approval, Generation, Status
from generations.services import approvals, orders, refusals
from generations.services.approvals import approval_of, approve, may_decide, reject, waiting_for
from generations.services.drafts import create, update
from generations.services.people import switch_off
from projects.models import Alert, AlertKind, Project, Role, SourceImage
from projects.money import budgets
from projects.money.spend import OverBudget, SpendRefused
from projects.people import members
from tests import factories
from tests.pipeline import ENDPOINT, booked, history, money, project_totals
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

PRICE = 2_100_000
Decision = Approval.Decision
pytestmark = pytest.mark.django_db


@pytest.fixture
def project(project: Project) -> Project:
    """More than $5 at once needs an approver; the budget has $20."""
    project.approval_above = 5_000_000
    project.save()
    factories.budget(project, 20_000_000)
    return project


@pytest.fixture
def anna(project: Project) -> User:
    return factories.member(project, Role.APPROVER, username="anna")


@pytest.fixture
def image(project: Project, editor: User) -> SourceImage:
    return factories.source_image(project, editor)


@pytest.fixture
def drafts(project: Project, editor: User, image: SourceImage) -> Callable[..., list[Generation]]:
    def make(count: int = 3, *, by: User = editor, **inputs: object) -> list[Generation]:
        values = {"image": str(image.pk), "duration": 5, **inputs}
        return [
            create(project, endpoint=ENDPOINT, inputs={"prompt": f"Take {n}", **values}, by=by) for n in range(count)
        ]

    return make


@pytest.fixture
def asked(drafts: Callable[..., list[Generation]], editor: User) -> Approval:
    """Three videos of $6.30 together, asked for by the editor."""
    [first, *_] = orders.queue_many(drafts(), by=editor)
    assert first.approval
    return first.approval


def statuses(approval: Approval) -> set[str]:
    return set(Generation.objects.filter(approval=approval).values_list("status", flat=True))


def decided(approval: Approval) -> tuple[str, User | None, str]:
    approval.refresh_from_db()
    return approval.decision, approval.decided_by, approval.comment


# --- When it is needed ------------------------------------------------------------------------------------------------


def test_many_above_the_amount_are_asked_for_together_and_hold_nothing(
    drafts: Callable[..., list[Generation]], editor: User, project: Project
) -> None:
    now = timezone.now()
    waiting = orders.queue_many(drafts(3), by=editor)

    approval = Approval.objects.get()
    assert (approval.project, approval.amount, approval.requested_by) == (project, 3 * PRICE, editor)
    assert timedelta(0) <= approval.expires_at - now - timedelta(days=7) < timedelta(minutes=1)
    assert {each.status for each in waiting} == {Status.AWAITING_APPROVAL}
    assert {each.quote for each in waiting} == {PRICE}
    assert {each.approval for each in waiting} == {approval}
    assert waiting[0].events.last().reason == "Approval asked for: $2.10 (one of 3, $6.30 together)."
    assert money(waiting[0]) == (0, 0)


@pytest.mark.parametrize(("above", "status"), [(2_100_000, Status.QUEUED), (2_099_999, Status.AWAITING_APPROVAL)])
def test_what_costs_exactly_the_amount_needs_no_approver(
    above: int, status: Status, project: Project, drafts: Callable[..., list[Generation]], editor: User
) -> None:
    Project.objects.filter(pk=project.pk).update(approval_above=above)

    assert orders.queue(drafts(1)[0], by=editor).status == status


def test_without_a_rule_nothing_needs_an_approver(
    project: Project, drafts: Callable[..., list[Generation]], editor: User
) -> None:
    Project.objects.filter(pk=project.pk).update(approval_above=None)

    assert {each.status for each in orders.queue_many(drafts(5), by=editor)} == {Status.QUEUED}


def test_projects_queued_together_go_by_their_own_rules(
    project: Project, drafts: Callable[..., list[Generation]], editor: User, studio_owner: User
) -> None:
    elsewhere = factories.ProjectFactory(name="Tea")
    factories.budget(elsewhere, 10_000_000)
    inputs = {"image": str(factories.source_image(elsewhere).pk), "prompt": "Tea", "duration": 5}
    tea = create(elsewhere, endpoint=ENDPOINT, inputs=inputs, by=studio_owner)

    orders.queue_many([*drafts(3), tea], by=studio_owner)

    assert Counter(Generation.objects.values_list("project__name", "status")) == {
        ("Coffee", "awaiting_approval"): 3,
        ("Tea", "queued"): 1,
    }


def test_a_retry_that_costs_more_is_asked_for_too(
    project: Project, drafts: Callable[..., list[Generation]], editor: User, anna: User
) -> None:
    old = orders.queue(drafts(1)[0], by=editor)
    Generation.objects.filter(pk=old.pk).update(status=Status.FAILED)
    Project.objects.filter(pk=project.pk).update(approval_above=1_000_000)
    old.refresh_from_db()

    again = orders.retry(old, by=editor)

    assert (again.status, again.retry_of) == (Status.AWAITING_APPROVAL, old)
    approve(approval_of(again), by=anna)
    assert booked(again) == [("reserve", PRICE, 0)]


def test_the_same_video_is_asked_about_when_it_is_asked_for(
    drafts: Callable[..., list[Generation]], editor: User, asked: Approval
) -> None:
    again = drafts(3)

    with pytest.raises(refusals.NeedsConfirmation, match=r"in the last 24 hours \(awaiting approval\)"):
        orders.queue_many(again, by=editor)

    assert Approval.objects.count() == 1
    assert {each.status for each in Generation.objects.filter(pk__in=[each.pk for each in again])} == {Status.DRAFT}
    orders.queue_many(again, by=editor, confirm=True)
    assert Approval.objects.count() == 2


# --- Approve ----------------------------------------------------------------------------------------------------------


def test_approving_reserves_and_queues_all_of_it(asked: Approval, anna: User) -> None:
    approve(asked, by=anna, comment="Good")

    assert decided(asked) == (Decision.APPROVED, anna, "Good")
    assert statuses(asked) == {Status.QUEUED}
    first = asked.generations.first()
    assert first
    assert history(first) == ["draft", "awaiting_approval", "queued"]
    assert (first.events.last().reason, first.events.last().by) == ("Approved for $2.10: Good", anna)
    assert first.queued_at
    assert booked(first) == [("reserve", PRICE, 0)]
    assert money(first) == (3 * PRICE, 0)


def test_the_price_that_was_asked_for_is_the_one_that_is_reserved(asked: Approval, anna: User) -> None:
    Generation.objects.filter(approval=asked).update(quote=2_000_000)

    approve(asked, by=anna)

    assert project_totals(asked.project_id) == {"reserved": 6_000_000, "spent": 0}


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
def test_it_takes_an_approver(role: Role, asked: Approval, project: Project) -> None:
    with pytest.raises(PermissionDenied, match="This takes the role “Approver” or higher in Coffee"):
        approve(asked, by=factories.member(project, role))
    with pytest.raises(PermissionDenied):
        reject(asked, by=factories.member(project, role), comment="No")
    assert decided(asked)[0] == Decision.WAITING


def test_an_approver_of_another_project_has_no_say(asked: Approval) -> None:
    elsewhere = factories.member(factories.ProjectFactory(), Role.OWNER)

    with pytest.raises(PermissionDenied):
        approve(asked, by=elsewhere)


@pytest.mark.parametrize("who", ["approver", "owner", "studio owner"])
def test_nobody_approves_what_they_asked_for(
    who: str, project: Project, drafts: Callable[..., list[Generation]], studio_owner: User, anna: User
) -> None:
    person = {"approver": anna, "owner": factories.member(project, Role.OWNER), "studio owner": studio_owner}[who]
    [first, *_] = orders.queue_many(drafts(by=person), by=person)
    assert first.approval

    with pytest.raises(PermissionDenied, match="nobody approves what they asked for, made or edited themselves"):
        approve(first.approval, by=person)
    with pytest.raises(PermissionDenied, match="nobody approves"):
        reject(first.approval, by=person, comment="No")

    assert not may_decide(first.approval, person)
    assert statuses(first.approval) == {Status.AWAITING_APPROVAL}


def test_having_somebody_else_click_does_not_help(
    drafts: Callable[..., list[Generation]], editor: User, anna: User, studio_owner: User
) -> None:
    """What Anna made is not hers to approve, whoever queued it."""
    [first, *_] = orders.queue_many([*drafts(2), *drafts(1, by=anna, prompt="Hers")], by=editor)
    assert first.approval

    with pytest.raises(PermissionDenied, match="nobody approves what they asked for, made or edited themselves"):
        approve(first.approval, by=anna)

    approve(first.approval, by=studio_owner)
    assert statuses(first.approval) == {Status.QUEUED}


def test_who_may_decide_is_listed(asked: Approval, project: Project, anna: User, studio_owner: User) -> None:
    people = [anna, studio_owner, factories.member(project, Role.OWNER), factories.member(project), asked.requested_by]

    assert [may_decide(asked, person) for person in people] == [True, True, True, False, False]
    assert [list(waiting_for(person)) for person in people] == [[asked]] * 3 + [[]] * 2
    approve(asked, by=anna)
    assert list(waiting_for(studio_owner)) == []


def test_it_is_approved_once(asked: Approval, anna: User, studio_owner: User) -> None:
    approve(asked, by=anna)

    with pytest.raises(refusals.WrongStatus, match=r"^This request was approved by anna already\.$"):
        approve(asked, by=studio_owner)
    with pytest.raises(refusals.WrongStatus):
        reject(asked, by=studio_owner, comment="No")

    assert project_totals(asked.project_id)["reserved"] == 3 * PRICE


@pytest.mark.django_db(transaction=True)
def test_what_does_not_fit_goes_on_waiting_and_says_why(
    asked: Approval, anna: User, project: Project, editor: User
) -> None:
    budget = budgets.of_project(project).get()
    budgets.change_limit(budget, limit=6_000_000, by=project.created_by)

    with pytest.raises(OverBudget, match=r"this needs \$2\.10, \$1\.80 is free") as refused:
        approve(asked, by=anna, comment="Good")

    assert decided(asked) == (Decision.WAITING, None, "")
    assert asked.budget_error == str(refused.value)
    assert statuses(asked) == {Status.AWAITING_APPROVAL}
    assert project_totals(project.pk) == {"reserved": 0, "spent": 0}
    alert = Alert.objects.get(kind=AlertKind.REFUSED)
    assert (alert.project, alert.text, alert.count) == (project, str(refused.value), 1)
    budgets.change_limit(budget, limit=7_000_000, by=project.created_by)
    approve(asked, by=anna)
    assert (decided(asked)[0], asked.budget_error, statuses(asked)) == (Decision.APPROVED, "", {Status.QUEUED})


def test_at_approval_only_what_is_new_is_asked_about(
    asked: Approval, anna: User, editor: User, drafts: Callable[..., list[Generation]], project: Project
) -> None:
    Project.objects.filter(pk=project.pk).update(approval_above=None)
    [twin] = drafts(1)
    orders.queue(twin, by=editor, confirm=True)

    with pytest.raises(refusals.NeedsConfirmation) as told:
        approve(asked, by=anna)

    assert told.value.existing == [twin]
    assert decided(asked)[0] == Decision.WAITING
    approve(asked, by=anna, confirm=True)
    assert statuses(asked) == {Status.QUEUED}


def test_a_twin_that_was_confirmed_is_not_asked_about_again(
    anna: User, editor: User, drafts: Callable[..., list[Generation]]
) -> None:
    [first] = drafts(1)
    orders.queue(first, by=editor)
    [waiting, *_] = orders.queue_many(drafts(3), by=editor, confirm=True)

    approve(approval_of(waiting), by=anna)

    assert Counter(Generation.objects.values_list("status", flat=True)) == {"queued": 4}


def test_equal_ones_in_one_request_are_asked_about_once(
    anna: User, editor: User, drafts: Callable[..., list[Generation]]
) -> None:
    twins = drafts(3, prompt="The same")

    with pytest.raises(refusals.NeedsConfirmation):
        orders.queue_many(twins, by=editor)
    [first, *_] = orders.queue_many(twins, by=editor, confirm=True)

    approve(approval_of(first), by=anna)
    assert statuses(Approval.objects.get()) == {Status.QUEUED}


def test_an_archived_project_approves_nothing(asked: Approval, anna: User) -> None:
    Project.objects.filter(pk=asked.project_id).update(archived_at=timezone.now())

    with pytest.raises(refusals.Archived, match="Coffee is archived"):
        approve(asked, by=anna)

    assert decided(asked)[0] == Decision.WAITING


# --- Reject, expire, withdraw -----------------------------------------------------------------------------------------


def test_rejected_costs_nothing_and_can_be_changed_and_asked_for_again(
    asked: Approval, anna: User, editor: User, image: SourceImage
) -> None:
    reject(asked, by=anna, comment=" Shorter, please ")

    assert decided(asked) == (Decision.REJECTED, anna, "Shorter, please")
    assert statuses(asked) == {Status.DRAFT}
    first = asked.generations.first()
    assert first
    assert (first.quote, first.events.last().reason) == (None, "Rejected: Shorter, please")
    assert money(first) == (0, 0)
    update(first, inputs={"image": str(image.pk), "prompt": "Short", "duration": 15}, by=editor)
    assert orders.queue(first, by=editor).status == Status.AWAITING_APPROVAL
    assert first.approval != asked


@pytest.mark.parametrize("comment", ["", "   "])
def test_a_rejection_says_why(comment: str, asked: Approval, anna: User) -> None:
    with pytest.raises(ValidationError, match="Say why: who asked will want to know what to change"):
        reject(asked, by=anna, comment=comment)
    with pytest.raises(ValidationError, match="At most 500 characters; this has 501"):
        reject(asked, by=anna, comment="x" * 501)
    assert decided(asked)[0] == Decision.WAITING


def test_nobody_decides_after_it_expired(asked: Approval, anna: User) -> None:
    with time_machine.travel(asked.expires_at):
        with pytest.raises(refusals.WrongStatus, match="Its price may have changed: ask anew"):
            approve(asked, by=anna)
        assert list(waiting_for(anna)) == []
        approvals.expire()
        approvals.expire()

    assert decided(asked) == (Decision.EXPIRED, None, "")
    assert statuses(asked) == {Status.DRAFT}
    first = asked.generations.first()
    assert first
    assert (first.quote, history(first)) == (None, ["draft", "awaiting_approval", "draft"])
    assert first.events.last().reason == f"Nobody decided about it until {asked.expires_at:%Y-%m-%d %H:%M} UTC."
    assert money(first) == (0, 0)


def test_what_has_time_left_does_not_expire(asked: Approval) -> None:
    with time_machine.travel(asked.expires_at - timedelta(seconds=1)):
        approvals.expire()
    assert decided(asked)[0] == Decision.WAITING


def test_editing_one_withdraws_all_of_it(asked: Approval, editor: User, image: SourceImage, anna: User) -> None:
    first, *others = asked.generations.order_by("prompt")

    update(first, inputs={"image": str(image.pk), "prompt": "New", "duration": 15}, by=editor)

    assert decided(asked) == (Decision.WITHDRAWN, editor, "“Take 0” was edited.")
    assert statuses(asked) == {Status.DRAFT}
    assert (first.duration, first.quote) == (15, None)
    assert others[0].events.last().reason == "The request for approval was withdrawn: “Take 0” was edited."
    with pytest.raises(refusals.WrongStatus, match="This request was withdrawn by eddie already"):
        approve(asked, by=anna)


def test_inputs_that_are_wrong_withdraw_nothing(asked: Approval, editor: User, image: SourceImage) -> None:
    first = asked.generations.first()
    assert first

    with pytest.raises(InvalidInputs):
        update(first, inputs={"image": str(image.pk), "prompt": "New", "duration": 99}, by=editor)

    assert decided(asked)[0] == Decision.WAITING


def test_cancelling_one_withdraws_all_of_it(asked: Approval, editor: User) -> None:
    first, *others = asked.generations.order_by("prompt")

    orders.cancel(first, by=editor)

    assert decided(asked)[0] == Decision.WITHDRAWN
    assert (first.status, {other.refresh_from_db() or other.status for other in others}) == (
        Status.CANCELLED,
        {Status.DRAFT},
    )
    assert money(first) == (0, 0)


def test_switching_somebody_off_withdraws_what_they_asked_for(
    asked: Approval, drafts: Callable[..., list[Generation]], anna: User, studio_owner: User
) -> None:
    [hers, *_] = orders.queue_many(drafts(by=anna, prompt="Hers", duration=15), by=anna, confirm=True)

    switch_off(asked.requested_by, by=studio_owner)

    assert decided(asked) == (Decision.WITHDRAWN, studio_owner, "eddie, who asked for it, was switched off.")
    assert statuses(asked) == {Status.DRAFT}
    assert hers.approval
    assert decided(hers.approval)[0] == Decision.WAITING


# --- Races ------------------------------------------------------------------------------------------------------------


def tried(job: Callable[[], object]) -> str:
    """What came of it: it was done, or refused as it is for somebody who came late."""
    try:
        job()
    except (refusals.WrongStatus, SpendRefused) as refusal:
        return type(refusal).__name__
    return "done"


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
@pytest.mark.parametrize("rival", ["approve", "reject", "cancel", "edit", "expire", "switch off"])
def test_of_two_who_decide_at_once_one_wins(rival: str) -> None:
    project = factories.ProjectFactory(approval_above=5_000_000)
    factories.budget(project, 20_000_000)
    editor, anna, bert = (factories.member(project, role) for role in (Role.EDITOR, Role.APPROVER, Role.APPROVER))
    inputs = {"image": str(factories.source_image(project, editor).pk), "duration": 5}
    for round_ in range(6):
        made = [
            create(project, endpoint=ENDPOINT, inputs={**inputs, "prompt": f"{round_}.{n}"}, by=editor)
            for n in range(3)
        ]
        [first, *_] = orders.queue_many(made, by=editor)
        assert first.approval
        approval, one = first.approval, random.choice(made)
        if rival == "expire":
            Approval.objects.filter(pk=approval.pk).update(expires_at=timezone.now() + timedelta(milliseconds=30))
        jobs = {
            "approve": partial(approve, Approval.objects.get(pk=approval.pk), by=bert),
            "reject": partial(reject, Approval.objects.get(pk=approval.pk), by=bert, comment="No"),
            "cancel": partial(orders.cancel, Generation.objects.get(pk=one.pk), by=editor),
            "edit": partial(
                update,
                Generation.objects.get(pk=one.pk),
                inputs={**inputs, "prompt": "New", "duration": 15},
                by=editor,
            ),
            "expire": approvals.expire,
            "switch off": partial(switch_off, editor, by=project.created_by),
        }

        results = at_once(
            [
                partial(tried, partial(approve, approval, by=anna)),
                partial(tried, jobs[rival]),
                approvals.expire,
            ]
        )

        approval.refresh_from_db()
        became = {each.pk: each.status for each in Generation.objects.filter(approval=approval)}
        totals = project_totals(project.pk)
        if approval.decision == Decision.APPROVED:
            # A cancel that came second found it queued, and gave its money back.
            cancelled = [status for status in became.values() if status == Status.CANCELLED]
            assert len(cancelled) <= (1 if rival == "cancel" else 0)
            assert totals["reserved"] == (3 - len(cancelled)) * PRICE
            assert set(became.values()) <= {Status.QUEUED, Status.CANCELLED}
            if rival in ("approve", "reject", "edit"):
                assert Counter(results[:2]) == {"done": 1, "WrongStatus": 1}
        elif approval.decision == Decision.WAITING:
            assert rival == "expire"
            assert results[0] == "WrongStatus"
            assert totals["reserved"] == 0
        else:
            assert results[0] == "WrongStatus"
            assert set(became.values()) <= {Status.DRAFT, Status.CANCELLED}
            assert totals["reserved"] == 0
        for generation in Generation.objects.filter(approval=approval, status=Status.QUEUED):
            orders.cancel(generation, by=project.created_by)
        assert project_totals(project.pk)["reserved"] == 0
        members.switch_on(editor, by=project.created_by)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
def test_approvals_at_once_never_pass_a_hard_budget() -> None:
    project = factories.ProjectFactory(approval_above=1_000_000)
    factories.budget(project, 5 * PRICE)
    editor, anna = factories.member(project), factories.member(project, Role.APPROVER)
    inputs = {"image": str(factories.source_image(project, editor).pk), "duration": 5}
    requests = []
    for number in range(12):
        draft = create(project, endpoint=ENDPOINT, inputs={**inputs, "prompt": f"{number}"}, by=editor)
        requests.append(approval_of(orders.queue(draft, by=editor)))

    results = at_once([partial(tried, partial(approve, request, by=anna)) for request in requests])

    assert Counter(results) == {"done": 5, "OverBudget": 7}
    assert Counter(Generation.objects.values_list("status", flat=True)) == {"queued": 5, "awaiting_approval": 7}
    assert Approval.objects.filter(decision=Decision.WAITING).exclude(budget_error="").count() == 7
    assert project_totals(project.pk) == {"reserved": 5 * PRICE, "spent": 0}
