"""Bodies that refuse what they don't know."""

from collections.abc import Iterable, Mapping
from typing import Any

from rest_framework import exceptions, serializers

from projects.api.base.errors import MOST_TOLD


def unknown_fields(data: Mapping[Any, Any], known: Iterable[str]) -> dict[str, list[str]]:
    """A sentence for each field of a body that we don't know: a misspelt one must not be dropped in silence."""
    names = list(known)
    takes = f"This takes: {', '.join(names)}." if names else "This takes no fields."
    unknown = [str(name)[:80] for name in data if name not in names]
    return {name: [f"There is no field “{name}”. {takes}"] for name in unknown[:MOST_TOLD]}


class Body(serializers.Serializer):
    default_error_messages = {"invalid": "The body is a JSON object: {{…}}. This is another kind of value."}


class Strict(Body):
    """Refuses fields that it doesn't know, by name."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = unknown_fields(data, (name for name, field in self.fields.items() if not field.read_only))
            if unknown:
                raise exceptions.ValidationError(unknown, code="unknown_field")
        return super().to_internal_value(data)
