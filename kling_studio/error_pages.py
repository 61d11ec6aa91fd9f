"""What went wrong, as a page of the studio's own: the sentence that was raised, and a way back. Asks the database nothing.

`kling_studio.unanswered` says when.
"""

from http import HTTPStatus
from typing import Any

from django.conf import settings
from django.core.exceptions import BadRequest, RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent
from django.http import HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.module_loading import import_string
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe

from projects.links import NotHere, came_from

TITLES = {
    400: "This could not be understood",
    403: "This is not for you",
    404: "There is nothing here",
    413: "This is too much at once",
    500: "Something broke",
    503: "Back in a moment",
}
SENTENCES = {
    400: "The browser sent something that the studio can’t read. Nothing was changed. Go back, load the page again, and try once more.",
    403: "Your role does not reach so far. Nothing was changed. Ask an owner of the project, or a studio owner.",
    404: "The address is wrong, or what was here is gone, or is in a project that you are not a member of.",
    413: "Nothing was changed. Send less at once: fewer files, or smaller ones.",
    500: "It is the studio’s fault, not yours, and it is noted for those who look after it. Go back and look whether what you did is there "
    "before you do it again.",
    503: "The studio’s database does not answer now. What is on its way goes on by itself when it is back; nothing is paid twice. "
    "Load this page again in a few seconds. If you had just sent a form, look first whether it was taken.",
}
CSRF = (
    "The page was open for too long, or you have logged in anew since, or your browser keeps no cookies. Nothing was changed. "
    "Go back, load the page again, and send it once more."
)


STYLES: list[str] = settings.UNFOLD["STYLES"]  # type: ignore[assignment]  # as the settings have them
SCRIPTS: list[str] = settings.UNFOLD["SCRIPTS"]  # type: ignore[assignment]


def page(request: HttpRequest, status: int, sentence: str = "") -> HttpResponse:
    """The page of an error; `sentence` is for people, and says more than what the status alone does."""
    sentence = sentence or SENTENCES[status]
    context = {"title": TITLES[status], "sentence": sentence, "status": status, **_look(request, status)}
    response = HttpResponse(render_to_string("errors/page.html", context), status=status)
    add_never_cache_headers(response)
    return response


def _look(request: HttpRequest, status: int) -> dict[str, Any]:
    """What a page of the admin gets from its site, without a question to the database."""
    return {
        "site_title": settings.UNFOLD["SITE_TITLE"],
        "styles": [import_string(path)(request) for path in STYLES],
        "scripts": [import_string(path)(request) for path in SCRIPTS],
        "site_favicons": [{"rel": "icon", "type": "image/svg+xml", "href": static("studio/favicon.svg")}],
        "home": reverse("admin:index"),
        # Of a request that can't be read, the host may be what can't be read.
        "back": came_from(request) if status != HTTPStatus.BAD_REQUEST else "",
    }


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's own texts of suspicious requests are for operators; `BadRequest` is raised by us, for people."""
    if isinstance(exception, (RequestDataTooBig, TooManyFieldsSent, TooManyFilesSent)):
        return page(request, 413)
    return page(request, 400, str(exception) if type(exception) is BadRequest else "")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page(request, 403, str(exception))


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's own texts name patterns and models, and differ where nobody must see a difference."""
    return page(request, 404, str(exception) if isinstance(exception, NotHere) else "")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return page(request, 403, CSRF)


@require_safe
@cache_control(max_age=86_400)
def favicon(request: HttpRequest) -> HttpResponse:
    """Where browsers look for it on what is no page of ours, such as a video by itself."""
    return HttpResponsePermanentRedirect(static("studio/favicon.svg"))
