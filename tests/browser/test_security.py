"""The Content-Security-Policy in a real browser: every page works under it, and no text of anybody runs."""

import os
from collections.abc import Callable
from typing import Any

import av
import pytest
from django.conf import settings as studio
from django.core.files.base import ContentFile
from playwright.sync_api import ConsoleMessage, Page, expect
from pytest_django.live_server_helper import LiveServer

from projects.money import spend
from tests.browser.conftest import PHOTOS
from tests.security.expected import QUERIES, ROUTES
from tests.security.hostile import texts
from tests.security.routes import every_route
from tests.security.test_matrix import parsed
from tests.security.world import STUDIO_OWNER, World, build

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a-good-password"
# What the browser shows as a file, and what ends the session.
NO_PAGES = {
    "media/<str:signature>/<path:name>",
    "admin/logout/",
    "api/v1/schema/",
    "metrics",
    "api/v1/videos/<uuid:pk>/download/",
}


@pytest.fixture
def world(transactional_db: None) -> World:
    world = build(texts())
    olive = world.people[STUDIO_OWNER]
    olive.set_password(PASSWORD)
    olive.save()
    return world


@pytest.fixture
def trouble(page: Page, live_server: LiveServer) -> list[str]:
    """What must not happen: a violation of the policy, a script of somebody's, an error, a request to elsewhere."""
    found: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        # A page that is not there says so on the console.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            found.append(f"{page.url}: {message.text}")

    page.on("console", heard)
    page.on("dialog", lambda dialog: (found.append(f"{page.url}: a dialog: {dialog.message}"), dialog.dismiss()))
    page.on("pageerror", lambda error: found.append(f"{page.url}: {error}"))
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((live_server.url, "data:", "blob:"))
            else found.append(f"{page.url} asked for {request.url}")
        ),
    )
    return found


@pytest.fixture
def studio_page(page: Page, live_server: LiveServer, world: World, trouble: list[str]) -> Page:
    page.goto(f"{live_server.url}/admin/login/")
    page.get_by_label("Username").fill("olive")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
    return page


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_page_keeps_to_the_policy(
    studio_page: Page, live_server: LiveServer, world: World, trouble: list[str]
) -> None:
    for route in every_route():
        is_page = "GET" in parsed(ROUTES.get(route.pattern, "GET")) and route.pattern not in NO_PAGES
        if not is_page or (route.is_api and "." in route.pattern):
            continue
        query = QUERIES[route.pattern](world) if route.pattern in QUERIES else ""
        answer = studio_page.goto(f"{live_server.url}{route.path(world)}?{query}", timeout=120_000)
        assert answer is not None
        assert answer.status < 500 or route.pattern == "readyz", route.pattern

    assert trouble == []


def test_what_moves_on_pages_still_moves(
    studio_page: Page, live_server: LiveServer, world: World, trouble: list[str]
) -> None:
    """Menus and filters (Alpine), the chart, the dialog of filters, HTMX."""
    spend.charge(world.rows["projects.spendentry"], amount=2_000_000, key="charge:for-the-chart")
    studio_page.goto(f"{live_server.url}/admin/spend/")
    drawn = "() => [...document.querySelectorAll('canvas')].some(canvas => Chart.getChart(canvas))"
    studio_page.wait_for_function(drawn, timeout=60_000)
    for selector in ("a[href*='/generations/lane/']", "a[href='/admin/tokens/']"):
        expect(studio_page.locator(selector).first).to_be_visible()
    studio_page.goto(f"{live_server.url}/admin/generations/generation/")
    studio_page.locator("[x-on\\:click*='filterOpen']").first.click()
    expect(studio_page.locator("#changelist-filter")).to_be_visible()

    assert trouble == []


def test_the_palette_comes_from_a_file(studio_page: Page, trouble: list[str]) -> None:
    colour = studio_page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--color-primary-600')")

    assert colour.strip() == studio.UNFOLD.get("COLORS", {}).get("primary", {}).get("600", colour.strip())
    assert colour.strip().startswith("oklch")
    assert trouble == []


