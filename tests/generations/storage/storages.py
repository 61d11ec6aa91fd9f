"""Local storages that do to a file what disks and object storages sometimes do."""

from typing import Any

from django.core.files.base import ContentFile

from kling_studio.media import SignedFileSystemStorage


class Forgetful(SignedFileSystemStorage):
    """Takes everything, and keeps other bytes (`flip`) or fewer (`cut`) of the videos, `times` times."""

    damage = "flip"
    times = 0

    def _save(self, name: str, content: Any) -> str:
        if name.endswith(".mp4") and Forgetful.times:
            Forgetful.times -= 1
            kept = bytearray(b"".join(content.chunks()))
            kept[-1] ^= 1
            content = ContentFile(bytes(kept[: -1 if Forgetful.damage == "cut" else None]))
        return str(super()._save(name, content))
