import uuid
from datetime import timedelta
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

# Without a sign of life for so long, a process counts as dead; for a day people can still see that it was there. So much may the
# clocks of machines differ, too: a sign of life from further in the future is none, but of a clock that was wrong.
DEAD_AFTER = timedelta(seconds=60)
FORGOTTEN_AFTER = timedelta(days=1)


class ProcessQuerySet(models.QuerySet[Any]):
    def alive(self) -> "ProcessQuerySet":
        return self.filter(_seen_within(DEAD_AFTER))

    def dead(self) -> "ProcessQuerySet":
        return self.exclude(_seen_within(DEAD_AFTER))

    def dispatching(self) -> "ProcessQuerySet":
        """Those that look for due work."""
        return self.filter(kind__in=(Process.Kind.DISPATCHER, Process.Kind.STUDIO))

    def working(self) -> "ProcessQuerySet":
        return self.filter(kind__in=(Process.Kind.WORKER, Process.Kind.STUDIO))

    def forget(self) -> None:
        self.exclude(_seen_within(FORGOTTEN_AFTER)).delete()


def _seen_within(time: timedelta) -> Q:
    now = timezone.now()
    return Q(seen_at__gt=now - time, seen_at__lte=now + time)


class Process(models.Model):
    """A process of the studio and its last sign of life; one that ended in order takes its row with it."""

    class Kind(models.TextChoices):
        WEB = "web", "Web server"
        WORKER = "worker", "Worker"
        DISPATCHER = "dispatcher", "Dispatcher"
        STUDIO = "studio", "All in one"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=12, choices=Kind)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    queues = models.CharField(max_length=200, blank=True, help_text="a worker's, between commas; empty: all")
    started_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(default=timezone.now)

    objects = ProcessQuerySet.as_manager()

    class Meta:
        ordering = ["kind", "host", "pid"]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.pid} on {self.host}"

    def takes(self, queue: str) -> bool:
        return not self.queues or queue in self.queues.split(",")
