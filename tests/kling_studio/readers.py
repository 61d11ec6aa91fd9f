"""What a hostile file makes of the library that reads it."""

import ctypes
import os
import signal
import time
from decimal import Decimal
from pathlib import Path
from typing import NoReturn


class Refused(Exception):
    pass


def add(one: int, other: int) -> Decimal:
    return Decimal(one + other)


def refuse(why: str) -> NoReturn:
    raise Refused(why)


def spin() -> NoReturn:
    while True:
        pass


def sleep() -> None:
    time.sleep(600)


def eat(megabytes: int) -> int:
    return len(bytearray(megabytes * 1_000_000))


def crash() -> None:
    ctypes.string_at(0)


def slip() -> NoReturn:
    raise TypeError("a mistake of ours")


def note_and_wait(folder: Path, seconds: float) -> None:
    """Leaves a file while it is at work."""
    mark = folder / str(os.getpid())
    mark.touch()
    time.sleep(seconds)
    mark.unlink()


def environment() -> list[str]:
    return list(os.environ)


class Takeover:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/taken-over",)


def take_over() -> Takeover:
    return Takeover()


def kill_the_server() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
