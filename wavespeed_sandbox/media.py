"""Images from the outside: fetched as the provider would, with its limits."""

import io
import time
from urllib.parse import urlsplit

import requests
from PIL import Image, UnidentifiedImageError

MAX_BYTES = 10 * 1024 * 1024
MIN_SIDE = 300
MAX_ASPECT = 2.5
DEADLINE = 30.0

FETCH_FAILED = 1402
INVALID = 1401


class Unusable(Exception):
    """The task fails with this `code` of the provider."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def fetch(url: str) -> bytes:
    """The image behind `url`, checked; raises Unusable."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise Unusable(FETCH_FAILED, f"failed to fetch media: {url}")
    try:
        with requests.Session() as session, _get(session, url) as response:
            if response.status_code != 200:
                raise Unusable(FETCH_FAILED, f"failed to fetch media: HTTP {response.status_code}")
            content = _read(response)
    except requests.RequestException as error:
        raise Unusable(FETCH_FAILED, f"failed to fetch media: {type(error).__name__}") from error
    check(content)
    return content


def _get(session: requests.Session, url: str) -> requests.Response:
    session.trust_env = False  # a proxy would not reach the uploads on this machine
    return session.get(url, stream=True, timeout=(5, 5))


def _read(response: requests.Response) -> bytes:
    content, ends_at = bytearray(), time.monotonic() + DEADLINE
    for chunk in response.iter_content(64 * 1024):
        content += chunk
        if len(content) > MAX_BYTES:
            raise Unusable(INVALID, "image file size must not exceed 10MB")
        if time.monotonic() > ends_at:
            raise Unusable(FETCH_FAILED, "failed to fetch media: timeout")
    return bytes(content)


def check(content: bytes) -> None:
    """Raise Unusable when the provider would not take these bytes as an image."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind, (width, height) = image.format, image.size
            if kind in ("JPEG", "PNG"):
                image.load()
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unusable(INVALID, "the file is not a valid image") from error
    if kind not in ("JPEG", "PNG"):
        raise Unusable(INVALID, f"image format {kind} is not supported, use JPEG or PNG")
    if min(width, height) < MIN_SIDE:
        raise Unusable(INVALID, f"image width and height must be at least {MIN_SIDE}px, got {width}x{height}")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Unusable(INVALID, f"image aspect ratio must be between 1:2.5 and 2.5:1, got {width}x{height}")
