from functools import cached_property
from typing import Any
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import mixins, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from projects import permissions, projects, source_images
from projects.api import errors  # noqa: F401  # registers them
from projects.api.base.idempotency import idempotent
from projects.api.base.preconditions import conditional
from projects.api.base.reading import JSONParser, MultiPartParser
from projects.api.base.views import Api
from projects.api.filters import SourceImageFilter
from projects.api.serializers import (
    AddedImageSerializer,
    BudgetChanges,
    FiguresSerializer,
    ImageFields,
    NewBudget,
    NewImage,
    NewImageByUrl,
    NewStudioBudget,
    ProjectFields,
    ProjectSerializer,
    SourceImageSerializer,
    SpendEntrySerializer,
    TopUpFields,
    TopUpSerializer,
    member_named,
)
from projects.models import Budget, Enforcement, Period, Project, SourceImage, SpendEntry, TopUp
from projects.money import budgets


def visible_project(person: User, pk: UUID) -> Project:
    """The project, or 404: what one may not see does not exist."""
    return get_object_or_404(permissions.visible_projects(person), pk=pk)


@extend_schema_view(
    list=extend_schema(description="The projects that you see, without the archived ones."),
    retrieve=extend_schema(description="One project, archived or not."),
)
class ProjectViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Api):
    queryset = Project.objects.none()
    serializer_class = ProjectSerializer
    ordering_fields = ["name", "created_at"]

    def get_queryset(self) -> QuerySet[Project]:
        projects = permissions.visible_projects(self.person).select_related("created_by", "pause__paused_by")
        return projects.filter(archived_at=None) if self.action == "list" else projects

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "roles": permissions.roles(self.person)}

    @extend_schema(request=ProjectFields, responses={201: ProjectSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Studio owners make projects."""
        permissions.require_studio_owner(self.person, "make projects")
        project = Project(created_by=self.person, **self.valid(ProjectFields))
        project.full_clean()
        project.save()
        return self.shown(project, ProjectSerializer, status.HTTP_201_CREATED)

    @extend_schema(request=ProjectFields, responses=ProjectSerializer)
    @conditional
    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Changes what is named and nothing else."""
        project = self.get_object()
        permissions.require(self.person, "manage", project)
        projects.edit(project, by=self.person, expected=self.expected, **self.valid(ProjectFields, partial=True))
        return self.shown(project, ProjectSerializer)

    @extend_schema(request=None, responses=ProjectSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    @conditional
    def archive(self, request: Request, pk: UUID) -> Response:
        """Nothing new can be made in it; what it holds, and what it cost, stays."""
        project = self.get_object()
        projects.archive(project, by=self.person, expected=self.expected)
        return self.shown(project, ProjectSerializer)


class OfProject(Api):
    """What lies below `projects/{project_id}/`. Who may not is told so before their body is looked at."""

    @cached_property
    def project(self) -> Project:
        return visible_project(self.person, self.kwargs["project_id"])


class AnyBudgetViewSet(Api):
    """Budgets with their figures of the present period."""

    queryset = Budget.objects.none()
    serializer_class = FiguresSerializer
    filter_backends = []

    def list(self, request: Request, **path: UUID) -> Response:
        return self.listed(budgets.figures(self.get_queryset()), FiguresSerializer)

    @extend_schema(request=BudgetChanges, responses=FiguresSerializer)
    @conditional
    def partial_update(self, request: Request, **path: UUID) -> Response:
        """A limit takes effect at once, below what is spent too: then nothing new passes."""
        budget = self.get_object()
        budgets.require_may_change(budget, self.person)
        fields = self.valid(BudgetChanges)
        budgets.change(budget, by=self.person, expected=self.expected, **fields)
        return self._figures(budget)

    @extend_schema(responses={204: OpenApiResponse(description="It limits nothing any more; what was booked stays.")})
    @conditional
    def destroy(self, request: Request, **path: UUID) -> Response:
        budgets.archive(self.get_object(), by=self.person, expected=self.expected)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _create(self, project: Project | None, user: User | None, fields: dict[str, Any]) -> Response:
        budget = budgets.create(
            project=project,
            user=user,
            period=Period(fields["period"]),
            enforcement=Enforcement(fields["enforcement"]),
            limit=fields["limit"],
            thresholds=fields.get("thresholds"),
            by=self.person,
        )
        return self._figures(budget, status.HTTP_201_CREATED)

    def _figures(self, budget: Budget, status_code: int = status.HTTP_200_OK) -> Response:
        [figures] = budgets.figures(Budget.objects.filter(pk=budget.pk))
        return self.shown(figures, FiguresSerializer, status_code)

    def as_now(self, row: Any) -> dict[str, Any]:
        [figures] = budgets.figures(Budget.objects.filter(pk=row.pk))
        return super().as_now(figures)


class BudgetViewSet(AnyBudgetViewSet, OfProject):
    """The project's budgets and one's own, to owners every member's; with their figures of the present period."""

    def get_queryset(self) -> QuerySet[Budget]:
        return project_budgets(self.project, self.person).filter(archived_at=None)

    @extend_schema(request=NewBudget, responses={201: FiguresSerializer})
    @idempotent
    def create(self, request: Request, project_id: UUID) -> Response:
        """A studio owner sets the project's budgets, an owner of the project its other members'."""
        # First: who may not see it learns nothing of what it would take.
        project = self.project
        permissions.require(self.person, "manage", project)
        fields = self.valid(NewBudget)
        name = fields.get("user")
        return self._create(project, member_named(project, name) if name else None, fields)


def project_budgets(project: Project, person: User) -> QuerySet[Budget]:
    """Another member's binds only that member, so that it is theirs and the owners' to see."""
    rows = Budget.objects.filter(project=project)
    return rows if permissions.may(person, "manage", project) else rows.filter(Q(user=None) | Q(user=person))


def studio_budgets(person: User) -> QuerySet[Budget]:
    """They bind everybody, so that who sees any project sees them."""
    budgets_of_studio = Budget.objects.filter(project=None)
    return budgets_of_studio if permissions.visible_projects(person).exists() else budgets_of_studio.none()


class StudioBudgetViewSet(AnyBudgetViewSet):
    """The studio's budgets, which the spending of all projects has to fit; studio owners set them."""

    def get_queryset(self) -> QuerySet[Budget]:
        return studio_budgets(self.person).filter(archived_at=None)

    @extend_schema(request=NewStudioBudget, responses={201: FiguresSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        budgets.require_may_set(self.person, None, None)
        return self._create(None, None, self.valid(NewStudioBudget))


class AnyTopUpViewSet(mixins.ListModelMixin, Api):
    """One-off additions to a budget's limit, past and coming ones too."""

    queryset = TopUp.objects.none()
    serializer_class = TopUpSerializer
    ordering_fields = ["starts_at", "ends_at"]

    @cached_property
    def budget(self) -> Budget:
        return get_object_or_404(self.get_budgets(), pk=self.kwargs["budget_id"])

    def get_budgets(self) -> QuerySet[Budget]:
        raise NotImplementedError

    def get_queryset(self) -> QuerySet[TopUp]:
        return TopUp.objects.filter(budget=self.budget).select_related("budget", "created_by")

    @extend_schema(request=TopUpFields, responses={201: TopUpSerializer})
    @idempotent
    def create(self, request: Request, **path: UUID) -> Response:
        """Who may change the limit may top it up; the reason stays in the books."""
        budgets.require_may_change(self.budget, self.person)
        top_up = budgets.top_up(self.budget, **self.valid(TopUpFields), by=self.person)
        return self.shown(top_up, TopUpSerializer, status.HTTP_201_CREATED)

    @extend_schema(responses={204: OpenApiResponse(description="It ends now; what it let through goes on.")})
    @conditional
    def destroy(self, request: Request, **path: UUID) -> Response:
        budgets.end_top_up(self.get_object(), by=self.person, expected=self.expected)
        return Response(status=status.HTTP_204_NO_CONTENT)


class TopUpViewSet(AnyTopUpViewSet, OfProject):
    def get_budgets(self) -> QuerySet[Budget]:
        return project_budgets(self.project, self.person)


class StudioTopUpViewSet(AnyTopUpViewSet):
    def get_budgets(self) -> QuerySet[Budget]:
        return studio_budgets(self.person)


class SpendEntryViewSet(mixins.ListModelMixin, OfProject):
    """The ledger: every movement of the project's money. It is only ever added to."""

    queryset = SpendEntry.objects.none()
    serializer_class = SpendEntrySerializer
    filterset_fields = ["kind", "reference", "endpoint"]
    ordering_fields = ["created_at"]

    def get_queryset(self) -> QuerySet[SpendEntry]:
        entries: QuerySet[SpendEntry] = SpendEntry.objects.filter(project=self.project)
        return entries.select_related("user", "created_by")


@extend_schema_view(
    list=extend_schema(description="The pictures of the projects that you see, without the archived ones."),
    retrieve=extend_schema(description="One picture, archived, in the trash or neither."),
)
class SourceImageViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Api):
    queryset = SourceImage.objects.none()
    serializer_class = SourceImageSerializer
    parser_classes = [JSONParser, MultiPartParser]
    filterset_class = SourceImageFilter
    refuses = {"create": [404], "restore": [410]}
    ordering_fields = ["created_at", "title"]

    def get_queryset(self) -> QuerySet[SourceImage]:
        visible = permissions.visible_projects(self.person)
        return SourceImage.objects.filter(project__in=visible).select_related("created_by", "project")

    @extend_schema(
        request={"multipart/form-data": NewImage, "application/json": NewImageByUrl},
        responses={201: AddedImageSerializer, 200: AddedImageSerializer},
    )
    @idempotent(atomic=False)
    def create(self, request: Request) -> Response:
        """Adds a picture: a file (multipart/form-data) or the one at a url. 200: the project has this picture already."""
        fields = self.valid(NewImage)
        project = visible_project(self.person, fields.pop("project"))
        if "url" in fields:
            image, created = source_images.import_url(project, by=self.person, **fields)
        else:
            file = fields.pop("file")
            image, created = source_images.add(project, file, filename=file.name, by=self.person, **fields)
        context = {**self.get_serializer_context(), "created": created}
        answer = AddedImageSerializer(image, context=context).data
        return Response(answer, status=status.HTTP_201_CREATED if created else status.HTTP_200_OK)

    @extend_schema(request={"application/json": ImageFields}, responses=SourceImageSerializer)
    @conditional
    def partial_update(self, request: Request, pk: UUID) -> Response:
        """Changes what is named and nothing else; `tags` replace all that it has."""
        image = self.get_object()
        permissions.require(self.person, "edit", image.project)
        source_images.edit(image, by=self.person, expected=self.expected, **self.valid(ImageFields, partial=True))
        return self.shown(image, SourceImageSerializer)

    @extend_schema(responses={204: OpenApiResponse(description="Archived; videos made of it stay.")})
    @conditional
    def destroy(self, request: Request, pk: UUID) -> Response:
        """Archives it: nothing new is made of it."""
        source_images.archive(self.get_object(), by=self.person, expected=self.expected)
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses=SourceImageSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    @conditional
    def trash(self, request: Request, pk: UUID) -> Response:
        """Out of sight, and its files are deleted 30 days later unless it is restored; videos made of it stay."""
        image = self.get_object()
        source_images.trash(image, by=self.person, expected=self.expected)
        return self.shown(image, SourceImageSerializer)

    @extend_schema(request=None, responses=SourceImageSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    @conditional
    def restore(self, request: Request, pk: UUID) -> Response:
        """Out of the trash and out of the archive; 410 when its files are deleted by now."""
        image = self.get_object()
        source_images.restore(image, by=self.person, expected=self.expected)
        return self.shown(image, SourceImageSerializer)
