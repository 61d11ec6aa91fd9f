"""The models that the sandbox runs: their parameters, the provider's checks of them, and what a run costs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

JsonObject = dict[str, Any]


class InvalidInput(Exception):
    """The provider would answer HTTP 400 with this message."""


@dataclass(frozen=True)
class Parameter:
    name: str
    type: str  # string, integer, number, boolean, array; as in JSON Schema
    description: str
    required: bool = False
    default: Any = None
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    max_items: int | None = None
    items: tuple["Parameter", ...] = ()  # the keys of an array's objects; none: the array holds strings

    def check(self, value: Any, path: str) -> Any:
        """The value as the provider keeps it."""
        value = _of_type(value, self.type, path)
        if self.choices and value not in self.choices:
            raise InvalidInput(f'field "{path}" must be one of {", ".join(map(str, self.choices))}')
        self._check_size(value, path)
        if self.type == "array":
            return [self._check_item(item, f"{path}[{index}]") for index, item in enumerate(value)]
        return value

    def _check_size(self, value: Any, path: str) -> None:
        if self.minimum is not None and value < self.minimum:
            raise InvalidInput(f'field "{path}" must be greater than or equal to {self.minimum:g}')
        if self.maximum is not None and value > self.maximum:
            raise InvalidInput(f'field "{path}" must be less than or equal to {self.maximum:g}')
        if self.max_length is not None and len(value) > self.max_length:
            raise InvalidInput(f'field "{path}" must be at most {self.max_length} characters')
        if self.max_items is not None and len(value) > self.max_items:
            raise InvalidInput(f'field "{path}" must contain at most {self.max_items} items')

    def _check_item(self, item: Any, path: str) -> Any:
        if not self.items:
            return _of_type(item, "string", path)
        if not isinstance(item, dict):
            raise InvalidInput(f'field "{path}" must be object')
        return check_parameters(self.items, item, prefix=f"{path}.")

    def schema(self) -> JsonObject:
        """This parameter as the provider's `request_schema` states it."""
        told: JsonObject = {"type": self.type, "description": self.description}
        optional = {
            "default": self.default,
            "enum": list(self.choices) or None,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "maxLength": self.max_length,
            "maxItems": self.max_items,
        }
        told |= {key: value for key, value in optional.items() if value is not None}
        if self.type == "array":
            told["items"] = object_schema(self.items) if self.items else {"type": "string"}
        return told


def object_schema(parameters: tuple[Parameter, ...]) -> JsonObject:
    return {
        "type": "object",
        "properties": {parameter.name: parameter.schema() for parameter in parameters},
        "required": [parameter.name for parameter in parameters if parameter.required],
    }


_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
}


def _of_type(value: Any, type_name: str, path: str) -> Any:
    if type_name == "integer" and isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON does not tell 5.0 from 5
    if not isinstance(value, _PYTHON_TYPES[type_name]) or (isinstance(value, bool) and type_name != "boolean"):
        raise InvalidInput(f'field "{path}" must be {type_name}')
    return value


def check_parameters(
    parameters: tuple[Parameter, ...], body: JsonObject, prefix: str = "", *, complete: bool = True
) -> JsonObject:
    """The inputs that the provider keeps of `body`: known keys only, defaults filled in."""
    inputs: JsonObject = {}
    for parameter in parameters:
        value = body.get(parameter.name)
        if complete and parameter.required and value in (None, "", []):
            raise InvalidInput(f'field "{prefix}{parameter.name}" is required and must not be empty')
        if value is None:
            value = parameter.default
        if value is not None:
            inputs[parameter.name] = parameter.check(value, prefix + parameter.name)
    return inputs


