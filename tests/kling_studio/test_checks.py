from pathlib import Path
from typing import Any

import dramatiq
import pytest
from django.conf import settings
from django.core.checks import run_checks
from django.core.files.storage import default_storage
from django.db import connection
from django.test import override_settings
from dramatiq.brokers.redis import RedisBroker

from kling_studio import checks, environment
from tests.studio_process import free_port

QUIET = {
    "WAVESPEED_SANDBOX": False,
    "WAVESPEED_BASE_URL": "https://api.wavespeed.ai",
    "ALLOWED_HOSTS": ["localhost", "127.0.0.1", "[::1]"],
}
POSTGRESQL = {"default": {"ENGINE": "django.db.backends.postgresql"}}


def found(*, databases: list[str] | None = None, **changes: Any) -> dict[str, str]:
    """Ids and texts of our own checks' findings under changed settings."""
    with override_settings(**QUIET | changes):
        messages = run_checks(databases=databases)
    ours = [message for message in messages if message.id.startswith(("kling_studio.", "projects."))]
    assert all(message.hint for message in ours)
    return {message.id: message.msg for message in ours}


def test_nothing_is_found_in_a_studio_that_is_set_up_well() -> None:
    assert found(PUBLIC_URL="https://studio.example.com", ALLOWED_HOSTS=["studio.example.com"]) == {}
    assert found() == {}


def test_the_default_secret_key_is_an_error_with_debug_off() -> None:
    key = settings.INSECURE_SECRET_KEY

    assert found(SECRET_KEY=key) == {
        "kling_studio.E001": "SECRET_KEY is the default, which everybody knows: sessions and media addresses could be forged."
    }
    assert found(SECRET_KEY=key, DEBUG=True) == {}


def test_without_a_key_the_sandbox_is_told() -> None:
    assert list(found(WAVESPEED_SANDBOX=True)) == ["kling_studio.W001"]


@pytest.mark.parametrize(
    "changes",
    [
        {"PUBLIC_URL": "https://studio.example.com"},
        {"ALLOWED_HOSTS": ["localhost", "studio.example.com"]},
        {"ALLOWED_HOSTS": ["*"]},
        {"ALLOWED_HOSTS": [".example.com"]},
        {"ALLOWED_HOSTS": ["192.168.1.5"]},
    ],
)
def test_the_sandbox_in_production_is_told(changes: dict[str, Any]) -> None:
    assert list(found(WAVESPEED_SANDBOX=True, **changes)) == ["kling_studio.W002"]
    assert list(found(WAVESPEED_BASE_URL="http://127.0.0.1:8055", **changes)) == ["kling_studio.W002"]


def test_a_stand_in_with_a_key_is_told_as_that() -> None:
    told = found(WAVESPEED_BASE_URL="http://127.0.0.1:8055")

    assert told == {
        "kling_studio.W001": "WAVESPEED_BASE_URL leads to this machine: the provider is a stand-in; its videos are test pictures."
    }


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WAVESPEED_VIDEOS_PER_MINUT", "Did you mean WAVESPEED_VIDEOS_PER_MINUTE?"),
        ("WAVESPEED_VIDEOS_PER_HOUR", "Did you mean WAVESPEED_VIDEOS_PER_MINUTE?"),
        ("WAVESPEED_COLOUR", ".env.example lists every variable."),
        ("ALOWED_HOSTS", "Did you mean ALLOWED_HOSTS?"),
        ("SECRETKEY", "Did you mean SECRET_KEY?"),
        ("EMAIL_HOST", ".env.example lists every variable."),
        ("STORAGE_ROOM_MB", ".env.example lists every variable."),
    ],
)
def test_a_variable_that_nothing_reads_is_told(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    monkeypatch.setenv(name, "5")
    with override_settings(**QUIET):
        [message] = [each for each in run_checks() if each.id == "kling_studio.W005"]

    assert message.msg == f"{name} is set, but the studio reads no such variable."
    assert message.hint in {meant, ".env.example lists every variable."}


def test_every_name_in_the_env_file_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(
        "# COMMENT=1\nexport DEBUG=true\nWEB_CONCURRENCY=2\nAWS_ACCESS_KEY_ID=x\nCOLOUR=red\nTOKEN_DAYS_FILE=/x\n"
    )

    assert environment.unknown_names({"PATH": "/bin", "HOME": "/", "REDIS_URL": "x"}, file) == {"COLOUR": ""}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}, "kling_studio.W006"),
        ({"DEFAULT_FROM_EMAIL": "kling_studio <studio@localhost>"}, "kling_studio.W007"),
        ({"DEFAULT_FROM_EMAIL": "Studio <studio@example.com>", "EMAIL_HOST": "mail.example.com"}, "kling_studio.I001"),
    ],
)
def test_a_deployment_hears_as_whom_its_mail_leaves(changes: dict[str, str], told: str) -> None:
    smtp = {"EMAIL_BACKEND": "django.core.mail.backends.smtp.EmailBackend"}
    with override_settings(**smtp | changes):
        [message] = checks.mail_has_a_sender()

    assert message.id == told
    assert changes.get("DEFAULT_FROM_EMAIL", "the log") in message.msg


