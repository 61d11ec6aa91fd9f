"""Whose money a report is about, and which days of it."""

import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils import timezone

from generations.models import Generation
from projects import permissions
from projects.models import Project, SpendEntry, Studio

EARLIEST, LATEST = date(2020, 1, 1), date(2099, 12, 31)
DAY = timedelta(days=1)
LONGEST = timedelta(days=3660)


@dataclass(frozen=True)
class Scope:
    """One project, or the `projects` that somebody may see (None: all there are). Days begin at midnight in `zone`."""

    zone: zoneinfo.ZoneInfo
    project: Project | None = None
    projects: QuerySet[Project] | None = None

    @property
    def title(self) -> str:
        if self.project:
            return str(self.project)
        return "All projects" if self.is_studio else "Your projects"

    @property
    def is_studio(self) -> bool:
        return self.project is None and self.projects is None

    def entries(self) -> QuerySet[SpendEntry]:
        entries: QuerySet[SpendEntry] = SpendEntry.objects.filter(**self._narrowed())
        return entries

    def generations(self) -> QuerySet[Generation]:
        return Generation.objects.filter(**self._narrowed())

    def _narrowed(self) -> dict[str, object]:
        if self.project is not None:
            return {"project": self.project}
        return {} if self.projects is None else {"project__in": self.projects}


def of_project(project: Project) -> Scope:
    return Scope(zoneinfo.ZoneInfo(project.time_zone), project=project)


def of_person(person: User) -> Scope:
    """Everything that `person` may see; all projects for a studio owner. Days are the studio's."""
    zone = zoneinfo.ZoneInfo(Studio.current().time_zone)
    if permissions.is_studio_owner(person):
        return Scope(zone)
    return Scope(zone, projects=permissions.visible_projects(person))


@dataclass(frozen=True)
class Days:
    """From the `first` to the `last` day, both included. Raises `ValidationError` (`from`, `to`) if there is no such range."""

    first: date
    last: date

    def __post_init__(self) -> None:
        # `to` first: who gives it alone has the beginning of its month as `from`.
        for name, day in (("to", self.last), ("from", self.first)):
            if not EARLIEST <= day <= LATEST:
                raise ValidationError({name: f"Take a day from {EARLIEST} to {LATEST}; {day} is none."})
        if self.last < self.first:
            raise ValidationError({"to": f"The range ends on {self.last}, before it begins on {self.first}."})
        if self.last - self.first > LONGEST:
            raise ValidationError({"to": f"The range has more than {LONGEST.days} days: take a shorter one."})

    def __iter__(self) -> Iterator[date]:
        return (self.first + number * DAY for number in range((self.last - self.first).days + 1))

    def bounds(self, zone: tzinfo) -> tuple[datetime, datetime]:
        """The local midnight that it begins with and the one that it ends before, in UTC."""
        return _midnight(self.first, zone), _midnight(self.last + DAY, zone)

    def narrow(self, entries: QuerySet[SpendEntry], zone: tzinfo) -> QuerySet[SpendEntry]:
        starts_at, ends_at = self.bounds(zone)
        return entries.filter(created_at__gte=starts_at, created_at__lt=ends_at)


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def this_month(today: date) -> Days:
    return Days(today.replace(day=1), today)


def last_month(today: date) -> Days:
    last = today.replace(day=1) - DAY
    return Days(last.replace(day=1), last)


def last_30_days(today: date) -> Days:
    return Days(today - 29 * DAY, today)


def days(first: date | None, last: date | None, *, today: date) -> Days:
    """The range that somebody asked for; what is left out is the month of the other end, up to today."""
    last = last or (max(first, today) if first else today)
    return Days(first or last.replace(day=1), last)


def today(zone: tzinfo) -> date:
    return timezone.now().astimezone(zone).date()
