"""The page of API tokens: one's own, and for studio owners everybody's. A token is shown once, when it is made."""

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from projects.admin.access import access, person
from projects.admin.asking import ask
from projects.links import NotHere
from projects.people import tokens


@never_cache
@sensitive_variables("key")
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """The answer to POST shows the new token itself: in a message it would wait in a cookie."""
    key = ""
    if request.method == "POST":
        try:
            _, key = tokens.make(person(request))
        except tokens.TooManyTokens as refusal:
            messages.error(request, str(refusal))
    listed = tokens.visible(person(request))
    context = {
        **admin.site.each_context(request),
        "title": "API tokens",
        "key": key,
        "own": [token for token in listed if token.user == person(request)],
        "others": [token for token in listed if token.user != person(request)],
        "is_studio_owner": access(request).is_studio_owner,
    }
    return TemplateResponse(request, "admin/projects/tokens/page.html", context)


@require_POST
def revoke(request: HttpRequest, pk: str) -> HttpResponse:
    token = tokens.find(pk, person(request))
    if token is not None and (
        question := ask(
            request,
            f"Revoke the token {token.begins_with}…?",
            "Whatever uses it is no longer let in, at once. There is no way back; make a new token instead.",
            yes="Revoke",
        )
    ):
        return question
    if token is None or not tokens.revoke(pk, by=person(request)):
        raise NotHere("This token doesn’t exist, or is somebody else’s.")
    messages.success(request, f"Revoked: whatever uses the token {token.begins_with}… is no longer let in.")
    return HttpResponseRedirect(reverse("tokens"))
