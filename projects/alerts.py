"""Tells people what concerns their money, each thing once: in the bell at once, and by e-mail in a digest (`projects.digest`).

An alert is written once per `key`, whoever writes it first: the database refuses the second one.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import structlog
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.text import Truncator

from projects import clock, permissions
from projects.models import (
    Alert,
    AlertKind,
    Budget,
    BudgetPeriod,
    Notification,
    NotificationPreference,
    Period,
    Project,
    Role,
)
from projects.money import about, budgets, forecast, shown
from projects.money.budgets import Figures
from projects.money.spend import NoBudget, OverBudget, SpendRefused

log = structlog.get_logger(__name__)

# As many characters as the column takes.
MAX_TITLE = 200


# --- Telling ----------------------------------------------------------------------------------------------------------


@contextmanager
def never_failing(kind: AlertKind) -> Iterator[None]:
    """What an alert tells of has happened, whether or not it can be told: a failure is logged and undone alone."""
    try:
        with transaction.atomic():
            yield
    except Exception:
        log.exception("alert_not_written", kind=kind)


@transaction.atomic
def tell(kind: AlertKind, key: str, *, people: Iterable[User], title: str, **fields: Any) -> bool:
    """Tells `people` once per `key`; False if it was told before. `fields` are columns of `Alert`."""
    values = {"kind": kind, "title": Truncator(title).chars(MAX_TITLE), **fields}
    alert, is_new = Alert.objects.get_or_create(key=key, defaults=values)
    if is_new:
        _notify(alert, people)
    return is_new


@transaction.atomic
def tell_again(alert: Alert, *, people: Iterable[User], **fields: Any) -> None:
    """Changes an alert that has grown: unread again for `people`, and in their next e-mail; who had none gets one."""
    Alert.objects.filter(pk=alert.pk).update(**fields | {"title": Truncator(fields["title"]).chars(MAX_TITLE)})
    told = alert.notifications.filter(user__in=people)
    told.update(read_at=None)
    told.filter(emailed_at__isnull=False, email_at=None).update(email_at=timezone.now())
    known = set(told.values_list("user_id", flat=True))
    _notify(alert, (person for person in people if person.pk not in known))


def _notify(alert: Alert, people: Iterable[User]) -> None:
    listed = list(people)
    bell_only: set[int] = set()
    if alert.kind == AlertKind.ENDED:
        switched_off = NotificationPreference.objects.filter(user__in=listed, own_generations=False)
        bell_only = set(switched_off.values_list("user_id", flat=True))
    now = timezone.now()
    Notification.objects.bulk_create(
        Notification(alert=alert, user=person, email_at=now if person.email and person.pk not in bell_only else None)
        for person in listed
    )


def responsible_for(project: Project, *, with_studio: bool = True) -> QuerySet[User]:
    """The project's active owners and approvers, and the studio owners: these always where the project has nobody else."""
    roles = (Role.OWNER, Role.APPROVER)
    responsible = User.objects.filter(
        memberships__project=project, memberships__role__in=roles, memberships__is_active=True, is_active=True
    )
    if not with_studio and responsible.exists():
        return responsible
    return User.objects.filter(Q(pk__in=responsible.values("pk")) | Q(pk__in=permissions.studio_owners().values("pk")))


def people_of(budget: Budget) -> QuerySet[User]:
    """Who hears of a budget: who may raise it, the approvers of its project, and the member whose budget it is."""
    if budget.project is None:
        return permissions.studio_owners()
    people = responsible_for(budget.project, with_studio=budget.user is None)
    if budget.user is None:
        return people
    return User.objects.filter(Q(pk__in=people.values("pk")) | Q(pk=budget.user.pk, is_active=True))


# --- Refusals ---------------------------------------------------------------------------------------------------------


def refused(project: Project, user: User, error: SpendRefused) -> None:
    """Tells that `user` could not spend: one alert per project, person and hour, which counts the others. Call it after the rollback.

    Who asked was told by the refusal itself; what no budget could mend concerns nobody else.
    """
    if not isinstance(error, OverBudget | NoBudget):
        return
    with never_failing(AlertKind.REFUSED):
        key = f"refused:{project.pk}:{user.pk}:{timezone.now():%Y-%m-%dT%H}"
        known = Alert.objects.filter(key=key)
        if known.update(count=F("count") + 1):
            return
        budget = error.budget if isinstance(error, OverBudget) else None
        people = people_of(budget) if budget else responsible_for(project)
        is_new = tell(
            AlertKind.REFUSED,
            key,
            people=people.exclude(pk=user.pk),
            title=f"{project}: a request of {user.get_full_name() or user.get_username()} was refused for want of budget",
            text=str(error),
            project=project,
            path=_page(budget) if budget else reverse("admin:projects_project_change", args=[project.pk]),
        )
        if not is_new:
            known.update(count=F("count") + 1)


