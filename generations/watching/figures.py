"""The studio's figures for Prometheus, read from the database at each scrape."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import structlog
from django.db import DatabaseError
from django.db.models import Count, F, Q, Sum
from django.utils import timezone
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from generations.lifecycle import lane
from generations.models import (
    HANDED_OUT,
    WAITS_SINCE,
    Lane,
    PauseCause,
    PausedEndpoint,
    PausedProject,
    Process,
    UnassignedPrediction,
)
from generations.storage import room
from generations.watching import health, unended
from projects import digest
from projects.models import EntryKind, SpendEntry
from projects.money import to_dollars

log = structlog.get_logger(__name__)

MONEY = {
    EntryKind.RESERVE: "reserved",
    EntryKind.CHARGE: "charged",
    EntryKind.RELEASE: "released",
    EntryKind.REFUND: "refunded",
    EntryKind.ADJUST: "adjusted",
}


class Studio(Collector):
    """The same from every machine; without the database only that it is away."""

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("kling_studio_database_up", "Whether the database answers.")
        families: list[Metric] = []
        try:
            families = [*_generations(), *_lane(), *_processes(), *_unassigned(), *_money(), *_waiting()]
        except DatabaseError as error:
            log.warning("metrics_without_database", reason=type(error).__name__)
        up.add_metric([], bool(families))
        yield from [up, *families]


def gauge(name: str, text: str, labels: list[str], values: dict[Any, Any]) -> Metric:
    """`values` by the label, or by a tuple of labels."""
    family = GaugeMetricFamily(f"kling_studio_{name}", text, labels=labels)
    for label, value in values.items():
        family.add_metric([str(each) for each in (label if isinstance(label, tuple) else (label,))], value)
    return family


def _generations() -> list[Metric]:
    now = timezone.now()
    found = unended.by_status()

    def seconds(moment: datetime | None) -> float:
        return max(0.0, (now - moment).total_seconds()) if moment else 0.0

    return [
        gauge(
            "generations",
            "Generations that have not ended, by status.",
            ["status"],
            {status: found[status].count if status in found else 0 for status in WAITS_SINCE},
        ),
        gauge(
            "oldest_seconds",
            "Age of the oldest of them; 0 where there is none.",
            ["status"],
            {status: seconds(found[status].since) if status in found else 0 for status in WAITS_SINCE},
        ),
        gauge(
            "overdue_seconds",
            "How long due work has waited to be handed to a worker; 0 where none waits.",
            ["status"],
            {status: seconds(found[status].due) if status in found else 0 for status in HANDED_OUT},
        ),
        gauge(
            "handed_out",
            "What was handed to the workers and none has taken yet.",
            ["status"],
            {status: found[status].handed_out if status in found else 0 for status in HANDED_OUT},
        ),
    ]


def _lane() -> list[Metric]:
    now = timezone.now()
    row = Lane.current()
    used, limits = lane.used(now), lane.limits(row, now)
    paused = {cause: int(row.paused_at is not None and row.paused_cause == cause) for cause in PauseCause}
    return [
        gauge("lane_paused", "1 while nothing is submitted, by cause.", ["cause"], paused),
        gauge(
            "lane_rate",
            "Share of the account’s limits that is in force; less after a 429.",
            [],
            {(): row.rate_at(now) / 100},
        ),
        gauge("lane_slots_used", "Places at the provider that are taken.", [], {(): used.at_once}),
        gauge("lane_slots", "Places that are in force.", [], {(): limits.at_once}),
        gauge("lane_minute_used", "Requests of the last minute.", [], {(): used.per_minute}),
        gauge("lane_minute", "Requests a minute that are in force.", [], {(): limits.per_minute}),
        gauge(
            "paused",
            "Endpoints and projects that nothing is submitted for.",
            ["what"],
            {"endpoint": PausedEndpoint.objects.count(), "project": PausedProject.objects.count()},
        ),
    ]


def _processes() -> list[Metric]:
    def by_kind(processes: Any) -> dict[str, int]:
        return dict(processes.order_by().values_list("kind").annotate(Count("pk")))

    alive, dead = by_kind(Process.objects.alive()), by_kind(Process.objects.dead())
    values = {}
    for kind in Process.Kind:
        values[kind, "alive"], values[kind, "dead"] = alive.get(kind, 0), dead.get(kind, 0)
    return [
        gauge("processes", "Processes of all machines; dead ones of the last day.", ["kind", "state"], values),
        gauge("workers", "Living processes that take what is sent to a queue.", ["queue"], health.workers_by_queue()),
    ]


def _unassigned() -> list[Metric]:
    rows = UnassignedPrediction.objects.filter(assigned_to=None)
    found = rows.aggregate(stored=Count("pk", filter=Q(stored_at__isnull=False)), all=Count("pk"))
    values = {"stored": found["stored"], "not_stored": found["all"] - found["stored"]}
    return [gauge("unassigned_predictions", "Predictions that belong to no generation yet.", ["state"], values)]


def _waiting() -> list[Metric]:
    since = digest.waiting_since()
    waiting = max(0.0, (timezone.now() - since).total_seconds()) if since else 0.0
    return [
        gauge("mail_waiting_seconds", "Age of the oldest e-mail that no mail server has taken yet.", [], {(): waiting}),
        gauge(
            "no_room",
            "1 while there is no room for more videos, so that nothing is submitted.",
            [],
            {(): bool(room.shown_shortage())},
        ),
    ]


def _money() -> list[Metric]:
    """The ledger's sums. It only grows, and nothing is booked into the past, so only the last hours are added up each time."""
    border = timezone.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    sums = dict(_sums_before(border))
    for key, amounts in _sums(Q(created_at__gte=border)).items():
        sums[key] = tuple(map(sum, zip(sums.get(key, (0, 0)), amounts, strict=True)))  # type: ignore[assignment]
    moved = {}
    for (kind, endpoint), (reserved, spent) in sums.items():
        amount = reserved if kind == EntryKind.RESERVE else -reserved if kind == EntryKind.RELEASE else spent
        moved[MONEY[EntryKind(kind)], endpoint] = to_dollars(-amount if kind == EntryKind.REFUND else amount)
    all_held = to_dollars(sum(reserved for reserved, _ in sums.values()))
    all_spent = to_dollars(sum(spent for _, spent in sums.values()))
    return [
        gauge("money_usd", "US dollars that were booked, by kind of entry.", ["kind", "endpoint"], moved),
        gauge("held_usd", "US dollars that are held now.", [], {(): all_held}),
        gauge("spent_usd", "US dollars that are spent: charges and adjustments less refunds.", [], {(): all_spent}),
    ]


@lru_cache(maxsize=1)
def _sums_before(border: datetime) -> dict[tuple[str, str], tuple[int, int]]:
    return _sums(Q(created_at__lt=border))


def _sums(when: Q) -> dict[tuple[str, str], tuple[int, int]]:
    """Micro-dollars (reserved, spent) by kind and endpoint."""
    rows = SpendEntry.objects.filter(when).order_by().values_list("kind", "endpoint")
    sums = rows.annotate(reserved=Sum(F("reserved_delta")), spent=Sum(F("spent_delta")))
    return {(kind, endpoint): (reserved, spent) for kind, endpoint, reserved, spent in sums}
