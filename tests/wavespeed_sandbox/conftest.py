import io
import time
from typing import Any

import pytest
import requests
from PIL import Image

from tests.sandbox import control, make_sandbox, sandbox
from wavespeed_sandbox import Sandbox

__all__ = ["control", "make_sandbox", "sandbox"]

IMAGE_TO_VIDEO = "kwaivgi/kling-video-o3-4k/image-to-video"
UNFINISHED = ("created", "processing")


def picture(width: int = 480, height: int = 360, kind: str = "JPEG", colour: str = "teal") -> bytes:
    """An image file with something to see in it."""
    image = Image.new("RGB", (width, height), colour)
    image.paste((240, 200, 60), (width // 4, height // 4, width // 2, height // 2))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


class Provider:
    """The API as a careless client would call it: no retries, no checks."""

    def __init__(self, url: str, key: str | None = "any-key") -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}

    def call(self, method: str, path: str, body: Any = None, **how: Any) -> requests.Response:
        how.setdefault("timeout", 20)
        return requests.request(method, f"{self.url}/api/v3/{path}", json=body, headers=self.headers, **how)

    def data(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.call(method, path, body).json()
        assert (answer["code"], answer["message"]) == (200, "success"), answer
        return answer["data"]

    def upload(self, content: bytes, filename: str = "photo.jpg", content_type: str = "image/jpeg") -> str:
        wanted = {"filename": filename, "size": len(content), "content_type": content_type}
        ticket = self.data("POST", "media/uploads", wanted)
        put = ticket["upload"]
        assert requests.put(put["url"], data=content, headers=put["headers"], timeout=20).status_code == 200
        return str(ticket["download_url"])

    def submit(self, model: str = IMAGE_TO_VIDEO, webhook: str | None = None, **inputs: Any) -> requests.Response:
        how = {"params": {"webhook": webhook}} if webhook else {}
        return self.call("POST", model, inputs, allow_redirects=False, **how)

    def create(self, model: str = IMAGE_TO_VIDEO, webhook: str | None = None, **inputs: Any) -> str:
        answer = self.submit(model, webhook, **inputs).json()
        assert answer["code"] == 200, answer
        return str(answer["data"]["id"])

    def result(self, prediction_id: str) -> dict[str, Any]:
        return dict(self.data("GET", f"predictions/{prediction_id}/result"))

    def finished(self, prediction_id: str, within: float = 20) -> dict[str, Any]:
        """The result once it has ended."""
        ends_at = time.monotonic() + within
        while (found := self.result(prediction_id))["status"] in UNFINISHED:
            assert time.monotonic() < ends_at, f"still {found['status']} after {within} s"
            time.sleep(0.02)
        return found


@pytest.fixture
def provider(sandbox: Sandbox) -> Provider:
    return Provider(sandbox.url)


@pytest.fixture
def photo() -> bytes:
    return picture()


@pytest.fixture
def image(provider: Provider, photo: bytes) -> str:
    """The URL of an uploaded photograph."""
    return provider.upload(photo)
