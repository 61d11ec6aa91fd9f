"""The form of a generation: the endpoint's parameters, checked by the catalogue with its own sentences."""

from typing import Any

from django import forms
from django.contrib.auth.models import User
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldBooleanSwitchWidget,
)

from generations import catalog
from generations.catalog.endpoint import InvalidInputs
from generations.catalog.parameters import Duration, Shots, Text
from generations.models import Element, Generation, Priority
from generations.services import quotes
from generations.services.inputs import check_tags
from projects.admin.display import TagsField
from projects.admin.versions import SEEN, SeesVersion
from projects.models import Project, SourceImage
from projects.money import shown, to_micros
from projects.words import normal

MOST_PICTURES = 200
OURS = ("endpoint", "tags", "priority", SEEN)  # all other fields are inputs
SHOT_TYPES = {"customize": "As I cut them", "intelligent": "The model cuts them"}


class WholeNumberField(forms.CharField):
    """A number where there is one; the catalogue says what is wrong with anything else."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed("" if initial is None else str(initial), data)


class ShotsWidget(forms.Widget):
    """Rows `multi_prompt-0-prompt`, `multi_prompt-0-duration`, …; the page's template draws them."""

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[dict[str, str]]:
        rows = (
            (data.get(f"{name}-{row}-prompt", ""), data.get(f"{name}-{row}-duration", ""))
            for row in range(self.attrs["rows"])
        )
        return [
            {"prompt": prompt, "duration": duration.strip()}
            for prompt, duration in rows
            if normal(prompt) or duration.strip()
        ]

    def put(self, data: Any, name: str, shots: list[dict[str, Any]]) -> None:
        """The other way round: `shots` into a form's data."""
        for row in range(self.attrs["rows"]):
            shot = shots[row] if row < len(shots) else {"prompt": "", "duration": ""}
            data[f"{name}-{row}-prompt"], data[f"{name}-{row}-duration"] = shot["prompt"], str(shot["duration"])


class ShotsField(forms.Field):
    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(self.clean(data) != (initial or []))

    def clean(self, value: Any) -> list[dict[str, Any]]:
        seconds = WholeNumberField(required=False)
        return [{**shot, "duration": seconds.clean(str(shot["duration"]))} for shot in value or []]


