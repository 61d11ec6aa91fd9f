from django.contrib import admin
from django.http import Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.urls import include, path
from django.views.decorators.http import require_safe
from django.views.generic import RedirectView

from generations.admin import navigation, spend
from kling_studio import error_pages
from kling_studio.api import Docs, SchemaDocument
from kling_studio.health import livez, readyz
from kling_studio.media import media
from kling_studio.metrics import metrics
from kling_studio.unanswered import api_not_found
from projects.admin import tokens
from projects.people.throttling import limited
from projects.people.views import OwnPassword

handler400 = "kling_studio.unanswered.bad_request"
handler403 = "kling_studio.unanswered.permission_denied"
handler404 = "kling_studio.unanswered.page_not_found"
handler500 = "kling_studio.unanswered.server_error"


def nothing_here(request: HttpRequest, rest: str) -> HttpResponseBase:
    raise Http404


urlpatterns = [
    path("favicon.ico", error_pages.favicon, name="favicon"),
    path("", require_safe(RedirectView.as_view(pattern_name="admin:index")), name="front"),
    path("livez", livez, name="livez"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("admin/spend/", admin.site.admin_view(spend.view), name="spend"),
    path("admin/colours.css", navigation.colours, name="colours"),
    # django-axes closes it to one name after some failures; this, to one address that goes through many names.
    path("admin/login/", limited("login", limit=30, seconds=300)(admin.site.login)),
    path("admin/password_change/", admin.site.admin_view(OwnPassword.as_view())),
    path("admin/tokens/", admin.site.admin_view(tokens.page), name="tokens"),
    path("admin/tokens/<str:pk>/revoke/", admin.site.admin_view(tokens.revoke), name="token-revoke"),
    # “View on site” of Django, which no row of ours has, and which fails at an id that is no UUID.
    path("admin/r/<path:rest>", admin.site.admin_view(nothing_here)),
    path("admin/", admin.site.urls),
    path("media/<str:signature>/<path:name>", media, name="media"),
    path("", include("projects.people.urls")),
    path("api/v1/", include("projects.api.urls")),
    path("api/v1/", include("generations.api.urls")),
    path("api/v1/schema/", SchemaDocument.as_view(), name="schema"),
    path("api/v1/docs/", Docs.as_view(), name="docs"),
    path("api/<path:path>", api_not_found),
]
