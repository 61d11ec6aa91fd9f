"""What approvers see and do in the admin, and what who asks is told."""

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from generations.admin.confirmation import Kind
from generations.admin.generations import confirm_url
from generations.models import Approval, Generation, Status
from generations.services import approvals, orders
from generations.services.drafts import create
from projects.models import Project, Role
from projects.money import budgets
from tests import factories
from tests.generations.admin.test_generations import page_of, text_of, told
from tests.pipeline import ENDPOINT, money, project_totals
from tests.sandbox import SandboxControl

LIST = reverse("admin:generations_approval_changelist")
PRICE = 2_100_000


def page(approval: Approval) -> str:
    return reverse("admin:generations_approval_change", args=[approval.pk])


@pytest.fixture
def project(project: Project) -> Project:
    project.approval_above = 5_000_000
    project.save()
    factories.budget(project, 20_000_000)
    return project


@pytest.fixture
def anna_client(project: Project) -> Client:
    client = Client()
    client.force_login(factories.member(project, Role.APPROVER, username="anna"))
    return client


@pytest.fixture
def drafts(project: Project, editor: User) -> Callable[[int], list[Generation]]:
    image = factories.source_image(project, editor)

    def make(count: int) -> list[Generation]:
        return [
            create(
                project,
                endpoint=ENDPOINT,
                inputs={"image": str(image.pk), "prompt": f"Take <b>{n}</b>", "duration": 5},
                by=editor,
            )
            for n in range(count)
        ]

    return make


@pytest.fixture
def asked(drafts: Callable[[int], list[Generation]], editor: User) -> Approval:
    return approvals.approval_of(orders.queue_many(drafts(3), by=editor)[0])


# --- Asking -----------------------------------------------------------------------------------------------------------


def test_confirming_says_that_it_takes_an_approver_and_who_that_is(
    editor_client: Client, anna_client: Client, drafts: Callable[[int], list[Generation]]
) -> None:
    url = confirm_url(Kind.GENERATE, [draft.pk for draft in drafts(3)])

    response = editor_client.get(url)
    done = editor_client.post(url, {"total_seen": response.context["plan"].total}, follow=True)

    assert response.context["plan"].approvals == [
        "In Coffee, $6.30 at once is more than the $5.00 that can be spent without an approver. They can approve it: anna, olive. "
        "Until then nothing is held."
    ]
    assert "Ask for approval of $6.30" in text_of(response)
    assert told(done) == ["Asked for approval of 3 videos for $6.30. Nothing is held until somebody approves."]
    assert set(Generation.objects.values_list("status", flat=True)) == {Status.AWAITING_APPROVAL}


def test_what_waits_for_an_approver_may_be_more_than_is_free_now(
    editor_client: Client, drafts: Callable[[int], list[Generation]], project: Project
) -> None:
    budgets.change_limit(budgets.of_project(project).get(), limit=1_000_000, by=project.created_by)
    url = confirm_url(Kind.GENERATE, [draft.pk for draft in drafts(3)])

    assert editor_client.get(url).context["plan"].problems == []
    editor_client.post(url, {})

    assert Approval.objects.get().amount == 6_300_000


def test_retries_together_are_priced_together(
    editor_client: Client, editor: User, drafts: Callable[[int], list[Generation]], project: Project
) -> None:
    made = drafts(3)
    for draft in made:
        orders.cancel(draft, by=editor)
    url = confirm_url(Kind.RETRY, [draft.pk for draft in made])

    response = editor_client.post(url, {"retries_seen": "0"}, follow=True)

    assert told(response) == ["Asked for approval of 3 videos for $6.30. Nothing is held until somebody approves."]
    assert Approval.objects.get().amount == 6_300_000


def test_a_total_that_has_grown_is_shown_again(
    editor_client: Client, drafts: Callable[[int], list[Generation]], project: Project
) -> None:
    [draft] = drafts(1)

    response = editor_client.post(confirm_url(Kind.GENERATE, [draft.pk]), {"total_seen": "2000000"})

    assert told(response) == [
        "The price has changed: it is $2.10 now, not $2.00. Nothing was queued; look at it and confirm again."
    ]
    assert response.context["plan"].total == PRICE
    assert project_totals(project.pk)["reserved"] == 0


