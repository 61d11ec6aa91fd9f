"""The page “Spend”: where the money stands, where it went and where it is heading, of one project or of all that one sees."""

import json
import uuid
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from generations import reports
from generations.reports import By, Days, Report, Row, Scope, Standing
from projects.admin.access import access, person, sentence
from projects.admin.display import NOTHING, BudgetBar, day
from projects.links import NotHere
from projects.money import about, shown, to_dollars
from projects.money.forecast import Forecast

PRESETS: list[tuple[str, Callable[[date], Days]]] = [
    ("This month", reports.this_month),
    ("Last month", reports.last_month),
    ("Last 30 days", reports.last_30_days),
]
DOWNLOADS = [("Ledger, CSV", "entries_csv"), ("Ledger, XLSX", "entries_xlsx"), ("FOCUS 1.2", "focus_csv")]
# More bars than this can't be told apart: weeks then, and months after about a year.
MOST_DAYS, MOST_WEEKS = 62, 400


@dataclass(frozen=True)
class Tile:
    title: str
    value: str
    note: str
    is_bad: bool = False


@dataclass(frozen=True)
class Outlook:
    """A budget's bar and its forecast."""

    forecast: Forecast

    @property
    def bar(self) -> BudgetBar:
        return BudgetBar(self.forecast.figures)

    @property
    def is_over(self) -> bool:
        return (self.forecast.amount or 0) > self.forecast.figures.limit

    @property
    def amount(self) -> str:
        """Empty while it is too early to tell."""
        return "" if self.forecast.amount is None else about(self.forecast.amount)

    @property
    def used_up_on(self) -> str:
        used_up_at = self.forecast.used_up_at
        return day(used_up_at, self._zone) if used_up_at else ""

    @property
    def is_told_above(self) -> bool:
        """A budget in total has no end to be used up before: how much of it is free says more."""
        return bool(self.used_up_on and self.forecast.ends_at)

    @property
    def ends_on(self) -> str:
        """The last day of the period; its end is the midnight after."""
        ends_at = self.forecast.ends_at
        return day(ends_at - timedelta(seconds=1), self._zone) if ends_at else ""

    @property
    def lasts_until(self) -> str:
        """Told where the limit is reached before a new period begins."""
        reached, ends_at = self.forecast.lasts_until, self.forecast.ends_at
        return day(reached, self._zone) if reached and (ends_at is None or reached < ends_at) else ""

    @property
    def _zone(self) -> Any:
        return self.forecast.figures.budget.time_zone()


@dataclass(frozen=True)
class Line:
    """A row of a table; `percent` of the dearest one."""

    row: Row
    percent: int

    @property
    def label(self) -> str:
        return self.row.label

    @property
    def charges(self) -> int:
        return self.row.amounts.charges

    @property
    def net(self) -> str:
        return shown(self.row.amounts.net)

    @property
    def charged(self) -> str:
        return shown(self.row.amounts.charged)

    @property
    def refunded(self) -> str:
        return shown(-self.row.amounts.refunded) if self.row.amounts.refunded else NOTHING

    @property
    def adjusted(self) -> str:
        return shown(self.row.amounts.adjusted) if self.row.amounts.adjusted else NOTHING


def view(request: HttpRequest) -> HttpResponse:
    context = {**admin.site.each_context(request), **_page(request)}
    return TemplateResponse(request, "admin/generations/spend/page.html", context)


def _page(request: HttpRequest) -> dict[str, Any]:
    """The context of the page; 404 for a project that one may not see, and a sentence for a range that is none."""
    scope = _scope(request)
    today = reports.today(scope.zone)
    days, error = _days(request, today)
    standing, report = reports.standing(scope), reports.report(scope, days)
    by_day = reports.breakdown(scope, days, By.DAY)
    return {
        "title": f"Spend: {scope.title}",
        "scope": scope,
        "days": days,
        "error": error,
        "projects": access(request).projects("view"),
        "presets": _presets(scope, days, today),
        "downloads": _downloads(scope, days),
        "tiles": _tiles(standing),
        "outlooks": [Outlook(each) for each in reports.forecasts(standing)],
        "report": report,
        "range": _words(days),
        "net": shown(report.totals.net),
        "facts": _facts(report),
        "chart": _chart(by_day) if report.totals.charges or report.totals.net else "",
        "by_day": [line for line in _lines(by_day) if line.row.amounts != reports.Amounts()],
        "tables": _tables(scope, report),
        "since_beginning": shown(standing.spent),
    }


def _scope(request: HttpRequest) -> Scope:
    asked = request.GET.get("project", "")
    if not asked:
        return reports.of_person(person(request))
    try:
        project = access(request).projects("view").filter(pk=uuid.UUID(asked)).first()
    except ValueError:
        project = None
    if project is None:
        raise NotHere("This project doesn’t exist, or you are not a member of it.")
    return reports.of_project(project)


def _days(request: HttpRequest, today: date) -> tuple[Days, str]:
    """What was asked for, else this month with the reason."""
    field = forms.DateField(required=False, error_messages={"invalid": "Write a day as 2026-11-30."})
    try:
        first, last = (field.clean(request.GET.get(name, "")) for name in ("from", "to"))
        return reports.days(first, last, today=today), ""
    except ValidationError as refusal:
        return reports.this_month(today), sentence(refusal)


