"""`python -m wavespeed_sandbox --port 8055`: the sandbox as a process of its own."""

import argparse
import math
import signal
import sys
import threading
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from wavespeed_sandbox.book import BookInUse
from wavespeed_sandbox.server import RESOLUTIONS, Sandbox

T = TypeVar("T")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    stopping = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stopping.set())
    try:
        sandbox = Sandbox(
            options.data,
            port=options.port,
            files_port=options.files_port,
            resolution=options.resolution,
            speed=options.speed,
            latency=options.latency,
            per_minute=options.per_minute,
            concurrent=options.concurrent,
            list_inputs=options.list_inputs,
            billing_lag=options.billing_lag,
            refund_after=options.refund_after,
            api_key=options.api_key,
            balance=options.balance,
        ).start()
    except (OSError, BookInUse) as error:
        print(f"The sandbox can't start: {error}.", file=sys.stderr)
        return 1
    print(f"WaveSpeed sandbox at {sandbox.url} (files at {sandbox.files_url}, data in {sandbox.data_dir})", flush=True)
    stopping.wait()
    sandbox.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m wavespeed_sandbox", description="A stand-in for WaveSpeed's API.")
    add = parser.add_argument
    add("--port", type=_port, default=0, help="port of the API (default: any free one)")
    add("--files-port", type=_port, default=0, help="port of uploads and outputs (default: any free one)")
    add("--data", default="var/sandbox", metavar="DIR", help="where the book and the files are kept (%(default)s)")
    add("--resolution", choices=list(RESOLUTIONS), default="2160p", help="size of the clips (%(default)s)")
    add("--speed", type=_speed, default=1.0, metavar="N", help="a generation takes 1/N of the time (1)")
    add("--latency", type=_seconds, default=0.0, metavar="S", help="seconds that every API call takes longer (0)")
    add("--per-minute", type=_count, metavar="N", help="tasks a minute before 429 (no limit)")
    add("--concurrent", type=_count, metavar="N", help="tasks at once before 429 (no limit)")
    add("--no-list-inputs", dest="list_inputs", action="store_false", help="hide inputs in the list of predictions")
    add("--billing-lag", type=_seconds, default=0.0, metavar="S", help="seconds until a deduct row is seen (0)")
    add("--refund-after", type=_seconds, default=600.0, metavar="S", help="seconds from failure to refund (600)")
    add("--api-key", metavar="KEY", help="the only key that is accepted (default: any)")
    add("--balance", type=_usd, default=Decimal(1000), metavar="USD", help="what the account starts with (1000)")
    return parser


def _checked(kind: Callable[[str], T], text: str, fits: Callable[[T], bool], wanted: str) -> T:
    try:
        value = kind(text)
    except (ValueError, InvalidOperation):
        pass
    else:
        if fits(value):
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")


def _port(text: str) -> int:
    return _checked(int, text, lambda port: 0 <= port <= 65535, "a port from 0 to 65535")


def _count(text: str) -> int:
    return _checked(int, text, lambda count: count >= 1, "a whole number from 1")


def _seconds(text: str) -> float:
    return _checked(float, text, lambda seconds: 0 <= seconds < math.inf, "a number of seconds from 0")


def _speed(text: str) -> float:
    return _checked(float, text, lambda speed: 0 < speed < math.inf, "a number above 0")


def _usd(text: str) -> Decimal:
    return _checked(Decimal, text, lambda amount: amount.is_finite() and amount >= 0, "an amount of USD from 0")


if __name__ == "__main__":
    sys.exit(main())
