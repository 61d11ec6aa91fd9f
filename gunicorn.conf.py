"""What gunicorn reads by itself when it starts in this folder: `gunicorn kling_studio.wsgi`, here and in production.

PORT and WEB_CONCURRENCY of the environment are gunicorn's own: where it listens, and how many processes it has.

It is read by gunicorn's main process, whose modules the workers inherit, those of a later release too, after SIGHUP. So nothing of the
studio and none of its libraries is imported here: new workers would run the new code with the old settings.
"""

import json
import logging
import os
from datetime import UTC, datetime
from pkgutil import resolve_name

from gunicorn.workers.base import Worker

threads = 8
# Seconds. A process that gave no sign of life for longer is replaced.
timeout = 120
# Seconds that requests have to end after SIGTERM. None of them waits for a paid call: those are the workers'.
graceful_timeout = 30
# Where the signs of life are written: in memory, as a slow disk must not end a process.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108


class BufferingWorker(Worker):
    """Takes up a request once it has arrived whole, so that slow ones hold no thread; see `kling_studio.processes.webserver`."""

    def run(self):
        resolve_name("kling_studio.processes.webserver:serve")(self)


worker_class = BufferingWorker


class JsonLine(logging.Formatter):
    """A line of the main process, with the keys of the studio's own lines."""

    def format(self, record):
        line = {
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


if os.environ.get("LOG_FORMAT") == "json":
    logconfig_dict = {
        "formatters": {"json": {"()": JsonLine}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {
            "gunicorn.error": {"handlers": ["stderr"], "level": "INFO", "propagate": False},
            # django-structlog writes a line a request, without the secrets in paths.
            "gunicorn.access": {"level": "WARNING"},
        },
    }


def post_worker_init(worker):
    resolve_name("kling_studio.processes.webserver:begin")(worker)


def worker_exit(server, worker):
    # A worker that did not boot has none, nor has one that is gone, of which the main process tells here.
    if hasattr(worker, "heartbeat"):
        worker.heartbeat.stop()
