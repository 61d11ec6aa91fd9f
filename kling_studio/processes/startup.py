"""Starts Django, or ends the process with one clear line about the setting that stops it."""

import os
import sys
from collections.abc import Sequence

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import connection
from django.db.utils import InterfaceError, OperationalError
from environs import EnvError

from kling_studio import environment

# What gunicorn takes as "failed to boot"; after any other status it would start the worker again and again.
WORKER_BOOT_ERROR = 3


def load_settings(exit_status: int = 1) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kling_studio.settings")
    try:
        _ = settings.INSTALLED_APPS
    except EnvError as error:
        _refuse(environment.explained(error), exit_status)
    except ImproperlyConfigured as error:
        _refuse(str(error), exit_status)


def run_command(arguments: list[str]) -> None:
    """What `manage.py` does; a database that does not answer ends it with one line."""
    try:
        execute_from_command_line(arguments)
    except (OperationalError, InterfaceError) as error:
        if _database_answers():
            raise
        _refuse(f"the database in DATABASE_URL does not answer: {error}", 1)


def _database_answers() -> bool:
    connection.close()
    try:
        connection.ensure_connection()
    except (OperationalError, InterfaceError):
        return False
    return True


def require_no_check_errors(exit_status: int = 1, databases: Sequence[str] = ()) -> None:
    """What `manage.py` does by itself before a command, without its warnings; with `databases` those and the storage are tried too."""
    errors = [
        message
        for message in checks.run_checks(databases=list(databases))
        if message.is_serious() and not message.is_silenced()
    ]
    if errors:
        _refuse("; ".join(f"{error.id} {error.msg} {error.hint or ''}".strip() for error in errors), exit_status)


def _refuse(reason: str, exit_status: int) -> None:
    print(f"kling_studio can't start: {' '.join(reason.split())}", file=sys.stderr)  # noqa: T201 - no logging yet
    sys.exit(exit_status)