class GenerationForm(SeesVersion, forms.Form):
    """`inputs` are what `services.create` takes, once the form is valid. One of a draft is refused when somebody else changed it."""

    columns = {"image_id": "image", "end_image_id": "end_image"}
    seen_version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    endpoint = forms.ChoiceField(label="Model", widget=UnfoldAdminSelectWidget())
    image = forms.CharField(label="Start image", required=False)
    end_image = forms.CharField(label="End image", required=False)
    prompt = forms.CharField(
        required=False,
        strip=False,
        widget=UnfoldAdminTextareaWidget(
            attrs={"rows": 5, "placeholder": "Slow dolly-in; steam rises from the cup; warm morning light"}
        ),
    )
    multi_prompt = ShotsField(label="Shots", required=False)
    shot_type = forms.ChoiceField(
        label="Who cuts the shots", required=False, choices=SHOT_TYPES.items(), widget=UnfoldAdminSelectWidget()
    )
    duration = WholeNumberField(required=False, widget=UnfoldAdminSelectWidget())
    sound = forms.BooleanField(
        required=False, widget=UnfoldBooleanSwitchWidget(), help_text="Sound that fits the picture, at no extra cost."
    )
    element_list = forms.ModelMultipleChoiceField(
        Element.objects.none(),
        label="Elements",
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text="What Kling keeps consistent; name them in the prompt. At most 3 with an end image.",
    )
    tags = TagsField(
        required=False,
        help_text="Words between commas, for reports; they are not sent. Without any, those of the start image count.",
    )

    priority = forms.TypedChoiceField(
        choices=Priority.choices,
        coerce=int,
        initial=Priority.NORMAL.value,
        required=False,
        empty_value=str(Priority.NORMAL.value),
        widget=UnfoldAdminSelectWidget(),
        help_text="Among what this project has queued. Other projects take their turns all the same.",
    )

    def __init__(self, project: Project, by: User, *args: Any, draft: Generation | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project, self.by, self.draft = project, by, draft
        self.model = catalog.get(draft.endpoint if draft else self._chosen_endpoint())
        self.quote: quotes.Quote | None = None
        for name in set(self.fields) - {*OURS, *self.model.names}:
            del self.fields[name]
        self._fit_to_model()

    def _chosen_endpoint(self) -> str:
        chosen = self.data.get("endpoint") or self.initial.get("endpoint")
        return chosen if chosen in catalog.ENDPOINTS else next(iter(catalog.ENDPOINTS))

    def _fit_to_model(self) -> None:
        """Choices and limits as the catalogue has them."""
        fields: dict[str, Any] = self.fields
        fields["endpoint"].choices = [(endpoint.id, endpoint.title) for endpoint in catalog.ENDPOINTS.values()]
        fields["endpoint"].initial = self.model.id
        for parameter in self.model.parameters:
            match parameter:
                case Duration():
                    fields["duration"].widget.choices = [
                        (seconds, self._priced(seconds)) for seconds in parameter.seconds
                    ]
                    fields["duration"].initial = parameter.default
                case Shots():
                    fields["multi_prompt"].widget = ShotsWidget(attrs={"rows": parameter.max_items})
                case Text() if parameter.name in fields:
                    fields[parameter.name].widget.attrs["maxlength"] = parameter.max_length
        if "element_list" in fields:
            fields["element_list"].queryset = Element.objects.filter(project=self.project, archived_at=None)

    def _priced(self, seconds: int) -> str:
        return f"{seconds} seconds · {shown(to_micros(self.model.price({'duration': seconds})))}"

    def clean_tags(self) -> list[str]:
        try:
            return check_tags(self.cleaned_data["tags"])
        except InvalidInputs as error:
            raise forms.ValidationError(error.errors["tags"]) from error

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        self.require_fresh()
        if self.errors:
            return cleaned
        try:
            # By the catalogue: the provider is asked on the page that confirms, not at each key.
            self.quote = quotes.quote(self.project, endpoint=self.model.id, inputs=self.inputs, by=self.by, told={})
        except InvalidInputs as error:
            for name, sentences in error.errors.items():
                for sentence in sentences:
                    self.add_error(name if name in self.fields else None, sentence)
        return cleaned

    @property
    def row(self) -> Generation | None:
        return self.draft

    def shown(self, name: str, value: Any) -> str:
        match name:
            case "image" | "end_image":
                return f"“{SourceImage.objects.get(pk=value)}”" if value else "empty"
            case "multi_prompt":
                return ", ".join(f"“{shot['prompt']}” ({shot['duration']} s)" for shot in value) or "empty"
        return super().shown(name, value)

    @property
    def inputs(self) -> dict[str, Any]:
        cleaned = {name: value for name, value in self.cleaned_data.items() if name not in OURS}
        cleaned["element_list"] = [str(element.pk) for element in cleaned.get("element_list", [])]
        if not cleaned.get("multi_prompt"):
            cleaned.pop("shot_type", None)
        return {name: value for name, value in cleaned.items() if value not in ("", None, [])}

    @property
    def price(self) -> int | None:
        """Micro-dollars: only the duration counts, so that a form that is not complete yet has a price too."""
        chosen = self["duration"].value() if "duration" in self.fields else None
        try:
            return to_micros(self.model.price({"duration": int(chosen)} if chosen else {}))
        except (InvalidInputs, ValueError):
            return None

    # For the template, which draws what has no widget of its own.

    def pictures(self) -> list[SourceImage]:
        """The project's pictures, newest first, and the chosen ones be they ever so old."""
        rows = SourceImage.objects.filter(project=self.project, archived_at=None)
        newest = list(rows[:MOST_PICTURES])
        known = {str(image.pk) for image in newest}
        chosen = {self.chosen_image, self.chosen_end_image} - known
        missing = [pk for pk in chosen if len(pk) == 36]
        return [*SourceImage.objects.filter(project=self.project, pk__in=missing), *newest] if missing else newest

    @property
    def chosen_image(self) -> str:
        return str(self["image"].value() or "")

    @property
    def chosen_end_image(self) -> str:
        return str(self["end_image"].value() or "") if "end_image" in self.fields else ""

    def shots(self) -> list[dict[str, Any]]:
        """Every row of the editor, filled or not."""
        rows = self.fields["multi_prompt"].widget.attrs["rows"]
        filled = list(self["multi_prompt"].value() or [])
        return (filled + [{"prompt": "", "duration": ""}] * rows)[:rows]

    def is_in_shots(self) -> bool:
        return "multi_prompt" in self.fields and bool(self["multi_prompt"].value())
