"""What is written to the log, as an operator reads it."""

import json
import logging
import logging.config

import pytest
from django.conf import settings


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/join/s3cr3t-t0ken/", "/join/…/"),
        ("/media/1abcDE:sig-nature/projects/x/video.mp4", "/media/…/projects/x/video.mp4"),
        ("/accounts/password-reset/MQ/s3cr3t-t0ken/", "/accounts/password-reset/MQ/…/"),
        ("/admin/projects/project/", "/admin/projects/project/"),
    ],
)
def test_secrets_in_paths_are_not_logged(style: str, path: str, shown: str) -> None:
    configurator = logging.config.DictConfigurator(settings.LOGGING)
    formatter = configurator.configure_formatter(dict(settings.LOGGING["formatters"][style]))
    record = logging.LogRecord("django.request", logging.WARNING, __file__, 1, "Forbidden: %s", (path,), None)

    line = formatter.format(record)

    assert shown in (json.loads(line)["event"] if style == "json" else line)
    assert "s3cr3t" not in line
    assert "sig-nature" not in line
