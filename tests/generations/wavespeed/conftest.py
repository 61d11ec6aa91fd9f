import io

import pytest
from PIL import Image

from tests.sandbox import control, make_sandbox, sandbox

__all__ = ["control", "make_sandbox", "sandbox"]


@pytest.fixture
def picture() -> bytes:
    """A JPEG that the provider takes."""
    file = io.BytesIO()
    Image.new("RGB", (640, 360), "teal").save(file, "JPEG")
    return file.getvalue()
