"""Between a click and the money: what is asked for, what it costs, what is left, and what exists already."""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from django.contrib.auth.models import User
from django.db import transaction

from generations import services
from generations.catalog import InvalidInputs
from generations.models import RETRYABLE, Generation, Status
from generations.prices import Price
from projects import budgets, permissions, spend
from projects.admin.display import BudgetBar
from projects.models import Budget, Project
from projects.money import shown

MOST_AT_ONCE = 50


class Kind(StrEnum):
    GENERATE = "generate"
    RETRY = "retry"


class DoneBefore(Exception):
    """A second click: what was asked for has happened, and nothing is paid again. The text is for people."""


@dataclass
class Plan:
    """Amounts are micro-dollars. With `problems`, nothing of it can be done."""

    kind: Kind
    lines: list[tuple[Generation, Price]] = field(default_factory=list)
    existing: list[Generation] = field(default_factory=list)
    bars: list[BudgetBar] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    approvals: list[str] = field(default_factory=list)
    retries_seen: int = 0

    @property
    def total(self) -> int:
        return sum(price.amount for _, price in self.lines)

    @property
    def total_shown(self) -> str:
        return shown(self.total)

    @property
    def lines_shown(self) -> list[tuple[Generation, str, str]]:
        """Each with its price, and with both prices where the provider says another one."""
        return [(made, shown(price.amount), str(price) if price.differs else "") for made, price in self.lines]


def make_plan(kind: Kind, generations: Sequence[Generation], *, by: User) -> Plan:
    plan = Plan(kind, retries_seen=_count_retries(generations))
    problems = {generation: _problem(kind, generation, by) for generation in generations}
    plan.problems = [problem for problem in problems.values() if problem]
    possible = [generation for generation, problem in problems.items() if not problem]
    told = _ask(plan, possible)
    for generation in possible:
        try:
            quote = services.quote(
                generation.project,
                endpoint=generation.endpoint,
                inputs=services.inputs_of(generation),
                by=by,
                told=told,
            )
        except InvalidInputs as error:
            plan.problems.extend(f"“{generation}”: {text}" for texts in error.errors.values() for text in texts)
            continue
        plan.lines.append((generation, quote.prices[0]))
        plan.existing += [found for found in _surprises(kind, generation, quote) if found not in plan.existing]
    _fit(plan, by)
    return plan


def _ask(plan: Plan, generations: Sequence[Generation]) -> services.Prices:
    try:
        return (
            services.ask_prices(generations) if plan.kind == Kind.GENERATE else services.ask_retry_prices(generations)
        )
    except services.PriceUnknown as refusal:
        plan.problems.append(str(refusal))
    except InvalidInputs:
        pass  # is told of the generation that it is in
    return {}


def _fit(plan: Plan, by: User) -> None:
    """What it leaves of the budgets. What waits for an approver first holds nothing yet, so that no budget refuses it now."""
    totals: Counter[Project] = Counter()
    for generation, price in plan.lines:
        totals[generation.project] += price.amount
    waiting = {project for project, total in totals.items() if services.needs_approval(project, total)}
    needs: Counter[uuid.UUID] = Counter()
    held_now: Counter[uuid.UUID] = Counter()
    for generation, price in plan.lines:
        for pk in Budget.objects.matching(generation.project_id, by.pk).values_list("pk", flat=True):
            needs[pk] += price.amount
            held_now[pk] += 0 if generation.project in waiting else price.amount
    figures = budgets.figures(Budget.objects.filter(pk__in=list(needs)))
    plan.bars = [BudgetBar(each, needs[each.budget.pk]) for each in figures]
    plan.approvals = [_approval_needed(project, totals[project], by) for project in totals if project in waiting]
    plan.problems += [
        f"{bar.title}: {bar.missing_shown} is missing. Choose fewer, or ask for a higher limit."
        for bar in (BudgetBar(each, held_now[each.budget.pk]) for each in figures)
        if bar.refuses
    ]
    plan.problems += _without_budget([project for project in totals if project not in waiting])


