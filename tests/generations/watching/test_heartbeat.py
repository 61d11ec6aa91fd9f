"""Signs of life, and who hears of a dispatcher that gives none."""

import itertools
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core import mail
from django.utils import timezone

from generations import dispatch
from generations.models import Process
from generations.timetable import Timetable
from generations.watching import health
from generations.watching.heartbeat import Heartbeat, beating
from projects.models import Alert, AlertKind, Notification
from tests.pipeline import until
from tests.studio_process import Studio, free_port

NOW = timezone.now().replace(minute=10, second=0, microsecond=0)


@pytest.fixture
def clock(db: None) -> Iterator[time_machine.Traveller]:
    with time_machine.travel(NOW, tick=False) as traveller:
        yield traveller


@pytest.mark.django_db(transaction=True)
def test_process_gives_a_sign_and_takes_its_row_away_at_the_end() -> None:
    heartbeat = Heartbeat(Process.Kind.WEB)
    heartbeat.start()
    until(Process.objects.alive().filter(kind=Process.Kind.WEB).exists)
    heartbeat.stop()

    assert not Process.objects.exists()


def test_sign_is_renewed_and_comes_back(clock: time_machine.Traveller) -> None:
    heartbeat = Heartbeat(Process.Kind.DISPATCHER)
    heartbeat.beat()
    clock.shift(timedelta(seconds=50))
    heartbeat.beat()
    assert Process.objects.get().seen_at == NOW + timedelta(seconds=50)
    Process.objects.all().delete()
    heartbeat.beat()

    process = Process.objects.get()
    assert (process.kind, process.started_at, process.seen_at) == ("dispatcher", NOW, NOW + timedelta(seconds=50))


def test_process_is_dead_after_a_minute_and_forgotten_after_a_day(clock: time_machine.Traveller) -> None:
    Heartbeat(Process.Kind.DISPATCHER).beat()
    clock.shift(timedelta(seconds=59))
    assert (Process.objects.alive().count(), Process.objects.dead().count()) == (1, 0)
    clock.shift(timedelta(seconds=2))
    assert (Process.objects.alive().count(), Process.objects.dead().count()) == (0, 1)
    clock.shift(timedelta(days=1))
    Heartbeat(Process.Kind.WORKER).beat()

    assert Process.objects.get().kind == "worker"


def test_a_sign_of_life_in_the_future_is_none(clock: time_machine.Traveller) -> None:
    """A machine began with a clock that was an hour ahead, its dispatcher died, and the clock was put right."""
    Heartbeat(Process.Kind.DISPATCHER).beat()
    clock.shift(timedelta(hours=-1))

    assert (Process.objects.alive().count(), Process.objects.dead().count()) == (0, 1)
    with pytest.raises(health.Failed, match="dispatcher was last seen at"):
        health.CHECKS["dispatcher"].run()
    clock.shift(timedelta(days=-1))
    Process.objects.all().forget()
    assert not Process.objects.exists()


def test_owners_hear_of_a_missing_dispatcher_though_the_clock_went_back(
    studio_owner: User, clock: time_machine.Traveller
) -> None:
    steady = itertools.count(0, 121)
    web = Heartbeat(Process.Kind.WEB, clock=lambda: float(next(steady)))
    clock.shift(timedelta(hours=-1))
    web.beat()

    assert Alert.objects.get().kind == AlertKind.DISPATCHER


def test_process_that_is_not_well_gives_no_sign(clock: time_machine.Traveller) -> None:
    Heartbeat(Process.Kind.DISPATCHER, is_well=lambda: False).beat()

    assert not Process.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_dispatching_process_is_alive_while_it_ticks() -> None:
    timetable = Timetable()
    timetable.every(0.1, dispatch.tick.__name__, str)
    timetable.start()
    with beating(Process.Kind.DISPATCHER, timetable):
        until(Process.objects.dispatching().alive().exists)
    timetable.stop()

    assert not Process.objects.exists()


def test_owners_hear_once_of_a_dispatcher_that_is_missing(studio_owner: User, clock: time_machine.Traveller) -> None:
    web, worker = Heartbeat(Process.Kind.WEB, clock=time.time), Heartbeat(Process.Kind.WORKER, clock=time.time)
    web.beat()
    clock.shift(timedelta(seconds=115))
    web.beat()
    assert not Alert.objects.exists()
    for _ in range(3):
        clock.shift(timedelta(seconds=10))
        web.beat()
        worker.beat()

    alert = Alert.objects.get()
    assert (alert.kind, alert.title) == (AlertKind.DISPATCHER, "The dispatcher is missing")
    assert f"None has been seen since {NOW:%H:%M} UTC." in alert.text
    assert list(Notification.objects.values_list("user", flat=True)) == [studio_owner.pk]
    # The dispatcher sends the e-mails, and it is what is missing.
    assert [message.to for message in mail.outbox] == [["olive@example.com"]]


def test_owners_hear_of_the_next_outage_too(studio_owner: User, clock: time_machine.Traveller) -> None:
    web, dispatcher = Heartbeat(Process.Kind.WEB, clock=time.time), Heartbeat(Process.Kind.DISPATCHER)
    clock.shift(timedelta(minutes=3))
    web.beat()
    dispatcher.beat()
    web.beat()
    clock.shift(timedelta(minutes=2))
    web.beat()
    assert Alert.objects.count() == 1
    clock.shift(timedelta(hours=1))
    web.beat()

    assert Alert.objects.count() == 2


def test_nobody_hears_of_a_dispatcher_that_is_there(studio_owner: User, clock: time_machine.Traveller) -> None:
    web, dispatcher = Heartbeat(Process.Kind.WEB, clock=time.time), Heartbeat(Process.Kind.STUDIO)
    for _ in range(10):
        dispatcher.beat()
        web.beat()
        clock.shift(timedelta(seconds=50))

    assert not Alert.objects.exists()


def test_database_that_is_away_stops_nothing(tmp_path: Path) -> None:
    """It is logged once, not every ten seconds."""
    database = f"postgres://nobody:s3cr3t@127.0.0.1:{free_port()}/nothing"
    studio = Studio(tmp_path / "home", DATABASE_URL=database, LOG_FORMAT="json")
    out = studio.run(
        "import sys, logging\n"
        "logging.getLogger().handlers[0].setStream(sys.stdout)\n"
        "from generations.watching.heartbeat import Heartbeat\n"
        "from tests.pipeline import until\n"
        "beats = []\n"
        "heartbeat = Heartbeat('worker', is_well=lambda: beats.append(1) or True, seconds=0.05)\n"
        "heartbeat.start()\n"
        "until(lambda: len(beats) > 3)\n"
        "heartbeat.stop()\n"
        "print('done')\n"
    ).splitlines()

    assert out[-1] == "done"
    lines = [json.loads(line) for line in out[:-1]]
    # While it runs, and when it takes its row away.
    assert [line["event"] for line in lines] == ["heartbeat_failed", "heartbeat_failed"]
    assert "s3cr3t" not in "".join(out)
