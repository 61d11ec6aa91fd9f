"""How hypothesis walks through the histories of a state machine, the same ones at each run."""

import pytest
from hypothesis import HealthCheck, Phase, settings

# Some at each run, and with script/test --rest as many as it takes to meet what is rare.
some_and_all = pytest.mark.parametrize("share", [0.2, pytest.param(1.0, marks=pytest.mark.slow)], ids=["some", "all"])


def histories(number: int, *, steps: int, share: float = 1.0) -> settings:
    """So many of so many steps at most, or a share of them; to look further, raise the number."""
    return settings(
        max_examples=round(number * share),
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # a failure is told at once; to shrink it takes minutes: take this line away
        suppress_health_check=[HealthCheck.too_slow],
    )
