"""Forms of what several people edit: one that was opened before somebody else's change is refused, says what changed, and keeps
what was typed. Saved, it writes only what its person changed."""

from typing import Any

from django import forms
from django.db.models import Model
from django.forms.models import model_to_dict
from django.http import HttpRequest

from projects.models import Change, Versioned
from projects.people.members import name_of

SEEN = "seen_version"


class SeesVersion(forms.BaseForm):
    """What a form of a `row` needs; it is the row as it is now, locked, once the form is cleaned. Clean it in a transaction."""

    # Where a form's field has another name than the column.
    columns: dict[str, str] = {}

    @property
    def row(self) -> Model | None:
        raise NotImplementedError

    def take(self, now: Any) -> None:
        """Goes on with the row as it is now."""

    def require_fresh(self) -> None:
        """Raises `ValidationError` if somebody changed meanwhile what this form shows."""
        if self.row is None:
            return
        now = self.locked(self.row)
        self.take(now)
        seen = self.cleaned_data.get(SEEN)
        changes = self.changes_since(now, seen) if seen else {}
        shown = {name: change for name, change in changes.items() if name in self.fields}
        if shown:
            self._show_theirs(now, shown)
            raise forms.ValidationError(self._sentences(now, shown))

    def locked(self, row: Any) -> Any:
        return type(row).locked(row.pk)

    def changes_since(self, now: Any, seen: Any) -> dict[str, Change]:
        """By field."""
        if seen == now.version:
            return {}
        return {self.columns.get(column, column): change for column, change in now.changes_since(seen).items()}

    def seen_now(self, now: Any) -> str:
        return str(now.version)

    @property
    def changed_data(self) -> list[str]:  # Django's is cached, and may be read before `take`
        return [name for name, bound in self._bound_items() if name != SEEN and bound._has_changed()]  # type: ignore[attr-defined]

    def _show_theirs(self, now: Any, changes: dict[str, Change]) -> None:
        """What the person left alone shows what is there now; what they typed stays, and is saved when they save again."""
        data: Any = self.data
        self.data = data = data.copy()
        for name, change in changes.items():
            if not self._is_touched(name, change.old):
                self._put(name, change.new)
        data[self.add_prefix(SEEN)] = self.seen_now(now)

    def _is_touched(self, name: str, old: Any) -> bool:
        field, typed = self.fields[name], self[name].data
        return field.has_changed(old, typed) and _plain(field.prepare_value(old)) != _plain(typed)

    def _put(self, name: str, value: Any) -> None:
        field, key = self.fields[name], self.add_prefix(name)
        data: Any = self.data
        if hasattr(field.widget, "put"):
            field.widget.put(data, key, value)
        elif isinstance(field, forms.BooleanField):
            data.setlist(key, ["on"] if value else [])
        elif isinstance(field, forms.ModelMultipleChoiceField):
            data.setlist(key, list(value))
        else:
            prepared = field.prepare_value(value)
            data[key] = "" if prepared is None else str(prepared)

    def _sentences(self, now: Any, changes: dict[str, Change]) -> list[str]:
        return [
            f"Nothing was saved: this {now._meta.verbose_name} was changed after you opened this page.",
            *(self._sentence(name, change) for name, change in changes.items()),
            "What you typed is still here, and what you left alone shows what is there now. Look at it, then save again.",
        ]

    def _sentence(self, name: str, change: Change) -> str:
        who = name_of(change.by) if change.by else "the studio"
        when = f"{change.at:%-d %B %Y, %H:%M} UTC"
        return f"{self[name].label} is {self.shown(name, change.new)} now ({who}, {when})."

    def shown(self, name: str, value: Any) -> str:
        """A value as the person would read it in the form."""
        field: Any = self.fields[name]
        if isinstance(field, forms.BooleanField):
            return "on" if value else "off"
        if hasattr(field, "queryset"):
            listed = value if isinstance(value, list) else [value]
            rows = field.queryset.model.objects.filter(pk__in=[each for each in listed if each])
            return ", ".join(f"“{row}”" for row in rows) or "empty"
        if hasattr(field, "choices"):
            return f"“{dict(field.choices).get(value, value)}”" if value not in (None, "") else "empty"
        prepared = _plain(field.prepare_value(value))
        return f"“{prepared[:200]}{'…' if len(prepared) > 200 else ''}”" if prepared else "empty"


def _plain(value: Any) -> str:
    """As it stands in a box of a page, whose lines browsers end in their own way."""
    if isinstance(value, list | tuple):
        return "\n".join(map(_plain, value))
    return "" if value is None else str(value).replace("\r\n", "\n").strip()


class VersionedForm(SeesVersion, forms.ModelForm):
    seen_version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial[SEEN] = self.instance.version

    @property
    def row(self) -> Versioned | None:
        return None if self.instance._state.adding else self.instance

    def take(self, now: Any) -> None:
        self.instance = now
        self.initial.update(model_to_dict(now, fields=list(self.fields)))

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self.require_fresh()
        return cleaned

    @property
    def changes(self) -> dict[str, Any]:
        """What the person changed, by field."""
        return {name: _one_line_end(self.cleaned_data[name]) for name in self.changed_data if name in self.cleaned_data}


def _one_line_end(value: Any) -> Any:
    return value.replace("\r\n", "\n") if isinstance(value, str) else value


class VersionedAdmin:
    """For an admin, or an inline of one, whose form is a `VersionedForm`: the page carries the version that it shows."""

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        fieldsets: Any = super().get_fieldsets(request, obj)  # type: ignore[misc]
        if obj is None or not self.has_change_permission(request, obj):  # type: ignore[attr-defined]
            return fieldsets
        (title, options), *others = fieldsets
        return [(title, {**options, "fields": [*options["fields"], SEEN]}), *others]
