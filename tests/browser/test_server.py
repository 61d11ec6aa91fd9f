"""`script/server` as a newcomer meets it: its own first video plays and seeks in a browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.studio_process import Studio

pytestmark = [pytest.mark.browser, pytest.mark.slow]


STORED = """
from generations.models import Video
from pathlib import Path
from generations.storage.video import probe
for video in Video.objects.all():
    print(video.duration, video.width, video.height, video.bytes, video.file.size, probe(Path(video.file.path)))
"""


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    with Studio(tmp_path / "home", SANDBOX_RESOLUTION="720p") as studio:
        studio.start()
        yield studio
        studio.stop()


def test_the_first_video_of_a_new_studio_plays_and_seeks(page: Page, studio: Studio) -> None:
    told = studio.log.read_text()
    password = re.search(r"with the password (\S+)", told)
    assert password, told

    page.goto(f"{studio.url}/admin/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", password.group(1))
    page.click("button[type=submit]")
    page.goto(f"{studio.url}/admin/generations/generation/?status=completed")
    page.click("table a[href*='/generations/generation/']")

    video = page.locator("video")
    expect(video).to_be_visible()
    video.evaluate("video => new Promise(resolve => { video.muted = true; video.onplaying = resolve; video.play() })")
    shown = video.evaluate("video => [video.videoWidth, video.videoHeight, Math.round(video.duration)]")
    assert shown == [1280, 720, 5], studio.run(STORED)
    seeked = (
        "video => new Promise(resolve => { video.onseeked = () => resolve(video.currentTime); video.currentTime = 4 })"
    )
    assert video.evaluate(seeked) == pytest.approx(4, abs=0.1)
    assert video.evaluate("video => video.error") is None
