"""Private media on the local disk: signed, expiring URLs, and the view that serves them with HTTP Range so that players can seek."""

import errno
import hashlib
import mimetypes
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, Any
from urllib.parse import urlencode

from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage, default_storage
from django.core.signing import BadSignature, SignatureExpired, TimestampSigner
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.cache import get_conditional_response
from django.utils.encoding import filepath_to_uri
from django.utils.http import content_disposition_header, http_date, parse_http_date_safe
from django.views.decorators.http import require_safe

CHUNK_BYTES = 64 * 1024
SHOWN_INLINE = {"video/mp4", "video/webm", "image/jpeg", "image/png"}
# One range only: to several, a server may answer with the whole file (RFC 9110, 14.2).
BYTE_RANGE = re.compile(r"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.ASCII | re.IGNORECASE)
LONGEST_FILE_NAME = 150


def signer() -> TimestampSigner:
    return TimestampSigner(salt="kling_studio.media")


class SignedFileSystemStorage(FileSystemStorage):
    """Files that only their owner can read on disk, reached through URLs that end after `MEDIA_URL_SECONDS`; never overwrites."""

    def __init__(self, location: str) -> None:
        super().__init__(location=location, file_permissions_mode=0o600, directory_permissions_mode=0o700)

    def _save(self, name: str, content: Any) -> str:
        """Returns when the file will still be there after a power cut: its row, which is committed next, will be."""
        folder = Path(self.path(name)).parent
        new_folders = [each for each in (folder, *folder.parents) if not each.exists()]
        saved = str(super()._save(name, content))  # type: ignore[misc]
        for each in (Path(self.path(saved)), folder, *(new.parent for new in new_folders)):
            _sync(each)
        return saved

    def url(self, name: str | None) -> str:
        """An absolute path, `/media/<signature>/<name>`."""
        if not name:
            raise ValueError("A file without a name has no URL.")
        signature = signer().sign(name).removeprefix(f"{name}:")
        return f"{self.base_url}{signature}/{filepath_to_uri(name)}"

    def download_url(self, name: str, file_name: str) -> str:
        """An address from which browsers save the file as `file_name`."""
        return f"{self.url(name)}?{urlencode({'download': file_name})}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems can't do this with a folder.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


@require_safe
def media(request: HttpRequest, signature: str, name: str) -> HttpResponseBase:
    """The file, or the part of it that the Range header asks for, to whoever has an address that is still valid."""
    try:
        signer().unsign(f"{name}:{signature}", max_age=settings.MEDIA_URL_SECONDS)
    except SignatureExpired:
        return _refusal(410, "This address has expired. Open the page that it was on again to get a new one.")
    except BadSignature:
        return _refusal(403, "This address is not valid: part of it is missing or was changed.")
    try:
        stored = StoredFile.find(name)
        response = stored.answer(request)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, SuspiciousFileOperation):
        return _refusal(404, "This file no longer exists.")
    response["Cache-Control"] = "private"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _refusal(status: int, sentence: str) -> HttpResponse:
    return HttpResponse(
        f"{sentence}\n", status=status, content_type="text/plain; charset=utf-8", headers={"Cache-Control": "no-store"}
    )


@dataclass(frozen=True)
class StoredFile:
    """A file in the default storage and what HTTP says about it. Names are never reused, so name, size and time identify it."""

    name: str
    size: int
    modified_at: datetime

    @classmethod
    def find(cls, name: str) -> "StoredFile":
        return cls(name, default_storage.size(name), default_storage.get_modified_time(name))

    @cached_property
    def etag(self) -> str:
        identity = f"{self.name} {self.size} {self.modified_at.timestamp()}"
        return f'"{hashlib.sha256(identity.encode()).hexdigest()[:32]}"'

    @property
    def modified(self) -> int:
        return int(self.modified_at.timestamp())

    def answer(self, request: HttpRequest) -> HttpResponseBase:
        response = get_conditional_response(request, self.etag, self.modified) or self._part(request)
        response["ETag"] = self.etag
        response["Last-Modified"] = http_date(self.modified)
        response["Accept-Ranges"] = "bytes"
        return response

    def _part(self, request: HttpRequest) -> HttpResponseBase:
        part = byte_range(request.headers.get("Range", ""), self.size) if self._takes_range(request) else None
        if part is None:
            return self._content(request, range(self.size))
        if not part:
            return HttpResponse(status=416, headers={"Content-Range": f"bytes */{self.size}"})
        response = self._content(request, part)
        response.status_code = 206
        response["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{self.size}"
        return response

    def _takes_range(self, request: HttpRequest) -> bool:
        """Not for HEAD (RFC 9110, 14.2), and not when the part that the client has is of another file."""
        condition = request.headers.get("If-Range")
        is_same = condition is None or condition == self.etag or parse_http_date_safe(condition) == self.modified
        return request.method == "GET" and is_same

    def _content(self, request: HttpRequest, part: range) -> HttpResponseBase:
        content_type = mimetypes.guess_type(self.name)[0] or "application/octet-stream"
        response: HttpResponseBase
        if request.method == "HEAD":
            response = HttpResponse(content_type=content_type)
        else:
            response = StreamingHttpResponse(FilePart(default_storage.open(self.name), part), content_type=content_type)
        response["Content-Length"] = str(len(part))
        response["Content-Disposition"] = self._disposition(content_type, request.GET.get("download"))
        return response

    def _disposition(self, content_type: str, download: str | None) -> str:
        """Attachment for a download and for whatever a browser might run; control characters would end the header."""
        as_attachment = download is not None or content_type not in SHOWN_INLINE
        printable = "".join(character for character in download or "" if character.isprintable())
        file_name = (
            PurePosixPath(printable.replace("\\", "/")).name[-LONGEST_FILE_NAME:] or PurePosixPath(self.name).name
        )
        return str(content_disposition_header(as_attachment, file_name))


def byte_range(header: str, size: int) -> range | None:
    """The bytes that a Range header asks for: empty if the file has none of them, None if there is nothing to understand."""
    match = BYTE_RANGE.fullmatch(header)
    first, last = match.group(1, 2) if match else ("", "")
    if first and last and int(last) < int(first):
        return None
    if first:
        return range(int(first), min(int(last) + 1, size) if last else size)
    return range(max(0, size - int(last)), size) if last else None


class FilePart(Iterator[bytes]):
    """Reads a part of an open file in chunks. Its `close`, which the response calls, also closes a file that was never read."""

    def __init__(self, file: IO[Any], part: range) -> None:
        self._file = file
        self._left = len(part)
        file.seek(part.start)

    def __next__(self) -> bytes:
        chunk: bytes = self._file.read(min(CHUNK_BYTES, self._left))
        if not chunk:
            raise StopIteration
        self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        self._file.close()
