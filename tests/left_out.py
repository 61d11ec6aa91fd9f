"""A pytest plugin that ends the run by telling which marked tests it left out; `script/test` loads it."""

from collections import Counter
from typing import Any

import pytest

MARKERS = ("services", "browser", "slow")
left_out = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[left_out] = Counter()


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count each test once, under its first marker."""
    for item in items:
        marker = next((name for name in MARKERS if item.get_closest_marker(name)), None)
        if marker:
            item.config.stash[left_out][marker] += 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under xdist only the workers collect, each of them everything: hand the counts to the process that reports."""
    counts = session.config.stash[left_out]
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = dict(counts)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    counts: Counter[str] = Counter(getattr(node, "workeroutput", {}).get("left_out", {}))
    node.config.stash[left_out] = counts | node.config.stash[left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = terminalreporter.config.stash[left_out]
    if counts:
        told = ", ".join(f"{counts[name]} {name}" for name in MARKERS if counts[name])
        terminalreporter.write_line(
            f"Left out: {told}. Run them with script/test --rest, or everything with script/test --all."
        )