def test_inline_scripts_and_styles_are_refused(studio_page: Page, trouble: list[str]) -> None:
    """The net under the escaping: should a text ever come through as markup, it does nothing."""
    ran = studio_page.evaluate(
        """async () => {
            const box = document.createElement("div");
            box.innerHTML = "<img src=x onerror='window.ran=1'><style>body{color:red}</style>";
            document.body.append(box);
            const script = document.createElement("script");
            script.textContent = "window.ran=2";
            document.body.append(script);
            await new Promise(done => setTimeout(done, 300));
            return [window.ran ?? 0, getComputedStyle(document.body).color];
        }"""
    )

    assert ran[0] == 0
    assert ran[1] != "rgb(255, 0, 0)"
    assert len([each for each in trouble if "Content Security Policy" in each]) == 3


def test_the_player_plays_and_a_video_opens_by_its_address(
    studio_page: Page, live_server: LiveServer, make_video: Callable[[], Any], world: World, trouble: list[str]
) -> None:
    video = make_video()
    studio_page.goto(f"{live_server.url}/admin/generations/video/{video.pk}/change/")
    ready = "() => document.querySelector('video').readyState >= 1 && document.querySelector('video').duration > 0"
    studio_page.evaluate("document.querySelector('video').load()")
    studio_page.wait_for_function(ready, timeout=60_000)
    studio_page.goto(f"{live_server.url}{video.file.url}")
    studio_page.wait_for_function(ready, timeout=60_000)

    assert trouble == []


@pytest.fixture
def make_video(world: World, tmp_path: Any) -> Callable[[], Any]:
    def make() -> Any:
        video = world.rows["generations.video"]
        video.file.save("plays.mp4", _mp4(tmp_path / "plays.mp4"))
        return video

    return make


def _mp4(path: Any) -> Any:
    """A second of H.264, which every Chromium plays that plays the provider's."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        frame = av.VideoFrame(320, 180, "yuv420p")
        for _ in range(10):
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return ContentFile(path.read_bytes())


def test_the_documentation_works_under_it(studio_page: Page, live_server: LiveServer, trouble: list[str]) -> None:
    studio_page.goto(f"{live_server.url}/api/v1/docs/")
    expect(studio_page.get_by_role("heading", name="kling_studio")).to_be_visible(timeout=60_000)
    studio_page.locator("#operations-projects-projects_list .opblock-summary-control").first.click()
    studio_page.get_by_role("button", name="Try it out").first.click()
    studio_page.get_by_role("button", name="Execute").first.click()
    expect(studio_page.locator(".live-responses-table .response .response-col_status").first).to_contain_text("200")

    assert trouble == []


def test_a_picture_is_uploaded_under_it(studio_page: Page, live_server: LiveServer, trouble: list[str]) -> None:
    studio_page.goto(f"{live_server.url}/admin/projects/sourceimage/add/")
    studio_page.get_by_label("Pictures").set_input_files(PHOTOS / "coffee.png")
    studio_page.get_by_role("button", name="Add", exact=True).click()
    expect(studio_page.locator("main img, .studio-card img, img").first).to_be_visible()

    assert trouble == []


@pytest.mark.parametrize("width", [1440, 390])
def test_locked_login_and_tokens_fit_the_screen(
    page: Page, live_server: LiveServer, world: World, settings: Any, width: int, trouble: list[str]
) -> None:
    settings.AXES_ENABLED = True
    page.set_viewport_size({"width": width, "height": 900})
    for _ in range(studio.LOGIN_FAILURES):
        page.goto(f"{live_server.url}/admin/login/")
        page.get_by_label("Username").fill("sven")
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Log in").click()
        page.wait_for_load_state()
    expect(page.get_by_text("Too many tries")).to_be_visible()
    _fits(page, f"locked-{width}")

    page.goto(f"{live_server.url}/admin/login/?next=/admin/tokens/")
    page.get_by_label("Username").fill("olive")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Make a token").click()
    expect(page.get_by_text("Your new token")).to_be_visible()
    _fits(page, f"tokens-{width}")
    page.get_by_role("button", name="Revoke").first.click()
    _fits(page, f"asked-{width}")
    page.locator(".studio-buttons button").first.click()
    expect(page.get_by_text("is no longer let in.")).to_be_visible()

    assert [each for each in trouble if "429" not in each] == []


def _fits(page: Page, name: str) -> None:
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)
    assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
