"""What stands on every page of the admin: sidebar, environment badge, and whether the lane is paused."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

from generations.models import Lane
from projects.admin.access import access

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
    }


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    who = access(request)
    everybody, managers = who.may_somewhere("view"), who.may_somewhere("manage")
    groups = {
        "": [("Dashboard", "dashboard", "admin:index", True)],
        "Studio": [
            ("Projects", "folder_open", _list("projects_project"), everybody),
            ("Members", "group", _list("projects_membership"), everybody),
            ("Invitations", "mail", _list("projects_invitation"), managers),
        ],
        "Make": [
            ("Source images", "image", _list("projects_sourceimage"), everybody),
            ("Elements", "category", _list("generations_element"), everybody),
            ("Generations", "movie_edit", _list("generations_generation"), everybody),
            ("Videos", "movie", _list("generations_video"), everybody),
        ],
        "Money": [
            ("Budgets", "account_balance_wallet", _list("projects_budget"), everybody),
            ("Spend entries", "receipt_long", _list("projects_spendentry"), everybody),
        ],
        "Running": [("Lane", "conveyor_belt", _list("generations_lane"), who.is_studio_owner)],
        "People": [("Users", "person", _list("auth_user"), who.is_studio_owner)],
    }
    return [{"title": title, "items": [_item(request, *item) for item in items]} for title, items in groups.items()]


def _list(model: str) -> str:
    return f"admin:{model}_changelist"


def _item(request: HttpRequest, title: str, icon: str, view: str, is_shown: bool) -> dict[str, Any]:
    return {"title": title, "icon": icon, "link": reverse(view), "permission": lambda request: is_shown}
