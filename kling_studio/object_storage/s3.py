"""S3 and what speaks its language (MinIO, R2, B2, …), as the studio uses it."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from django.utils.http import content_disposition_header
from storages.backends.s3 import S3Storage

from kling_studio.object_storage import PIECE_BYTES


class S3(S3Storage):
    """Uploads in the thread of whoever stores, part by part: one part is in memory, and each read can renew a lease."""

    client_config: Config

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        checksums = self.request_checksum_calculation
        self.client_config = self.client_config.merge(
            Config(request_checksum_calculation=checksums, response_checksum_validation=checksums)
        )

    def get_default_settings(self) -> dict[str, Any]:
        defaults: dict[str, Any] = super().get_default_settings()
        return defaults | {
            "transfer_config": TransferConfig(use_threads=False),
            "max_memory_size": PIECE_BYTES,
            "request_checksum_calculation": "when_supported",
        }

    def download_url(self, name: str, file_name: str) -> str:
        """An address from which browsers save the file as `file_name`; unsigned ones take no parameters, and name it as it is stored."""
        told = {"ResponseContentDisposition": content_disposition_header(True, file_name)}
        return str(self.url(name, parameters=told if self.querystring_auth else None))

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """The file as it comes; django-storages would copy all of it to this machine first, in one call."""
        with self.open(name, "rb") as file:
            yield from iter(partial(file.obj.get()["Body"].read, size), b"")

    def files_under(self, folder: str) -> Iterator[tuple[str, int, datetime]]:
        """Name, bytes and time of each file below `folder`: a thousand a request."""
        start = self._normalize_name("")
        for item in self.bucket.objects.filter(Prefix=f"{self._normalize_name(folder)}/"):
            yield item.key.removeprefix(start).lstrip("/"), item.size, item.last_modified
