import re
from datetime import UTC, datetime
from typing import Any

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import QuerySet
from django.db.models.expressions import RawSQL
from django_filters.fields import IsoDateTimeField

from projects.models import SourceImage

# SQLite has no `contains` for JSON.
TAGGED = "SELECT tagged.id FROM {table} AS tagged, json_each(tagged.tags) AS tag WHERE tag.value = %s"


class SwitchField(forms.Field):
    """true or false; what else people write for them would have to be guessed."""

    default_error_messages = {"invalid": "Give true or false."}

    def to_python(self, value: str | None) -> bool | None:
        if value in (None, "", "true", "false"):
            return {"true": True, "false": False}.get(value or "")
        raise ValidationError(self.error_messages["invalid"], code="invalid")


class SwitchFilter(django_filters.BooleanFilter):
    field_class = SwitchField


class ArchivedFilter(django_filters.FilterSet):
    """Archived rows are left out unless they are asked for."""

    archived = SwitchFilter(method="by_archived", label="true: the archived ones instead of the others")

    def filter_queryset(self, queryset: QuerySet) -> QuerySet:
        queryset = super().filter_queryset(queryset)
        return queryset.filter(archived_at__isnull=not self.form.cleaned_data["archived"])

    def by_archived(self, queryset: QuerySet, name: str, value: bool) -> QuerySet:
        return queryset


class TagFilter(django_filters.CharFilter):
    """The rows that have this very tag among their `tags`."""

    def filter(self, queryset: QuerySet, value: str) -> QuerySet:
        if not value:
            return queryset
        if connection.features.supports_json_field_contains:
            return queryset.filter(tags__contains=[value])
        tagged = TAGGED.format(table=queryset.model._meta.db_table)
        return queryset.filter(pk__in=RawSQL(tagged, [value]))  # noqa: S611  # a table of ours and a parameter


class SourceImageFilter(ArchivedFilter):
    project = django_filters.UUIDFilter()
    tag = TagFilter()

    class Meta:
        model = SourceImage
        fields = ["project", "tag", "archived"]


class MomentField(IsoDateTimeField):
    """A moment in UTC: PostgreSQL refuses offsets beyond 16 hours, and no calendar has a year 0."""

    def to_python(self, value: Any) -> datetime | None:
        try:
            moment: datetime | None = super().to_python(value)
        except ValidationError as error:
            raise ValidationError(self._hint(str(value)), code="invalid", params={"plus": "%2B"}) from error
        try:
            return moment.astimezone(UTC) if moment else None
        except OverflowError as error:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from error

    @staticmethod
    def _hint(value: str) -> str:
        if re.search(r" \d\d:?\d\d$", value):
            return "In an address a + stands for a space: write %(plus)s for it, or the moment in UTC, 2026-11-28T00:00:00Z."
        return "Give a moment such as 2026-11-28T00:00:00Z."


class MomentFilter(django_filters.IsoDateTimeFilter):
    field_class = MomentField
