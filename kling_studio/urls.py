from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from generations.admin import navigation, spend
from kling_studio.api import Docs, not_found
from kling_studio.health import livez, readyz
from kling_studio.media import media
from kling_studio.metrics import metrics
from kling_studio.throttling import limited
from projects.admin import tokens

urlpatterns = [
    path("livez", livez, name="livez"),
    path("readyz", readyz, name="readyz"),
    path("metrics", metrics, name="metrics"),
    path("admin/spend/", admin.site.admin_view(spend.view), name="spend"),
    path("admin/colours.css", navigation.colours, name="colours"),
    # django-axes closes it to one name after some failures; this, to one address that goes through many names.
    path("admin/login/", limited("login", limit=30, seconds=300)(admin.site.login)),
    path("admin/tokens/", admin.site.admin_view(tokens.page), name="tokens"),
    path("admin/tokens/<str:pk>/revoke/", admin.site.admin_view(tokens.revoke), name="token-revoke"),
    path("admin/", admin.site.urls),
    path("media/<str:signature>/<path:name>", media, name="media"),
    path("", include("projects.urls")),
    path("api/v1/", include("projects.api.urls")),
    path("api/v1/", include("generations.api.urls")),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs/", Docs.as_view(), name="docs"),
    path("api/<path:path>", not_found),
]
