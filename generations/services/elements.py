"""The use-cases of elements. Each checks who asks."""

from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from generations.models import Element
from projects import permissions, versions
from projects.versions import Expected


def edit(element: Element, *, by: User, expected: Expected = None, **fields: Any) -> None:
    """Sets these columns alone. Raises `PermissionDenied`, `ValidationError`, `Stale`."""
    with versions.editing(element, by=by, expected=expected):
        permissions.require_now(by, "edit", element.project)
        for name, value in fields.items():
            setattr(element, name, value)


def archive(element: Element, *, by: User, expected: Expected = None) -> None:
    """It can't be picked any more; videos made with it stay."""
    edit(element, by=by, expected=expected, archived_at=element.archived_at or timezone.now())


def bring_back(element: Element, *, by: User, expected: Expected = None) -> None:
    edit(element, by=by, expected=expected, archived_at=None)
