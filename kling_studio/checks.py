"""System checks of how the studio is set up. They show at every `manage.py` command; an error stops it, and stops the web server.

The storage's needs `--database default`, as `manage.py migrate` gives it: it writes a file, which may cost a request.
"""

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from kling_studio.environment import is_loopback


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
        return [
            Error(
                f"The storage can't be written: {type(error).__name__}.",
                hint="Check STORAGE_URL, the folder's owner or the bucket's policy, and the credentials.",
                id="kling_studio.E002",
            )
        ]
    return []


@register
def provider_is_the_real_one(**_: Any) -> list[CheckMessage]:
    if not (settings.WAVESPEED_SANDBOX or is_loopback(urlsplit(settings.WAVESPEED_BASE_URL).hostname)):
        return []
    if _is_public():
        return [
            Warning(
                "People reach this studio from elsewhere, but the sandbox makes its videos: they are test pictures.",
                hint="Set WAVESPEED_API_KEY, and leave WAVESPEED_BASE_URL out.",
                id="kling_studio.W002",
            )
        ]
    return [
        Warning(
            "There is no WAVESPEED_API_KEY: the sandbox is the provider; nothing costs anything and videos are test pictures.",
            hint="Set WAVESPEED_API_KEY to make real videos.",
            id="kling_studio.W001",
        )
    ]


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
