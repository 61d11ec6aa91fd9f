import os
from typing import Any

import pytest
from django.conf import settings

# Chromium's own connections are not the studio's, and a machine without a network refuses them by the hundred.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHOTOS = settings.BASE_DIR / "kling_studio" / "photos"


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Debian's Chromium, or the one that `CHROMIUM_PATH` names."""
    path = os.environ.get("CHROMIUM_PATH", "/usr/bin/chromium")
    return {**browser_type_launch_args, "executable_path": path, "args": QUIET}


@pytest.fixture(autouse=True, scope="session")
def allow_database_beside_playwright() -> None:
    """Playwright's loop runs in the tests' thread, where Django would take every query for one inside a coroutine."""
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"


@pytest.fixture(scope="session")
def base_url() -> str:
    """In place of pytest-base-url's, which is written in a way that pytest warns of; tests take `live_server.url`."""
    return ""
