"""Between a click and the money: what is asked for, what it costs, what is left, and what exists already."""

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from django.contrib.auth.models import User
from django.db import transaction
from django.urls import reverse

from generations import catalog
from generations.catalog.endpoint import InvalidInputs
from generations.models import RETRYABLE, Generation, Status
from generations.services import costs, orders, prices, queueing, quotes, refusals
from generations.services.approvals import needs_approval
from generations.services.prices import Price
from projects import permissions
from projects.admin.display import BudgetBar
from projects.models import Budget, Enforcement, Project
from projects.money import budgets, shown, spend, to_micros
from projects.people.members import names

MOST_AT_ONCE = 50


class Kind(StrEnum):
    GENERATE = "generate"
    RETRY = "retry"


class DoneBefore(Exception):
    """A second click: what was asked for has happened, and nothing is paid again. The text is for people."""


@dataclass(frozen=True)
class Help:
    """What gets somebody past a refusal; without an address it is somebody else's to do."""

    text: str
    url: str = ""


@dataclass
class Plan:
    """Amounts are micro-dollars. With `problems`, nothing of it can be done."""

    kind: Kind
    lines: list[tuple[Generation, Price]] = field(default_factory=list)
    existing: list[Generation] = field(default_factory=list)
    bars: list[BudgetBar] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    approvals: list[str] = field(default_factory=list)
    helps: list[Help] = field(default_factory=list)
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
    access = permissions.Access.of(by)
    problems = {generation: _problem(kind, generation, access) for generation in generations}
    plan.problems = [problem for problem in problems.values() if problem]
    possible = [generation for generation, problem in problems.items() if not problem]
    told = _ask(plan, possible)
    costs = quotes.price_each(possible, told)
    surprises = _surprises(kind, possible)
    for generation in possible:
        match costs[generation.pk]:
            case InvalidInputs() as error:
                plan.problems.extend(f"“{generation}”: {text}" for texts in error.errors.values() for text in texts)
            case cost:
                plan.lines.append((generation, cost))
                plan.existing += [found for found in surprises[generation.pk] if found not in plan.existing]
    _fit(plan, by)
    return plan


def _ask(plan: Plan, generations: Sequence[Generation]) -> prices.Prices:
    try:
        return quotes.ask_prices(generations) if plan.kind == Kind.GENERATE else quotes.ask_retry_prices(generations)
    except refusals.PriceUnknown as refusal:
        plan.problems.append(str(refusal))
    except InvalidInputs:
        pass  # is told of the generation that it is in
    return {}


def _fit(plan: Plan, by: User) -> None:
    """What it leaves of the budgets. What waits for an approver first holds nothing yet, so that no budget refuses it now."""
    totals: Counter[Project] = Counter()
    for generation, price in plan.lines:
        totals[generation.project] += price.amount
    waiting = {project for project, total in totals.items() if needs_approval(project, total)}
    needs: Counter[uuid.UUID] = Counter()
    held_now: Counter[uuid.UUID] = Counter()
    without_budget = []
    for project, total in totals.items():
        matching = list(Budget.objects.matching(project.pk, by.pk))
        if project not in waiting and not budgets.has_own(matching):
            without_budget.append(project)
        for budget in matching:
            needs[budget.pk] += total
            held_now[budget.pk] += 0 if project in waiting else total
    figures = budgets.figures(Budget.objects.filter(pk__in=list(needs)))
    plan.bars = [BudgetBar(each, needs[each.budget.pk]) for each in figures]
    plan.approvals = [_approval_needed(project, totals[project], by) for project in totals if project in waiting]
    refusing = [bar for bar in (BudgetBar(each, held_now[each.budget.pk]) for each in figures) if bar.refuses]
    plan.problems += [f"{bar.title}: {bar.missing_shown} is missing." for bar in refusing]
    if refusing:
        plan.helps += _helps(plan, figures, refusing, by)
    for project in without_budget:
        problem, help = no_budget(project, by)
        plan.problems.append(problem)
        plan.helps += [help] if help else []