def _presets(scope: Scope, days: Days, today: date) -> list[dict[str, Any]]:
    return [
        {"title": title, "query": _query(scope, preset(today)), "is_shown": preset(today) == days}
        for title, preset in PRESETS
    ]


def _query(scope: Scope, days: Days) -> str:
    project = {"project": str(scope.project.pk)} if scope.project else {}
    return "?" + urlencode({**project, **_range(days)})


def _range(days: Days) -> dict[str, str]:
    return {"from": days.first.isoformat(), "to": days.last.isoformat()}


def _downloads(scope: Scope, days: Days) -> list[tuple[str, str]]:
    return [(title, _api_url(scope, action, _range(days))) for title, action in DOWNLOADS]


def _api_url(scope: Scope, action: str, query: dict[str, str]) -> str:
    name, args = (f"project-spend-{action}", [scope.project.pk]) if scope.project else (f"spend-{action}", [])
    return f"{reverse(name, args=args)}?{urlencode(query)}"


def _tiles(standing: Standing) -> list[Tile]:
    """The figures of the tightest hard budget, so that they add up; without one, what was spent since the beginning."""
    tightest = standing.tightest
    unconfirmed = Tile(
        "Unconfirmed", shown(standing.unconfirmed), "the part of what is held whose outcome nobody knows"
    )
    if tightest is None:
        return [
            Tile("Limit", "None", "no hard budget binds everybody here"),
            Tile("Spent", shown(standing.spent), "since the beginning"),
            Tile("Held", shown(standing.reserved), "for what is on its way"),
            unconfirmed,
            Tile("Free", NOTHING, "nothing to measure it by"),
        ]
    bar = BudgetBar(tightest)
    until = f"until {bar.ends_on}" if bar.ends_on else "for good"
    return [
        Tile("Limit", bar.limit_shown, bar.title),
        Tile("Spent", bar.spent_shown, "in this period" if bar.ends_on else "since the beginning"),
        Tile("Held", bar.reserved_shown, "for what is on its way"),
        unconfirmed,
        Tile("Free", bar.free_shown, until, is_bad=tightest.free <= 0),
    ]


def _facts(report: Report) -> list[Tile]:
    totals = report.totals
    seconds = f"{report.seconds:,} seconds of video"
    per_video = NOTHING if report.per_video is None else shown(report.per_video)
    wasted = f"{shown(report.failed)} on failed ones, {shown(report.ignored)} on ignored results"
    corrections = f"{shown(totals.refunded)} refunded, {shown(totals.adjusted)} adjusted"
    return [
        Tile("Charged", shown(totals.charged), corrections),
        Tile("Finished videos", f"{report.videos:,}", seconds),
        Tile("Cost per finished video", per_video, "all that was spent, waste included"),
        Tile("Wasted", shown(report.wasted), wasted, is_bad=report.wasted > 0),
    ]


def _tables(scope: Scope, report: Report) -> list[dict[str, Any]]:
    kinds = [By.ENDPOINT, By.MEMBER, By.TAG, By.STATUS]
    return [_table(scope, report, by) for by in (kinds if scope.project else [By.PROJECT, *kinds])]


def _table(scope: Scope, report: Report, by: By) -> dict[str, Any]:
    rows = report.statuses if by == By.STATUS else reports.breakdown(scope, report.days, by)
    return {
        "title": f"By {by.label.lower()}",
        "what": by.label,
        "lines": _lines(rows),
        "note": "What has several tags counts in full under each." if by == By.TAG else "",
        "csv": _api_url(scope, "breakdown_csv", {**_range(report.days), "by": by.value}),
        "xlsx": _api_url(scope, "breakdown_xlsx", {**_range(report.days), "by": by.value}),
    }


def _lines(rows: list[Row]) -> list[Line]:
    dearest = max((row.amounts.net for row in rows), default=0)
    return [Line(row, max(0, 100 * row.amounts.net // dearest) if dearest > 0 else 0) for row in rows]


def _chart(rows: list[Row]) -> str:
    """Data for Chart.js: the net spend by day, week or month; amounts as decimal strings."""
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        sums[_bucket(date.fromisoformat(row.key), len(rows))] += row.amounts.net
    dataset = {
        "label": "Net spend, USD",
        "data": [f"{to_dollars(net):f}" for net in sums.values()],
        "backgroundColor": "var(--color-primary-600)",
        "borderRadius": 3,
        "maxBarThickness": 36,
        "barPercentage": 1,
        "categoryPercentage": 1,
        "displayYAxis": True,
        "suffixYAxis": "USD",
        "maxTicksXLimit": 12,
    }
    return json.dumps({"labels": list(sums), "datasets": [dataset]})


def _bucket(day: date, count: int) -> str:
    if count <= MOST_DAYS:
        return f"{day:%-d %b}"
    if count <= MOST_WEEKS:
        return f"{day - timedelta(days=day.weekday()):%-d %b %Y}"
    return f"{day:%b %Y}"


def _words(days: Days) -> str:
    last = f"{days.last:%-d %B %Y}"
    if days.first == days.last:
        return last
    if days.first.year != days.last.year:
        return f"{days.first:%-d %B %Y} – {last}"
    return f"{days.first:%-d}–{last}" if days.first.month == days.last.month else f"{days.first:%-d %B} – {last}"
