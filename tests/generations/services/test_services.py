"""Use-cases: what people ask for, what it costs, what they are told."""

import threading
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.utils import timezone

from generations import lifecycle
from generations.catalog.endpoint import InvalidInputs
from generations.models import Element, Generation, Status
from generations.services import costs, orders, quotes, refusals
from generations.services.drafts import create, ignore_result, update
from generations.services.inputs import inputs_of
from projects.models import Enforcement, Period, Project, Role
from projects.money.spend import NoBudget, OverBudget
from tests import factories
from tests.pipeline import ENDPOINT, booked, history, money
from tests.sandbox import SandboxControl

PRICE = 2_100_000


@pytest.fixture
def inputs(project: Project, editor: User) -> dict[str, object]:
    return {"image": str(factories.source_image(project, editor).pk), "prompt": "A slow pan", "duration": 5}


def made(project: Project, by: User, inputs: dict[str, object], **changes: object) -> Generation:
    return create(project, endpoint=ENDPOINT, inputs=inputs | changes, by=by)


# --- Bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"image": None}, {"image": ["image is required. The picture that the video starts from."]}),
        (
            {"multi_prompt": [{"prompt": "One", "duration": 5}]},
            {"prompt": ["Both prompt and multi_prompt were given; this model takes one of them. Leave one out."]},
        ),
        ({"duration": 2}, {"duration": ["2 is not a duration this model makes: whole seconds from 3 to 15."]}),
        ({"duration": 16}, {"duration": ["16 is not a duration this model makes: whole seconds from 3 to 15."]}),
        ({"duration": 5.5}, {"duration": ["5.5 is not a duration this model makes: whole seconds from 3 to 15."]}),
        ({"duration": "abc"}, {"duration": ["“abc” is not a duration this model makes: whole seconds from 3 to 15."]}),
        (
            {
                "prompt": "",
                "duration": 8,
                "multi_prompt": [{"prompt": "One", "duration": 3}, {"prompt": "Two", "duration": 4}],
            },
            {"multi_prompt": ["The shots last 7 s together, the video 8 s: make them the same."]},
        ),
        (
            {"camera": "zoom"},
            {
                "camera": [
                    "There is no parameter “camera”. This model takes: image, prompt, end_image, duration, sound, shot_type, "
                    "multi_prompt, element_list."
                ]
            },
        ),
    ],
)
def test_bad_inputs_are_named_and_nothing_is_made(
    changes: dict[str, object], errors: dict[str, list[str]], project: Project, editor: User, inputs: dict[str, object]
) -> None:
    with pytest.raises(InvalidInputs) as refused:
        made(project, editor, inputs, **changes)
    assert refused.value.errors == errors
    assert not Generation.objects.exists()


def test_a_picture_of_another_project_is_not_there(project: Project, editor: User, inputs: dict[str, object]) -> None:
    elsewhere = factories.source_image(factories.ProjectFactory())

    with pytest.raises(InvalidInputs) as refused:
        made(project, editor, inputs, image=str(elsewhere.pk))

    assert refused.value.errors == {
        "image": [f"There is no picture “{elsewhere.pk}” in Coffee. Upload it to this project first, and give its id."]
    }


def test_an_element_of_another_project_is_not_there(project: Project, editor: User, inputs: dict[str, object]) -> None:
    elsewhere = Element.objects.create(
        project=factories.ProjectFactory(), name="Mug", element_id="1", created_by=editor
    )

    with pytest.raises(InvalidInputs) as refused:
        made(project, editor, inputs, element_list=[str(elsewhere.pk)])

    assert list(refused.value.errors) == ["element_list"]


def test_elements_are_sent_by_the_providers_ids_in_their_order(
    project: Project, editor: User, inputs: dict[str, object]
) -> None:
    mugs = [
        Element.objects.create(project=project, name=f"Mug {n}", element_id=f"30{n}", created_by=editor)
        for n in range(3)
    ]

    generation = made(project, editor, inputs, element_list=[str(mugs[2].pk), str(mugs[0].pk)])

    assert [link.element.element_id for link in generation.element_links.all()] == ["302", "300"]
    assert inputs_of(generation)["element_list"] == [str(mugs[2].pk), str(mugs[0].pk)]


def test_every_problem_is_told_at_once(project: Project, editor: User, inputs: dict[str, object]) -> None:
    with pytest.raises(InvalidInputs) as refused:
        made(project, editor, inputs, image="nonsense", duration=99, camera="x")
    assert set(refused.value.errors) == {"image", "duration", "camera"}


# --- Who may ----------------------------------------------------------------------------------------------------------


