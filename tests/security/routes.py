"""Every route of the studio, as the URL resolver knows them, and how to address each in the world of `world.py`."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import get_resolver
from django.urls.resolvers import URLResolver

from tests.security.world import World

MISSING = uuid.UUID("00000000-0000-4000-8000-000000000000")
HTML_METHODS = ["GET", "POST"]

# The rows that stand behind `pk` in the API, by the route's collection; a longer beginning wins.
COLLECTIONS = {
    "api/v1/projects/<uuid:pk>": "projects.project",
    "api/v1/projects/<uuid:project_id>/members/": "projects.membership",
    "api/v1/projects/<uuid:project_id>/budgets/": "projects.budget",
    "api/v1/projects/<uuid:project_id>/budgets/<uuid:budget_id>/top-ups/": "top-up of projects.budget",
    "api/v1/budgets/": "studio budget",
    "api/v1/budgets/<uuid:budget_id>/top-ups/": "top-up of studio budget",
    "api/v1/source-images/": "projects.sourceimage",
    "api/v1/elements/": "generations.element",
    "api/v1/generations/": "generations.generation",
    "api/v1/approvals/": "generations.approval",
    "api/v1/videos/": "generations.video",
    "api/v1/unassigned": "generations.unassignedprediction",
    "api/v1/webhooks/": "done",
    "api/v1/tokens/": "token",
    "admin/r/": "projects.project",
    "admin/tokens/": "token",
}
# Where the row of the model is in no state for what the route does.
BETTER_ROWS = {
    "api/v1/generations/<uuid:pk>/approve/": "asked",
    "api/v1/generations/<uuid:pk>/reject/": "asked",
    "api/v1/generations/<uuid:pk>/retry/": "failed",
    "api/v1/generations/<uuid:pk>/ignore-result/": "done",
    "api/v1/generations/<uuid:pk>/assign/": "unconfirmed",
    "api/v1/generations/<uuid:pk>/candidates/": "unconfirmed",
    "api/v1/generations/<uuid:pk>/not-made/": "unconfirmed",
    "api/v1/generations/<uuid:pk>/take-output/": "puzzling",
    "api/v1/generations/<uuid:pk>/no-video/": "puzzling",
    "admin/generations/generation/<uuid:pk>/take-output/": "puzzling",
    "admin/generations/generation/<uuid:pk>/no-video/": "puzzling",
    "api/v1/generations/<uuid:pk>/take-as-it-is/": "storing",
    "admin/generations/generation/<uuid:pk>/assign/": "unconfirmed",
    "admin/generations/generation/<uuid:pk>/not-made/": "unconfirmed",
    "admin/generations/generation/<uuid:pk>/take-as-it-is/": "storing",
    "admin/generations/generation/<uuid:pk>/ignore/": "done",
}


@dataclass(frozen=True)
class Route:
    pattern: str
    converters: tuple[str, ...]
    methods: tuple[str, ...]
    """What it is asked with; of an API view the methods that it has."""

    @property
    def is_api(self) -> bool:
        return self.pattern.startswith("api/v1/") and self.pattern not in ("api/v1/docs/", "api/v1/schema/")

    def path(self, world: World) -> str:
        return self._filled({name: self._value(name, world) for name in self.converters})

    def missing_path(self) -> str:
        """The same with ids of nothing."""
        return self._filled({name: _nothing(self.pattern, name) for name in self.converters})

    def ids(self, world: World) -> list[str]:
        return [str(self._value(name, world)) for name in self.converters]

    def _filled(self, values: dict[str, Any]) -> str:
        path = self.pattern
        for name, value in values.items():
            start = path.rindex("<", 0, path.index(f"{name}>") + 1)
            path = path[:start] + str(value) + path[path.index(">", start) + 1 :]
        return f"/{path}"

    def _value(self, name: str, world: World) -> Any:
        special = {
            "signature": lambda: world.rows["media"].split("/")[2],
            "name": lambda: world.rows["media"].split("/", 3)[3],
            "token": lambda: world.rows["reset"][1] if "uidb64" in self.converters else world.rows["join token"],
            "uidb64": lambda: world.rows["reset"][0],
            "generation": lambda: world.rows["done"].pk,
            "project_id": lambda: world.project.pk,
            "top_up_id": lambda: world.rows["top-up of projects.budget"].pk,
            "kind": lambda: "generate",
            "path": lambda: "no/such/address",
            "rest": lambda: "1/no-uuid/",
            "url": lambda: "no/such/address",
            "app_label": lambda: "generations",
            "content_type_id": lambda: 1,
        }
        if name in special:
            return special[name]()
        if name == "budget_id":
            return world.rows["studio budget" if self.pattern.startswith("api/v1/budgets") else "projects.budget"].pk
        row = self._row(world)
        return row if isinstance(row, str) else row.pk

    def _row(self, world: World) -> Any:
        if self.pattern in BETTER_ROWS:
            return world.rows[BETTER_ROWS[self.pattern]]
        begin = max((each for each in COLLECTIONS if self.pattern.startswith(each)), key=len, default="")
        name = COLLECTIONS.get(begin) or ".".join(self.pattern.split("/")[1:3])
        if name not in world.rows:
            raise LookupError(f"{self.pattern}: tests/security/world.py has no row “{name}”; add one of that model.")
        return world.rows[name]


def _nothing(pattern: str, name: str) -> Any:
    if f"<int:{name}>" in pattern:
        return 987_654_321
    return "generate" if name == "kind" else MISSING


def every_route() -> list[Route]:
    return sorted(set(_walk(get_resolver(), "")), key=lambda route: route.pattern)


def _walk(resolver: URLResolver, before: str) -> Iterator[Route]:
    for entry in resolver.url_patterns:
        pattern = before + _readable(str(entry.pattern))
        if isinstance(entry, URLResolver):
            yield from _walk(entry, pattern)
        else:
            actions = getattr(entry.callback, "actions", None)
            # DRF adds HEAD to a view when it is asked for the first time.
            methods = tuple(each.upper() for each in actions if each != "head") if actions else tuple(HTML_METHODS)
            converters = [*resolver.pattern.converters, *entry.pattern.converters]
            converters += list(entry.pattern.regex.groupindex) if not entry.pattern.converters else []
            yield Route(pattern, tuple(dict.fromkeys(converters)), methods)


def _readable(pattern: str) -> str:
    """Django's two regular expressions, as paths."""
    return {
        r"(?P<url>.*)$": "<path:url>",
        r"^(?P<app_label>projects|generations|auth)/$": "<str:app_label>/",
    }.get(pattern, pattern)
