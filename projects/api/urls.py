from typing import Any

from django.urls import path
from rest_framework.routers import SimpleRouter

from projects.api import views
from projects.api.tokens import TokenViewSet

router = SimpleRouter(use_regex_path=False)
router.register("projects", views.ProjectViewSet)
router.register("source-images", views.SourceImageViewSet)

MANY: dict[str, Any] = {"get": "list", "post": "create"}
ONE: dict[str, Any] = {"patch": "partial_update", "delete": "destroy"}
OF_PROJECT = "projects/<uuid:project_id>"
urlpatterns = [
    *router.urls,
    path(f"{OF_PROJECT}/budgets/", views.BudgetViewSet.as_view(MANY)),
    path(f"{OF_PROJECT}/budgets/<uuid:pk>/", views.BudgetViewSet.as_view(ONE)),
    path(f"{OF_PROJECT}/budgets/<uuid:budget_id>/top-ups/", views.TopUpViewSet.as_view(MANY)),
    path(
        f"{OF_PROJECT}/budgets/<uuid:budget_id>/top-ups/<uuid:pk>/", views.TopUpViewSet.as_view({"delete": "destroy"})
    ),
    path("budgets/", views.StudioBudgetViewSet.as_view(MANY)),
    path("budgets/<uuid:pk>/", views.StudioBudgetViewSet.as_view(ONE)),
    path("budgets/<uuid:budget_id>/top-ups/", views.StudioTopUpViewSet.as_view(MANY)),
    path("budgets/<uuid:budget_id>/top-ups/<uuid:pk>/", views.StudioTopUpViewSet.as_view({"delete": "destroy"})),
    path("tokens/", TokenViewSet.as_view({"get": "list"})),
    path("tokens/<str:id>/", TokenViewSet.as_view({"delete": "destroy"})),
    path(f"{OF_PROJECT}/spend/entries/", views.SpendEntryViewSet.as_view({"get": "list"})),
]
