import fcntl
import gc
import shutil
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.files.storage import default_storage
from django.db import connection
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


def pytest_collection_finish() -> None:
    """What is loaded by now stays: to look through it again and again for garbage takes a third of a test's time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With a pytest that it does not know, xdist leaves groups out without a word (pytest-dev/pytest-xdist#1386)."""
    if getattr(config.option, "loadgroup", False):
        for item in items:
            if item.get_closest_marker("xdist_group") and "@" not in item.nodeid:
                raise pytest.UsageError(f"pytest-xdist does not see the group of {item.nodeid}.")


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_blocker: Any,
    django_db_modify_db_settings: None,
) -> None:
    """On SQLite one worker of a run migrates a database, and the others copy it: that takes seconds of a processor each time."""
    if connection.vendor != "sqlite" or not hasattr(request.config, "workerinput"):
        request.getfixturevalue("django_db_setup")
        return
    of_this_run = tmp_path_factory.getbasetemp().parent
    template = of_this_run / "migrated.sqlite3"
    with (of_this_run / "migrating").open("w") as lock, django_db_blocker.unblock():
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            request.getfixturevalue("django_db_setup")
            with connection.cursor() as cursor:
                cursor.execute("VACUUM INTO %s", [str(template)])
            return
    name = connection.settings_dict["TEST"]["NAME"]
    shutil.copy(template, name)
    connection.close()
    connection.settings_dict["NAME"] = name


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
