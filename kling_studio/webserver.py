"""What a worker of gunicorn begins with once Django is set up. For workers alone: `gunicorn.conf.py` says why."""

import logging
from typing import Any

from generations.models import Process
from kling_studio.heartbeat import Heartbeat


def begin(worker: Any) -> None:
    """Its log lines become ours, without the secrets in paths, and it gives its sign of life."""
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    worker.heartbeat = Heartbeat(Process.Kind.WEB)
    worker.heartbeat.start()
