"""The studio's own settings under a test environment: everything in a temporary home, no provider unless a test starts a sandbox.

`TEST_DATABASE_URL` (script/services) puts the same tests on PostgreSQL.
"""

import atexit
import os
import shutil
import tempfile

_home = tempfile.mkdtemp(prefix="kling-studio-tests-")


def _remove(home: str, owner: int) -> None:
    """What was forked from this process ends with its home still in use."""
    if os.getpid() == owner:
        shutil.rmtree(home, ignore_errors=True)


atexit.register(_remove, _home, os.getpid())
os.environ.update(
    {
        "STUDIO_HOME": _home,
        "SECRET_KEY": "tests-only-" + "k" * 50,
        "DATABASE_URL": os.environ.get("TEST_DATABASE_URL", f"sqlite:///{_home}/studio.sqlite3"),
        "DRAMATIQ_BROKER_URL": "stub://",
        "EMAIL_URL": "memory://",
        "LOG_LEVEL": "WARNING",
        "WAVESPEED_API_KEY": "",
        "WAVESPEED_BASE_URL": "http://127.0.0.1:9",
    }
)
for name in ("STORAGE_URL", "WAVESPEED_WEBHOOK_BASE_URL", "PUBLIC_URL"):
    os.environ.pop(name, None)

from kling_studio.settings import *  # noqa: E402, F403
from kling_studio.settings import DATABASES  # noqa: E402

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    # A file, not memory: in memory, threads get "table is locked", and a test that counts successes passes for the wrong reason.
    DATABASES["default"]["TEST"] = {"NAME": f"{_home}/test.sqlite3"}
    # No test cuts the power, and waiting for the disk at each commit takes a third of the time.
    DATABASES["default"]["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;"
# While time-machine travels, its time counts, whatever PostgreSQL's clock says: see there.
MONEY_CLOCK = "tests.clock.now"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {**STORAGES, "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}  # noqa: F405
# Static files are found when they are asked for: each test client would read all of them first.
WHITENOISE_AUTOREFRESH = True
# Tests log in without a request; those of the lock turn it on.
AXES_ENABLED = False
