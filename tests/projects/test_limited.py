import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from projects import limited
from tests.kling_studio import readers

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def limits(tmp_path: Path) -> Iterator[limited.Limits]:
    before = limited.limits()
    limits = limited.Limits(home=tmp_path / "reading", seconds=2, megabytes=700, at_once=2)
    limited.configure(limits)
    yield limits
    limited.configure(before)


def test_the_answer_comes_back() -> None:
    assert limited.call(readers.add, 2, 3) == Decimal(5)


def test_what_a_reader_refuses_is_raised_here() -> None:
    with pytest.raises(readers.Refused, match=r"^too small$"):
        limited.call(readers.refuse, "too small")


@pytest.mark.parametrize(
    ("reader", "args"),
    [(readers.spin, ()), (readers.sleep, ()), (readers.eat, (5_000,)), (readers.crash, ()), (readers.slip, ())],
    ids=["endless", "asleep", "memory", "crash", "mistake"],
)
def test_what_takes_too_much_or_breaks_its_reader_is_told_in_one_sentence(
    reader: Callable[..., object], args: tuple[object, ...]
) -> None:
    started = time.monotonic()

    with pytest.raises(limited.OverLimits) as error:
        limited.call(reader, *args)

    assert error.value.message == (
        "This file can't be read within the studio's limits of 2 seconds and 700 MB of memory."
    )
    assert time.monotonic() - started < 10


def test_memory_within_the_limit_is_given() -> None:
    assert limited.call(readers.eat, 300) == 300_000_000


def test_a_file_that_breaks_its_reader_breaks_no_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        broken = [pool.submit(limited.call, readers.crash) for _ in range(6)]
        whole = [pool.submit(limited.call, readers.add, number, 1) for number in range(12)]

        assert [each.result() for each in whole] == [number + 1 for number in range(12)]
        assert all(isinstance(each.exception(), limited.OverLimits) for each in broken)


def test_only_so_many_are_read_at_once(tmp_path: Path, limits: limited.Limits) -> None:
    limited.configure(replace(limits, seconds=30))
    marks = tmp_path / "marks"
    marks.mkdir()
    seen: list[int] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            seen.append(len(list(marks.iterdir())))

    watching = threading.Thread(target=look)
    watching.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: limited.call(readers.note_and_wait, marks, 0.2), range(8)))
    done.set()
    watching.join()

    assert max(seen) == 2


def test_an_answer_can_not_take_the_studio_over() -> None:
    with pytest.raises(pickle.UnpicklingError, match="names"):
        limited.call(readers.take_over)

    assert not Path("/tmp/taken-over").exists()


def test_the_process_knows_none_of_the_studio_s_secrets() -> None:
    assert set(limited.call(readers.environment)) <= {*limited.KEPT_VARIABLES, "LC_CTYPE"}


def test_a_server_that_was_killed_is_replaced() -> None:
    limited.call(readers.kill_the_server)

    assert limited.call(readers.add, 2, 3) == 5


def test_a_fork_of_the_studio_uses_the_same_server() -> None:
    limited.call(readers.add, 1, 1)
    pid = os.fork()
    if not pid:
        os._exit(int(limited.call(readers.add, 20, 3)))

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 23
    assert limited.call(readers.add, 2, 3) == 5


def test_nothing_stays_behind_when_the_studio_is_killed(tmp_path: Path) -> None:
    code = f"""
        import threading, time
        from pathlib import Path
        from projects import limited
        from tests.kling_studio import readers
        limited.configure(limited.Limits(home=Path({str(tmp_path)!r}), seconds=1, at_once=4))
        limited.call(readers.add, 1, 1)
        threading.Thread(target=limited.call, args=(readers.sleep,)).start()
        threading.Thread(target=limited.call, args=(readers.sleep,)).start()
        time.sleep(0.5)
        print(limited._server._process.pid, flush=True)
        time.sleep(60)
    """
    studio = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with studio:
        assert studio.stdout
        server = int(studio.stdout.readline())
        assert session(server)

        studio.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while session(server) and time.monotonic() < deadline:
        time.sleep(0.1)

    assert session(server) == []


def session(leader: int) -> list[int]:
    """The processes of a session that are alive: the server begins one of its own."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
