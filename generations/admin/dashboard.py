"""The admin's index: what runs, what waits, what failed, and where the money stands."""

from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone

from generations.admin.attention import matters
from generations.admin.display import LABEL_COLOURS, ago, failure_sentence
from generations.lifecycle import progress
from generations.models import (
    RUNNING,
    Approval,
    Generation,
    Status,
    Video,
)
from generations.services import approvals
from projects import permissions
from projects.admin.access import access, person
from projects.admin.display import bars
from projects.models import Budget
from projects.money import budgets, shown
from projects.people.members import names

MOST = 6
LATELY = timedelta(days=7)


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    who = access(request)
    projects = who.projects("view")
    mine = permissions.visible(Generation.objects.all(), person(request)).select_related(
        "project", "image", "requested_by"
    )
    mine = mine.prefetch_related("videos")
    waiting = mine.filter(status=Status.QUEUED).order_by("queued_at")
    failed = mine.filter(status=Status.FAILED, completed_at__gte=timezone.now() - LATELY).order_by("-completed_at")
    running = mine.filter(status__in=RUNNING).order_by("submitted_at")
    unclear = mine.filter(status=Status.UNCONFIRMED).order_by("submitted_at")
    drafts = mine.filter(status=Status.DRAFT, requested_by=person(request)).order_by("-created_at")
    context |= {
        "title": "Dashboard",
        "has_projects": projects.exists(),
        "may_make": who.may_somewhere("edit"),
        "matters": len(matters()) if who.is_studio_owner else 0,
        "approvals_waiting": approvals.waiting_for(person(request)).count(),
        "lists": [
            _listed("Running now", "Nothing is being made at the moment.", running),
            *([_listed("Unconfirmed", "", unclear)] if unclear.exists() else []),
            _listed("Waiting", "Nothing waits for its turn.", waiting),
            _listed("Failed in the last 7 days", "Nothing failed. Lovely.", failed),
            _listed("Your drafts", "You have no drafts.", drafts),
        ],
        "asked": _asked(person(request)),
        "latest": _latest_videos(request),
        "budget_bars": bars(budgets.figures(_budgets(request))),
    }
    return context


def _listed(title: str, nothing: str, rows: Any) -> dict[str, Any]:
    return {
        "title": title,
        "nothing": nothing,
        "count": rows.count(),
        "rows": [_row(generation) for generation in rows[:MOST]],
    }


def _row(generation: Generation) -> dict[str, Any]:
    label = generation.get_status_display()
    return {
        "generation": generation,
        "status": label,
        "colour": LABEL_COLOURS[label],
        "progress": progress.percent(generation) if generation.status in RUNNING else None,
        "note": failure_sentence(generation),
        "when": ago(
            generation.completed_at or generation.submitted_at or generation.queued_at or generation.created_at
        ),
    }


def _asked(by: User) -> list[dict[str, Any]]:
    """What they asked to have approved and nobody has decided, and who can."""
    waiting = Approval.objects.filter(requested_by=by, decision=Approval.Decision.WAITING).select_related("project")
    return [
        {
            "approval": approval,
            "amount": shown(approval.amount),
            "people": names(permissions.who_may("approve", approval.project).exclude(pk=by.pk)),
            "when": ago(approval.requested_at),
        }
        for approval in waiting[:MOST]
    ]


def _latest_videos(request: HttpRequest) -> list[Video]:
    videos = permissions.visible(Video.objects.filter(trashed_at=None), person(request), "generation__project")
    return list(videos.select_related("generation__project").order_by("-created_at")[:MOST])


def _budgets(request: HttpRequest) -> Any:
    """What binds this person's own spending: the studio's budgets, their projects', their own."""
    who = access(request)
    shared = Q(project__in=who.open_projects("view"), user=None) | Q(
        project__in=who.projects("view"), user=person(request)
    )
    studio = Q(project=None) if who.may_somewhere("view") else Q(pk=None)
    return Budget.objects.active().filter(shared | studio)[:12]
