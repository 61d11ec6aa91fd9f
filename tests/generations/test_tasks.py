"""Every actor: on a queue that some process of the Procfile works off, and cut only after its calls would be."""

import re

import dramatiq
import pytest
from django.conf import settings
from dramatiq.actor import Actor

from generations import tasks
from generations.storage import download
from projects import tasks as post
from tests.studio_process import ROOT

STEPS = {name: actor for name, actor in vars(tasks).items() if isinstance(actor, Actor)}
ACTORS = STEPS | {name: actor for name, actor in vars(post).items() if isinstance(actor, Actor)}
# The most calls that an actor makes one after the other, each within WAVESPEED_DEADLINE.
CALLS = {"fill_lane": 5, "poll": 3, "settle": 1}
MILLISECONDS = 1000


def test_the_actors_are_those_of_the_broker() -> None:
    assert set(ACTORS) == set(dramatiq.get_broker().actors)


@pytest.mark.parametrize("name", STEPS)
def test_no_step_is_retried_by_dramatiq(name: str) -> None:
    """The row says when it is due again; a message that is tried again by itself could only surprise it."""
    assert ACTORS[name].options["max_retries"] == 0


@pytest.mark.parametrize("name", ACTORS)
def test_an_actor_is_cut_only_after_its_calls_would_be(name: str) -> None:
    limit = ACTORS[name].options["time_limit"] / MILLISECONDS
    longest = CALLS.get(name, 0) * settings.WAVESPEED_DEADLINE
    if ACTORS[name].queue_name == "store":
        longest += download.SECONDS

    assert limit > longest


def test_slow_work_has_queues_of_its_own() -> None:
    queues = {name: actor.queue_name for name, actor in ACTORS.items()}

    assert {name: queues[name] for name in ("fill_lane", "poll", "store", "settle")} == {
        "fill_lane": "submit",
        "poll": "poll",
        "store": "store",
        "settle": "default",
    }


def test_each_queue_has_a_process_in_the_procfile() -> None:
    worked_off = re.findall(r"--queues (\S+)", (ROOT / "Procfile").read_text())

    assert sorted(worked_off) == sorted({actor.queue_name for actor in ACTORS.values()})
