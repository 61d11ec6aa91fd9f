from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import display

from generations.models import Element
from generations.services import elements
from projects.admin.access import ArchivedFilter, ProjectFilter, StudioAdmin, person, told
from projects.admin.asking import ask, counted
from projects.admin.versions import VersionedAdmin, VersionedForm


class ElementForm(VersionedForm):
    class Meta:
        model = Element
        fields = ["project", "name", "description", "element_id"]


@admin.register(Element)
class ElementAdmin(VersionedAdmin, StudioAdmin):
    form = ElementForm
    list_display = ["name", "project", "description", "element_id", "created_by", "created"]
    list_filter = [ProjectFilter, ArchivedFilter]
    list_select_related = ["project", "created_by"]
    search_fields = ["name", "description", "element_id"]
    fields = ["project", "name", "description", "element_id"]
    actions = ["archive", "bring_back"]

    @display(description="Added", ordering="created_at")
    def created(self, element: Element) -> str:
        return f"{element.created_at:%-d %b %Y}"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["project"] if obj else []

    def save_model(self, request: HttpRequest, obj: Element, form: Any, change: bool) -> None:
        if change:
            elements.edit(obj, by=person(request), **form.changes)
            return
        obj.created_by = person(request)
        obj.save()

    @admin.action(description="Archive (it can’t be picked any more)", permissions=["change"])
    def archive(self, request: HttpRequest, queryset: QuerySet[Element]) -> HttpResponse | None:
        title = f"Archive {counted(len(queryset), 'element')}?"
        text = (
            "It can’t be picked for new videos any more; those that were made stay. You can bring it back at any time."
        )
        question = ask(request, title, text, yes="Archive", things=queryset)
        return question or self._move(request, queryset.filter(archived_at=None), elements.archive, "Archived")

    @admin.action(description="Bring back", permissions=["change"])
    def bring_back(self, request: HttpRequest, queryset: QuerySet[Element]) -> HttpResponse | None:
        return self._move(request, queryset.exclude(archived_at=None), elements.bring_back, "Brought back")

    def _move(
        self, request: HttpRequest, chosen: QuerySet[Element], do: Callable[..., None], done: str
    ) -> HttpResponse | None:
        """One by one: the history of edits does not see an update of many rows."""
        allowed = [element for element in chosen if self.has_change_permission(request, element)]
        for element in allowed:
            do(element, by=person(request))
        refused = len(chosen) - len(allowed)
        text = f"{refused} of them are in projects where this takes the role “Editor”."
        return told(request, f"{done} {len(allowed)} elements." if allowed else "", [text] if refused else [])
