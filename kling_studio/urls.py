from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from generations.admin import spend
from kling_studio.api import not_found
from kling_studio.media import media

urlpatterns = [
    path("admin/spend/", admin.site.admin_view(spend.view), name="spend"),
    path("admin/", admin.site.urls),
    path("media/<str:signature>/<path:name>", media, name="media"),
    path("", include("projects.urls")),
    path("api/v1/", include("projects.api.urls")),
    path("api/v1/", include("generations.api.urls")),
    path("api/v1/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/v1/docs/", SpectacularSwaggerView.as_view(), name="docs"),
    path("api/<path:path>", not_found),
]