@dataclass(frozen=True)
class Model:
    model_id: str
    type: str
    parameters: tuple[Parameter, ...]
    base_price: Decimal
    price: Callable[[JsonObject], Decimal]
    formula: str
    rules: tuple[Callable[[JsonObject], None], ...] = ()
    seconds: float = 120.0  # how long a 5-second clip takes at speed 1
    max_long_side: int | None = None
    makes: str = "video"  # or "element"
    image_fields: tuple[str, ...] = field(default=("image", "end_image"))

    def clean(self, body: JsonObject) -> JsonObject:
        """The inputs that will be run and billed; raises InvalidInput as the provider would refuse them."""
        inputs = check_parameters(self.parameters, body)
        for rule in self.rules:
            rule(inputs)
        return inputs

    def quote(self, inputs: JsonObject) -> Decimal:
        """What a run with these inputs would cost; what does not matter for the price may be missing."""
        return self.price(check_parameters(self.parameters, inputs, complete=False))

    def image_urls(self, inputs: JsonObject) -> list[str]:
        """Every image that has to be fetched, the start image first."""
        urls: list[str] = []
        for name in self.image_fields:
            value = inputs.get(name) or []
            urls += [value] if isinstance(value, str) else value
        return urls

    def takes(self, inputs: JsonObject) -> float:
        """Seconds from submit to completion at speed 1."""
        return self.seconds * float(inputs.get("duration", 5)) / 5

    def listing(self) -> JsonObject:
        """The model's entry in `GET /models`."""
        return {
            "model_id": self.model_id,
            "name": self.model_id,
            "base_price": float(self.base_price),
            "type": self.type,
            "formula": self.formula,
            "api_schema": {
                "api_schemas": [
                    {
                        "method": "POST",
                        "api_path": f"/api/v3/{self.model_id}",
                        "request_schema": object_schema(self.parameters),
                    }
                ]
            },
        }


def _prompt_or_shots(inputs: JsonObject) -> None:
    if not inputs.get("prompt") and not inputs.get("multi_prompt"):
        raise InvalidInput('field "prompt" is required and must not be empty')
    if inputs.get("prompt") and inputs.get("multi_prompt"):
        raise InvalidInput('field "prompt" and "multi_prompt" can not be used together')


def _shots_fill_the_duration(inputs: JsonObject) -> None:
    shots = inputs.get("multi_prompt")
    if shots and sum(shot["duration"] for shot in shots) != inputs["duration"]:
        raise InvalidInput('field "multi_prompt" durations must sum to "duration"')


def _no_shots_with_end_image(inputs: JsonObject) -> None:
    if inputs.get("multi_prompt") and inputs.get("end_image"):
        raise InvalidInput('field "end_image" is not supported with "multi_prompt"')


def _few_elements_with_end_image(inputs: JsonObject) -> None:
    if inputs.get("end_image") and len(inputs.get("element_list", [])) > 3:
        raise InvalidInput('field "element_list" must contain at most 3 items with "end_image"')


def _few_images_with_video(inputs: JsonObject) -> None:
    if inputs.get("video") and len(inputs.get("images", [])) > 4:
        raise InvalidInput('field "images" must contain at most 4 items with "video"')


def _per_second(inputs: JsonObject) -> Decimal:
    return Decimal("0.42") * int(inputs["duration"])


def _per_five_seconds(price: str) -> Callable[[JsonObject], Decimal]:
    return lambda inputs: Decimal(price) * int(inputs["duration"]) / 5


_PROMPT = Parameter("prompt", "string", "The positive prompt for the generation.", max_length=2500)
_REQUIRED_PROMPT = Parameter(
    "prompt", "string", "The positive prompt for the generation.", required=True, max_length=2500
)
_IMAGE = Parameter("image", "string", "The first frame image URL.", required=True)
_END_IMAGE = Parameter("end_image", "string", "The last frame image URL.")
_SOUND = Parameter("sound", "boolean", "Whether to generate audio for the video.", default=False)
_DURATION = Parameter(
    "duration",
    "integer",
    "The duration of the generated media in seconds (3-15).",
    default=5,
    choices=tuple(range(3, 16)),
)
_ASPECT_RATIO = Parameter(
    "aspect_ratio",
    "string",
    "The aspect ratio of the generated media.",
    default="16:9",
    choices=("16:9", "9:16", "1:1"),
)
_SHOT_TYPE = Parameter(
    "shot_type",
    "string",
    "Shot type for the generation.",
    default="customize",
    choices=("customize", "intelligent"),
)
_MULTI_PROMPT = Parameter(
    "multi_prompt",
    "array",
    "List of multi-prompt elements for the generation.",
    max_items=6,
    items=(
        Parameter("prompt", "string", "What happens in this shot.", required=True, max_length=512),
        Parameter("duration", "integer", "Seconds of this shot.", required=True, minimum=1, maximum=15),
    ),
)
_ELEMENT_LIST = Parameter(
    "element_list",
    "array",
    "Element reference list.",
    items=(Parameter("element_id", "string", "The element's id.", required=True),),
)

