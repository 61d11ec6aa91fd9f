"""What waits and does not go on by itself is said to people: once as an alert, and on the pages where they look, until it moves."""

import uuid
from typing import Any

import structlog
from django.db import transaction
from django.utils import timezone

from generations import alerts
from generations.models import Generation

# So many tries that came to nothing in the same way take some minutes.
TRIES_UNTIL_LOOK = 5
NO_LOOK: dict[str, Any] = {"needs_look_since": None, "needs_look_why": ""}

log = structlog.get_logger(__name__)


@transaction.atomic
def ask_for_look(pk: uuid.UUID, why: str, *, studio_knows: bool = False) -> None:
    """Notes that a person has to look at a generation, since when and why (a sentence), and tells its owners.

    For any status that waits. The studio's own tries go on meanwhile, and `move` ends it. Asked again, the first time stands, the newest
    reason is shown, and nobody is told twice. `studio_knows`: studio owners have an alert of their own about the matter. Raises nothing
    that an alert raises.
    """
    is_new = Generation.objects.filter(pk=pk, needs_look_since=None).update(
        needs_look_since=timezone.now(), needs_look_why=why
    )
    if not is_new:
        Generation.objects.filter(pk=pk).update(needs_look_why=why)
        return
    generation = Generation.objects.select_related("project").get(pk=pk)
    log.warning("needs_look", generation=str(pk), status=generation.status, reason=why)
    alerts.needs_look(generation, why=why, studio_knows=studio_knows)