@pytest.mark.django_db(transaction=True)
def test_both_prices_are_shown_where_the_provider_says_another_one(
    editor_client: Client,
    drafts: Callable[[int], list[Generation]],
    wavespeed: SandboxControl,
    settings: object,
    project: Project,
) -> None:
    settings.WAVESPEED_LIVE_PRICES = True
    wavespeed.arm("quote_price", times=None, price=2.52)
    [draft] = drafts(1)
    url = confirm_url(Kind.GENERATE, [draft.pk])

    response = editor_client.get(url)
    editor_client.post(url, {"total_seen": response.context["plan"].total})

    assert "$2.52 (the provider’s price; the catalogue says $2.10)" in text_of(response)
    assert money(draft) == (2_520_000, 0)


@pytest.mark.django_db(transaction=True)
def test_without_the_providers_price_the_page_says_so(
    editor_client: Client, drafts: Callable[[int], list[Generation]], wavespeed: SandboxControl, settings: object
) -> None:
    settings.WAVESPEED_LIVE_PRICES = True
    wavespeed.arm("free_500", times=None, route="price")
    url = confirm_url(Kind.GENERATE, [drafts(1)[0].pk])

    [problem] = editor_client.get(url).context["plan"].problems
    response = editor_client.post(url, {})

    assert problem.startswith("The provider does not tell its price now")
    assert told(response) == [problem]


# --- Deciding ---------------------------------------------------------------------------------------------------------


def test_approvers_find_what_waits_for_them(asked: Approval, anna_client: Client, editor_client: Client) -> None:
    response = anna_client.get(LIST, {"for_me": "yes"})

    assert response.context["title"] == "Waiting for you"
    assert list(response.context["cl"].result_list) == [asked]
    assert "&lt;/b&gt; and 2 more" in text_of(response)
    assert "<b>0</b>" not in text_of(response)
    assert f"{LIST}?for_me=yes" in text_of(anna_client.get(reverse("admin:index")))
    assert list(editor_client.get(LIST, {"for_me": "yes"}).context["cl"].result_list) == []
    assert list(editor_client.get(LIST).context["cl"].result_list) == [asked]


def test_an_approver_sees_what_it_leaves_and_approves(asked: Approval, anna_client: Client) -> None:
    response = anna_client.get(page(asked))

    [bar] = response.context["bars"]
    assert (bar.free_shown, bar.after_shown) == ("$20.00", "$13.70")
    assert len(response.context["lines"]) == 3
    done = anna_client.post(page(asked), {"_approve": "1", "comment": "Go"}, follow=True)
    assert told(done) == ["Approved: $6.30 is held, and they are queued."]
    asked.refresh_from_db()
    assert (asked.decision, asked.comment) == ("approved", "Go")
    assert "Your decision" not in text_of(done)


def test_rejecting_needs_a_comment_which_who_asked_sees(
    asked: Approval, anna_client: Client, editor_client: Client
) -> None:
    empty = anna_client.post(page(asked), {"_reject": "1", "comment": " "})
    done = anna_client.post(page(asked), {"_reject": "1", "comment": "Shorter <i>please</i>"}, follow=True)

    assert told(empty) == ["Say why: who asked will want to know what to change."]
    assert told(done) == ["Rejected. They are drafts again, with your comment; nothing was paid."]
    first = asked.generations.first()
    assert first
    shown = text_of(editor_client.get(page_of(first)))
    assert "Rejected by anna" in shown
    assert "Shorter &lt;i&gt;please&lt;/i&gt;" in shown


def test_what_does_not_fit_is_told_and_stays(asked: Approval, anna_client: Client, project: Project) -> None:
    budgets.change_limit(budgets.of_project(project).get(), limit=6_000_000, by=project.created_by)

    response = anna_client.post(page(asked), {"_approve": "1"})

    [refusal] = told(response)
    assert refusal.startswith("Not enough budget: this needs $2.10, $1.80 is free")
    assert "It did not fit the last time somebody approved it." in text_of(response)
    assert set(asked.generations.values_list("status", flat=True)) == {Status.AWAITING_APPROVAL}