# --- Thresholds -------------------------------------------------------------------------------------------------------


def check_budgets() -> None:
    """Tells of the thresholds that a budget has passed in its present period, or is heading past, once each.

    Actual is what was charged. Forecast is `projects.money.forecast`, which counts what is held; a budget without an end has none.
    """
    now = clock.now()
    used = [each for each in budgets.figures(Budget.objects.active()) if each.spent or each.reserved]
    periods = _periods(used)
    told: dict[tuple[int, str], set[int]] = defaultdict(set)
    for period_id, kind, threshold in Alert.objects.filter(budget_period__in=periods.values()).values_list(
        "budget_period_id", "kind", "threshold"
    ):
        told[period_id, kind].add(threshold or 0)
    for figures in used:
        period = periods[figures.budget.pk]
        thresholds = set(figures.budget.thresholds)
        actual = _passed(thresholds, figures.spent, figures.limit)
        _tell_thresholds(AlertKind.BUDGET_ACTUAL, figures, period, actual, told[period.pk, AlertKind.BUDGET_ACTUAL])
        known = told[period.pk, AlertKind.BUDGET_FORECAST]
        if figures.ends_at and thresholds - actual - known:
            _check_forecast(figures, period, thresholds - actual, known, now)


def _periods(used: Sequence[Figures]) -> dict[Any, BudgetPeriod]:
    """The present period of each budget, by the budget's id."""
    starts = {figures.budget.pk: figures.starts_at for figures in used}
    periods = BudgetPeriod.objects.filter(budget__in=starts, starts_at__in=set(starts.values()))
    return {period.budget_id: period for period in periods if period.starts_at == starts[period.budget_id]}


def _passed(thresholds: Iterable[int], amount: int, limit: int) -> set[int]:
    return {threshold for threshold in thresholds if amount > 0 and amount * 100 >= threshold * limit}


def _check_forecast(
    figures: Figures, period: BudgetPeriod, thresholds: set[int], known: set[int], now: datetime
) -> None:
    expected = forecast.forecast(figures, now=now)
    if expected.amount is None:
        return
    heading_past = _passed(thresholds, expected.amount, figures.limit)
    _tell_thresholds(AlertKind.BUDGET_FORECAST, figures, period, heading_past, known, expected)


def _tell_thresholds(
    kind: AlertKind,
    figures: Figures,
    period: BudgetPeriod,
    passed: set[int],
    told: set[int],
    expected: forecast.Forecast | None = None,
) -> None:
    """Tells the highest of those that are new; the lower ones are told with it, and never again in this period."""
    new = sorted(passed - told, reverse=True)
    if not new:
        return
    title, text = _forecast_words(figures, new[0], expected) if expected else _actual_words(figures, new[0])
    common = {"text": text, "project": figures.budget.project, "budget_period": period, "path": _page(figures.budget)}
    is_news = new[0] > max(told, default=0)
    with transaction.atomic():
        for threshold in new:
            tell(
                kind,
                f"{kind}:{period.pk}:{threshold}",
                people=people_of(figures.budget) if is_news and threshold == new[0] else (),
                title=title,
                threshold=threshold,
                **common,
            )


def _actual_words(figures: Figures, threshold: int) -> tuple[str, str]:
    held = f", and {shown(figures.reserved)} more is held" if figures.reserved else ""
    text = f"{shown(figures.spent)} of {shown(figures.limit)} is spent{held}{_until(figures)}."
    return f"{figures.budget.scope}: {threshold}% of the budget {_period(figures)} is spent", text


def _forecast_words(figures: Figures, threshold: int, expected: forecast.Forecast) -> tuple[str, str]:
    if expected.used_up_at:
        on = _day(expected.used_up_at, figures)
        text = f"At this pace {shown(figures.limit)} is used up on {on}, and nothing more passes{_until(figures)}: {expected.method}"
        return f"{figures.budget.scope}: at this pace the budget {_period(figures)} is used up on {on}", text
    total = about(expected.amount or 0)
    text = f"At this pace it comes to {total} of {shown(figures.limit)}{_until(figures)}: {expected.method}"
    return f"{figures.budget.scope}: the budget {_period(figures)} is heading past {threshold}%", text


def _period(figures: Figures) -> str:
    return "in total" if figures.budget.period == Period.TOTAL else f"per {figures.budget.period}"


def _until(figures: Figures) -> str:
    if figures.ends_at is None:
        return ""
    return f" until {_day(figures.ends_at, figures)}"


def _day(moment: datetime, figures: Figures) -> str:
    local = moment.astimezone(figures.budget.time_zone())
    return f"{local.day} {local:%B %Y}"


def _page(budget: Budget) -> str:
    return reverse("admin:projects_budget_change", args=[budget.pk])
