"""Who sees and changes what in the admin: roles in projects decide, never Django's table of permissions."""

import uuid
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.views.main import PAGE_VAR
from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import DropdownFilter

from projects.counting import UpTo
from projects.links import NotHere
from projects.models import Project
from projects.people.members import MembershipRefused
from projects.permissions import Access


def access(request: HttpRequest) -> Access:
    """What the person may do, read once a request."""
    known: Access | None = getattr(request, "studio_access", None)
    if known is None:
        known = Access.of(request.user)
        request.studio_access = known  # type: ignore[attr-defined]
    return known


def person(request: HttpRequest) -> User:
    """The admin lets nobody in who is not logged in."""
    return cast(User, request.user)


def sentence(refusal: Exception) -> str:
    return " ".join(refusal.messages) if isinstance(refusal, ValidationError) else str(refusal)


class StudioAdmin(ModelAdmin):
    """Shows the rows of the projects that somebody may see, and asks their role for the rest; nobody deletes anything."""

    # None: rows of no project, which only studio owners see.
    project_path: str | None = "project"
    view_action = "view"
    change_action = "edit"
    list_filter_submit = True
    list_per_page = 50
    # Of a filtered list, how many there are without the filter: a count of the whole table for each page.
    show_full_result_count = False
    show_facets = ShowFacets.NEVER

    def get_paginator(
        self, request: HttpRequest, queryset: QuerySet[Any], per_page: int, *args: Any, **kwargs: Any
    ) -> UpTo:
        return UpTo(queryset, per_page, asked=request.GET.get(PAGE_VAR, ""))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().get_queryset(request)
        who = access(request)
        if who.is_studio_owner:
            return rows
        if self.project_path is None:
            return rows.none()
        return rows.filter(**{f"{self.project_path}__in": who.projects(self.view_action)})

    def project_id(self, obj: Model) -> uuid.UUID | None:
        if self.project_path is None:
            return None
        value: Any = obj
        for name in self.project_path.split("__"):
            value = getattr(value, name)
        return value.pk if isinstance(value, Project) else value

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request, self.view_action, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return access(request).may_somewhere(self.change_action)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self._may(request, self.change_action, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def _may(self, request: HttpRequest, action: str, obj: Model | None) -> bool:
        who = access(request)
        return who.may_somewhere(action) if obj is None else who.may(action, self.project_id(obj))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """404 for what isn't there and for what one may not see, in every view: Django's own would tell them apart."""
        obj = super().get_object(request, object_id, from_field)
        if obj is None or not self.has_view_or_change_permission(request, obj):
            raise NotHere(
                f"This {self.opts.verbose_name} doesn’t exist, or is in a project that you are not a member of."
            )
        return obj

    def get_or_404(self, request: HttpRequest, object_id: str) -> Any:
        return self.get_object(request, object_id)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.remote_field.model is Project:
            kwargs["queryset"] = access(request).open_projects(self.change_action)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_dbfield(self, db_field: Field, request: HttpRequest, **kwargs: Any) -> forms.Field | None:
        """Without the pop-up links to the other object: there is one way to make or change each thing."""
        field: forms.Field | None = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """One button to save: the others take the place of what can be done with the object."""
        one_button = {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, {**context, **one_button}, *args, **kwargs)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """What a service refuses rolls the whole form back, and is told."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (MembershipRefused, ValidationError) as refusal:
            messages.error(request, sentence(refusal))
        except PermissionDenied as refusal:
            if not (request.method == "POST" and str(refusal)):
                raise
            messages.error(request, str(refusal))
        return HttpResponseRedirect(request.get_full_path())


class ReadOnlyAdmin(StudioAdmin):
    """Rows that the studio writes and people read."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ProjectFilter(DropdownFilter):
    """Names only the projects that the person sees."""

    title = "project"
    parameter_name = "project"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        projects = access(request).projects(model_admin.view_action)
        return [(str(project.pk), str(project)) for project in projects]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value()
        return queryset.filter(project_id=value) if value and value in dict(self.lookup_choices) else queryset


class ArchivedFilter(DropdownFilter):
    """What is archived is out of sight until somebody asks for it."""

    title = "archived"
    parameter_name = "archived"
    all_option = ("", "Hidden")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("only", "Only archived"), ("all", "Shown too")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "all":
            return queryset
        return queryset.filter(archived_at__isnull=self.value() != "only")


class TrashFilter(DropdownFilter):
    """What is in the trash is out of sight until somebody asks for it; what was deleted from it stays a row."""

    title = "trash"
    parameter_name = "trash"
    all_option = ("", "Hidden")

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("in", "In the trash"), ("deleted", "Deleted from it"), ("all", "Shown too")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "all":
                return queryset
            case "in":
                return queryset.filter(trashed_at__isnull=False, purged_at=None)
            case "deleted":
                return queryset.filter(purged_at__isnull=False)
        return queryset.filter(trashed_at=None)


def told(request: HttpRequest, done: str, refused: list[str]) -> HttpResponse | None:
    """Messages of an action on several rows: what was done, then each refusal once."""
    if done:
        messages.success(request, done)
    for text in dict.fromkeys(refused):
        messages.error(request, text)
    return None
