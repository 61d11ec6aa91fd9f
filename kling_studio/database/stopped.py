"""Whether the studio stands still: before its database is copied to another place, or put back from a backup."""

from django.utils import timezone

from generations.models import Generation, Process, UnassignedPrediction
from generations.models.process import DEAD_AFTER


def what_runs() -> list[str]:
    """A sentence for each process and each step that may still write to this database."""
    now = timezone.now()
    # What a wrong clock wrote into the future counts here, as it may live: `--force` is for who knows.
    sentences = [
        f"{process} gave a sign of life {max(0, (now - process.seen_at).total_seconds()):.0f} s ago."
        for process in Process.objects.filter(seen_at__gt=now - DEAD_AFTER)
    ]
    for rows, what in ((Generation.objects, "generation"), (UnassignedPrediction.objects, "unassigned prediction")):
        leases = rows.filter(lease_until__gt=now)
        for pk, until in leases.values_list("pk", "lease_until")[:5]:
            sentences.append(f"A worker has the {what} {pk} until {until:%Y-%m-%d %H:%M:%S} UTC.")
    return sentences
