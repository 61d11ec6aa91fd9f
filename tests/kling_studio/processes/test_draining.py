"""The echo of a SIGTERM; with a real worker in the middle of a paid POST: tests/services/test_scaled_out.py."""

import signal

from kling_studio.processes.draining import ECHO_SECONDS, without_echo


def test_the_signals_right_after_the_first_one_are_its_echo() -> None:
    taken: list[int] = []
    handle = without_echo(lambda signum, frame: taken.append(signum))

    for _ in range(3):
        handle(signal.SIGTERM, None)

    assert taken == [signal.SIGTERM]


def test_one_that_comes_later_is_meant() -> None:
    taken: list[int] = []
    times = iter([10.0, 10.0 + ECHO_SECONDS + 1])
    handle = without_echo(lambda signum, frame: taken.append(signum), clock=lambda: next(times))

    handle(signal.SIGTERM, None)
    handle(signal.SIGTERM, None)

    assert taken == [signal.SIGTERM] * 2