def test_processes_that_count_tries_apart_are_told() -> None:
    amqp = "amqp://guest:guest@127.0.0.1:5672"
    with pytest.warns(UserWarning, match="Overriding setting DATABASES"):
        told = found(DRAMATIQ_BROKER_URL=amqp, CACHE_URL="memory://", DATABASES=POSTGRESQL)
    assert list(told) == ["kling_studio.W008"]


def test_sqlite_with_several_workers_is_told() -> None:
    sqlite = {"default": {"ENGINE": "django.db.backends.sqlite3"}}
    several = "redis://127.0.0.1:6379/0"

    with pytest.warns(UserWarning, match="Overriding setting DATABASES"):
        assert list(found(DRAMATIQ_BROKER_URL=several, CACHE_URL=several, DATABASES=sqlite)) == ["kling_studio.W003"]
    with pytest.warns(UserWarning, match="Overriding setting DATABASES"):
        assert found(DRAMATIQ_BROKER_URL=several, CACHE_URL=several, DATABASES=POSTGRESQL) == {}


def test_a_public_address_without_tls_is_told() -> None:
    assert list(found(PUBLIC_URL="http://studio.example.com")) == ["kling_studio.W004"]
    assert found(PUBLIC_URL="http://[::1]:8000") == {}


def storage_at(folder: Path) -> dict[str, Any]:
    return {
        **settings.STORAGES,
        "default": {"BACKEND": "kling_studio.media.SignedFileSystemStorage", "OPTIONS": {"location": str(folder)}},
    }


@pytest.mark.django_db
def test_a_storage_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert found(databases=["default"], STORAGES=storage_at(tmp_path / "file" / "media")) == {
        "kling_studio.E002": "The storage can't be written: NotADirectoryError."
    }
    assert found(STORAGES=storage_at(tmp_path / "file" / "media")) == {}, "it is not tried at every command"


@pytest.mark.django_db
def test_what_is_wrong_with_an_option_of_the_storage_is_said() -> None:
    options = {"bucket_name": "b", "cloudfront_key": "k"}
    s3 = {**settings.STORAGES, "default": {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}}

    told = found(databases=["default"], STORAGES=s3)["kling_studio.E002"]

    assert told.startswith("The storage can't be written: ImproperlyConfigured: ")
    assert "cloudfront_key" in told.lower() or "cloudfront" in told.lower()


@pytest.mark.django_db
def test_a_broker_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    away = RedisBroker(url=f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    monkeypatch.setattr(dramatiq, "get_broker", lambda: away)

    assert found(databases=["default"]) == {"kling_studio.E003": "The broker does not answer (ConnectionError)."}
    assert found() == {}, "it is not tried at every command"


@pytest.mark.django_db
def test_a_storage_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    assert found(databases=["default"], STORAGES=storage_at(tmp_path)) == {}
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert default_storage.location != str(tmp_path)


@pytest.mark.both_databases
@pytest.mark.django_db
def test_postgresql_that_forgets_commits_is_an_error() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("needs PostgreSQL")
    durable = found(databases=["default"])
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        forgetful = found(databases=["default"])
        cursor.execute("SET synchronous_commit = on")

    assert "projects.E002" not in durable
    assert forgetful["projects.E002"] == (
        "PostgreSQL has synchronous_commit off: a crash could lose commits that it confirmed, and a video could be paid twice."
    )
