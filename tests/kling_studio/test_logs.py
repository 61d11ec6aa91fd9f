"""What is written to the log, as an operator reads it."""

import json
import logging
import logging.config
import uuid
from collections.abc import Iterator
from typing import Any

import dramatiq
import pytest
from django.conf import settings
from dramatiq.brokers.stub import StubBroker
from structlog.contextvars import bound_contextvars, get_contextvars

from generations import dispatch
from kling_studio.processes.actors import ActorLines


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/join/s3cr3t-t0ken/", "/join/…/"),
        ("/media/1abcDE:sig-nature/projects/x/video.mp4", "/media/…/projects/x/video.mp4"),
        ("/accounts/password-reset/MQ/s3cr3t-t0ken/", "/accounts/password-reset/MQ/…/"),
        ("/admin/projects/project/", "/admin/projects/project/"),
    ],
)
def test_secrets_in_paths_are_not_logged(style: str, path: str, shown: str) -> None:
    configurator = logging.config.DictConfigurator(settings.LOGGING)
    formatter = configurator.configure_formatter(dict(settings.LOGGING["formatters"][style]))
    record = logging.LogRecord("django.request", logging.WARNING, __file__, 1, "Forbidden: %s", (path,), None)

    line = formatter.format(record)

    assert shown in (json.loads(line)["event"] if style == "json" else line)
    assert "s3cr3t" not in line
    assert "sig-nature" not in line


# --- Ids --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def broker() -> Iterator[StubBroker]:
    """One thread works everything off, so that what one message left behind would be seen in the next."""
    broker = StubBroker(middleware=[ActorLines()])
    broker.emit_after("process_boot")
    worker = dramatiq.Worker(broker, worker_timeout=10, worker_threads=1)
    worker.start()
    yield broker
    worker.stop()
    broker.close()


def actor(broker: StubBroker, name: str, fn: Any) -> Any:
    return dramatiq.actor(fn, actor_name=name, broker=broker)


def test_ids_travel_with_a_message_and_end_with_it(broker: StubBroker) -> None:
    seen: list[dict[str, Any]] = []
    store = actor(broker, "store", lambda pk: seen.append(get_contextvars()))
    poll = actor(broker, "poll", lambda pk: (seen.append(get_contextvars()), store.send(pk))[0])
    tidy = actor(broker, "tidy", lambda pk: seen.append(get_contextvars()))
    pk = str(uuid.uuid4())
    with bound_contextvars(request_id="r1", user_id=7):
        polled = poll.send(pk)
    broker.join("default")
    tidied = tidy.send(pk)
    broker.join("default")

    assert seen[0] == {"actor": "poll", "message_id": polled.message_id, "request_id": "r1", "generation": pk}
    assert (seen[1]["actor"], seen[1]["request_id"], seen[1]["generation"]) == ("store", "r1", pk)
    assert seen[2] == {"actor": "tidy", "message_id": tidied.message_id}


def test_line_of_an_actor_says_how_it_ended(broker: StubBroker, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("It fails")

    caplog.set_level(logging.INFO, logger="kling_studio.processes.actors")
    actor(broker, "fail", fail).send()
    broker.join("default")
    line = next(record.msg for record in caplog.records if record.name == "kling_studio.processes.actors")

    assert (line["event"], line["failed"], line["actor"]) == ("actor_finished", True, "fail")
    assert line["milliseconds"] >= 0


def test_lines_of_a_dispatchers_job_name_it(db: None) -> None:
    seen: list[dict[str, Any]] = []

    def look() -> None:
        seen.append(get_contextvars())

    dispatch._run(look)

    assert (seen, get_contextvars()) == ([{"job": "look"}], {})