def test_a_viewer_can_neither_make_nor_queue(project: Project, editor: User, inputs: dict[str, object]) -> None:
    viewer = factories.member(project, Role.VIEWER)
    factories.budget(project, 10_000_000)
    generation = made(project, editor, inputs)

    with pytest.raises(PermissionDenied, match="This takes the role “Editor” or higher in Coffee"):
        made(project, viewer, inputs)
    with pytest.raises(PermissionDenied):
        orders.queue(generation, by=viewer)
    assert money(generation) == (0, 0)


# --- Queue ------------------------------------------------------------------------------------------------------------


def test_queueing_reserves_the_price_that_was_quoted(project: Project, editor: User, inputs: dict[str, object]) -> None:
    factories.budget(project, 10_000_000)
    quote = quotes.quote(project, endpoint=ENDPOINT, inputs=inputs, by=editor)

    generation = orders.queue(made(project, editor, inputs), by=editor)

    assert (quote.amount, quote.fits) == (PRICE, True)
    assert (generation.status, generation.quote) == (Status.QUEUED, PRICE)
    assert money(generation) == (PRICE, 0)


def test_without_a_budget_nothing_is_spent(project: Project, editor: User, inputs: dict[str, object]) -> None:
    generation = made(project, editor, inputs)

    with pytest.raises(
        NoBudget, match=r"Coffee has no budget, so nothing can be spent in it. A studio owner can set one: olive\."
    ):
        orders.queue(generation, by=editor)

    generation.refresh_from_db()
    assert (generation.status, generation.quote, history(generation)) == (Status.DRAFT, None, ["draft"])


def test_a_budget_that_is_too_small_says_what_is_needed_and_free(
    project: Project, editor: User, inputs: dict[str, object]
) -> None:
    factories.budget(project, 3_500_000)
    orders.queue(made(project, editor, inputs), by=editor)
    another = made(project, editor, inputs, prompt="Another")

    with pytest.raises(OverBudget, match=r"^Not enough budget: this needs \$2\.10, \$1\.40 is free"):
        orders.queue(another, by=editor)

    another.refresh_from_db()
    assert another.status == Status.DRAFT


def test_several_are_queued_whole_or_not_at_all(project: Project, editor: User, inputs: dict[str, object]) -> None:
    factories.budget(project, 5_000_000)
    drafts = [made(project, editor, inputs, prompt=f"Take {n}") for n in range(3)]

    with pytest.raises(OverBudget):
        orders.queue_many(drafts, by=editor)

    assert set(Generation.objects.values_list("status", flat=True)) == {Status.DRAFT}
    assert money(drafts[0]) == (0, 0)
    orders.queue_many(drafts[:2], by=editor)
    assert money(drafts[0]) == (2 * PRICE, 0)


def test_a_second_click_queues_nothing_more(project: Project, editor: User, inputs: dict[str, object]) -> None:
    factories.budget(project, 10_000_000)
    generation = made(project, editor, inputs)
    orders.queue(generation, by=editor)

    with pytest.raises(refusals.WrongStatus, match="Only a draft can be queued; this one is queued"):
        orders.queue(generation, by=editor)

    assert booked(generation) == [("reserve", PRICE, 0)]


def test_an_archived_project_makes_nothing_new(project: Project, editor: User, inputs: dict[str, object]) -> None:
    factories.budget(project, 10_000_000)
    generation = made(project, editor, inputs)
    Project.objects.filter(pk=project.pk).update(archived_at=timezone.now())
    project.refresh_from_db()
    generation.refresh_from_db()

    with pytest.raises(refusals.Archived, match="Coffee is archived"):
        orders.queue(generation, by=editor)
    with pytest.raises(refusals.Archived):
        made(project, editor, inputs)


# --- Duplicates and retries -------------------------------------------------------------------------------------------


def test_equal_inputs_within_a_day_need_a_word(project: Project, editor: User, inputs: dict[str, object]) -> None:
    factories.budget(project, 10_000_000)
    first = orders.queue(made(project, editor, inputs), by=editor)
    second = made(project, editor, inputs)

    with pytest.raises(refusals.NeedsConfirmation) as told:
        orders.queue(second, by=editor)

    assert str(told.value) == (
        "The same video was asked for in the last 24 hours (queued). Another one costs $2.10: confirm that you want it."
    )
    assert told.value.existing == [first]
    assert money(first) == (PRICE, 0)
    orders.queue(second, by=editor, confirm=True)
    assert money(first) == (2 * PRICE, 0)
    assert booked(second) == [("reserve", PRICE, 0)]


