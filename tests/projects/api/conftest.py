import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from tests.projects.api.client import client_of


@pytest.fixture
def api(editor: User) -> APIClient:
    """An editor of “Coffee”."""
    return client_of(editor)


@pytest.fixture
def owner_api(studio_owner: User) -> APIClient:
    return client_of(studio_owner)
