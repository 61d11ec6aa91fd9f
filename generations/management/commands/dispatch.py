import signal
from types import FrameType
from typing import Any

from apscheduler.schedulers.blocking import BlockingScheduler
from django.core.management.base import BaseCommand

from generations import dispatch
from generations.models import Process
from kling_studio.heartbeat import beating


class Command(BaseCommand):
    help = "Finds due work and hands it to the workers, once a second. Any number may run; SIGTERM ends it after the present look."

    def handle(self, **options: Any) -> None:
        scheduler = BlockingScheduler()
        dispatch.schedule(scheduler)

        def stop(signum: int, frame: FrameType | None) -> None:
            scheduler.shutdown(wait=False)

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        with beating(Process.Kind.DISPATCHER, scheduler):
            scheduler.start()
