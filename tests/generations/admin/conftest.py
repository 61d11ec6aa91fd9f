import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client


@pytest.fixture(autouse=True, scope="session")
def static_root() -> None:
    """WhiteNoise warns when the folder of `collectstatic` is missing."""
    settings.STATIC_ROOT.mkdir(exist_ok=True)


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
