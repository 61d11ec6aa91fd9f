"""Folders on this machine's disk for temporary files (`TMPDIR`), and the end of what killed processes have left there."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

PREFIX = "kling-studio-"
LOCK = "in-use"
# Django's name for a large upload while its request lasts, which is minutes.
UPLOADS = "*.upload*"
# A folder is made before it is locked.
SECONDS_UNTIL_LOCKED = 60
SECONDS_OF_AN_UPLOAD = 86_400


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that goes with the block, or, if its process is killed, with the next `sweep` of any process of this machine."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as name, (Path(name) / LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Path(name)


def sweep() -> int:
    """Deletes what dead processes have left; how many folders and files that were. What can't be deleted stays."""
    root = Path(tempfile.gettempdir())
    swept = sum(map(_sweep_folder, root.glob(f"{PREFIX}*"))) + sum(map(_sweep_upload, root.glob(UPLOADS)))
    if swept:
        log.info("temporary_files_swept", number=swept)
    return swept


def _sweep_folder(path: Path) -> bool:
    with suppress(OSError):
        if _is_ours(path, SECONDS_UNTIL_LOCKED):
            with (path / LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            return True
    return False


def _sweep_upload(path: Path) -> bool:
    with suppress(OSError):
        if path.is_file() and _is_ours(path, SECONDS_OF_AN_UPLOAD):
            path.unlink()
            return True
    return False


def _is_ours(path: Path, seconds: int) -> bool:
    """Whether it is of this user and at least so many seconds old."""
    found = path.lstat()
    return found.st_uid == os.getuid() and time.time() - found.st_mtime >= seconds
