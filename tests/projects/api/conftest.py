from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from rest_framework.test import APIClient

from tests.projects.api.client import client_of


@pytest.fixture(autouse=True)
def _no_throttling_between_tests() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def api(editor: User) -> APIClient:
    """An editor of “Coffee”."""
    return client_of(editor)


@pytest.fixture
def owner_api(studio_owner: User) -> APIClient:
    return client_of(studio_owner)
