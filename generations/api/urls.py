from django.urls import path
from rest_framework.routers import SimpleRouter

from generations.api import views
from generations.api.members import MemberViewSet
from generations.api.spend import SpendViewSet
from generations.api.webhooks import WaveSpeedWebhook

router = SimpleRouter(use_regex_path=False)
router.register("endpoints", views.EndpointViewSet, basename="endpoint")
router.register("elements", views.ElementViewSet)
router.register("generations", views.GenerationViewSet)
router.register("approvals", views.ApprovalViewSet)
router.register("videos", views.VideoViewSet)

SPEND = {
    "": "retrieve",
    "breakdown.csv": "breakdown_csv",
    "breakdown.xlsx": "breakdown_xlsx",
    "entries.csv": "entries_csv",
    "entries.xlsx": "entries_xlsx",
    "focus.csv": "focus_csv",
}
urlpatterns = [
    *router.urls,
    path("projects/<uuid:project_id>/members/", MemberViewSet.as_view({"get": "list", "post": "create"})),
    path(
        "projects/<uuid:project_id>/members/<int:pk>/",
        MemberViewSet.as_view({"patch": "partial_update", "delete": "destroy"}),
    ),
    *(
        path(
            f"projects/<uuid:project_id>/{action}/",
            views.ProjectPauseViewSet.as_view({"post": action}),
            name=f"project-{action}",
        )
        for action in ("pause", "resume")
    ),
    path(
        "webhooks/wavespeed/<uuid:generation>/", WaveSpeedWebhook.as_view({"post": "create"}), name="wavespeed-webhook"
    ),
    *(
        path(f"{below}spend/{name}", SpendViewSet.as_view({"get": action}), name=f"{scope}-{action}")
        for scope, below in (("spend", ""), ("project-spend", "projects/<uuid:project_id>/"))
        for name, action in SPEND.items()
    ),
]
