from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from generations.models import Generation
from projects.models import Project, SourceImage, SpendEntry
from tests import factories
from tests.generations.conftest import ENDPOINT
from tests.projects.api.conftest import api, owner_api
from tests.sandbox import SandboxControl

__all__ = ["api", "owner_api"]


@pytest.fixture
def image(project: Project, editor: User) -> SourceImage:
    return factories.source_image(project, editor)


@pytest.fixture
def body(project: Project, image: SourceImage) -> dict[str, Any]:
    """What makes a draft of $2.10."""
    return {
        "project": str(project.pk),
        "endpoint": ENDPOINT,
        "image": str(image.pk),
        "prompt": "Steam rises from the cup",
        "duration": 5,
    }


@pytest.fixture
def nothing_happened(wavespeed: SandboxControl) -> Callable[[], None]:
    """Checks that no paid POST was made, no money moved, and nothing was made."""

    def check() -> None:
        assert wavespeed.posts()["count"] == 0
        assert not SpendEntry.objects.exists()
        assert not Generation.objects.exists()

    return check
