import http.server
import threading
from collections.abc import Iterator

import pytest

from tests.sandbox import SandboxControl
from tests.wavespeed_sandbox.conftest import Provider, picture
from wavespeed_sandbox import media


@pytest.fixture
def nowhere() -> Iterator[str]:
    """The address of a server that has nothing."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *args: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"not a picture", "the file is not a valid image"),
        (picture()[:800], "the file is not a valid image"),
        (picture(kind="WEBP"), "image format WEBP is not supported, use JPEG or PNG"),
        (picture(299, 400), "image width and height must be at least 300px, got 299x400"),
        (picture(1000, 399), "image aspect ratio must be between 1:2.5 and 2.5:1, got 1000x399"),
        (b"\xff" * (media.MAX_BYTES + 1), "image file size must not exceed 10MB"),
    ],
    ids=["text", "cut off", "WEBP", "too small", "too narrow", "too large"],
)
def test_task_with_an_unusable_image_fails(provider: Provider, content: bytes, error: str) -> None:
    found = provider.finished(provider.create(image=provider.upload(content), prompt="pan"))
    assert (found["status"], found["code"], found["error"], found["outputs"]) == ("failed", 1401, error, [])


@pytest.mark.parametrize(("width", "height"), [(300, 300), (750, 300), (300, 750)])
def test_task_takes_an_image_at_the_limits(provider: Provider, width: int, height: int) -> None:
    image = provider.upload(picture(width, height, "PNG"))
    assert provider.finished(provider.create(image=image, prompt="pan"))["status"] == "completed"


def test_task_whose_image_is_not_there_fails(provider: Provider, nowhere: str) -> None:
    found = provider.finished(provider.create(image=f"{nowhere}/a.jpg", prompt="pan"))
    assert (found["code"], found["error"]) == (1402, "failed to fetch media: HTTP 501")


def test_task_whose_image_server_is_dead_fails_and_is_refunded(provider: Provider, control: SandboxControl) -> None:
    found = provider.finished(provider.create(image="http://127.0.0.1:9/a.jpg", prompt="pan"))
    assert (found["code"], found["error"]) == (1402, "failed to fetch media: ConnectionError")
    control.advance(601)
    assert control.bill()["total"] == 0


def test_task_whose_end_image_is_no_url_fails(provider: Provider, image: str) -> None:
    found = provider.finished(provider.create(image=image, end_image="file:///etc/passwd", prompt="pan"))
    assert (found["code"], found["error"]) == (1402, "failed to fetch media: file:///etc/passwd")
