"""What has not ended, by status: for the Operations page and for Prometheus."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Min

from generations.models import WAITS_SINCE, Generation, Status


@dataclass(frozen=True)
class Unended:
    """`since` is that of the oldest. `due` is the earliest next look; `sent` the earliest message that no worker has taken yet."""

    count: int
    since: datetime | None
    due: datetime | None
    sent: datetime | None
    handed_out: int


def by_status() -> dict[Status, Unended]:
    """In one query; without the statuses in which there is nothing."""
    since = {f"since_{field}": Min(field) for field in set(WAITS_SINCE.values())}
    rows = Generation.objects.filter(status__in=WAITS_SINCE).order_by().values("status")
    found = rows.annotate(
        count=Count("pk"), due=Min("next_action_at"), sent=Min("sent_at"), handed_out=Count("sent_at"), **since
    )
    return {
        Status(row["status"]): Unended(
            row["count"], row[f"since_{WAITS_SINCE[row['status']]}"], row["due"], row["sent"], row["handed_out"]
        )
        for row in found
    }
