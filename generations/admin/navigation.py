"""What stands on every page of the admin: sidebar, environment badge, and whether the lane is paused."""

import hashlib
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.templatetags.static import static
from django.urls import reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from unfold.settings import get_config
from unfold.utils import convert_color

from generations.models import Lane
from generations.services import approvals
from projects.admin.access import access, person
from projects.admin.notifications import unread

SANDBOX = "Sandbox: no real videos, no real money"
# Twice `:root`, so that it outweighs Unfold's own style sheet, which comes later.
_palette = [
    f"--color-{name}-{weight}: {convert_color(value)};"
    for name, weights in get_config()["COLORS"].items()
    for weight, value in weights.items()
]
COLOURS = "\n".join([":root:root {", *_palette, "}\n"])
COLOURS_DIGEST = hashlib.sha256(COLOURS.encode()).hexdigest()[:12]


def environment(request: HttpRequest) -> list[str] | None:
    return [SANDBOX, "warning"] if settings.WAVESPEED_SANDBOX else None


def style(request: HttpRequest) -> str:
    return static("studio/admin.css")


def colours_url(request: HttpRequest) -> str:
    return f"{reverse('colours')}?{COLOURS_DIGEST}"


@require_safe
@cache_control(max_age=86_400, immutable=True)
def colours(request: HttpRequest) -> HttpResponse:
    """Unfold's palette as a file: it would stand in each page as an inline style, which our Content-Security-Policy refuses."""
    return HttpResponse(COLOURS, content_type="text/css; charset=utf-8")


def favicon(request: HttpRequest) -> str:
    return static("studio/favicon.svg")


def script(request: HttpRequest) -> str:
    return static("studio/admin.js")


def every_page(request: HttpRequest) -> dict[str, Any]:
    """Who is not let in yet learns no more than that this is a sandbox."""
    if not request.user.is_active or not request.user.is_staff:
        return {"is_sandbox": settings.WAVESPEED_SANDBOX, "colors": None}
    return {
        "paused_lane": Lane.objects.filter(paused_at__isnull=False).select_related("paused_by").first(),
        "is_studio_owner": access(request).is_studio_owner,
        "is_sandbox": settings.WAVESPEED_SANDBOX,
        "colors": None,
        "unread": unread(request),
    }


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    who = access(request)
    everybody, managers = who.may_somewhere("view"), who.may_somewhere("manage")
    waiting = approvals.waiting_for(person(request)).count() if request.user.is_authenticated else 0
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
        "Running": [
            ("Operations", "monitor_heart", _list("generations_process"), who.is_studio_owner),
            ("Lane", "conveyor_belt", _list("generations_lane"), who.is_studio_owner),
            ("Unassigned videos", "unknown_document", _list("generations_unassignedprediction"), who.is_studio_owner),
        ],
        "People": [
            ("Users", "person", _list("auth_user"), who.is_studio_owner),
            ("API tokens", "key", "tokens", True),
        ],
    }
    return [{"title": title, "items": [_item(request, *item) for item in items]} for title, items in groups.items()]


def _list(model: str) -> str:
    return f"admin:{model}_changelist"


def _item(request: HttpRequest, title: str, icon: str, view: str, is_shown: bool, waiting: int = 0) -> dict[str, Any]:
    """`waiting` is how many of them wait for this person; then they are what it leads to."""
    link = f"{reverse(view)}?for_me=yes" if waiting else reverse(view)
    item = {"title": title, "icon": icon, "link": link, "permission": lambda request: is_shown}
    return item | ({"badge": waiting, "badge_variant": "warning"} if waiting else {})
