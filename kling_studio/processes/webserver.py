"""Serves the studio by HTTP: in a worker of gunicorn, and in the one-process mode.

A request is received whole before a thread works on it, and its answer is sent by none. So people with slow lines, or who send half a
request and wait, hold a connection and no thread; gunicorn's own threads would wait for them.
"""

import logging
import os
import time
from typing import Any

import waitress
from django.conf import settings
from waitress import wasyncore
from waitress.server import BaseWSGIServer

from generations.models import Process
from generations.watching.heartbeat import Heartbeat

# Of a process. Each may take two open files, one of them for what it sends; systemd gives a process 1,024 by itself.
CONNECTIONS = 400
# Without a byte for so long a connection is closed.
SILENT_SECONDS = 30
SECONDS_BETWEEN_LOOKS = 1.0


def create_server(application: Any, *, threads: int, **where: Any) -> Any:
    """A server of waitress that listens at `where`, as `waitress.create_server` takes it."""
    return waitress.create_server(
        application,
        threads=threads,
        connection_limit=CONNECTIONS,
        channel_timeout=SILENT_SECONDS,
        asyncore_use_poll=True,
        # What is a little too large is refused by the page or the API, which say what would be right.
        max_request_body_size=2 * settings.MAX_UPLOAD_BYTES,
        ident=None,
        # Which of them count is Django's to say: TRUST_FORWARDED_PROTO and TRUSTED_PROXIES.
        clear_untrusted_proxy_headers=False,
        **where,
    )


def begin(worker: Any) -> None:
    """What a worker of gunicorn begins with once Django is set up: its log lines become ours, and it gives its sign of life."""
    for name in ("gunicorn.error", "gunicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    worker.heartbeat = Heartbeat(Process.Kind.WEB)
    worker.heartbeat.start()


def serve(worker: Any) -> None:
    """The work of a worker of gunicorn until it is told to end; then what was begun has `graceful_timeout` seconds."""
    channels: dict[int, Any] = {}
    sockets = [each.sock for each in worker.sockets]
    server = create_server(worker.wsgi, threads=worker.cfg.threads, sockets=sockets, map=channels)
    while worker.alive and worker.ppid == os.getppid():
        _look(worker, channels)
    ends = time.monotonic() + worker.cfg.graceful_timeout
    for listener in _listeners(channels):
        listener.del_channel()
        listener.accepting = False
    while _close_idle(channels) and time.monotonic() < ends:
        _look(worker, channels)
    server.task_dispatcher.shutdown(timeout=max(0.0, ends - time.monotonic()))


def _look(worker: Any, channels: dict[int, Any]) -> None:
    worker.notify()
    # waitress does so by the wall clock, which may go back.
    for listener in _listeners(channels):
        listener.maintenance(time.time())
    wasyncore.poll2(SECONDS_BETWEEN_LOOKS, channels)


def _listeners(channels: dict[int, Any]) -> list[BaseWSGIServer]:
    return [each for each in channels.values() if isinstance(each, BaseWSGIServer)]


def _close_idle(channels: dict[int, Any]) -> bool:
    """Closes the connections that wait for nothing; whether there are others."""
    busy = False
    for channel in list(channels.values()):
        if isinstance(channel, waitress.channel.HTTPChannel):
            if channel.requests or channel.request or channel.total_outbufs_len:
                busy = True
            else:
                channel.handle_close()
    return busy
