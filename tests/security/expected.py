"""Who may do what: for each route the least that somebody must be, by method. This table is the specification of access.

A route that has no line fails `test_matrix.py`, and so does a line without its route. To add one:

1. Run `pytest tests/security/test_matrix.py`; the failure names the routes, as they are written in the URL patterns.
2. Write the line: `"pattern": "GET viewer, POST editor"`. The words are

   ===================== =================================================================================================
   anybody               logged in or not
   person                whoever has an account that works
   somewhere ROLE        who has that role, or a higher one, in any project: for lists and forms of no one project
   ROLE                  in the project that the row belongs to: viewer, editor, approver, owner; studio owners are above all
   studio owner          in the group of studio owners, or a superuser
   nobody                refused to everybody, be it because this row is somebody else's own
   ===================== =================================================================================================

   A method that is left out must be refused, or change nothing.
3. If the route has an id of a model that `world.py` has no row of, add the row there, and its collection to `routes.COLLECTIONS`.
4. If its POST wants fields before it looks at who asks, put them into `BODIES`.
5. A new admin action needs a line in `ACTIONS`.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.utils import timezone

from generations.admin.confirmation import Kind
from tests.pipeline import ENDPOINT
from tests.security.world import World


def section(
    model: str, *, see: str, list_: str = "", add: str = "nobody", change: str = "", history: str = ""
) -> dict[str, str]:
    """The routes that each ModelAdmin has. Nobody deletes anything."""
    base = f"admin/{model}/"
    one = f"{base}<path:object_id>/"
    return {
        base: f"GET {list_ or f'somewhere {see}'}, POST {list_ or f'somewhere {see}'}",
        f"{base}add/": f"GET {add}, POST {add}",
        # Pages to read may be asked with POST too, which does nothing.
        f"{one}change/": f"GET {see}, POST {change}" if change else f"GET {see}",
        f"{one}history/": f"GET {history or see}, POST {history or see}",
        f"{one}delete/": "GET nobody, POST nobody",
        # Leads to the page of the row, whether there is one or not.
        one: "GET person, POST person",
    }


ADMIN = {
    "admin/": "GET person, POST person",
    "admin/<str:app_label>/": "GET somewhere viewer, POST somewhere viewer",
    "admin/<path:url>": "GET nobody, POST nobody",
    "admin/autocomplete/": "GET somewhere viewer",
    "admin/colours.css": "GET anybody",
    "admin/jsi18n/": "GET person",
    "admin/login/": "GET anybody, POST anybody",
    "admin/logout/": "POST anybody",
    "admin/password_change/": "GET person, POST person",
    "admin/password_change/done/": "GET person",
    "admin/r/<path:content_type_id>/<path:object_id>/": "GET nobody, POST nobody",
    "admin/r/<path:rest>": "GET nobody, POST nobody",
    "admin/search/": "GET person, POST person",
    "admin/spend/": "GET person, POST person",
    "admin/tokens/": "GET person, POST person",
    # This one is another person's: one's own are in test_tokens.py.
    "admin/tokens/<str:pk>/revoke/": "POST studio owner",
    # --- projects ---
    **section("projects/project", see="viewer", list_="somewhere viewer", add="studio owner", change="owner"),
    "admin/projects/project/<uuid:pk>/archive/": "POST studio owner",
    "admin/projects/project/<uuid:pk>/bring-back/": "POST studio owner",
    "admin/projects/project/<uuid:pk>/pause/": "POST owner",
    "admin/projects/project/<uuid:pk>/resume/": "POST owner",
    **section("projects/membership", see="viewer", change="owner"),
    **section("projects/invitation", see="owner", add="somewhere owner"),
    **section("projects/sourceimage", see="viewer", add="somewhere editor", change="editor"),
    "admin/projects/sourceimage/<path:object_id>/archive/": "POST editor",
    "admin/projects/sourceimage/<path:object_id>/trash/": "POST editor",
    "admin/projects/sourceimage/<path:object_id>/restore/": "POST editor",
    **section("projects/budget", see="viewer", add="somewhere owner", change="studio owner"),
    "admin/projects/budget/<uuid:object_id>/top-up/": "GET studio owner, POST studio owner",
    "admin/projects/budget/<uuid:object_id>/top-ups/<uuid:top_up_id>/end/": "POST studio owner",
    **section("projects/spendentry", see="viewer"),
    **section("projects/studio", see="studio owner", list_="studio owner", change="studio owner"),
    # What the viewer was told: nobody else's. One's own are in test_own_things.
    **section("projects/notification", see="nobody", list_="person"),
    "admin/projects/notification/<path:object_id>/change/": "GET person, POST person",  # leads to the list
    "admin/projects/notification/<int:pk>/open/": "GET nobody, POST nobody",
    "admin/projects/notification/<int:pk>/read/": "POST nobody",
    "admin/projects/notification/read-all/": "POST person",
    "admin/projects/notification/preference/": "POST person",
    # --- generations ---
    **section("generations/generation", see="viewer", add="somewhere editor", change="editor"),
    "admin/generations/generation/quote/": "POST editor",
    # What it says to whom may not spend stands on the page; see test_services.py.
    "admin/generations/generation/confirm/<str:kind>/": "GET viewer, POST editor",
    "admin/generations/generation/<uuid:pk>/status/": "GET viewer, POST viewer",
    "admin/generations/generation/<uuid:pk>/cancel/": "POST editor",
    "admin/generations/generation/<uuid:pk>/ignore/": "POST editor",
    "admin/generations/generation/<uuid:pk>/want/": "POST editor",
    "admin/generations/generation/<uuid:pk>/priority/": "POST editor",
    "admin/generations/generation/<uuid:pk>/assign/": "POST owner",
    "admin/generations/generation/<uuid:pk>/not-made/": "POST owner",
    "admin/generations/generation/<uuid:pk>/take-output/": "POST owner",
    "admin/generations/generation/<uuid:pk>/no-video/": "POST owner",
    "admin/generations/generation/<uuid:pk>/take-as-it-is/": "POST owner",
    **section("generations/element", see="viewer", add="somewhere editor", change="editor"),
    **section("generations/video", see="viewer"),
    "admin/generations/video/<uuid:pk>/trash/": "POST editor",
    "admin/generations/video/<uuid:pk>/restore/": "POST editor",
    **section("generations/approval", see="viewer", change="approver"),
    **section("generations/lane", see="studio owner", list_="studio owner", change="studio owner"),
    "admin/generations/lane/<path:object_id>/change/": "GET person, POST person",  # leads to the list
    "admin/generations/lane/pause-endpoint/": "POST studio owner",
    "admin/generations/lane/pause/": "POST studio owner",
    "admin/generations/lane/resume/": "POST studio owner",
    "admin/generations/lane/resume-endpoint/": "POST studio owner",
    **section("generations/reconciliation", see="studio owner", list_="studio owner"),
    "admin/generations/reconciliation/now/": "POST studio owner",
    **section("generations/process", see="studio owner", list_="studio owner"),
    "admin/generations/process/<path:object_id>/change/": "GET person, POST person",  # leads to the list
    **section("generations/unassignedprediction", see="studio owner", list_="studio owner", change="studio owner"),
    **section("auth/user", see="studio owner", list_="studio owner", add="studio owner", change="studio owner"),
    "admin/auth/user/<id>/password/": "GET studio owner, POST studio owner",
    "admin/auth/user/<id>/switch-off/": "POST studio owner",
    "admin/auth/user/<id>/switch-on/": "POST studio owner",
}

OUTSIDE = {
    # Whoever has an address that was signed, or a link that was sent.
    "media/<str:signature>/<path:name>": "GET anybody",
    "join/<str:token>/": "GET anybody, POST anybody",
    "accounts/password-reset/": "GET anybody, POST anybody",
    "accounts/password-reset/sent/": "GET anybody",
    "accounts/password-reset/done/": "GET anybody",
    "accounts/password-reset/<uidb64>/<token>/": "GET anybody, POST anybody",
    "favicon.ico": "GET anybody",
    "": "GET anybody",  # leads to the admin
    "livez": "GET anybody",
    "readyz": "GET anybody",
    # And whoever has METRICS_TOKEN.
    "metrics": "GET studio owner",
    "api/<path:path>": "GET nobody, POST nobody",
    "api/v1/docs/": "GET anybody",
    "api/v1/schema/": "GET anybody",
}

OF_PROJECT = "api/v1/projects/<uuid:project_id>/"
SPEND = ["", "breakdown.csv", "breakdown.xlsx", "entries.csv", "entries.xlsx", "focus.csv"]
API = {
    "api/v1/projects/": "GET person, POST studio owner",
    "api/v1/projects/<uuid:pk>/": "GET viewer, PATCH owner",
    "api/v1/projects/<uuid:pk>/archive/": "POST studio owner",
    f"{OF_PROJECT}pause/": "POST owner",
    f"{OF_PROJECT}resume/": "POST owner",
    f"{OF_PROJECT}members/": "GET viewer, POST owner",
    f"{OF_PROJECT}members/<int:pk>/": "PATCH owner, DELETE owner",
    f"{OF_PROJECT}budgets/": "GET viewer, POST studio owner",
    f"{OF_PROJECT}budgets/<uuid:pk>/": "PATCH studio owner, DELETE studio owner",
    f"{OF_PROJECT}budgets/<uuid:budget_id>/top-ups/": "GET viewer, POST studio owner",
    f"{OF_PROJECT}budgets/<uuid:budget_id>/top-ups/<uuid:pk>/": "DELETE studio owner",
    f"{OF_PROJECT}spend/entries/": "GET viewer",
    **{f"{OF_PROJECT}spend/{name}": "GET viewer" for name in SPEND},
    **{f"api/v1/spend/{name}": "GET person" for name in SPEND},
    "api/v1/budgets/": "GET person, POST studio owner",
    "api/v1/budgets/<uuid:pk>/": "PATCH studio owner, DELETE studio owner",
    "api/v1/budgets/<uuid:budget_id>/top-ups/": "GET somewhere viewer, POST studio owner",
    "api/v1/budgets/<uuid:budget_id>/top-ups/<uuid:pk>/": "DELETE studio owner",
    # The one that is asked for is another person's, which the API has for nobody.
    "api/v1/tokens/": "GET person",
    "api/v1/tokens/<str:id>/": "DELETE nobody",
    "api/v1/source-images/": "GET person, POST editor",
    "api/v1/source-images/<uuid:pk>/": "GET viewer, PATCH editor, DELETE editor",
    "api/v1/source-images/<uuid:pk>/trash/": "POST editor",
    "api/v1/source-images/<uuid:pk>/restore/": "POST editor",
    "api/v1/endpoints/": "GET person",
    "api/v1/elements/": "GET person, POST editor",
    "api/v1/elements/<uuid:pk>/": "GET viewer, PATCH editor, DELETE editor",
    "api/v1/generations/": "GET person, POST editor",
    "api/v1/generations/quote/": "POST viewer",
    "api/v1/generations/<uuid:pk>/": "GET viewer, PATCH editor",
    "api/v1/generations/<uuid:pk>/assign/": "POST owner",
    "api/v1/generations/<uuid:pk>/candidates/": "GET owner",
    "api/v1/generations/<uuid:pk>/not-made/": "POST owner",
    "api/v1/generations/<uuid:pk>/take-output/": "POST owner",
    "api/v1/generations/<uuid:pk>/no-video/": "POST owner",
    "api/v1/generations/<uuid:pk>/take-as-it-is/": "POST owner",
    # Whoever can sign as the provider: tests/generations/api/test_webhooks.py.
    "api/v1/webhooks/wavespeed/<uuid:generation>/": "POST nobody",
    "api/v1/generations/<uuid:pk>/approve/": "POST approver",
    "api/v1/generations/<uuid:pk>/cancel/": "POST editor",
    "api/v1/generations/<uuid:pk>/events/": "GET viewer",
    "api/v1/generations/<uuid:pk>/ignore-result/": "POST editor",
    "api/v1/generations/<uuid:pk>/want-result/": "POST editor",
    "api/v1/generations/<uuid:pk>/queue/": "POST editor",
    "api/v1/generations/<uuid:pk>/reject/": "POST approver",
    "api/v1/generations/<uuid:pk>/retry/": "POST editor",
    "api/v1/approvals/": "GET person",
    "api/v1/approvals/<uuid:pk>/": "GET viewer",
    "api/v1/approvals/<uuid:pk>/approve/": "POST approver",
    "api/v1/approvals/<uuid:pk>/reject/": "POST approver",
    "api/v1/videos/": "GET person",
    "api/v1/videos/<uuid:pk>/": "GET viewer, DELETE editor",
    "api/v1/videos/<uuid:pk>/download/": "GET viewer",
    "api/v1/videos/<uuid:pk>/restore/": "POST editor",
}

ROUTES: dict[str, str] = ADMIN | OUTSIDE | API

# --- What a request needs so that who asks is what it is refused for -------------------------------------------------------


def _asked(world: World) -> dict[str, Any]:
    image = world.rows["projects.sourceimage"]
    inputs = {"image": str(image.pk), "prompt": "Steam", "duration": 3}
    return {"project": str(world.project.pk), "endpoint": ENDPOINT, **inputs}


def _top_up(world: World) -> dict[str, Any]:
    return {"amount": "5", "reason": "Fair", "ends_at": (timezone.now() + timedelta(days=1)).isoformat()}


def _candidate(world: World) -> dict[str, Any]:
    return REASON | {"candidate": str(world.rows["generations.unassignedprediction"].pk)}


REASON = {"reason": "The invoice looks wrong"}
LIMIT = {"limit": "5"}
BUDGET = {"period": "day", "enforcement": "hard", **LIMIT}
ELEMENT = {"name": "Cup", "element_id": "12"}

BODIES: dict[str, Callable[[World], dict[str, Any]]] = {
    "POST api/v1/projects/": lambda world: {"name": "Tea"},
    "PATCH api/v1/projects/<uuid:pk>/": lambda world: {"description": "New"},
    f"POST {OF_PROJECT}members/": lambda world: {"email": "new@example.com", "role": "viewer"},
    f"PATCH {OF_PROJECT}members/<int:pk>/": lambda world: {"role": "editor"},
    f"POST {OF_PROJECT}budgets/": lambda world: BUDGET,
    f"PATCH {OF_PROJECT}budgets/<uuid:pk>/": lambda world: LIMIT,
    f"POST {OF_PROJECT}budgets/<uuid:budget_id>/top-ups/": _top_up,
    "POST api/v1/budgets/": lambda world: BUDGET,
    "PATCH api/v1/budgets/<uuid:pk>/": lambda world: LIMIT,
    "POST api/v1/budgets/<uuid:budget_id>/top-ups/": _top_up,
    "POST api/v1/source-images/": lambda world: {"project": str(world.project.pk), "url": "http://127.0.0.1/a.jpg"},
    "PATCH api/v1/source-images/<uuid:pk>/": lambda world: {"title": "New"},
    "POST api/v1/elements/": lambda world: {"project": str(world.project.pk), **ELEMENT},
    "PATCH api/v1/elements/<uuid:pk>/": lambda world: {"name": "New"},
    "POST api/v1/generations/": _asked,
    "POST api/v1/generations/quote/": _asked,
    "PATCH api/v1/generations/<uuid:pk>/": lambda world: {"prompt": "New"},
    f"POST {OF_PROJECT}pause/": lambda world: REASON,
    f"POST {OF_PROJECT}resume/": lambda world: REASON,
    "POST admin/projects/project/<uuid:pk>/pause/": lambda world: REASON,
    "POST admin/projects/project/<uuid:pk>/resume/": lambda world: REASON,
    "POST admin/generations/lane/pause-endpoint/": lambda world: REASON | {"endpoint": ENDPOINT},
    "POST admin/generations/generation/<uuid:pk>/priority/": lambda world: {"priority": "1"},
    "POST admin/generations/generation/<uuid:pk>/assign/": _candidate,
    "POST admin/generations/generation/<uuid:pk>/not-made/": lambda world: REASON,
    "POST admin/generations/generation/<uuid:pk>/take-output/": lambda world: REASON | {"address": VIDEO},
    "POST admin/generations/generation/<uuid:pk>/no-video/": lambda world: REASON,
    "POST api/v1/generations/<uuid:pk>/take-output/": lambda world: REASON | {"address": VIDEO},
    "POST api/v1/generations/<uuid:pk>/no-video/": lambda world: REASON,
    "POST admin/generations/generation/<uuid:pk>/take-as-it-is/": lambda world: REASON,
    "POST api/v1/generations/<uuid:pk>/assign/": _candidate,
    "POST api/v1/generations/<uuid:pk>/not-made/": lambda world: REASON,
    "POST api/v1/generations/<uuid:pk>/take-as-it-is/": lambda world: REASON,
    "POST api/v1/generations/<uuid:pk>/reject/": lambda world: {"comment": "No"},
    "POST api/v1/approvals/<uuid:pk>/reject/": lambda world: {"comment": "No"},
    "POST admin/generations/approval/<path:object_id>/change/": lambda world: {"_reject": "", "comment": "No"},
    "POST admin/generations/lane/pause/": lambda world: {"reason": "The invoice looks wrong"},
    "POST admin/generations/lane/resume/": lambda world: {"reason": "It was right"},
}
VIDEO = "http://127.0.0.1:9/video.mp4"
QUERIES: dict[str, Callable[[World], str]] = {
    "admin/autocomplete/": lambda world: "app_label=generations&model_name=generation&field_name=image&term=",
    "admin/search/": lambda world: "s=a",
    "admin/generations/generation/quote/": lambda world: f"project={world.project.pk}",
    "admin/generations/generation/confirm/<str:kind>/": lambda world: f"ids={world.rows['generations.generation'].pk}",
}
assert Kind.GENERATE == "generate"

# --- Actions of the admin's lists: the least role in the project of the chosen row -------------------------------------------

ACTIONS: dict[str, dict[str, str]] = {
    "generations.element": {"archive": "editor", "bring_back": "editor"},
    "generations.generation": {
        "generate": "editor",
        "retry": "editor",
        "cancel": "editor",
        "ignore_result": "editor",
        "want_result": "editor",
        "high_priority": "editor",
        "normal_priority": "editor",
        "low_priority": "editor",
    },
    "generations.video": {"move_to_trash": "editor", "bring_back": "editor"},
    "projects.budget": {"archive": "studio owner"},
    "projects.membership": {"remove": "owner"},
    "projects.sourceimage": {"archive": "editor", "move_to_trash": "editor", "bring_back": "editor"},
}
