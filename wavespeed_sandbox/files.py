"""The files server, on its own port: uploads are PUT and read here, outputs downloaded by signed URLs, with Range."""

import gzip
import hashlib
import io
import itertools
import random
import re
import secrets
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from wavespeed_sandbox import urls
from wavespeed_sandbox.account import Account
from wavespeed_sandbox.clock import rfc3339
from wavespeed_sandbox.faults import Fault
from wavespeed_sandbox.models import JsonObject
from wavespeed_sandbox.predictions import LIFETIME, Prediction
from wavespeed_sandbox.wire import Request, Response

TICKET_LIFETIME = 3600.0
_BLOCK = 256 * 1024
_OUTPUT = re.compile(r"/outputs/([0-9a-f]{32})/output\.mp4")
_BESIDE = re.compile(r"/outputs/[0-9a-f]{32}/(cover\.jpg|page\.html)")
_UPLOAD = re.compile(r"/uploads/([0-9a-f]{32})/[^/]+")


def _refused(status: int, message: str) -> Response:
    return Response(status, f"<Error><Message>{message}</Message></Error>".encode(), "application/xml")


def _in_chunks(body: bytes) -> bytes:
    """As clients of S3 send a file up; some storages keep it so."""
    signature = b";chunk-signature=" + b"0" * 64
    parts = [body[start : start + _BLOCK] for start in range(0, len(body), _BLOCK)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), signature, part) for part in [*parts, b""])


PACKERS: dict[str, Callable[[bytes], bytes]] = {"deflate": zlib.compress, "aws-chunked": _in_chunks}


class Files:
    def __init__(self, account: Account) -> None:
        self._account = account
        self._uploads = account.book.data_dir / "uploads"
        self._uploads.mkdir(exist_ok=True)

    def handle(self, request: Request) -> Response:
        if upload := _UPLOAD.fullmatch(request.path):
            return self._put(request, upload[1]) if request.method == "PUT" else self._read_upload(request, upload[1])
        if (output := _OUTPUT.fullmatch(request.path)) and request.method in ("GET", "HEAD"):
            return self._download(request, output[1])
        if beside := _BESIDE.fullmatch(request.path):
            return _cover() if beside[1] == "cover.jpg" else Response(200, b"<html>no video</html>", "text/html")
        return _refused(404, "no such file")

    # Uploads

    def ticket(self, filename: str, size: int, content_type: str) -> JsonObject:
        """Promise a place for a file of `size` bytes; `upload` says how to bring it."""
        upload_id, token = secrets.token_hex(16), secrets.token_hex(16)
        self._account.book.insert(
            "uploads",
            id=upload_id,
            filename=filename,
            size=size,
            content_type=content_type,
            token=token,
            created_at=self._account.clock.now(),
        )
        url = urls.upload_url(self._account, upload_id, filename)
        return {
            "type": content_type.split("/")[0],
            "download_url": url,
            "filename": filename,
            "size": size,
            "expires_at": rfc3339(self._account.clock.now() + TICKET_LIFETIME),
            "upload": {
                "method": "PUT",
                "url": f"{url}?signature={token}",
                "headers": {"Content-Type": content_type, "x-upload-token": token},
            },
        }

    def keep(self, filename: str, content: bytes, content_type: str) -> JsonObject:
        """Take a file in one go, as the legacy upload does."""
        ticket = self.ticket(filename, len(content), content_type)
        upload = _UPLOAD.fullmatch(ticket["download_url"].removeprefix(self._account.files_url))
        assert upload is not None
        self._store(upload[1], content)
        return {key: ticket[key] for key in ("type", "download_url", "filename", "size")}

    def _upload(self, upload_id: str) -> sqlite3.Row | None:
        return self._account.book.row("SELECT * FROM uploads WHERE id = ?", upload_id)

    def _put(self, request: Request, upload_id: str) -> Response:
        upload = self._upload(upload_id)
        if upload is None or request.query.get("signature") != upload["token"]:
            return _refused(403, "SignatureDoesNotMatch")
        if self._account.clock.now() > upload["created_at"] + TICKET_LIFETIME:
            return _refused(403, "AccessDenied: Request has expired")
        if "authorization" in request.headers:
            return _refused(400, "Only one auth mechanism allowed: the URL is signed, send no Authorization")
        wanted = {"content-type": upload["content_type"], "x-upload-token": upload["token"]}
        for name, value in wanted.items():
            if request.headers.get(name) != value:
                return _refused(403, f"SignatureDoesNotMatch: header {name} must be exactly as in the ticket")
        if len(request.body) != upload["size"]:
            return _refused(400, f"the ticket is for {upload['size']} bytes, {len(request.body)} came")
        fault = self._account.faults.take("put", {})
        if fault:
            return Response(silent=True) if fault.kind == "upload_put_drop" else _refused(500, "InternalError")
        self._store(upload_id, request.body)
        return Response(200, b"", "application/xml")

    def _store(self, upload_id: str, content: bytes) -> None:
        (self._uploads / upload_id).write_bytes(content)
        self._account.book.write(
            "UPDATE uploads SET stored_at = ?, sha256 = ? WHERE id = ?",
            self._account.clock.now(), hashlib.sha256(content).hexdigest(), upload_id,
        )  # fmt: skip

    def _read_upload(self, request: Request, upload_id: str) -> Response:
        upload = self._upload(upload_id)
        if upload is None or upload["stored_at"] is None:
            return _refused(404, "NoSuchKey")
        if self._account.clock.now() > upload["created_at"] + LIFETIME:
            return _refused(404, "NoSuchKey")
        return _served(request, self._uploads / upload_id, upload["sha256"], upload["content_type"])

    # Outputs

    def _download(self, request: Request, prediction_id: str) -> Response:
        prediction = self._account.predictions.find(prediction_id)
        if prediction is None or prediction.output_sha256 is None or prediction.deleted_at is not None:
            return _refused(404, "NoSuchKey")
        expires = request.query.get("Expires", "")
        if not expires.isdigit() or self._account.clock.now() > int(expires):
            return _refused(403, "AccessDenied: Request has expired")
        if request.query.get("Signature") != urls.signature(self._account, prediction, int(expires)):
            return _refused(403, "AccessDenied: Request has expired")
        subject = {
            "model": prediction.model.model_id,
            "prediction": prediction.id,
            "prompt": str(prediction.inputs.get("prompt", "")),
        }
        fault = self._account.faults.take("download", subject)
        path = self._account.workshop.output(prediction)
        if not path.exists():
            return _refused(404, "NoSuchKey")
        served = _served(request, path, prediction.output_sha256, "video/mp4")
        return self._faulty(fault, request, prediction, path, served) if fault else served

    def _faulty(self, fault: Fault, request: Request, prediction: Prediction, path: Path, served: Response) -> Response:
        """What `served` becomes by the fault; a range that was asked for counts where the fault says nothing of it."""
        size = path.stat().st_size
        headers = {"ETag": f'"{prediction.output_sha256}"', "Accept-Ranges": "bytes"}
        match fault.kind:
            case "download_expired":
                self._account.predictions.renew_url(prediction.id)
                return _refused(int(fault["status"]), "AccessDenied: Request has expired")
            case "download_500":
                return _refused(500, "InternalError")
            case "download_truncated" | "download_reset":
                announced = served.length or 0
                chunks = _blocks(path, _start(served), int(announced * fault["fraction"]))
                return replace(served, chunks=chunks, ending="reset" if fault.kind == "download_reset" else "close")
            case "download_slow":
                block = max(1, int(fault["bytes_per_second"] / 10))
                return replace(served, chunks=_blocks(path, _start(served), served.length or 0, block), chunk_pause=0.1)
            case "download_no_range":
                return Response(200, b"", "video/mp4", chunks=_blocks(path, 0, size), length=size)
            case "download_changed":
                etag = f"{prediction.output_sha256}-{fault.number}"
                return _served(request, path, etag, "video/mp4")
            case "download_page":
                return Response(int(fault["status"]), str(fault["body"]).encode(), fault["content_type"], headers)
            case "download_cut":
                chunks = _blocks(path, 0, int(size * fault["fraction"]))
                return Response(200, b"", "video/mp4", chunks=chunks, is_announced=False, ending="close")
            case "download_half":
                half = int(size * fault["fraction"])
                return Response(200, b"", "video/mp4", chunks=_blocks(path, 0, half), length=half)
            case "download_endless":
                chunks = itertools.chain(_blocks(path, 0, size), itertools.repeat(bytes(_BLOCK)))
                return Response(200, b"", "video/mp4", chunks=chunks, is_announced=False, ending="close")
            case "download_encoding":
                body = path.read_bytes()
                if fault["packed"]:
                    body = PACKERS.get(fault["encoding"], gzip.compress)(body)
                return Response(200, body, "video/mp4", {"Content-Encoding": fault["encoding"]})
            case "download_status":
                part = {"Content-Range": f"bytes 0-{size - 1}/{size}"} if fault["status"] == 206 else {}
                chunks = _blocks(path, 0, size)
                return Response(int(fault["status"]), b"", "video/mp4", headers | part, chunks=chunks, length=size)
            case "download_wrong_length":
                announced = max(0, size + int(fault["extra"]))
                chunks = _blocks(path, 0, size)
                return Response(200, b"", "video/mp4", headers, chunks=chunks, length=announced, ending="close")
            case _:
                noise = _noise(prediction.number, size)
                return Response(200, b"", "video/mp4", headers, chunks=noise, length=size)


