"""Reads what `settings.py` needs from environment variables; a bad value raises `environs.EnvError` that names the variable."""

from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from environs import EnvError, FileAwareEnv

env = FileAwareEnv(strip_whitespace=True)

STORAGE_BACKENDS = {
    "s3": "storages.backends.s3.S3Storage",
    "gs": "storages.backends.gcloud.GoogleCloudStorage",
    "azure": "storages.backends.azure_storage.AzureStorage",
}
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
SIGNED_URL_SECONDS = 3600


def storage(url: str) -> dict[str, Any]:
    """The entry of Django's STORAGES for `file:///folder`, `s3://bucket/prefix?region_name=…`, `gs://…` or `azure://…`.

    Query parameters are the options of that django-storages backend.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return {
            "BACKEND": "kling_studio.media.SignedFileSystemStorage",
            "OPTIONS": {"location": unquote(parts.netloc + parts.path)},
        }
    if parts.scheme not in STORAGE_BACKENDS or not parts.netloc:
        raise EnvError(
            'Environment variable "STORAGE_URL" invalid: use file:///folder, s3://bucket, gs://bucket or azure://container.'
        )
    options: dict[str, Any] = {"location": parts.path.strip("/"), **dict(parse_qsl(parts.query))}
    if parts.scheme == "s3":
        options |= {"bucket_name": parts.netloc, "file_overwrite": False, "querystring_expire": SIGNED_URL_SECONDS}
    elif parts.scheme == "gs":
        options |= {"bucket_name": parts.netloc, "file_overwrite": False, "expiration": SIGNED_URL_SECONDS}
    else:
        options |= {"azure_container": parts.netloc, "overwrite_files": False, "expiration_secs": SIGNED_URL_SECONDS}
    return {"BACKEND": STORAGE_BACKENDS[parts.scheme], "OPTIONS": options}


def broker(url: str) -> dict[str, Any]:
    """The broker class and options of `DRAMATIQ_BROKER` for `stub://`, `redis://…` or `amqp://…`."""
    scheme = urlsplit(url).scheme
    if scheme not in BROKERS:
        raise EnvError(
            'Environment variable "DRAMATIQ_BROKER_URL" invalid: use stub://, redis://host:6379/0 or amqp://user:password@host:5672.'
        )
    options: dict[str, Any] = {} if scheme == "stub" else {"url": url}
    if scheme in {"redis", "rediss"}:
        options |= {"maintenance_chance": 1_000_000, "heartbeat_timeout": REDIS_HEARTBEAT_TIMEOUT}
    return {"BROKER": BROKERS[scheme], "OPTIONS": options}
