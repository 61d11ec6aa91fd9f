import django_filters

from generations.models import Element, Generation, Status
from projects.api.filters import ArchivedFilter


class GenerationFilter(django_filters.FilterSet):
    project = django_filters.UUIDFilter()
    status = django_filters.MultipleChoiceFilter(choices=Status.choices)
    created_after = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Generation
        fields = ["project", "status", "endpoint", "created_after", "created_before"]


class ElementFilter(ArchivedFilter):
    project = django_filters.UUIDFilter()

    class Meta:
        model = Element
        fields = ["project", "archived"]
