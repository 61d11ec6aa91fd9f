"""How the studio's hot paths grow: each is timed small and large in one run, and the ratio is what counts."""

import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import django
import dramatiq

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from generations import (  # noqa: E402
    dispatch,
    lifecycle,
    reports,
)
from generations.models import (  # noqa: E402
    Generation,
    Status,
    Video,
)
from projects.models import (  # noqa: E402
    Enforcement,
    EntryKind,
    Period,
    Project,
    SpendEntry,
)
from projects.money import (  # noqa: E402
    budgets,
    spend,
)

ENDPOINT = "kwaivgi/kling-video-o3-4k/image-to-video"
ROUNDS = 7


def median_ms(work: Callable[[], object]) -> float:
    """The median of a few runs after one to warm up, in milliseconds."""
    work()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append((time.perf_counter() - began) * 1000)
    return sorted(times)[ROUNDS // 2]


def new_project(by: User, name: str) -> Project:
    project = Project.objects.create(name=name, created_by=by)
    budgets.create(project=project, user=None, period=Period.TOTAL, enforcement=Enforcement.HARD, limit=10**15, by=by)
    return project


def add_entries(project: Project, by: User, number: int) -> None:
    """Charges spread over the last 90 days; the report reads those of the last 30."""
    now = timezone.now()
    SpendEntry.objects.bulk_create(
        (
            SpendEntry(
                key=str(uuid.uuid4()),
                kind=EntryKind.CHARGE,
                project=project,
                user=by,
                reference=uuid.uuid4(),
                endpoint=ENDPOINT,
                spent_delta=2_100_000,
                created_at=now - timedelta(days=90 * each / number),
            )
            for each in range(number)
        ),
        batch_size=5000,
    )


def reserve(project: Project, by: User) -> None:
    reference = uuid.uuid4()
    spend.reserve(
        project=project, user=by, reference=reference, endpoint=ENDPOINT, amount=1, key=f"reserve:{reference}", by=by
    )


def spend_report(project: Project) -> None:
    scope = reports.of_project(project)
    reports.standing(scope)
    reports.report(scope, reports.last_30_days(reports.today(scope.zone)))


def add_backlog(project: Project, by: User, number: int) -> None:
    """Rows that a broker has already been told of, and that are not due: the dispatcher has to look past them."""
    Generation.objects.bulk_create(
        (
            Generation(
                project=project,
                requested_by=by,
                endpoint=ENDPOINT,
                inputs_digest="x",
                status=Status.PROCESSING,
                next_action_at=timezone.now() + timedelta(hours=1),
            )
            for _ in range(number)
        ),
        batch_size=1000,
    )


def add_queue(by: User, number: int) -> None:
    """Queued rows, spread over up to 50 projects."""
    projects = [Project.objects.create(name=f"Queue {number}.{each}", created_by=by) for each in range(min(50, number))]
    now = timezone.now()
    Generation.objects.bulk_create(
        (
            Generation(
                project=projects[each % len(projects)],
                requested_by=by,
                endpoint=ENDPOINT,
                inputs_digest="x",
                status=Status.QUEUED,
                queued_at=now,
                next_action_at=now,
            )
            for each in range(number)
        ),
        batch_size=1000,
    )


def admit() -> None:
    """Lets one in, and puts it back."""
    lease = lifecycle.admit()
    assert lease
    Generation.objects.filter(pk=lease.pk).update(lease_until=None)


def make_due(number: int) -> None:
    """So many polls are due, and none is handed out."""
    rows = Generation.objects.filter(status=Status.PROCESSING)
    rows.update(next_action_at=timezone.now() + timedelta(hours=1), sent_at=None)
    due = rows.order_by("pk").values_list("pk", flat=True)[:number]
    rows.filter(pk__in=list(due)).update(next_action_at=timezone.now() - timedelta(minutes=1))


def look() -> None:
    """One look of the dispatcher, whose messages nobody waits for."""
    dispatch.tick()
    dramatiq.get_broker().flush_all()
    Generation.objects.filter(sent_at__isnull=False).update(
        sent_at=None, next_action_at=timezone.now() - timedelta(minutes=1)
    )


def add_history(by: User, number: int) -> None:
    """Finished and failed generations of the last year, with their videos."""
    project = Project.objects.create(name=f"History {number}", created_by=by)
    now = timezone.now()
    times = [now - timedelta(days=365 * each / number) for each in range(number)]
    made = [
        Generation(
            project=project,
            requested_by=by,
            endpoint=ENDPOINT,
            inputs_digest="x",
            prompt="Steam rises",
            status=Status.COMPLETED if each % 8 else Status.FAILED,
            created_at=at,
            completed_at=at,
            announced_at=at,
        )
        for each, at in enumerate(times)
    ]
    Generation.objects.bulk_create(made, batch_size=1000)
    Video.objects.bulk_create(
        (
            Video(generation=generation, file="video.mp4", bytes=1, sha256="0" * 64, created_at=generation.created_at)
            for generation in made
            if generation.status == Status.COMPLETED
        ),
        batch_size=1000,
    )


PAGES = {
    "dashboard": "/admin/",
    "list of generations": "/admin/generations/generation/",
    "list of failed generations": "/admin/generations/generation/?status__exact=failed",
    "list of videos": "/admin/generations/video/",
    "list of projects": "/admin/projects/project/",
    "API: generations by status": "/api/v1/generations/?status=failed&status=completed",
    "API: videos": "/api/v1/videos/",
}


def pages(by: User) -> dict[str, float]:
    """How long each page takes, in milliseconds."""
    client = Client()
    client.force_login(by, settings.AUTHENTICATION_BACKENDS[-1])
    return {name: median_ms(partial(_get, client, url)) for name, url in PAGES.items()}


def _get(client: Client, url: str) -> None:
    answer = client.get(url, headers={"Host": "127.0.0.1"})
    assert answer.status_code == 200, (url, answer.status_code)


def main() -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE = settings.WAVESPEED_VIDEOS_PER_MINUTE = 10**6
    call_command("migrate", verbosity=0)
    by = User.objects.create_superuser("bench")
    small, large = new_project(by, "Small"), new_project(by, "Large")
    rows = []

    add_entries(small, by, 1_000)
    few = median_ms(lambda: spend_report(small))
    add_entries(large, by, 100_000)
    rows.append(("spend report, another project has 100,000 entries", few, median_ms(lambda: spend_report(small))))
    rows.append(("spend report, 100,000 entries instead of 1,000", few, median_ms(lambda: spend_report(large))))

    alone = median_ms(lambda: reserve(small, by))
    rows.append(("reserve, in a project with 100,000 entries", alone, median_ms(lambda: reserve(large, by))))
    for period in (Period.DAY, Period.WEEK, Period.MONTH):
        budgets.create(project=small, user=None, period=period, enforcement=Enforcement.HARD, limit=10**15, by=by)
    rows.append(("reserve, four budgets instead of one", alone, median_ms(lambda: reserve(small, by))))

    idle = median_ms(dispatch.tick)
    add_backlog(large, by, 10_000)
    rows.append(("dispatcher's look, 10,000 rows that are not due", idle, median_ms(dispatch.tick)))

    make_due(100)
    few = median_ms(look)
    make_due(10_000)
    rows.append(("dispatcher's look, 10,000 rows due instead of 100", few, median_ms(look)))
    Generation.objects.filter(status=Status.PROCESSING).update(status=Status.CANCELLED)

    add_queue(by, 100)
    few = median_ms(admit)
    add_queue(by, 9_900)
    rows.append(("admission, 10,000 queued instead of 100", few, median_ms(admit)))
    # The dashboard shows what is queued; the pages are measured by what is over.
    Generation.objects.filter(status=Status.QUEUED).update(status=Status.CANCELLED)

    add_history(by, 500)
    few_rows = pages(by)
    add_history(by, 50_000)
    many_rows = pages(by)
    rows += [(f"{name}, 50,000 rows instead of 500", few_rows[name], many_rows[name]) for name in PAGES]

    print(f"{'':50} {'before':>10} {'after':>10} {'ratio':>7}")
    for name, before, after in rows:
        print(f"{name:50} {before:7.1f} ms {after:7.1f} ms {after / before:6.1f}×")


if __name__ == "__main__":
    main()
