"""The dispatcher's jobs, and a wall clock that goes back."""

import logging
import threading
import time
from datetime import timedelta

import pytest
import time_machine
from django.utils import timezone

from generations import dispatch, lifecycle
from generations.lifecycle.wrong_clock import Watch
from generations.models import Generation, Lane, Status
from generations.timetable import Timetable
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT, until

HOUR = timedelta(hours=1)


def test_a_clock_that_goes_back_an_hour_holds_no_job_up() -> None:
    timetable, runs = Timetable(), list[float]()
    timetable.every(0.05, "look", lambda: runs.append(time.time()))
    with time_machine.travel(timezone.now() + HOUR) as traveller:
        timetable.start()
        until(lambda: len(runs) >= 2)
        traveller.shift(-HOUR)
        before = len(runs)
        until(lambda: len(runs) >= before + 3)
        timetable.stop()


def test_what_a_job_raises_is_told_and_it_runs_again(caplog: pytest.LogCaptureFixture) -> None:
    timetable, runs = Timetable(), list[int]()

    def fail() -> None:
        runs.append(1)
        raise ValueError("a bug")

    timetable.every(0.05, "look", fail)
    timetable.start()
    until(lambda: len(runs) >= 2)
    timetable.stop()

    assert timetable.jobs["look"].succeeded_at is None
    assert {(record.name, record.levelno) for record in caplog.records} == {("generations.timetable", logging.ERROR)}
    assert "a bug" in caplog.text


def test_a_job_is_never_run_twice_at_a_time_and_holds_no_other_up() -> None:
    timetable, others, running = Timetable(), list[int](), list[int]()
    ends = threading.Event()

    def slow() -> None:
        running.append(1)
        ends.wait(30)

    timetable.every(0.01, "slow", slow)
    timetable.every(0.01, "other", lambda: others.append(1))
    timetable.start()
    until(lambda: len(others) >= 20)
    assert len(running) == 1
    ends.set()
    timetable.stop()


def row(status: Status, **fields: object) -> Generation:
    project = Project.objects.first() or factories.ProjectFactory()
    return Generation.objects.create(
        project=project, requested_by=project.created_by, endpoint=ENDPOINT, status=status, **fields
    )


@pytest.mark.django_db
def test_what_a_wrong_clock_put_off_is_looked_at_once_it_is_right() -> None:
    ahead = timezone.now() + HOUR
    rows = {
        status: row(status, submitted_at=ahead, next_action_at=ahead, sent_at=ahead)
        for status in (Status.PROCESSING, Status.STORING, Status.UNCONFIRMED)
    }
    dead = row(Status.SUBMITTING, submitted_at=ahead, lease_until=ahead)
    Lane.objects.update_or_create(pk=Lane.WAVESPEED, defaults={"sent_at": ahead, "slowed_until": ahead})
    wall = [time.time() + HOUR.total_seconds()]
    watch = Watch(wall=lambda: wall[0], steady=lambda: 0.0)
    watch.look()
    assert not Generation.objects.filter(next_action_at__lte=timezone.now()).exists(), "nothing went back yet"

    wall[0] = time.time()
    watch.look()

    now = timezone.now()
    assert {row.pk for work in dispatch.WORK for row in work.due(now)} == {row.pk for row in rows.values()}
    assert not Generation.objects.filter(sent_at__gt=now).exists()
    dead.refresh_from_db()
    assert dead.lease_until < now + timedelta(minutes=5)
    lane = Lane.objects.get()
    assert (lane.sent_at, lane.is_slowed(now)) == (None, False)
    assert lifecycle.lane.used(now).per_minute == 0
