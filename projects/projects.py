"""Changes of projects themselves. Each checks who asks; the settings of a project decide about money, so that none may be lost."""

from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from projects import permissions, versions
from projects.models import Project
from projects.versions import Expected


def edit(project: Project, *, by: User, expected: Expected = None, **fields: Any) -> None:
    """Sets these columns alone. Raises `PermissionDenied`, `ValidationError`, `Stale`."""
    with versions.editing(project, by=by, expected=expected):
        permissions.require_now(by, "manage", project)
        for name, value in fields.items():
            setattr(project, name, value)


def archive(project: Project, *, by: User, expected: Expected = None) -> None:
    """Nothing new can be made in it; what it holds, and what it cost, stays. Raises `PermissionDenied`, `Stale`."""
    with versions.editing(project, by=by, expected=expected):
        permissions.require_studio_owner_now(by, "archive projects")
        project.archived_at = project.archived_at or timezone.now()


def bring_back(project: Project, *, by: User, expected: Expected = None) -> None:
    """Raises `ValidationError` where another project has its name by now, `PermissionDenied`, `Stale`."""
    with versions.editing(project, by=by, expected=expected):
        permissions.require_studio_owner_now(by, "open archived projects")
        project.archived_at = None