def _approval_needed(project: Project, total: int, by: User) -> str:
    people = permissions.who_may("approve", project).exclude(pk=by.pk)
    names = ", ".join(person.get_full_name() or person.get_username() for person in people) or "nobody yet"
    return (
        f"In {project}, {shown(total)} at once is more than the {shown(project.approval_above or 0)} that can be spent without an "
        f"approver. They can approve it: {names}. Until then nothing is held."
    )


def _problem(kind: Kind, generation: Generation, by: User) -> str:
    if not permissions.may(by, "spend", generation.project):
        return f"“{generation}”: generating takes the role “Editor” or higher in {generation.project}."
    if generation.project.archived_at:
        return f"“{generation}”: {generation.project} is archived, so nothing new can be made in it."
    status = generation.get_status_display().lower()
    if kind == Kind.GENERATE and generation.status != Status.DRAFT:
        return f"“{generation}” is {status}: only drafts can be generated."
    if kind == Kind.RETRY and generation.status not in RETRYABLE:
        return f"“{generation}” is {status}: only a failed, cancelled or completed one can be retried."
    return ""


def _surprises(kind: Kind, generation: Generation, quote: services.Quote) -> list[Generation]:
    """What the services would ask about: the same video made lately, or another retry; the retried one is no surprise."""
    if kind == Kind.GENERATE:
        return services.duplicates(generation)
    retries = generation.retries.exclude(status__in=(Status.DRAFT, Status.CANCELLED))
    found = [other for other in quote.existing if other.pk != generation.pk]
    return found + [other for other in retries if other not in found]


def _without_budget(projects: list[Project]) -> list[str]:
    named = {project.pk: project for project in projects}
    budgeted = Budget.objects.active().filter(project__in=named, user=None).values_list("project_id", flat=True)
    return [str(spend.NoBudget(named[pk])) for pk in named.keys() - set(budgeted)]


def carry_out(
    kind: Kind, generations: Sequence[Generation], *, by: User, confirm: bool, retries_seen: int, at_most: int | None
) -> list[Generation]:
    """Queues all of them or none. Raises what the services raise, and `DoneBefore` when an earlier click did it."""
    if kind == Kind.GENERATE:
        statuses = set(
            Generation.objects.filter(pk__in=[each.pk for each in generations]).values_list("status", flat=True)
        )
        if statuses and Status.DRAFT not in statuses:
            raise DoneBefore("This was done before: they are no drafts any more. Nothing was paid again.")
        return services.queue_many(generations, by=by, confirm=confirm, at_most=at_most)
    told = services.ask_retry_prices(generations)
    with services.refusals_told(), transaction.atomic():
        rows = _locked(generations, retries_seen)
        return services.retry_many(rows, by=by, confirm=confirm, told=told, at_most=at_most)


def _locked(generations: Sequence[Generation], retries_seen: int) -> list[Generation]:
    """Locked, so that of two clicks the second sees the retry of the first, which its page did not show."""
    locked = Generation.objects.select_for_update(of=("self",)).select_related("project").order_by("pk")
    rows = list(locked.filter(pk__in=[each.pk for each in generations]))
    if _count_retries(rows) != retries_seen:
        raise DoneBefore(
            "This was retried meanwhile, and nothing was paid again. Look at its retries before you make another one."
        )
    return rows


def _count_retries(generations: Sequence[Generation]) -> int:
    return Generation.objects.filter(retry_of__in=[each.pk for each in generations]).count()


def told_done(done: Sequence[Generation]) -> list[str]:
    """What to say of them: those that are queued, and those that somebody has to approve first."""
    sentences = {
        Status.QUEUED: "Queued {count} for {total}.",
        Status.AWAITING_APPROVAL: "Asked for approval of {count} for {total}. Nothing is held until somebody approves.",
    }
    texts = []
    for status, sentence in sentences.items():
        made = [generation for generation in done if generation.status == status]
        if made:
            count = f"{len(made)} {'video' if len(made) == 1 else 'videos'}"
            texts.append(sentence.format(count=count, total=shown(sum(map(services.price, made)))))
    return texts
