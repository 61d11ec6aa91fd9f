from django.urls import path
from rest_framework.routers import SimpleRouter

from projects.api import views

router = SimpleRouter(use_regex_path=False)
router.register("projects", views.ProjectViewSet)
router.register("source-images", views.SourceImageViewSet)

OF_PROJECT = "projects/<uuid:project_id>"
urlpatterns = [
    *router.urls,
    path(f"{OF_PROJECT}/members/", views.MemberViewSet.as_view({"get": "list", "post": "create"})),
    path(
        f"{OF_PROJECT}/members/<int:pk>/", views.MemberViewSet.as_view({"patch": "partial_update", "delete": "destroy"})
    ),
    path(f"{OF_PROJECT}/budgets/", views.BudgetViewSet.as_view({"get": "list", "post": "create"})),
    path(
        f"{OF_PROJECT}/budgets/<uuid:pk>/",
        views.BudgetViewSet.as_view({"patch": "partial_update", "delete": "destroy"}),
    ),
    path(f"{OF_PROJECT}/spend/entries/", views.SpendEntryViewSet.as_view({"get": "list"})),
]