def test_equal_inputs_after_a_day_are_no_duplicate(project: Project, editor: User, inputs: dict[str, object]) -> None:
    factories.budget(project, 10_000_000)
    orders.queue(made(project, editor, inputs), by=editor)

    with time_machine.travel(timezone.now() + timedelta(hours=25)):
        second = orders.queue(made(project, editor, inputs), by=editor)

    assert second.status == Status.QUEUED


def ended(generation: Generation, status: Status) -> Generation:
    Generation.objects.filter(pk=generation.pk).update(status=status)
    generation.refresh_from_db()
    return generation


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED, Status.COMPLETED])
def test_a_retry_is_a_new_generation_that_names_the_old_one(
    status: Status, project: Project, editor: User, inputs: dict[str, object]
) -> None:
    factories.budget(project, 10_000_000)
    old = ended(orders.queue(made(project, editor, inputs), by=editor), status)

    again = orders.retry(old, by=editor)

    assert (again.retry_of, again.status, again.pk != old.pk) == (old, Status.QUEUED, True)
    assert inputs_of(again) == inputs_of(old)
    with pytest.raises(refusals.NeedsConfirmation):
        orders.retry(old, by=editor)
    assert old.retries.count() == 1
    orders.retry(old, by=editor, confirm=True)
    assert old.retries.count() == 2


@pytest.mark.parametrize(
    "status", [Status.DRAFT, Status.QUEUED, Status.SUBMITTING, Status.PROCESSING, Status.UNCONFIRMED, Status.STORING]
)
def test_what_has_not_ended_is_not_retried(
    status: Status, project: Project, editor: User, inputs: dict[str, object]
) -> None:
    factories.budget(project, 10_000_000)
    old = ended(orders.queue(made(project, editor, inputs), by=editor), status)

    with pytest.raises(refusals.WrongStatus, match="only a failed, cancelled or completed one can be retried"):
        orders.retry(old, by=editor, confirm=True)

    assert Generation.objects.count() == 1


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("what", ["queue twins", "retry twice"])
def test_two_at_once_pay_once(what: str) -> None:
    project = factories.ProjectFactory()
    editor = factories.member(project)
    factories.budget(project, 100_000_000)
    inputs = {"image": str(factories.source_image(project, editor).pk), "prompt": "A slow pan", "duration": 5}
    old = ended(orders.queue(made(project, editor, inputs, prompt="Old"), by=editor), Status.FAILED)
    twins = [made(project, editor, inputs) for _ in range(8)]
    told: list[Exception] = []

    def ask(number: int) -> None:
        try:
            if what == "queue twins":
                orders.queue(twins[number], by=editor)
            else:
                orders.retry(Generation.objects.get(pk=old.pk), by=editor)
        except Exception as error:
            told.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [type(error) for error in told] == [refusals.NeedsConfirmation] * 7
    assert Generation.objects.filter(status=Status.QUEUED).count() == 1


# --- Cancel -----------------------------------------------------------------------------------------------------------


def test_cancelling_before_the_submit_gives_the_money_back(
    project: Project, editor: User, inputs: dict[str, object]
) -> None:
    factories.budget(project, 10_000_000)
    generation = orders.queue(made(project, editor, inputs), by=editor)

    orders.cancel(generation, by=editor)

    assert generation.status == Status.CANCELLED
    assert booked(generation) == [("reserve", PRICE, 0), ("release", -PRICE, 0)]
    assert money(generation) == (0, 0)


@pytest.mark.parametrize("status", [Status.SUBMITTING, Status.PROCESSING, Status.UNCONFIRMED, Status.STORING])
def test_after_the_submit_there_is_no_cancel(
    status: Status, project: Project, editor: User, inputs: dict[str, object]
) -> None:
    factories.budget(project, 10_000_000)
    generation = ended(orders.queue(made(project, editor, inputs), by=editor), status)

    with pytest.raises(refusals.WrongStatus, match="who has no cancel and bills it"):
        orders.cancel(generation, by=editor)

    ignore_result(generation, by=editor)
    assert generation.result_ignored_at is not None
    assert (generation.status, money(generation)) == (status, (PRICE, 0))


# --- Edit -------------------------------------------------------------------------------------------------------------


def test_a_draft_is_edited_and_priced_anew(project: Project, editor: User, inputs: dict[str, object]) -> None:
    generation = made(project, editor, inputs)

    update(generation, inputs=inputs | {"duration": 10, "sound": True}, by=editor)

    assert (generation.duration, generation.sound, costs.price(generation)) == (10, True, 2 * PRICE)


