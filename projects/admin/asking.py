"""The question before something ends or is thrown away: a page that sends the same request again, with `sure` in it."""

from collections.abc import Iterable

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse

from projects.links import came_from

SURE = "sure"
MOST_SHOWN = 10


def ask(request: HttpRequest, title: str, text: str, *, yes: str, things: Iterable[object] = ()) -> HttpResponse | None:
    """The page that asks; None once they have said `yes` to it, and what they asked for may be done.

    `things` are named on it, where there are several.
    """
    if SURE in request.POST:
        return None
    named = [str(thing) for thing in things]
    context = {
        **admin.site.each_context(request),
        "title": title,
        "text": text,
        "yes": yes,
        "named": named[:MOST_SHOWN],
        "more": len(named[MOST_SHOWN:]),
        "fields": [
            (name, value) for name, values in request.POST.lists() for value in values if name != "csrfmiddlewaretoken"
        ],
        "back": came_from(request) or reverse("admin:index"),
    }
    return TemplateResponse(request, "admin/includes/ask.html", context)


def counted(count: int, one: str, several: str = "") -> str:
    """`1 video`, `3 videos`."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"