def no_budget(project: Project, by: User) -> tuple[str, Help | None]:
    """What is wrong, and where `by` sets it right; who may not, reads who may."""
    refusal = spend.NoBudget(project)
    if not permissions.may_set_budget(by, project, None):
        return str(refusal), None
    url = f"{reverse('admin:projects_budget_add')}?project={project.pk}"
    return refusal.what, Help(f"Set a budget for {project}", url)


def _helps(plan: Plan, figures: Sequence[budgets.Figures], refusing: Sequence[BudgetBar], by: User) -> list[Help]:
    helps = []
    if len(plan.lines) > 1:
        helps.append(Help("Choose fewer of them."))
    elif plan.kind == Kind.GENERATE and (shorter := _shorter(plan.lines[0][0], figures)):
        helps.append(shorter)
    return helps + [_raise_limit(bar.figures.budget, by) for bar in refusing]


def _shorter(generation: Generation, figures: Sequence[budgets.Figures]) -> Help | None:
    """The longest that fits all hard budgets; shots have to be changed by hand."""
    model = catalog.get(generation.endpoint)
    free = min(each.free for each in figures if each.budget.enforcement == Enforcement.HARD)
    if generation.multi_prompt:
        return None
    for seconds in range(generation.duration - 1, 0, -1):
        try:
            price = to_micros(model.price({"duration": seconds}))
        except InvalidInputs:
            continue
        if price <= free:
            page = reverse("admin:generations_generation_change", args=[generation.pk])
            return Help(f"Make it {seconds} seconds: {shown(price)} fits", f"{page}?duration={seconds}")
    return None


def _raise_limit(budget: Budget, by: User) -> Help:
    if permissions.may_change_budget(by, budget):
        page = reverse("admin:projects_budget_change", args=[budget.pk])
        return Help(f"Raise the limit of “{budget.title}”, or top it up", page)
    owners = permissions.studio_owners()
    if budget.project and budget.user:
        owners = permissions.who_may("manage", budget.project).exclude(pk=budget.user.pk)
    return Help(f"The limit of “{budget.title}” can be raised by: {names(owners)}.")


def _approval_needed(project: Project, total: int, by: User) -> str:
    people = permissions.who_may("approve", project).exclude(pk=by.pk)
    return (
        f"In {project}, {shown(total)} at once is more than the {shown(project.approval_above or 0)} that can be spent without an "
        f"approver. They can approve it: {names(people)}. Until then nothing is held."
    )


def _problem(kind: Kind, generation: Generation, access: permissions.Access) -> str:
    if not access.may("spend", generation.project_id):
        return f"“{generation}”: generating takes the role “Editor” or higher in {generation.project}."
    if generation.project.archived_at:
        return f"“{generation}”: {generation.project} is archived, so nothing new can be made in it."
    status = generation.get_status_display().lower()
    if kind == Kind.GENERATE and generation.status != Status.DRAFT:
        return f"“{generation}” is {status}: only drafts can be generated."
    if kind == Kind.RETRY and generation.status not in RETRYABLE:
        return f"“{generation}” is {status}: only a failed, cancelled or completed one can be retried."
    return ""


def _surprises(kind: Kind, generations: Sequence[Generation]) -> dict[uuid.UUID, list[Generation]]:
    """What the services would ask about: the same video made lately, or another retry; the retried one is no surprise."""
    found = queueing.duplicates_of(generations)
    if kind == Kind.RETRY:
        for pk, retries in queueing.retries_of(found).items():
            found[pk] += [other for other in retries if other not in found[pk]]
    return found


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
        return orders.queue_many(generations, by=by, confirm=confirm, at_most=at_most)
    told = quotes.ask_retry_prices(generations)
    with queueing.refusals_told(), transaction.atomic():
        rows = _locked(generations, retries_seen)
        return orders.retry_many(rows, by=by, confirm=confirm, told=told, at_most=at_most)


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
            texts.append(sentence.format(count=count, total=shown(sum(map(costs.price, made)))))
    return texts
