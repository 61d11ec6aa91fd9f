"""Reads what `settings.py` needs from environment variables; a bad value raises `EnvError`, which names it and never shows it."""

import difflib
import ipaddress
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pika
import redis.connection
from environs import EnvError, FileAwareEnv, ValidationError, validate
from environs.exceptions import EnvValidationError
from redis.backoff import NoBackoff
from redis.retry import Retry


class Env(FileAwareEnv):
    """Reads NAME, or the file that NAME_FILE names, or the credential that systemd hands out for it (docs/operations.md)."""

    def _get_value(self, env_key: str, default: Any) -> Any:
        if env_key not in os.environ and f"{env_key}_FILE" not in os.environ and (credential := _credential(env_key)):
            os.environ[f"{env_key}_FILE"] = str(credential)
        try:
            return super()._get_value(env_key, default)
        except EnvError:
            raise
        except (ValueError, OSError) as error:
            raise EnvError(f"{env_key}_FILE: This is not the path of a text file that can be read.") from error


def _credential(name: str) -> Path | None:
    """The units load the folder of secrets as “secrets”, so that each file is `secrets_<name>`."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    file = Path(folder or "/nowhere", f"secrets_{name.lower()}")
    return file if file.is_file() else None


env = Env(strip_whitespace=True)
above_zero = validate.Range(min=0, min_inclusive=False)
at_least_one = validate.Range(min=1)

BROKERS = {
    "stub": "dramatiq.brokers.stub.StubBroker",
    "redis": "dramatiq.brokers.redis.RedisBroker",
    "rediss": "dramatiq.brokers.redis.RedisBroker",
    "amqp": "dramatiq.brokers.rabbitmq.RabbitmqBroker",
    "amqps": "dramatiq.brokers.rabbitmq.RabbitmqBroker",
}
# Milliseconds after which the messages of a killed worker go to another one; with dramatiq's default of a minute and its
# one-in-a-thousand maintenance they waited for over 40 s.
REDIS_HEARTBEAT_TIMEOUT = 5_000


def broker(url: str) -> dict[str, Any]:
    """The broker class and options of `DRAMATIQ_BROKER` for `stub://`, `redis://…` or `amqp://…`."""
    scheme = url_parts("DRAMATIQ_BROKER_URL", url).scheme
    if scheme not in BROKERS:
        raise EnvError("DRAMATIQ_BROKER_URL: Use stub://, redis://host:6379/0 or amqp://user:password@host:5672.")
    if not _is_readable(scheme, url):
        # Without what its library says, which quotes pieces of the address.
        raise EnvError(
            "DRAMATIQ_BROKER_URL: Its library can't read this address; use redis://host:6379/0 or amqp://user:password@host:5672."
        )
    options: dict[str, Any] = {} if scheme == "stub" else {"url": url}
    if scheme in {"redis", "rediss"}:
        options |= {"maintenance_chance": 1_000_000, "heartbeat_timeout": REDIS_HEARTBEAT_TIMEOUT}
    return {"BROKER": BROKERS[scheme], "OPTIONS": options}


def cache(url: str) -> dict[str, Any]:
    """Django's settings of the cache at `url`, which processes share if it is a Redis; `memory://` is each process's own."""
    scheme = url_parts("CACHE_URL", url).scheme
    if scheme == "memory":
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 20_000}}
    if scheme not in {"redis", "rediss"} or not _is_readable(scheme, url):
        raise EnvError("CACHE_URL: Use redis://host:6379/0, rediss://… with TLS, or memory:// for one process.")
    options = {
        "serializer": "kling_studio.cache.Serializer",
        # A login waits no longer than this for a Redis that does not answer.
        "socket_timeout": 1.0,
        "socket_connect_timeout": 1.0,
        "retry": Retry(NoBackoff(), 0),
    }
    return {
        "BACKEND": "kling_studio.cache.SharedCache",
        "LOCATION": url,
        "KEY_PREFIX": "kling-studio",
        "OPTIONS": options,
    }


def _is_readable(scheme: str, url: str) -> bool:
    try:
        if scheme in {"redis", "rediss"}:
            database = urlsplit(url).path.strip("/")
            redis.connection.ConnectionPool.from_url(url)
            return not database or database.isdecimal()
        if scheme in {"amqp", "amqps"}:
            pika.URLParameters(url)
    except (ValueError, TypeError):
        return False
    return True


def url_parts(name: str, url: str) -> SplitResult:
    """Python's own errors about URLs quote pieces of them, which can be pieces of a password."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise EnvError(
            f"{name}: This is not a complete URL; characters such as / and @ in a password are written %2F, %40."
        ) from None
    return parts


def is_loopback(host: str | None) -> bool:
    """Whether only this machine can reach the host name or address."""
    if host is None or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def origin(url: str) -> None:
    """Refuses whatever is not scheme, host and port alone; nothing is fine where nothing is the default."""
    if not url:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = None
    if not usable or "@" in parts.netloc or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValidationError("Give scheme and host only, such as https://studio.example.com.")


def origins(urls: list[str]) -> None:
    for url in urls:
        origin(url)


def safe_origin(url: str) -> None:
    """An origin that the API key may be sent to."""
    origin(url)
    if url.startswith("http://") and not is_loopback(urlsplit(url).hostname):
        raise ValidationError("Use https://: the API key would cross the network unencrypted.")


def host_names(hosts: list[str]) -> None:
    if any("/" in host or not host for host in hosts):
        raise ValidationError("Give host names without scheme and path, such as studio.example.com, between commas.")


# What begins so is meant for the studio; other names only where they nearly are one of its own.
PREFIXES = (
    *(
        "ALERT_",
        "APPROVAL_",
        "DIGEST_",
        "DRAMATIQ_",
        "EMAIL_",
        "INVITATION_",
        "LEASE_",
        "LOGIN_",
        "METRICS_",
        "REDELIVERY_",
    ),
    *("SANDBOX_", "STORAGE_", "STORE_", "STUDIO_", "TRASH_", "UNCONFIRMED_", "WAVESPEED_"),
)
# For other programs, though they stand in `.env`: the web server, and the storages' libraries.
FOREIGN = re.compile(r"PORT|WEB_CONCURRENCY|TMPDIR|DJANGO_SETTINGS_MODULE|(AWS|AZURE|GOOGLE|GUNICORN|PYTHON)_?\w*")
ALIKE = 0.85


def unknown_names(environment: Mapping[str, str], file: Path) -> dict[str, str]:
    """Variables that are set and that nothing reads, each with the one that may be meant, or nothing."""
    known = set(env.dump())
    known |= {f"{name}_FILE" for name in known}
    unknown = {}
    for name in sorted({*environment, *(in_file := _names_in(file))} - known):
        meant = next(iter(difflib.get_close_matches(name, known, n=1, cutoff=ALIKE)), "")
        is_foreign = FOREIGN.fullmatch(name) or name != name.upper()
        if not is_foreign and (name in in_file or name.startswith(PREFIXES) or meant):
            unknown[name] = meant
    return unknown


def _names_in(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    return set(
        re.findall(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=", file.read_text(errors="replace"), re.MULTILINE)
    )


def explained(error: EnvError) -> str:
    """One line for people, without environs' Python brackets."""
    if isinstance(error, EnvValidationError) and isinstance(error.error_messages, list):
        name = str(error).split('"')[1]
        return f"{name}: {' '.join(str(message) for message in error.error_messages)}"
    return str(error)
