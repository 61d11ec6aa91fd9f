"""What is written and counted of each message that a worker works off."""

import threading
import time
from typing import Any

import structlog
from dramatiq import Broker, Message, Middleware
from dramatiq.broker import MessageProxy
from structlog.contextvars import bind_contextvars, clear_contextvars, get_contextvars

from generations import counters

log = structlog.get_logger(__name__)

# Their first argument is a generation.
ABOUT_A_GENERATION = frozenset({"recover_submit", "resolve", "poll", "store", "settle"})


class ActorLines(Middleware):
    """Binds what an actor's lines carry, and writes one when it ends. The request_id travels in the messages, so that the lines of one
    click are found from the request to the stored video."""

    def __init__(self) -> None:
        self._this_thread = threading.local()

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:
        if request_id := get_contextvars().get("request_id"):
            message.options.setdefault("request_id", request_id)

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        self._this_thread.started = time.monotonic()
        clear_contextvars()
        bind_contextvars(actor=message.actor_name, message_id=message.message_id)
        if request_id := message.options.get("request_id"):
            bind_contextvars(request_id=request_id)
        if message.actor_name in ABOUT_A_GENERATION and message.args:
            bind_contextvars(generation=message.args[0])

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        seconds = time.monotonic() - self._this_thread.started
        counters.acted(message.actor_name, seconds, failed=exception is not None)
        # What it raised stands in a line of dramatiq's own.
        log.info("actor_finished", milliseconds=round(seconds * 1000), failed=exception is not None)
        clear_contextvars()

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:
        clear_contextvars()
