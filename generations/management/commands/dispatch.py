import signal
from threading import Event
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand

from generations import dispatch
from generations.models import Process
from generations.timetable import Timetable
from generations.watching.heartbeat import beating


class _Ended(Exception):
    """A signal told this process to end."""


class Command(BaseCommand):
    help = "Finds due work and hands it to the workers, once a second. Any number may run; SIGTERM ends it after the present look."

    def handle(self, **options: Any) -> None:
        timetable = Timetable()
        dispatch.schedule(timetable)
        for each in SIGNALS:
            signal.signal(each, _end)
        with beating(Process.Kind.DISPATCHER, timetable):
            timetable.start()
            try:
                Event().wait()
            except _Ended:
                timetable.stop()


SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _end(signum: int, frame: FrameType | None) -> None:
    """The first one ends it; what comes while it ends is the echo."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise _Ended
