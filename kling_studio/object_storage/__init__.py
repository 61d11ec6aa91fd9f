"""Reads `STORAGE_URL`: which storage it is, its options with their types, and where a browser finds what lies in it.

The storages themselves (`s3`, `google`, `azure`) are loaded only where the URL names them, as their libraries take a while to load.
"""

import difflib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from environs import EnvError

from kling_studio.environment import url_parts

# What is read whole (a picture) stays in memory up to here; the rest goes to the disk. Uploads go in pieces of this size.
PIECE_BYTES = 8 * 1024 * 1024
# The longest that S3's and Google's signatures (version 4) last.
LONGEST_SIGNATURE_SECONDS = 7 * 24 * 3600

Value = Callable[[str], Any]


class Wrong(ValueError):
    """The value of an option is not of its type; says what is right, and never the value, which may be a secret."""


def _text(value: str) -> str:
    return value


def _flag(value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise Wrong("Write true or false.")
    return value.lower() == "true"


def _number(value: str) -> int:
    if not value.isascii() or not value.isdecimal() or len(value) > 9:
        raise Wrong("Write a whole number.")
    return int(value)


def _parameters(value: str) -> dict[str, Any]:
    try:
        parameters = json.loads(value)
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise Wrong('Write a JSON object, URL-encoded, such as {"ServerSideEncryption": "aws:kms"}.')
    return parameters


def _verify(value: str) -> bool | str:
    """Whether the server's certificate is checked, or the file of the authority that signed it."""
    if value.lower() in {"true", "false"}:
        return _flag(value)
    if not value.startswith("/"):
        raise Wrong("Write true, false, or the absolute path of a file with certificates.")
    return value


def _one_of(*values: str) -> Value:
    def one(value: str) -> str:
        if value not in values:
            raise Wrong(f"Write {' or '.join(values)}.")
        return value

    return one


@dataclass(frozen=True)
class Backend:
    """A kind of storage: its class, the library that it needs, and the options that its URL may have, by type."""

    path: str
    library: str
    extra: str
    bucket: str
    options: Mapping[str, Value]
    always: Mapping[str, Any]
    expiry: str
    signs_for_days: bool


S3 = Backend(
    path="kling_studio.object_storage.s3.S3",
    library="boto3",
    extra="",
    bucket="bucket_name",
    options={
        "access_key": _text,
        "secret_key": _text,
        "security_token": _text,
        "session_profile": _text,
        "region_name": _text,
        "endpoint_url": _text,
        "addressing_style": _one_of("auto", "path", "virtual"),
        "signature_version": _one_of("s3v4", "s3"),
        "request_checksum_calculation": _one_of("when_required", "when_supported"),
        "use_ssl": _flag,
        "verify": _verify,
        "proxies": _parameters,
        "default_acl": _text,
        "object_parameters": _parameters,
        "querystring_auth": _flag,
        "custom_domain": _text,
        "url_protocol": _one_of("https:", "http:"),
        "cloudfront_key_id": _text,
        "cloudfront_key": _text,
    },
    always={"file_overwrite": False},
    expiry="querystring_expire",
    signs_for_days=True,
)
GOOGLE = Backend(
    path="kling_studio.object_storage.google.Google",
    library="google.cloud.storage",
    extra="requirements-google.txt",
    bucket="bucket_name",
    options={
        "project_id": _text,
        "credentials_file": _text,
        "api_endpoint": _text,
        "custom_endpoint": _text,
        "default_acl": _text,
        "object_parameters": _parameters,
        "querystring_auth": _flag,
        "iam_sign_blob": _flag,
        "sa_email": _text,
    },
    always={"file_overwrite": False},
    expiry="expiration",
    signs_for_days=True,
)
AZURE = Backend(
    path="kling_studio.object_storage.azure.Azure",
    library="azure.storage.blob",
    extra="requirements-azure.txt",
    bucket="azure_container",
    options={
        "account_name": _text,
        "account_key": _text,
        "connection_string": _text,
        "endpoint_suffix": _text,
        "custom_domain": _text,
        "azure_ssl": _flag,
        "timeout": _number,
        "cache_control": _text,
        "object_parameters": _parameters,
    },
    always={"overwrite_files": False},
    expiry="expiration_secs",
    signs_for_days=False,
)
BACKENDS = {"s3": S3, "gs": GOOGLE, "azure": AZURE}


def entry(url: str, *, url_seconds: int) -> dict[str, Any]:
    """The entry of Django's STORAGES for `file:///folder`, `s3://bucket/prefix?region_name=…`, `gs://…` or `azure://…`.

    Raises `EnvError` for whatever would only fail later: an unknown option, a value of the wrong type, a library that is not installed.
    """
    parts = url_parts("STORAGE_URL", url)
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        if parts.query:
            raise EnvError("STORAGE_URL: file:// takes no options.")
        return {
            "BACKEND": "kling_studio.media.SignedFileSystemStorage",
            "OPTIONS": {"location": unquote(parts.path)},
        }
    if parts.scheme not in BACKENDS or not parts.netloc:
        raise EnvError("STORAGE_URL: Use file:///folder, s3://bucket, gs://bucket or azure://container.")
    if "@" in parts.netloc or ":" in parts.netloc:
        raise EnvError(
            f"STORAGE_URL: After {parts.scheme}:// comes the name of the bucket alone; keys and addresses are options."
        )
    backend = BACKENDS[parts.scheme]
    options = _options(parts.scheme, backend, parts.query)
    signed = options.get("querystring_auth", True)
    if signed and backend.signs_for_days and url_seconds > LONGEST_SIGNATURE_SECONDS:
        raise EnvError(
            f"MEDIA_URL_SECONDS: At most {LONGEST_SIGNATURE_SECONDS} (7 days) with {parts.scheme}://: its signatures last no longer."
        )
    if not _is_installed(backend.library):
        raise EnvError(
            f"STORAGE_URL: {parts.scheme}:// needs a library that is not installed: "
            f".venv/bin/python -m pip install --require-hashes --requirement {backend.extra}"
        )
    return {
        "BACKEND": backend.path,
        "OPTIONS": {
            "location": unquote(parts.path.strip("/")),
            backend.bucket: parts.netloc,
            backend.expiry: url_seconds,
            **backend.always,
            **options,
        },
    }


def _options(scheme: str, backend: Backend, query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in backend.options:
            near = difflib.get_close_matches(name, backend.options, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise EnvError(
                f"STORAGE_URL: {scheme}:// has no option “{name[:40]}”.{meant} It takes {', '.join(sorted(backend.options))}."
            )
        if name in options:
            raise EnvError(f"STORAGE_URL: {name} stands there twice.")
        if not value:
            raise EnvError(f"STORAGE_URL: {name} has no value. Leave it out or give it one.")
        try:
            options[name] = backend.options[name](value)
        except Wrong as wrong:
            raise EnvError(f"STORAGE_URL: {name}: {wrong}") from None
    if backend is S3:
        _check_s3(options)
    elif backend is AZURE:
        _check_azure(options)
    return options


def _check_s3(options: dict[str, Any]) -> None:
    if "endpoint_url" in options:
        _require_address("endpoint_url", options["endpoint_url"])
    if ("access_key" in options) != ("secret_key" in options):
        raise EnvError("STORAGE_URL: access_key and secret_key go together.")
    if "access_key" in options and "session_profile" in options:
        raise EnvError("STORAGE_URL: Give access_key and secret_key, or session_profile, not both.")
    if ("cloudfront_key_id" in options) != ("cloudfront_key" in options):
        raise EnvError("STORAGE_URL: cloudfront_key_id and cloudfront_key go together.")
    # Checksum trailers, boto3's default, are Amazon's own; others answer them with an error or store them as part of the file.
    of_amazon = "endpoint_url" not in options
    options.setdefault("request_checksum_calculation", "when_supported" if of_amazon else "when_required")
    options.setdefault("signature_version", "s3v4")


def _check_azure(options: dict[str, Any]) -> None:
    """Links are signed with the account's name and key, which a connection string holds too."""
    told = _told(options.get("connection_string", ""))
    for option, part in (("account_name", "AccountName"), ("account_key", "AccountKey")):
        if option not in options and part in told:
            options[option] = told[part]
    if "account_name" not in options:
        raise EnvError("STORAGE_URL: azure:// needs account_name, or a connection_string that holds AccountName.")
    if "account_key" not in options:
        raise EnvError(
            "STORAGE_URL: azure:// needs account_key (or a connection_string with AccountKey): links to videos are signed with it."
        )


def _require_address(name: str, value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise EnvError(f"STORAGE_URL: {name}: Write a complete address, such as https://s3.example.com.")


def _is_installed(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except ModuleNotFoundError:
        return False


def _told(connection_string: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in connection_string.split(";") if part)


def sources(url: str) -> list[str]:
    """Where a browser finds pictures and videos of the storage `url`, as sources of a Content-Security-Policy; none: here alone.

    Both ways to address a bucket are among them, as its library chooses by name and region.
    """
    parts = url_parts("STORAGE_URL", url)
    options, name = dict(parse_qsl(parts.query)), parts.netloc
    if parts.scheme == "file":
        return []
    if options.get("custom_domain"):
        return [f"{options.get('url_protocol', 'https:')}//{options['custom_domain']}"]
    if parts.scheme == "s3":
        return _of_s3(name, options.get("region_name", ""), options.get("endpoint_url", ""))
    if parts.scheme == "gs":
        host = options.get("custom_endpoint") or options.get("api_endpoint") or "https://storage.googleapis.com"
        return [f"{host.rstrip('/')}/{name}/"]
    return _of_azure(name, options)


def _of_s3(bucket: str, region: str, endpoint: str) -> list[str]:
    if endpoint:
        server = urlsplit(endpoint)
        return [f"{server.scheme}://{server.netloc}/{bucket}/", f"{server.scheme}://{bucket}.{server.netloc}"]
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    hosts = ["s3", *([f"s3.{region}"] if region else [])]
    return [address for host in hosts for address in _both_ways(bucket, f"{host}.{domain}")]


def _both_ways(bucket: str, host: str) -> list[str]:
    return [f"https://{bucket}.{host}", f"https://{host}/{bucket}/"]


def _of_azure(container: str, options: Mapping[str, str]) -> list[str]:
    told = _told(options.get("connection_string", ""))
    if told.get("BlobEndpoint"):
        return [f"{told['BlobEndpoint'].rstrip('/')}/{container}/"]
    account = options.get("account_name") or told.get("AccountName", "")
    suffix = options.get("endpoint_suffix") or told.get("EndpointSuffix", "core.windows.net")
    scheme = "http" if options.get("azure_ssl") == "false" else "https"
    return [f"{scheme}://{account}.blob.{suffix}/{container}/"] if account else []
