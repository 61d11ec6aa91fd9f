"""What ends its worker again and again (the system takes the memory back, a library crashes) can't be counted by that worker: it is told
by the leases that nobody gave back."""

from django.db.models import Q
from django.utils import timezone

from generations import alerts
from generations.lifecycle.needs_look import TRIES_UNTIL_LOOK, ask_for_look
from generations.models import Generation, Status, UnassignedPrediction

BATCH = 100
STEPS = (Status.QUEUED, Status.SUBMITTING, Status.PROCESSING, Status.UNCONFIRMED, Status.STORING)


def tell() -> int:
    """Asks people to look at each row whose workers ended so often in a row; how many were found."""
    waits = Q(status__in=STEPS) | Q(status=Status.FAILED, next_action_at__isnull=False)
    generations = Generation.objects.filter(waits, lost_leases__gte=TRIES_UNTIL_LOOK, needs_look_since=None)
    found = 0
    for pk, lost in generations.values_list("pk", "lost_leases")[:BATCH]:
        ask_for_look(pk, _sentence(lost))
        found += 1
    return found + _tell_of_unassigned()


def _tell_of_unassigned() -> int:
    rows = UnassignedPrediction.objects.filter(lost_leases__gte=TRIES_UNTIL_LOOK, lease_until__lt=timezone.now())
    found = 0
    for pk, lost in rows.values_list("pk", "lost_leases")[:BATCH]:
        why = _sentence(lost)
        if rows.filter(pk=pk).exclude(error_message=why).update(error_message=why):
            alerts.unexpected("store_unassigned", "lost leases", why)
            found += 1
    return found


def _sentence(lost: int) -> str:
    return (
        f"The worker that had it ended {lost} times in a row before it was done: for its memory, say, or by a crash. See the log of the "
        "system, and how much memory its machine has. It is tried again, more seldom, so that it takes no other work with it each time."
    )
