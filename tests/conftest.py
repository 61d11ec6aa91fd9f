import pytest
from django.contrib.auth.models import User
from django.test import Client

from projects.models import Project, Role
from tests import factories


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