def _served(request: Request, path: Path, etag: str, content_type: str) -> Response:
    """The file, whole or the range that was asked for."""
    size = path.stat().st_size
    headers = {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if not asked or asked[0] == "bytes=-" or request.headers.get("if-range", headers["ETag"]) != headers["ETag"]:
        return Response(200, b"", content_type, headers, chunks=_blocks(path, 0, size), length=size)
    start, end = _range(asked[1], asked[2], size)
    if start >= end:
        return Response(416, headers=headers | {"Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Response(206, b"", content_type, headers, chunks=_blocks(path, start, end - start), length=end - start)


def _cover() -> Response:
    content = io.BytesIO()
    Image.new("RGB", (320, 180), (120, 80, 40)).save(content, "JPEG")
    return Response(200, content.getvalue(), "image/jpeg")


def _start(served: Response) -> int:
    """The offset in the file of what is served."""
    asked = re.match(r"bytes (\d+)-", served.headers.get("Content-Range", ""))
    return int(asked[1]) if asked else 0


def _range(first: str, last: str, size: int) -> tuple[int, int]:
    """The bytes from `first` to `last` of a Range header, the end excluded; without `first`, the `last` so many."""
    if first:
        return int(first), min(size, int(last) + 1 if last else size)
    return max(0, size - int(last)), size


def _blocks(path: Path, start: int, length: int, block: int = _BLOCK) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while length > 0 and (chunk := file.read(min(block, length))):
            length -= len(chunk)
            yield chunk


def _noise(seed: int, size: int) -> Iterator[bytes]:
    dice = random.Random(seed)
    for done in range(0, size, _BLOCK):
        yield dice.randbytes(min(_BLOCK, size - done))
