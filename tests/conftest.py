import signal
from collections.abc import Iterator
from types import FrameType

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.test import Client

from generations.lifecycle import restored
from projects.models import Project, Role
from tests import factories
from tests.faults.told import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]


def pytest_configure() -> None:
    signal.signal(signal.SIGTERM, _stopped)


def _stopped(signum: int, frame: FrameType | None) -> None:
    """Told to end, it ends as after Ctrl-C, each worker too: fixtures end their processes and drop their databases."""
    # The end itself is not disturbed: `timeout` tells it twice, and xdist's workers interrupt themselves after some seconds.
    # Not SIG_IGN, which what is started from now on would inherit.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: None)
    raise KeyboardInterrupt


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """A long value is told by its length: megabytes of it would travel with each report."""
    return f"{argname} of {len(val)}" if isinstance(val, bytes | str) and len(val) > 100 else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With a pytest that it does not know, xdist leaves groups out without a word (pytest-dev/pytest-xdist#1386)."""
    if getattr(config.option, "loadgroup", False):
        for item in items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(f"pytest-xdist does not see the group of {item.nodeid}.")


@pytest.fixture(autouse=True)
def nothing_was_ever_sent() -> None:
    """Each test's database counts its requests from zero, so the storage does too."""
    _, names = default_storage.listdir(restored.FOLDER) if default_storage.exists(restored.FOLDER) else ([], [])
    for name in names:
        default_storage.delete(f"{restored.FOLDER}/{name}")


@pytest.fixture(autouse=True)
def no_tries_counted() -> Iterator[None]:
    """The counters that slow people down are this process's, and so the next test's too."""
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def studio_owner(db: None) -> User:
    return factories.UserFactory(username="olive", is_superuser=True, is_staff=True)


@pytest.fixture
def project(studio_owner: User) -> Project:
    return factories.ProjectFactory(name="Coffee", created_by=studio_owner)


@pytest.fixture
def editor(project: Project) -> User:
    return factories.member(project, Role.EDITOR, username="eddie")


@pytest.fixture
def editor_client(editor: User) -> Client:
    client = Client()
    client.force_login(editor)
    return client


@pytest.fixture
def owner_client(studio_owner: User) -> Client:
    client = Client()
    client.force_login(studio_owner)
    return client
