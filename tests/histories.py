"""How hypothesis walks through the histories of a state machine, the same ones at each run."""

from hypothesis import HealthCheck, Phase, settings


def histories(number: int, *, steps: int) -> settings:
    """So many of so many steps at most; to look further, raise the number."""
    return settings(
        max_examples=number,
        stateful_step_count=steps,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # a failure is told at once; to shrink it takes minutes: take this line away
        suppress_health_check=[HealthCheck.too_slow],
    )
