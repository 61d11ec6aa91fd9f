"""Tells at the end of a run at which points of the crash matrix workers were killed, and which seed chose them."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    points: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    seeds = set()
    for name, told in _properties(terminalreporter):
        if name == "crash points":
            studio, scenario, reached = told
            points[studio, scenario].update(reached)
        elif name == "crash seed":
            seeds.add(told)
    for (studio, scenario), reached in sorted(points.items()):
        terminalreporter.write_line(
            f"Crash matrix on {studio}, {scenario}: killed at {len(reached)} points: {_spans(sorted(reached))}."
        )
    for seed in seeds:
        terminalreporter.write_line(f"The same points again: FAULTS_SEED={seed}")


def _spans(numbers: list[int]) -> str:
    """1, 2, 3, 7 as `1–3, 7`."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{span[0]}–{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _properties(terminalreporter: pytest.TerminalReporter) -> Iterator[tuple[str, Any]]:
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                yield from report.user_properties
