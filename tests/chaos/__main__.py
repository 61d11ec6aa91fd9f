"""`python -m tests.chaos`: brings a studio up, lets everything break while it is ordered from, and judges what is left."""

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from tests.chaos.run import Run, print_table, say
from tests.chaos.town import Town

ENDING = (signal.SIGTERM, signal.SIGHUP)


def stopped(signum: int, frame: FrameType | None) -> None:
    # The end itself is not disturbed: `timeout` tells it twice.
    for each in ENDING:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + signum)


def main() -> int:
    options = parser().parse_args()
    seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    say(f"chaos: seed {seed}, {options.generations} generations in {options.minutes:g} minutes")
    # However it ends, the processes are ended too.
    for signum in ENDING:
        signal.signal(signum, stopped)
    home = Path(tempfile.mkdtemp(prefix="kling-studio-chaos-"))
    began = time.monotonic()
    good = False
    try:
        with Town(home) as town:
            run = Run(town, seed, options.generations, seconds=options.minutes * 60, grace=options.grace)
            judged = run.go()
            run.report()
        print_table("what is left", judged.figures)
        for each in judged.wrong:
            say(f"WRONG: {each}")
        good = judged.is_good
        verb = "kept every promise" if good else f"broke {len(judged.wrong)} times"
        say(f"\nchaos: seed {seed} {verb}, after {time.monotonic() - began:.0f} s")
    finally:
        if good and not options.keep:
            shutil.rmtree(home)
        else:
            say(f"The logs and the provider's book are in {home}; the same again: script/chaos {again(options, seed)}")
    return 0 if good else 1


def again(options: argparse.Namespace, seed: int) -> str:
    return f"--generations {options.generations} --minutes {options.minutes:g} --seed {seed}"


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/chaos", description=__doc__)
    parser.add_argument("--generations", type=int, default=300, metavar="N", help="how many are ordered (%(default)s)")
    parser.add_argument(
        "--minutes", type=float, default=5.0, metavar="M", help="how long everything breaks (%(default)s)"
    )
    parser.add_argument(
        "--grace", type=float, default=600.0, metavar="S", help="seconds after it in which all has to end (%(default)s)"
    )
    parser.add_argument("--seed", type=int, help="the same orders, faults and disturbances again (default: a new one)")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a good run too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
