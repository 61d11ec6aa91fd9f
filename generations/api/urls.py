from django.urls import path
from rest_framework.routers import SimpleRouter

from generations.api import views

router = SimpleRouter(use_regex_path=False)
router.register("endpoints", views.EndpointViewSet, basename="endpoint")
router.register("elements", views.ElementViewSet)
router.register("generations", views.GenerationViewSet)
router.register("videos", views.VideoViewSet)

urlpatterns = [
    *router.urls,
    path("projects/<uuid:project_id>/spend/", views.SpendViewSet.as_view({"get": "retrieve"})),
]
