from typing import Any

from kling_studio.media import SignedFileSystemStorage
from tests.faults.points import external_call


class CountingFileStorage(SignedFileSystemStorage):
    """The local storage; each file that it writes or deletes is an external call."""

    def _save(self, name: str, content: Any) -> str:
        with external_call(f"saving a file of {name.split('/')[0]}"):
            return super()._save(name, content)

    def delete(self, name: str) -> None:
        with external_call(f"deleting a file of {name.split('/')[0]}"):
            super().delete(name)
