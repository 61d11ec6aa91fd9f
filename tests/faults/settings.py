"""The studio's own settings, from the environment, with the counting hook of `tests.faults.points` built in."""

from kling_studio.settings import *  # noqa: F403
from kling_studio.settings import DATABASES, DRAMATIQ_BROKER, STORAGES
from tests.faults import points

kind = DATABASES["default"]["ENGINE"].rsplit(".", 1)[-1]
DATABASES["default"]["ENGINE"] = f"tests.faults.backends.{kind}"
DRAMATIQ_BROKER["MIDDLEWARE"].append("tests.faults.points.CountSteps")
if STORAGES["default"]["BACKEND"] == "kling_studio.media.SignedFileSystemStorage":
    STORAGES["default"]["BACKEND"] = "tests.faults.storage.CountingFileStorage"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
points.count_http()