def test_what_is_queued_is_not_edited(project: Project, editor: User, inputs: dict[str, object]) -> None:
    factories.budget(project, 10_000_000)
    generation = orders.queue(made(project, editor, inputs), by=editor)

    with pytest.raises(refusals.WrongStatus, match="Only a draft can be edited; this one is queued"):
        update(generation, inputs=inputs | {"duration": 15}, by=editor)

    generation.refresh_from_db()
    assert generation.duration == 5


# --- Tags -------------------------------------------------------------------------------------------------------------


def test_tags_are_kept_and_are_no_inputs(project: Project, editor: User, inputs: dict[str, object]) -> None:
    plain = made(project, editor, inputs)
    tagged = create(project, endpoint=ENDPOINT, inputs=inputs, tags=[" launch", "", "winter", "launch "], by=editor)

    assert (plain.tags, tagged.tags) == ([], ["launch", "winter"])
    assert tagged.inputs_digest == plain.inputs_digest
    assert inputs_of(tagged) == inputs_of(plain)


def test_tags_change_without_the_inputs_and_the_inputs_without_the_tags(
    project: Project, editor: User, inputs: dict[str, object]
) -> None:
    draft = made(project, editor, inputs)
    digest = draft.inputs_digest

    update(draft, inputs=inputs, tags=["launch", "launch"], by=editor)
    assert (draft.tags, draft.inputs_digest) == (["launch"], digest)
    update(draft, inputs=inputs | {"duration": 8}, by=editor)
    assert (draft.tags, draft.duration) == (["launch"], 8)


@pytest.mark.parametrize(
    ("tags", "sentences"),
    [
        ([str(number) for number in range(21)], ["At most 20 tags; these are 21."]),
        (
            ["ok", "x" * 41, "y" * 50],
            [f"A tag has at most 40 characters; “{c * 40}…” has {n}." for c, n in (("x", 41), ("y", 50))],
        ),
    ],
)
def test_tags_that_can_not_be_kept_are_named(
    tags: list[str], sentences: list[str], project: Project, editor: User, inputs: dict[str, object]
) -> None:
    with pytest.raises(InvalidInputs) as refused:
        create(project, endpoint=ENDPOINT, inputs=inputs, tags=tags, by=editor)
    assert refused.value.errors == {"tags": sentences}
    assert not Generation.objects.exists()


def test_twenty_tags_of_forty_characters_are_kept(project: Project, editor: User, inputs: dict[str, object]) -> None:
    tags = [f"{number:040}" for number in range(20)]

    generation = create(project, endpoint=ENDPOINT, inputs=inputs, tags=[*tags, f" {tags[0]} "], by=editor)

    assert generation.tags == tags


@pytest.mark.usefixtures("budget")
def test_a_retry_takes_the_tags_of_the_old_one(project: Project, editor: User, inputs: dict[str, object]) -> None:
    old = create(project, endpoint=ENDPOINT, inputs=inputs, tags=["launch"], by=editor)
    orders.cancel(old, by=editor)

    assert orders.retry(old, by=editor).tags == ["launch"]


def test_tags_are_not_sent_to_the_provider(draft: Generation, wavespeed: SandboxControl) -> None:
    by = draft.requested_by
    update(draft, inputs=inputs_of(draft), tags=["launch"], by=by)
    orders.queue(draft, by=by)
    lease = lifecycle.admit()
    assert lease

    lifecycle.submit(lease)

    draft.refresh_from_db()
    assert (draft.status, draft.tags) == (Status.PROCESSING, ["launch"])
    assert sorted(draft.request_body) == ["duration", "image", "prompt", "shot_type", "sound"]


# --- Soft budgets -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("budget")
def test_soft_budgets_that_are_passed_are_told_once(
    project: Project, editor: User, inputs: dict[str, object], django_assert_num_queries: Any
) -> None:
    factories.budget(project, 2_000_001, period=Period.MONTH, enforcement=Enforcement.SOFT)
    factories.budget(project, 1_000_000, user=editor, enforcement=Enforcement.SOFT)
    factories.budget(None, 4_200_000, period=Period.DAY, enforcement=Enforcement.SOFT)
    drafts = [made(project, editor, inputs, prompt=f"Take {n}") for n in range(2)]
    assert orders.soft_budget_warnings(drafts) == []

    queued = orders.queue_many(drafts, by=editor)

    assert sorted(orders.soft_budget_warnings(queued)) == [
        "The soft budget “Coffee budget, per month” is passed: $4.20 of $2.00.",
        "The soft budget “eddie in Coffee budget, in total” is passed: $4.20 of $1.00.",
    ]
    with django_assert_num_queries(2):  # the periods, and their top-ups
        orders.soft_budget_warnings(queued)
