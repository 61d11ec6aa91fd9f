"""Google Cloud Storage, as the studio uses it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.utils.http import content_disposition_header
from google.api_core.exceptions import NotFound
from google.cloud.storage import Client
from google.oauth2.service_account import Credentials
from storages.backends.gcloud import GoogleCloudStorage

from kling_studio.object_storage import PIECE_BYTES


@contextmanager
def _missing(name: str) -> Iterator[None]:
    """Django's storages say FileNotFoundError."""
    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(f"There is no file {name}.") from error


class Google(GoogleCloudStorage):
    """Uploads in pieces, of which one is in memory. Credentials are a service account's file, or the machine's own."""

    project_id: str | None
    _client: Client | None

    def __init__(self, **settings: Any) -> None:
        if "expiration" in settings:
            settings["expiration"] = timedelta(seconds=settings["expiration"])
        super().__init__(**settings)
        if self.credentials_file:
            self.credentials = Credentials.from_service_account_file(
                self.credentials_file, scopes=["https://www.googleapis.com/auth/cloud-platform"]
            )
            self.project_id = self.project_id or self.credentials.project_id

    def get_default_settings(self) -> dict[str, Any]:
        defaults: dict[str, Any] = super().get_default_settings()
        return defaults | {
            "blob_chunk_size": PIECE_BYTES,
            "max_memory_size": PIECE_BYTES,
            "credentials_file": "",
            "api_endpoint": "",
        }

    @property
    def client(self) -> Client:
        if self._client is None and self.api_endpoint:
            self._client = Client(
                project=self.project_id,
                credentials=self.credentials,
                client_options={"api_endpoint": self.api_endpoint},
            )
        return super().client

    def size(self, name: str) -> int:
        with _missing(name):
            return int(super().size(name))

    def get_modified_time(self, name: str) -> datetime:
        with _missing(name):
            modified: datetime = super().get_modified_time(name)
            return modified

    def download_url(self, name: str, file_name: str) -> str:
        """An address from which browsers save the file as `file_name`."""
        return str(self.url(name, parameters={"response_disposition": content_disposition_header(True, file_name)}))

    def pieces(self, name: str, size: int) -> Iterator[bytes]:
        """The file as it comes, `size` bytes at a time."""
        with _missing(name):
            blob = self._get_blob(self._normalize_name(name))
            with blob.open("rb", chunk_size=max(size, PIECE_BYTES)) as file:
                yield from iter(partial(file.read, size), b"")

    def files_under(self, folder: str) -> Iterator[tuple[str, int, datetime]]:
        """Name, bytes and time of each file below `folder`: a thousand a request."""
        start = self._normalize_name("")
        for blob in self.bucket.list_blobs(prefix=f"{self._normalize_name(folder)}/"):
            yield blob.name.removeprefix(start).lstrip("/"), blob.size, blob.updated
