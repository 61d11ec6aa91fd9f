"""Log lines as text or JSON, without the secrets that travel in paths: invitation and reset tokens, signatures of media.

A line of a request carries its request_id; one of an actor also the actor, message_id and generation
(`kling_studio.processes.actors`); one of the dispatcher its job.
"""

import re
from typing import Any

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

SECRET_PATHS = re.compile(r"(/(?:join|media|accounts/password-reset/[\w-]+)/)[^/\s'\"]+")

FOREIGN: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]


def without_secret_paths(logger: WrappedLogger, method: str, line: EventDict | str) -> str:
    """Masks the rendered line, whatever wrote it: our own code, Django's request log or a traceback."""
    return SECRET_PATHS.sub(r"\1…", str(line))


def formatter(renderer: Processor) -> dict[str, Any]:
    """The entry of logging's `formatters` that renders structlog's and everybody's records alike."""
    return {
        "()": ProcessorFormatter,
        "processors": [ProcessorFormatter.remove_processors_meta, renderer, without_secret_paths],
        "foreign_pre_chain": FOREIGN,
    }


def configure() -> None:
    structlog.configure(
        processors=[FOREIGN[0], structlog.stdlib.filter_by_level, *FOREIGN[1:], ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