def test_who_asked_sees_the_request_and_can_not_decide(asked: Approval, editor_client: Client) -> None:
    response = editor_client.get(page(asked))
    refused = editor_client.post(page(asked), {"_approve": "1"})

    assert "Your decision" not in text_of(response)
    assert told(refused) == [
        "This takes the role “Approver” or higher in Coffee; an owner of the project can give it to you."
    ]


def test_a_stranger_finds_nothing(asked: Approval) -> None:
    client = Client()
    client.force_login(factories.member(factories.ProjectFactory(), Role.OWNER))

    assert client.get(page(asked)).status_code == 404
    assert list(client.get(LIST).context["cl"].result_list) == []


def test_new_twins_are_asked_about(
    asked: Approval, anna_client: Client, editor: User, drafts: Callable[[int], list[Generation]]
) -> None:
    orders.queue(drafts(1)[0], by=editor, confirm=True)

    response = anna_client.post(page(asked), {"_approve": "1", "comment": "Go"})

    assert "Yes, make and pay for another one" in text_of(response)
    assert ">Go</textarea>" in text_of(response)
    done = anna_client.post(page(asked), {"_approve": "1", "confirm": "1"}, follow=True)
    assert told(done) == ["Approved: $6.30 is held, and they are queued."]


# --- The pages of generations and projects ----------------------------------------------------------------------------


def test_the_page_of_one_leads_to_its_request(asked: Approval, anna_client: Client, editor_client: Client) -> None:
    first = asked.generations.first()
    assert first

    for client, words in ((anna_client, "Approve or reject…"), (editor_client, "The request")):
        response = client.get(page_of(first))
        assert words in text_of(response)
        assert page(asked) in text_of(response)
        assert "$6.30 in all, asked for by eddie" in text_of(response)


def test_editing_is_told_to_withdraw_and_does(asked: Approval, editor_client: Client) -> None:
    first = asked.generations.first()
    assert first
    url = f"{page_of(first)}?edit"

    form = editor_client.get(url)
    fields = {"image": str(first.image_id), "prompt": "Other", "duration": "6", "_save": "1"}
    editor_client.post(url, fields)

    assert "withdraws the request for approval of $6.30" in text_of(form)
    asked.refresh_from_db()
    assert asked.decision == "withdrawn"
    assert set(asked.generations.values_list("status", flat=True)) == {Status.DRAFT}


@pytest.mark.parametrize(("typed", "micros"), [("", None), ("0", 0), ("$1,250.50", 1_250_500_000)])
def test_an_owner_sets_the_amount(typed: str, micros: int | None, project: Project) -> None:
    client = Client()
    client.force_login(factories.member(project, Role.OWNER))
    url = reverse("admin:projects_project_change", args=[project.pk])
    rows = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}

    response = client.post(url, {"name": "Coffee", "time_zone": "UTC", "approval_above": typed, **rows})

    assert response.status_code == 302
    project.refresh_from_db()
    assert project.approval_above == micros


def test_others_read_the_amount_in_dollars(editor_client: Client, project: Project) -> None:
    response = editor_client.get(reverse("admin:projects_project_change", args=[project.pk]))

    assert "$5.00" in text_of(response)
    assert "5000000" not in text_of(response)


def test_a_bad_amount_is_told(owner_client: Client, project: Project) -> None:
    url = reverse("admin:projects_project_change", args=[project.pk])
    rows = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}

    response = owner_client.post(url, {"name": "Coffee", "time_zone": "UTC", "approval_above": "lots", **rows})

    assert "Type an amount in dollars, such as 10 or 1,250.50; zero or more." in text_of(response)
    project.refresh_from_db()
    assert project.approval_above == 5_000_000


def test_the_list_asks_as_often_for_one_as_for_thirty(
    owner_client: Client,
    drafts: Callable[[int], list[Generation]],
    editor: User,
    project: Project,
    django_assert_max_num_queries: Callable[..., object],
) -> None:
    Project.objects.filter(pk=project.pk).update(approval_above=0)
    project.refresh_from_db()
    for draft in drafts(30):
        draft.project = project
        orders.queue(draft, by=editor)

    with django_assert_max_num_queries(20):
        assert owner_client.get(LIST).context["cl"].result_count == 30
