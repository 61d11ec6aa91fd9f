import django_filters
from django.db.models import QuerySet

from generations.models import Approval, Element, Generation, Status, Video
from generations.services import approvals
from projects.api.filters import ArchivedFilter, MomentFilter, SwitchFilter, TagFilter


class GenerationFilter(django_filters.FilterSet):
    project = django_filters.UUIDFilter()
    # Of a column of its own no row comes twice, and DISTINCT would sort every row by every column.
    status = django_filters.MultipleChoiceFilter(choices=Status.choices, distinct=False)
    tag = TagFilter()
    needs_look = SwitchFilter(
        field_name="needs_look_since", lookup_expr="isnull", exclude=True, label="true: those that wait for a person"
    )
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Generation
        fields = ["project", "status", "endpoint", "tag", "needs_look", "created_after", "created_before"]


class ElementFilter(ArchivedFilter):
    project = django_filters.UUIDFilter()

    class Meta:
        model = Element
        fields = ["project", "archived"]


class VideoFilter(django_filters.FilterSet):
    """What is in the trash, or was deleted from it, is left out unless it is asked for."""

    project = django_filters.UUIDFilter(field_name="generation__project")
    generation = django_filters.UUIDFilter()
    trashed = SwitchFilter(method="by_trashed", label="true: those in the trash instead of the others")
    created_after = MomentFilter(field_name="created_at", lookup_expr="gte")
    created_before = MomentFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Video
        fields = ["project", "generation", "trashed", "created_after", "created_before"]

    def filter_queryset(self, queryset: QuerySet[Video]) -> QuerySet[Video]:
        rows: QuerySet[Video] = super().filter_queryset(queryset)
        return rows.filter(trashed_at__isnull=not self.form.cleaned_data["trashed"])

    def by_trashed(self, queryset: QuerySet[Video], name: str, value: bool) -> QuerySet[Video]:
        return queryset


class ApprovalFilter(django_filters.FilterSet):
    project = django_filters.UUIDFilter()
    decision = django_filters.MultipleChoiceFilter(choices=Approval.Decision.choices, distinct=False)
    for_me = SwitchFilter(method="by_for_me", label="true: those that you may decide about now")

    class Meta:
        model = Approval
        fields = ["project", "decision", "for_me"]

    def by_for_me(self, queryset: QuerySet[Approval], name: str, value: bool) -> QuerySet[Approval]:
        theirs = approvals.waiting_for(self.request.user).values("pk")
        return queryset.filter(pk__in=theirs) if value else queryset.exclude(pk__in=theirs)
