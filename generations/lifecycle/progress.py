"""How far a generation is: for people who wait."""

from django.utils import timezone

from generations import provider
from generations.models import Generation, Status


def percent(generation: Generation) -> int:
    """How far it is, in percent: by the endpoint's usual duration while the provider works, as the provider tells none."""
    if generation.status == Status.COMPLETED:
        return 100
    if generation.status == Status.STORING:
        return 96
    if generation.status != Status.PROCESSING or generation.submitted_at is None:
        return 0
    elapsed = (timezone.now() - generation.submitted_at).total_seconds()
    return min(95, int(95 * elapsed / provider.usual_seconds(generation.endpoint)))
