import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from environs import EnvError

from kling_studio import settings as studio_settings
from kling_studio.environment import explained
from tests.studio_process import free_port

ROOT = Path(__file__).resolve().parents[2]


def variables_read() -> dict[str, list[str]]:
    """Each variable that settings.py reads, with its default as one would write it in an environment file."""
    tree = ast.parse((ROOT / "kling_studio/settings.py").read_text())
    read: dict[str, list[str]] = {}
    for call in ast.walk(tree):
        match call:
            case ast.Call(func=ast.Attribute(value=ast.Name("env"), attr=kind), args=[ast.Constant(name)]) if (
                kind != "read_env"
            ):
                defaults = [keyword.value for keyword in call.keywords if keyword.arg == "default"]
                read[name] = [written(default) for default in defaults]
    return read


def written(default: ast.expr) -> str:
    value: Any = eval(compile(ast.Expression(default), "settings.py", "eval"), vars(studio_settings))
    if isinstance(value, list):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Without any of the studio's variables but its home."""
    for name in variables_read():
        if name != "STUDIO_HOME":
            monkeypatch.delenv(name, raising=False)
    return monkeypatch


def loaded() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "kling_studio/settings.py"))


def start(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment, "DJANGO_SETTINGS_MODULE": "kling_studio.settings"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_env_example_lists_every_variable_with_its_default() -> None:
    example = (ROOT / ".env.example").read_text().replace("$STUDIO_HOME", str(studio_settings.STUDIO_HOME))
    listed = dict(re.findall(r"^# ([A-Z][A-Z_]+)=(.*)$", example, re.MULTILINE))

    assert {name: [default] for name, default in listed.items()} == variables_read()


def test_env_example_sets_nothing_by_itself() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()

    assert [line for line in lines if line and not line.startswith("#")] == []


def test_settings_load_without_any_variable(environment: pytest.MonkeyPatch) -> None:
    settings = loaded()

    assert (settings["WAVESPEED_SANDBOX"], settings["SANDBOX_EMBEDDED"]) == (True, True)
    assert settings["WAVESPEED_BASE_URL"] == "http://127.0.0.1:8055"
    assert settings["PUBLIC_URL"] == "http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DEBUG", "perhaps", "Not a valid boolean."),
        (
            "ALLOWED_HOSTS",
            "https://studio.example.com",
            "Give host names without scheme and path, such as studio.example.com, between commas.",
        ),
        ("PUBLIC_URL", "studio.example.com", "Give scheme and host only, such as https://studio.example.com."),
        (
            "PUBLIC_URL",
            "https://studio.example.com/app",
            "Give scheme and host only, such as https://studio.example.com.",
        ),
        ("PUBLIC_URL", "", "Shorter than minimum length 1."),
        ("DATABASE_URL", "mysql://u:hunter2@host/db", "Use sqlite:///file or postgres://user:password@host:5432/name."),
        ("DATABASE_URL", "postgres//hunter2", "Not a valid database URL."),
        ("STORAGE_URL", "media", "Use file:///folder, s3://bucket, gs://bucket or azure://container."),
        ("STORAGE_URL", "file://media/x", "Use file:///folder, s3://bucket, gs://bucket or azure://container."),
        ("MEDIA_URL_SECONDS", "59", "Must be greater than or equal to 60."),
        ("MAX_UPLOAD_MEGABYTES", "0", "Must be greater than or equal to 1 and less than or equal to 500."),
        ("DRAMATIQ_BROKER_URL", "kafka://x", "Use stub://, redis://host:6379/0 or amqp://user:password@host:5672."),
        (
            "DRAMATIQ_BROKER_URL",
            "amqp://user:hunter2/x@host",
            "This is not a complete URL; characters such as / and @ in a password are written %2F, %40.",
        ),
        *(
            (
                "DRAMATIQ_BROKER_URL",
                url,
                "Its library can't read this address; use redis://host:6379/0 or amqp://user:password@host:5672.",
            )
            for url in (
                "redis://host/hunter2",
                "redis://host/0?socket_timeout=hunter2",
                "amqp://host?heartbeat=hunter2",
            )
        ),
        ("WORKER_THREADS", "0", "Must be greater than or equal to 1."),
        ("WORKER_THREADS", "many", "Not a valid integer."),
        ("SANDBOX_PORT", "70000", "Must be greater than or equal to 1 and less than or equal to 65535."),
        ("SANDBOX_RESOLUTION", "4k", "Must be one of: 2160p, 1080p, 720p, 180p."),
        (
            "WAVESPEED_BASE_URL",
            "https://api.wavespeed.ai/api/v3",
            "Give scheme and host only, such as https://studio.example.com.",
        ),
        (
            "WAVESPEED_BASE_URL",
            "http://api.wavespeed.ai",
            "Use https://: the API key would cross the network unencrypted.",
        ),
        (
            "WAVESPEED_BASE_URL",
            "https://api.wavespeed.ai:x",
            "Give scheme and host only, such as https://studio.example.com.",
        ),
        ("WAVESPEED_READ_TIMEOUT", "0", "Must be greater than 0."),
        ("WAVESPEED_DEADLINE", "nan", "Special numeric values (nan or infinity) are not permitted."),
        ("WAVESPEED_API_KEY_FILE", "/nowhere/hunter2", "This is not the path of a text file that can be read."),
        (
            "EMAIL_URL",
            "carrier://u:hunter2@host",
            "Use submission://user:password@host:587, smtp://host:25 or console://.",
        ),
        ("LOG_LEVEL", "loud", "Must be one of: DEBUG, INFO, WARNING, ERROR, CRITICAL."),
        ("LOG_FORMAT", "xml", "Must be one of: console, json."),
    ],
)
def test_a_bad_value_is_refused_by_name_and_never_shown(
    environment: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    environment.setenv(name, value)
    with pytest.raises(EnvError) as refusal:
        loaded()

    assert explained(refusal.value) == f"{name}: {told}"
    assert "hunter2" not in str(refusal.value)


def test_a_bad_value_stops_manage_py_with_one_line() -> None:
    refused = start("manage.py", "check", LOG_FORMAT="xml", WAVESPEED_API_KEY="hunter2")

    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == "kling_studio can't start: LOG_FORMAT: Must be one of: console, json.\n"


@pytest.mark.parametrize("command", ["migrate", "check_stopped", "reconcile"])
def test_a_database_that_does_not_answer_stops_a_command_with_one_line(command: str) -> None:
    url = f"postgres://nobody:hunter2@127.0.0.1:{free_port()}/none"
    refused = start("manage.py", command, DATABASE_URL=url, WAVESPEED_API_KEY="none")

    assert refused.returncode == 1
    told = refused.stderr.splitlines()[-1]
    assert told.startswith("kling_studio can't start: the database in DATABASE_URL does not answer: connection failed")
    assert "hunter2" not in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LOG_FORMAT", "xml", "LOG_FORMAT: Must be one of: console, json."),
        (
            "SECRET_KEY",
            studio_settings.INSECURE_SECRET_KEY,
            "kling_studio.E001 SECRET_KEY is the default, which everybody",
        ),
    ],
)
def test_what_stops_the_start_stops_the_web_server_for_good(name: str, value: str, told: str) -> None:
    """Status 3 is what gunicorn does not restart a worker after."""
    refused = start("-c", "import kling_studio.wsgi", **{name: value})

    assert refused.returncode == 3
    assert refused.stderr.splitlines()[-1].startswith(f"kling_studio can't start: {told}")


