"""System checks of how the studio is set up. They show at every `manage.py` command; an error stops it, and stops the web server.

The storage's needs `--database default`, as `manage.py migrate` gives it: it writes a file, which may cost a request.
"""

import os
from collections.abc import Iterable
from email.utils import parseaddr
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from generations.watching import health
from kling_studio.environment import is_loopback, unknown_names


@register
def secret_key_is_not_the_default(**_: Any) -> list[CheckMessage]:
    if settings.DEBUG or settings.SECRET_KEY != settings.INSECURE_SECRET_KEY:
        return []
    return [
        Error(
            "SECRET_KEY is the default, which everybody knows: sessions and media addresses could be forged.",
            hint=f"Run script/bootstrap, which writes one to {settings.STUDIO_SECRET_KEY_FILE}, or set SECRET_KEY.",
            id="kling_studio.E001",
        )
    ]


@register(Tags.database)
def storage_can_be_written(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Whatever the storage's library raises, the answer is the same: no video could be stored."""
    if not databases:
        return []
    name = f"checks/{uuid4()}.txt"
    try:
        default_storage.delete(
            default_storage.save(name, ContentFile(b"kling_studio checks that it can write here.\n"))
        )
    except Exception as error:
        # What is wrong with an option is said in words of the backend, which name options; others may quote addresses.
        why = f"{type(error).__name__}{f': {error}' if isinstance(error, ImproperlyConfigured) else ''}"
        return [
            Error(
                f"The storage can't be written: {why.rstrip('.')}.",
                hint="Check STORAGE_URL, the folder's owner or the bucket's policy, and the credentials.",
                id="kling_studio.E002",
            )
        ]
    return []


@register(Tags.database)
def broker_answers(databases: Iterable[str] | None = None, **_: Any) -> list[CheckMessage]:
    if not databases or (found := health.result("broker")).state == health.State.OK:
        return []
    return [
        Error(
            found.message,
            hint="Check DRAMATIQ_BROKER_URL, and whether that server runs.",
            id="kling_studio.E003",
        )
    ]


@register
def provider_is_the_real_one(**_: Any) -> list[CheckMessage]:
    is_loopback_provider = is_loopback(urlsplit(settings.WAVESPEED_BASE_URL).hostname)
    if not (settings.WAVESPEED_SANDBOX or is_loopback_provider):
        return []
    hint = (
        "Set WAVESPEED_API_KEY, and leave WAVESPEED_BASE_URL out."
        if settings.WAVESPEED_SANDBOX
        else "WAVESPEED_API_KEY is set, but WAVESPEED_BASE_URL leads to this machine: leave it out."
    )
    if _is_public():
        text = "People reach this studio from elsewhere, but a stand-in makes its videos: they are test pictures."
        return [Warning(text, hint=hint, id="kling_studio.W002")]
    if settings.WAVESPEED_SANDBOX:
        text = "There is no WAVESPEED_API_KEY: the sandbox is the provider; nothing costs anything and videos are test pictures."
    else:
        text = "WAVESPEED_BASE_URL leads to this machine: the provider is a stand-in; its videos are test pictures."
    return [Warning(text, hint=hint, id="kling_studio.W001")]


@register
def variables_are_known(**_: Any) -> list[CheckMessage]:
    """A name that is misspelt would be ignored in silence."""
    unknown = unknown_names(os.environ, settings.ENV_FILE)
    return [
        Warning(
            f"{name} is set, but the studio reads no such variable.",
            hint=f"Did you mean {meant}?" if meant else ".env.example lists every variable.",
            id="kling_studio.W005",
        )
        for name, meant in unknown.items()
    ]


@register(deploy=True)
def mail_has_a_sender(**_: Any) -> list[CheckMessage]:
    if settings.EMAIL_BACKEND == "django.core.mail.backends.console.EmailBackend":
        return [
            Warning(
                "E-mails go to the log: people get no invitation, no new password and no alert.",
                hint="Set EMAIL_URL, best as a file with EMAIL_URL_FILE, as it holds a password.",
                id="kling_studio.W006",
            )
        ]
    address = parseaddr(settings.DEFAULT_FROM_EMAIL)[1]
    if is_loopback(address.rpartition("@")[2] or None):
        return [
            Warning(
                f"E-mails leave as {settings.DEFAULT_FROM_EMAIL}, which other mail servers refuse.",
                hint="Set DEFAULT_FROM_EMAIL to an address that the server in EMAIL_URL may send as.",
                id="kling_studio.W007",
            )
        ]
    sender = f"E-mails leave as {settings.DEFAULT_FROM_EMAIL} through {settings.EMAIL_HOST}."
    return [Info(sender, hint="DEFAULT_FROM_EMAIL and EMAIL_URL say so.", id="kling_studio.I001")]


@register
def several_workers_have_a_database_for_it(**_: Any) -> list[CheckMessage]:
    if (
        settings.DRAMATIQ_BROKER_URL.startswith("stub:")
        or settings.DATABASES["default"]["ENGINE"] != "django.db.backends.sqlite3"
    ):
        return []
    return [
        Warning(
            "DRAMATIQ_BROKER_URL is for several processes, but the database is SQLite, where one at a time can write.",
            hint="Set DATABASE_URL to postgres://user:password@host:5432/name.",
            id="kling_studio.W003",
        )
    ]


@register
def several_processes_count_together(**_: Any) -> list[CheckMessage]:
    if settings.DRAMATIQ_BROKER_URL.startswith("stub:") or not settings.CACHE_URL.startswith("memory:"):
        return []
    return [
        Warning(
            "Each process counts tries by itself: the limits of logins and of the API hold once for each web process.",
            hint="Set CACHE_URL to redis://host:6379/1, which all processes share.",
            id="kling_studio.W008",
        )
    ]


@register
def public_url_is_encrypted(**_: Any) -> list[CheckMessage]:
    address = urlsplit(settings.PUBLIC_URL)
    if address.scheme == "https" or is_loopback(address.hostname):
        return []
    return [
        Warning(
            "PUBLIC_URL is not https: passwords, tokens and sessions cross the network unencrypted.",
            hint="Put a proxy with TLS in front, set PUBLIC_URL to its https:// address and TRUST_FORWARDED_PROTO to true.",
            id="kling_studio.W004",
        )
    ]


def _is_public() -> bool:
    hosts = [urlsplit(settings.PUBLIC_URL).hostname, *settings.ALLOWED_HOSTS]
    return not all(is_loopback(host) for host in hosts)
