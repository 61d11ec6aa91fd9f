"""Azure Blob Storage, as the studio uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobPrefix, BlobServiceClient, ContentSettings
from django.core.files.base import File
from django.utils.http import content_disposition_header
from storages.backends.azure_storage import AzureStorage

from kling_studio.object_storage import PIECE_BYTES

# Azure's client holds ten times as much while it reads.
READ_BYTES = 2 * 1024 * 1024


@contextmanager
def _missing(name: str) -> Iterator[None]:
    """Django's storages say FileNotFoundError."""
    try:
        yield
    except ResourceNotFoundError as error:
        raise FileNotFoundError(f"There is no file {name}.") from error


class Azure(AzureStorage):
    """Uploads block by block in the thread of whoever stores: one block is in memory, and each read can renew a lease."""

    def get_default_settings(self) -> dict[str, Any]:
        defaults: dict[str, Any] = super().get_default_settings()
        pieces = {
            "max_block_size": PIECE_BYTES,
            "max_single_put_size": PIECE_BYTES,
            "max_single_get_size": READ_BYTES,
            "max_chunk_get_size": READ_BYTES,
        }
        return defaults | {"upload_max_conn": 1, "max_memory_size": PIECE_BYTES, "client_options": pieces}

    def _get_service_client(self) -> BlobServiceClient:
        if self.connection_string is not None:
            return BlobServiceClient.from_connection_string(self.connection_string, **self.client_options)
        client: BlobServiceClient = super()._get_service_client()
        return client

    def _save(self, name: str, content: File) -> str:
        """With `content` as it is: django-storages would take the file out of it, and its reads renew the lease."""
        settings = ContentSettings(**self._get_content_settings_parameters(name, content))
        content.seek(0)
        self.client.upload_blob(
            self._get_valid_path(name),
            content,
            length=content.size,
            content_settings=settings,
            max_concurrency=self.upload_max_conn,
            timeout=self.timeout,
            overwrite=self.overwrite_files,
        )
        return name

    def _expire_at(self, expire: float) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=expire)

    def size(self, name: str) -> int:
        with _missing(name):
            return int(super().size(name))

    def get_modified_time(self, name: str) -> datetime:
        with _missing(name):
            modified: datetime = super().get_modified_time(name)
            return modified

    def listdir(self, path: str = "") -> tuple[list[str], list[str]]:
        """The names of the folders and files right below `path`; django-storages lists every file below it, with its path."""
        start = self._prefix(path)
        folders: list[str] = []
        files: list[str] = []
        for item in self.client.walk_blobs(name_starts_with=start, timeout=self.timeout):
            name = item.name.removeprefix(start).strip("/")
            (folders if isinstance(item, BlobPrefix) else files).append(name)
        return folders, files

    def download_url(self, name: str, file_name: str) -> str:
        """An address from which browsers save the file as `file_name`."""
        return str(self.url(name, parameters={"content_disposition": content_disposition_header(True, file_name)}))

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """The file as it comes, in pieces of the client's own size."""
        with _missing(name):
            yield from self.client.download_blob(self._get_valid_path(name), timeout=self.timeout).chunks()

    def files_under(self, folder: str) -> Iterator[tuple[str, int, datetime]]:
        """Name, bytes and time of each file below `folder`: thousands a request."""
        start = self._prefix("")
        for blob in self.client.list_blobs(name_starts_with=self._prefix(folder), timeout=self.timeout):
            yield blob.name.removeprefix(start), blob.size, blob.last_modified

    def _prefix(self, folder: str) -> str:
        path = "/".join(part for part in (self.location.strip("/"), folder.strip("/")) if part)
        return f"{path}/" if path else ""
