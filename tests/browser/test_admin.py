"""What somebody in marketing does, in a real browser: every page is used as they would, and nothing leaves the studio."""

import re
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from generations.models import Generation, Status
from generations.services import drafts, orders
from projects.models import Project, Role
from tests import factories
from tests.browser.conftest import PHOTOS
from tests.pipeline import ENDPOINT, list_and_bill_were_read, project_totals

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SANDBOX = "Sandbox: no real videos, no real money"


@pytest.fixture
def coffee(transactional_db: None) -> Project:
    owner = factories.UserFactory(username="olive", is_superuser=True, is_staff=True)
    project = factories.ProjectFactory(name="Coffee <script>alert('project')</script>", created_by=owner)
    factories.budget(project, 10_000_000)
    return project


@pytest.fixture
def eddie(coffee: Project) -> User:
    user = factories.member(coffee, Role.EDITOR, username="eddie")
    user.set_password("a-good-password")
    user.save()
    return user


@pytest.fixture
def studio(page: Page, live_server: LiveServer, eddie: User) -> Iterator[Page]:
    """The studio with Eddie logged in. Ends with a failure if a page asked for anything elsewhere, ran a script that
    somebody typed, or threw an error."""
    trouble: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(live_server.url) else trouble.append(request.url))
    page.on("dialog", lambda dialog: (trouble.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.goto(f"{live_server.url}/admin/")
    page.get_by_label("Username").fill("eddie")
    page.get_by_label("Password").fill("a-good-password")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
    yield page
    assert trouble == []


def test_from_a_photograph_to_a_queued_video(studio: Page, coffee: Project) -> None:
    expect(studio.get_by_text(SANDBOX, exact=True).locator("visible=true")).to_be_visible()
    studio.get_by_role("link", name="Add pictures").click()
    studio.get_by_label("Pictures").set_input_files(PHOTOS / "coffee.png")
    expect(studio.get_by_label("Title")).to_have_value("")
    studio.get_by_label("Title").fill("The cup <script>alert('title')</script>")
    studio.get_by_role("button", name="Add", exact=True).click()
    expect(studio.get_by_text("Added The cup <script>alert('title')</script>.")).to_be_visible()

    studio.get_by_role("link", name="Make a video from this").click()
    expect(studio.locator("input[name=image]:checked")).to_have_count(1)
    price = studio.locator("#quote")
    expect(price).to_contain_text("$2.10")
    studio.locator("select[name=duration]").select_option("8")
    expect(price).to_contain_text("$3.36")
    expect(price).to_contain_text("$6.64 free after this.")
    studio.get_by_role("textbox", name="Prompt").fill("Steam rises from the cup")
    studio.get_by_role("button", name="Save as a draft").click()
    expect(studio.get_by_text("Saved as a draft. Nothing is paid until you generate it.")).to_be_visible()
    assert project_totals(coffee.pk)["reserved"] == 0

    studio.get_by_role("button", name="Save and generate…").click()
    expect(studio.get_by_text("$6.64 free after this.")).to_be_visible()
    # Two clicks in a hurry.
    studio.get_by_role("button", name="Generate for $3.36").dblclick()
    expect(studio.get_by_text("Queued 1 video for $3.36.")).to_be_visible()
    expect(studio.get_by_text("Queued", exact=True).first).to_be_visible()
    assert project_totals(coffee.pk)["reserved"] == 3_360_000
    assert Generation.objects.get().status == Status.QUEUED

    studio.get_by_role("button", name="Cancel…").click()
    expect(studio.get_by_text("There is no way back, but Retry makes a new one of the same inputs.")).to_be_visible()
    studio.get_by_role("button", name="Cancel it").click()
    expect(studio.get_by_text("Cancelled. It cost nothing.")).to_be_visible()
    assert project_totals(coffee.pk)["reserved"] == 0


def test_several_shots_are_edited_in_rows(studio: Page, live_server: LiveServer, coffee: Project) -> None:
    factories.source_image(coffee)
    studio.goto(f"{live_server.url}/admin/generations/generation/add/")
    studio.locator(".studio-pictures label").first.click()
    studio.get_by_text("Several shots").click()
    expect(studio.get_by_role("textbox", name="Prompt")).to_be_hidden()
    for number, (words, seconds) in enumerate([("Wide", "4"), ("Close", "3")], start=1):
        studio.get_by_label(f"Shot {number}: what happens").fill(words)
        studio.get_by_label(f"Shot {number}: seconds").fill(seconds)
    expect(studio.get_by_text("Now 7 seconds of 5.")).to_be_visible()
    studio.get_by_role("button", name="Save as a draft").click()
    expect(studio.get_by_text("The shots last 7 s together, the video 5 s: make them the same.")).to_be_visible()

    studio.locator("select[name=duration]").select_option("7")
    studio.get_by_role("button", name="Save as a draft").click()
    expect(studio.get_by_text("Saved as a draft.")).to_be_visible()
    assert Generation.objects.get().multi_prompt == [
        {"prompt": "Wide", "duration": 4},
        {"prompt": "Close", "duration": 3},
    ]


def test_page_follows_what_runs(studio: Page, live_server: LiveServer, coffee: Project, eddie: User) -> None:
    image = factories.source_image(coffee)
    inputs = {"image": str(image.pk), "prompt": "Steam rises"}
    generation = orders.queue(drafts.create(coffee, endpoint=ENDPOINT, inputs=inputs, by=eddie), by=eddie)
    studio.goto(f"{live_server.url}/admin/generations/generation/{generation.pk}/change/")
    expect(studio.get_by_text("It waits for a free place at the provider")).to_be_visible()

    orders.cancel(generation, by=eddie)
    expect(studio.get_by_text("It was cancelled before it was sent, and cost nothing.")).to_be_visible(timeout=10_000)


@pytest.fixture
def running(coffee: Project, eddie: User) -> Generation:
    inputs = {"image": str(factories.source_image(coffee).pk), "prompt": "Steam rises"}
    return orders.queue(drafts.create(coffee, endpoint=ENDPOINT, inputs=inputs, by=eddie), by=eddie)


def page_of(live_server: LiveServer, generation: Generation) -> str:
    return f"{live_server.url}/admin/generations/generation/{generation.pk}/change/"


def test_a_page_that_follows_is_never_loaded_anew(
    studio: Page, live_server: LiveServer, running: Generation, eddie: User
) -> None:
    studio.goto(page_of(live_server, running))
    studio.evaluate("window.isTheSamePage = true")
    Generation.objects.move(running.pk, Status.QUEUED, Status.SUBMITTING)

    expect(studio.get_by_text("It is being handed to the provider.")).to_be_visible(timeout=10_000)
    expect(studio.locator("[data-part=history]")).to_contain_text("Submitting")
    expect(studio.get_by_role("button", name="Cancel…")).to_have_count(0)
    assert studio.evaluate("window.isTheSamePage") is True


def test_what_somebody_has_typed_stays_when_the_state_changes(
    studio: Page, live_server: LiveServer, running: Generation, coffee: Project, eddie: User
) -> None:
    Generation.objects.filter(pk=running.pk).update(
        status=Status.UNCONFIRMED, submitted_at=timezone.now() - timedelta(minutes=20)
    )
    list_and_bill_were_read(running)
    coffee.memberships.filter(user=eddie).update(role=Role.OWNER)
    studio.goto(page_of(live_server, running))
    reason = studio.get_by_label("Or it was not made")
    reason.fill("The provider’s own pages don’t list it")
    Generation.objects.move(running.pk, Status.UNCONFIRMED, Status.PROCESSING)

    expect(studio.get_by_text("It is now: Processing. What you have typed is kept.")).to_be_visible(timeout=10_000)
    expect(studio.locator("[data-part=status]")).to_contain_text("The provider is making the video.")
    expect(reason).to_have_value("The provider’s own pages don’t list it")


def test_a_page_that_is_on_its_way_is_reached_though_the_state_changes(
    studio: Page, live_server: LiveServer, running: Generation
) -> None:
    studio.goto(page_of(live_server, running))
    slow = re.compile("/admin/projects/project/$")
    studio.route(slow, lambda route: (time.sleep(5), route.continue_()))
    studio.get_by_role("link", name="Projects").first.click(no_wait_after=True)
    Generation.objects.move(running.pk, Status.QUEUED, Status.SUBMITTING)

    studio.wait_for_url(slow, timeout=20_000)


def test_a_page_says_when_its_session_has_ended_and_stops_asking(
    studio: Page, live_server: LiveServer, running: Generation
) -> None:
    studio.goto(page_of(live_server, running))
    Session.objects.all().delete()

    expect(studio.get_by_text("You are logged out, so that this page stands still:")).to_be_visible(timeout=10_000)
    asked: list[str] = []
    studio.on("request", lambda request: asked.append(request.url))
    studio.wait_for_timeout(3_000)
    assert asked == []
    studio.get_by_role("link", name="log in").click()
    studio.get_by_label("Username").fill("eddie")
    studio.get_by_label("Password").fill("a-good-password")
    studio.get_by_role("button", name="Log in").click()
    studio.wait_for_url(page_of(live_server, running))


def tab_to(page: Page, words: str) -> None:
    """Presses Tab until what has the focus says so."""
    for _ in range(80):
        page.keyboard.press("Tab")
        focused = page.locator("*:focus:not(body)")
        if focused.count() and words in (focused.get_attribute("aria-label") or focused.inner_text()):
            return
    pytest.fail(f"Tab never reaches “{words}”")


def test_filters_menu_and_log_out_are_reached_by_keyboard(studio: Page, live_server: LiveServer) -> None:
    studio.goto(f"{live_server.url}/admin/generations/generation/")
    tab_to(studio, "Filters")
    studio.keyboard.press("Enter")
    expect(studio.locator("#changelist-filter")).to_be_visible()
    expect(studio.locator("#changelist-filter :focus")).to_have_count(1)
    studio.keyboard.press("Escape")
    expect(studio.locator("#changelist-filter")).to_be_hidden()

    studio.goto(f"{live_server.url}/admin/generations/generation/")
    tab_to(studio, "Show or hide the menu")
    studio.keyboard.press("Enter")
    studio.keyboard.press("Enter")
    studio.goto(f"{live_server.url}/admin/generations/generation/")
    tab_to(studio, "eddie")
    studio.keyboard.press("Enter")
    expect(studio.locator("nav :focus")).to_have_count(1)
    tab_to(studio, "Log out")
    studio.keyboard.press("Enter")
    studio.wait_for_url("**/admin/logout/")
    assert not Session.objects.exists()


@pytest.mark.parametrize("width", [1440, 390])
def test_no_page_is_wider_than_the_screen(
    studio: Page, live_server: LiveServer, coffee: Project, eddie: User, width: int
) -> None:
    image = factories.source_image(coffee)
    inputs = {"image": str(image.pk), "prompt": "Steam" + "m" * 300}
    generation = drafts.create(coffee, endpoint=ENDPOINT, inputs=inputs, by=eddie)
    studio.set_viewport_size({"width": width, "height": 900})
    pages = [
        "",
        f"projects/project/{coffee.pk}/change/",
        "projects/membership/",
        "projects/sourceimage/",
        "projects/sourceimage/add/",
        f"projects/sourceimage/{image.pk}/change/",
        "projects/budget/",
        "projects/spendentry/",
        "generations/element/add/",
        "generations/generation/",
        "generations/generation/add/",
        f"generations/generation/{generation.pk}/change/",
        f"generations/generation/confirm/generate/?ids={generation.pk}",
        "generations/video/",
    ]
    too_wide = []
    for path in pages:
        answer = studio.goto(f"{live_server.url}/admin/{path}")
        assert answer is not None
        assert answer.ok, path
        if studio.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            too_wide.append(path)

    assert too_wide == []
