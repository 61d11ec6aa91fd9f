"""What stands on every page of the admin: sidebar, environment badge, and whether the lane is paused."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from generations import services
from generations.models import Lane
from projects.admin.access import access, person
from projects.admin.notifications import unread

SANDBOX = "Sandbox: no real videos, no real money"


def environment(request: HttpRequest) -> list[str] | None:
    return [SANDBOX, "warning"] if settings.WAVESPEED_SANDBOX else None


def style(request: HttpRequest) -> str:
    return static("studio/admin.css")


def favicon(request: HttpRequest) -> str:
    return static("studio/favicon.svg")


def script(request: HttpRequest) -> str:
    return static("studio/admin.js")


def every_page(request: HttpRequest) -> dict[str, Any]:
    """Who is not let in yet learns no more than that this is a sandbox."""
    if not request.user.is_active or not request.user.is_staff:
        return {"is_sandbox": settings.WAVESPEED_SANDBOX}
    return {
        "paused_lane": Lane.objects.filter(paused_at__isnull=False).select_related("paused_by").first(),
        "is_studio_owner": access(request).is_studio_owner,
        "is_sandbox": settings.WAVESPEED_SANDBOX,
        "unread": unread(request),
    }


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    who = access(request)
    everybody, managers = who.may_somewhere("view"), who.may_somewhere("manage")
    waiting = services.waiting_for(person(request)).count() if request.user.is_authenticated else 0
    groups: dict[str, list[tuple[Any, ...]]] = {
        "": [("Dashboard", "dashboard", "admin:index", True)],
        "Studio": [
            ("Projects", "folder_open", _list("projects_project"), everybody),
            ("Members", "group", _list("projects_membership"), everybody),
            ("Invitations", "mail", _list("projects_invitation"), managers),
            ("Settings", "settings", _list("projects_studio"), who.is_studio_owner),
        ],
        "Make": [
            ("Source images", "image", _list("projects_sourceimage"), everybody),
            ("Elements", "category", _list("generations_element"), everybody),
            ("Generations", "movie_edit", _list("generations_generation"), everybody),
            ("Videos", "movie", _list("generations_video"), everybody),
        ],
        "Money": [
            ("Spend", "monitoring", "spend", everybody),
            ("Approvals", "approval_delegation", _list("generations_approval"), everybody, waiting),
            ("Budgets", "account_balance_wallet", _list("projects_budget"), everybody),
            ("Spend entries", "receipt_long", _list("projects_spendentry"), everybody),
            ("Reconciliations", "balance", _list("generations_reconciliation"), who.is_studio_owner),
        ],
        "Running": [("Lane", "conveyor_belt", _list("generations_lane"), who.is_studio_owner)],
        "People": [("Users", "person", _list("auth_user"), who.is_studio_owner)],
    }
    return [{"title": title, "items": [_item(request, *item) for item in items]} for title, items in groups.items()]


def _list(model: str) -> str:
    return f"admin:{model}_changelist"


def _item(request: HttpRequest, title: str, icon: str, view: str, is_shown: bool, waiting: int = 0) -> dict[str, Any]:
    """`waiting` is how many of them wait for this person; then they are what it leads to."""
    link = f"{reverse(view)}?for_me=yes" if waiting else reverse(view)
    item = {"title": title, "icon": icon, "link": link, "permission": lambda request: is_shown}
    return item | ({"badge": waiting, "badge_variant": "warning"} if waiting else {})