def test_a_secret_can_come_from_a_file(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("wsk-from-a-file\n")
    environment.setenv("WAVESPEED_API_KEY_FILE", str(file))
    settings = loaded()

    assert settings["WAVESPEED_API_KEY"] == "wsk-from-a-file"
    assert settings["WAVESPEED_BASE_URL"] == "https://api.wavespeed.ai"


def test_each_secret_can_be_a_credential_of_systemd(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secrets = {
        "SECRET_KEY": "k" * 60,
        "SECRET_KEY_FALLBACKS": "old1, old2",
        "DATABASE_URL": "postgres://u:p@host/db",
        "WAVESPEED_API_KEY": "wsk",
        "WAVESPEED_WEBHOOK_SECRET": "whsec_1",
        "EMAIL_URL": "submission://user:password@mail.example.com:587",
        "METRICS_TOKEN": "token",
        "DRAMATIQ_BROKER_URL": "redis://:password@host:6379/0",
    }
    for name, value in secrets.items():
        (tmp_path / f"secrets_{name.lower()}").write_text(f"{value}\n")
        # The test's own way of undoing what reading a credential sets.
        environment.setenv(f"{name}_FILE", "")
        environment.delenv(f"{name}_FILE")
    environment.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    settings = loaded()

    assert (settings["SECRET_KEY"], settings["SECRET_KEY_FALLBACKS"]) == ("k" * 60, ["old1", "old2"])
    assert settings["DATABASES"]["default"]["PASSWORD"] == "p"
    assert (settings["WAVESPEED_API_KEY"], settings["WAVESPEED_WEBHOOK_SECRET"]) == ("wsk", "whsec_1")
    assert (settings["EMAIL_HOST_PASSWORD"], settings["METRICS_TOKEN"]) == ("password", "token")
    assert settings["DRAMATIQ_BROKER"]["OPTIONS"]["url"] == "redis://:password@host:6379/0"


def test_a_home_with_unusual_characters_works(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home = tmp_path / "50% of a #home?"
    environment.setenv("STUDIO_HOME", str(home))
    settings = loaded()

    assert settings["DATABASES"]["default"]["NAME"] == f"{home}/studio.sqlite3"
    assert settings["STORAGES"]["default"]["OPTIONS"]["location"] == f"{home}/media"


def test_lists_may_have_spaces(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ALLOWED_HOSTS", "a.example, b.example")

    assert loaded()["ALLOWED_HOSTS"] == ["a.example", "b.example"]