_O3 = "kwaivgi/kling-video-o3-4k/"


def _kling_2_1(grade: str, price: str, long_side: int) -> Model:
    end_image = (_END_IMAGE,) if grade == "pro" else ()
    return Model(
        f"kwaivgi/kling-v2.1-i2v-{grade}",
        "image-to-video",
        (
            _IMAGE,
            *end_image,
            _REQUIRED_PROMPT,
            Parameter("negative_prompt", "string", "What to avoid.", max_length=2500),
            Parameter(
                "guidance_scale", "number", "How closely to follow the prompt.", default=0.5, minimum=0, maximum=1
            ),
            Parameter("duration", "integer", "Seconds of video.", default=5, choices=(5, 10)),
        ),
        base_price=Decimal(price),
        price=_per_five_seconds(price),
        formula=f"{price} * duration / 5",
        seconds=90.0,
        max_long_side=long_side,
    )


MODELS: dict[str, Model] = {
    model.model_id: model
    for model in (
        Model(
            _O3 + "image-to-video",
            "image-to-video",
            (_IMAGE, _PROMPT, _END_IMAGE, _DURATION, _SOUND, _SHOT_TYPE, _MULTI_PROMPT, _ELEMENT_LIST),
            base_price=Decimal("2.10"),
            price=_per_second,
            formula="0.42 * duration",
            rules=(
                _prompt_or_shots,
                _shots_fill_the_duration,
                _no_shots_with_end_image,
                _few_elements_with_end_image,
            ),
        ),
        Model(
            _O3 + "text-to-video",
            "text-to-video",
            (_PROMPT, _ASPECT_RATIO, _DURATION, _SOUND, _SHOT_TYPE, _MULTI_PROMPT, _ELEMENT_LIST),
            base_price=Decimal("2.10"),
            price=_per_second,
            formula="0.42 * duration",
            rules=(_prompt_or_shots, _shots_fill_the_duration),
            image_fields=(),
        ),
        Model(
            _O3 + "reference-to-video",
            "reference-to-video",
            (
                _REQUIRED_PROMPT,
                Parameter("images", "array", "Reference image URLs.", max_items=7),
                Parameter("video", "string", "The reference video URL."),
                Parameter("keep_original_sound", "boolean", "Keep the reference video's sound.", default=True),
                _SOUND,
                _ASPECT_RATIO,
                _DURATION,
            ),
            base_price=Decimal("2.10"),
            price=_per_second,
            formula="0.42 * duration",
            rules=(_few_images_with_video,),
            image_fields=("images",),
        ),
        Model(
            "kwaivgi/kling-elements",
            "element",
            (
                Parameter("name", "string", "The element's name.", required=True, max_length=20),
                Parameter("description", "string", "What the element is.", required=True, max_length=100),
                Parameter("image", "string", "The frontal image URL.", required=True),
                Parameter("element_refer_list", "array", "Further image URLs.", required=True, max_items=3),
                Parameter("voice_id", "string", "The element's voice."),
                Parameter("tag_list", "array", "Tags of the element."),
            ),
            base_price=Decimal("0.01"),
            price=lambda inputs: Decimal("0.01"),
            formula="0.01",
            seconds=20.0,
            makes="element",
            image_fields=("image", "element_refer_list"),
        ),
        _kling_2_1("standard", "0.25", 1280),
        _kling_2_1("pro", "0.45", 1920),
        _kling_2_1("master", "1.30", 1920),
    )
}
