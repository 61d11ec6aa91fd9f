"""The provider's models: what each takes, what it costs, what it refuses. Pure data and functions.

A model is an `Endpoint` in `ENDPOINTS`: its parameters, the rules between them, its pricing. The provider drops
unknown parameters silently and bills the request with its defaults, so what leaves here is built from the names
below and from nothing else.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import ClassVar, TypeVar

from projects import words

Item = TypeVar("Item")


class Sentence(str):
    """What is wrong, for people; `code` tells programs."""

    code: str

    def __new__(cls, text: str, code: str = "invalid") -> "Sentence":
        sentence = super().__new__(cls, text)
        sentence.code = code
        return sentence


Errors = dict[str, list[Sentence]]
Rule = Callable[[Mapping[str, object]], Iterator[tuple[str, Sentence]]]


class UnknownEndpoint(LookupError):
    """No endpoint has this id."""

    def __init__(self, endpoint_id: object) -> None:
        super().__init__(f"There is no endpoint {show(endpoint_id)}. Known endpoints: {', '.join(ENDPOINTS)}.")


class InvalidInputs(ValueError):
    """`errors` holds the sentences for each parameter that can't be sent as it is."""

    def __init__(self, errors: Errors) -> None:
        super().__init__("; ".join(f"{name}: {' '.join(sentences)}" for name, sentences in errors.items()))
        self.errors = errors


class Problem(Exception):
    """What is wrong with one value."""

    def __init__(self, *sentences: Sentence) -> None:
        super().__init__(*sentences)
        self.sentences = list(sentences)


def _problem(text: str, code: str = "invalid") -> Problem:
    return Problem(Sentence(text, code))


@dataclass(frozen=True)
class ImageLimits:
    """What the provider takes as a source image. Aspects are width divided by height, sides are pixels."""

    formats: tuple[str, ...]
    max_bytes: int
    min_side: int
    min_aspect: Decimal
    max_aspect: Decimal


IMAGE_LIMITS = ImageLimits(("JPEG", "PNG"), 10_000_000, 300, Decimal("0.4"), Decimal("2.5"))


# Parameters


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a model.

    Blank (null, empty text, empty list) means “not set” where it is optional and has no default.
    """

    kind: ClassVar[str]
    is_media: ClassVar[bool] = False

    name: str
    description: str
    required: bool = False
    default: object = None

    def is_unset(self, value: object) -> bool:
        return not self.required and self.default is None and (value is None or value == "" or value == [])

    def check(self, value: object) -> object:
        """The value as plain JSON, normalised; raises Problem."""
        raise NotImplementedError

    def compared(self, value: object) -> object:
        """Equal for two checked values that ask for the same."""
        return value

    def value_schema(self) -> dict[str, object]:
        raise NotImplementedError

    def schema(self) -> dict[str, object]:
        schema = {"description": self.description}
        if self.default is not None:
            return schema | self.value_schema() | {"default": self.default}
        if self.required:
            return schema | self.value_schema()
        return schema | {"anyOf": [self.value_schema(), {"enum": [None, "", []]}]}


@dataclass(frozen=True, kw_only=True)
class Text(Parameter):
    kind = "text"

    max_length: int

    def is_unset(self, value: object) -> bool:
        return super().is_unset(value if not isinstance(value, str) or words.normal(value) else "")

    def check(self, value: object) -> str:
        return _words(value, self.max_length)

    def compared(self, value: object) -> object:
        return words.normal(str(value))

    def value_schema(self) -> dict[str, object]:
        return _text_schema(self.max_length)


@dataclass(frozen=True, kw_only=True)
class Media(Parameter):
    """A picture or a video, named by an opaque reference of ours; its URL is put in when the body is built."""

    is_media = True

    def check(self, value: object) -> str:
        return _reference(value)

    def value_schema(self) -> dict[str, object]:
        return _text_schema(MAX_REFERENCE)


@dataclass(frozen=True, kw_only=True)
class Image(Media):
    kind = "image"


@dataclass(frozen=True, kw_only=True)
class Video(Media):
    kind = "video"


@dataclass(frozen=True, kw_only=True)
class Images(Parameter):
    kind = "images"
    is_media = True

    max_items: int

    def check(self, value: object) -> list[str]:
        items = _list(value, "images", self.max_items)
        return _each(items, _reference, "Image")

    def value_schema(self) -> dict[str, object]:
        return {"type": "array", "minItems": 1, "maxItems": self.max_items, "items": _text_schema(MAX_REFERENCE)}


@dataclass(frozen=True, kw_only=True)
class Duration(Parameter):
    kind = "duration"

    seconds: tuple[int, ...]  # ascending

    @property
    def is_range(self) -> bool:
        return self.seconds == tuple(range(self.seconds[0], self.seconds[-1] + 1))

    def check(self, value: object) -> int:
        number = _number(value)
        if number is None or number not in self.seconds:
            raise _problem(
                f"{show(value)} is not a duration this model makes: {self._choices()}.", "duration_not_offered"
            )
        return int(number)

    def value_schema(self) -> dict[str, object]:
        if self.is_range:
            return {"type": "integer", "minimum": self.seconds[0], "maximum": self.seconds[-1]}
        return {"type": "integer", "enum": list(self.seconds)}

    def _choices(self) -> str:
        if self.is_range:
            return f"whole seconds from {self.seconds[0]} to {self.seconds[-1]}"
        return f"{_either([str(seconds) for seconds in self.seconds])} seconds"


@dataclass(frozen=True, kw_only=True)
class Number(Parameter):
    kind = "number"

    minimum: Decimal
    maximum: Decimal

    def check(self, value: object) -> int | float:
        number = _number(value)
        if number is None or not self.minimum <= number <= self.maximum:
            raise _problem(f"{show(value)} is not a number from {self.minimum} to {self.maximum}.")
        return _plain(number)

    def value_schema(self) -> dict[str, object]:
        return {"type": "number", "minimum": _plain(self.minimum), "maximum": _plain(self.maximum)}


@dataclass(frozen=True, kw_only=True)
class Boolean(Parameter):
    kind = "boolean"

    def check(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise _problem(f"{show(value)} is neither true nor false.")
        return value

    def value_schema(self) -> dict[str, object]:
        return {"type": "boolean"}


@dataclass(frozen=True, kw_only=True)
class Choice(Parameter):
    kind = "choice"

    choices: tuple[str, ...]

    def check(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise _problem(f"{show(value)} is not one of the choices: {_either(self.choices)}.", "invalid_choice")
        return value

    def value_schema(self) -> dict[str, object]:
        return {"type": "string", "enum": list(self.choices)}


@dataclass(frozen=True, kw_only=True)
class Shots(Parameter):
    """Segments of one video: `[{"prompt": …, "duration": seconds}]`."""

    kind = "shots"

    max_items: int
    max_length: int
    max_seconds: int

    def check(self, value: object) -> list[dict[str, object]]:
        return _each(_list(value, "shots", self.max_items), self._shot, "Shot")

    def _shot(self, shot: object) -> dict[str, object]:
        if not isinstance(shot, Mapping):
            raise _problem(f'{show(shot)} is not a shot: {{"prompt": text, "duration": seconds}}.')
        sentences = _strange_keys(shot, ("prompt", "duration"), "A shot has a prompt and a duration")
        normalised: dict[str, object] = {}
        for key, check in (("prompt", self._prompt), ("duration", self._seconds)):
            try:
                normalised[key] = check(shot.get(key))
            except Problem as problem:
                sentences.extend(problem.sentences)
        if sentences:
            raise Problem(*sentences)
        return normalised

    def _prompt(self, value: object) -> str:
        if value is None:
            raise _problem("It has no prompt: say what happens in it.", "required")
        return _words(value, self.max_length)

    def compared(self, value: object) -> object:
        assert isinstance(value, list)
        return [{**shot, "prompt": words.normal(shot["prompt"])} for shot in value]

    def _seconds(self, value: object) -> int:
        number = _number(value)
        if number is None or not 1 <= number <= self.max_seconds or number != int(number):
            raise _problem(f"{show(value)} is not a duration of a shot: whole seconds from 1 to {self.max_seconds}.")
        return int(number)

    def value_schema(self) -> dict[str, object]:
        shot = {
            "type": "object",
            "properties": {
                "prompt": _text_schema(self.max_length),
                "duration": {"type": "integer", "minimum": 1, "maximum": self.max_seconds},
            },
            "required": ["prompt", "duration"],
            "additionalProperties": False,
        }
        return {"type": "array", "minItems": 1, "maxItems": self.max_items, "items": shot}


@dataclass(frozen=True, kw_only=True)
class Elements(Parameter):
    """Elements made with Kling Elements: `[{"element_id": "306696265837507"}]`. The ids are text, never numbers."""

    kind = "elements"

    def check(self, value: object) -> list[dict[str, str]]:
        return _each(_list(value, "elements"), self._element, "Element")

    def _element(self, element: object) -> dict[str, str]:
        if not isinstance(element, Mapping):
            raise _problem(f'{show(element)} is not an element: {{"element_id": "306696265837507"}}.')
        sentences = _strange_keys(element, ("element_id",), "An element has an element_id only")
        element_id = element.get("element_id")
        if not isinstance(element_id, str):
            text = f'The element_id {show(element_id)} is not text. Ids are text: "306696265837507".'
            sentences.append(Sentence(text))
        if sentences:
            raise Problem(*sentences)
        return {"element_id": _text(element_id, MAX_ELEMENT_ID)}

    def value_schema(self) -> dict[str, object]:
        element = {
            "type": "object",
            "properties": {"element_id": _text_schema(MAX_ELEMENT_ID)},
            "required": ["element_id"],
            "additionalProperties": False,
        }
        return {"type": "array", "minItems": 1, "items": element}


# Rules between parameters: each yields (parameter, sentence) for what is wrong with normalised inputs, in which None
# stands for a value that was given and is wrong by itself.


def exactly_one(one: str, other: str, code: str) -> Rule:
    def rule(inputs: Mapping[str, object]) -> Iterator[tuple[str, Sentence]]:
        if one in inputs and other in inputs:
            text = f"Both {one} and {other} were given; this model takes one of them. Leave one out."
            yield one, Sentence(text, code)
        elif one not in inputs and other not in inputs:
            yield one, Sentence(f"Neither {one} nor {other} was given; this model needs one of them.", code)

    return rule


def shots_fill_duration(inputs: Mapping[str, object]) -> Iterator[tuple[str, Sentence]]:
    shots, duration = inputs.get("multi_prompt"), inputs.get("duration")
    if isinstance(shots, list) and isinstance(duration, int):
        seconds = sum(shot["duration"] for shot in shots)
        if seconds != duration:
            text = f"The shots last {seconds} s together, the video {duration} s: make them the same."
            yield "multi_prompt", Sentence(text, "shots_sum")


def not_together(one: str, other: str) -> Rule:
    def rule(inputs: Mapping[str, object]) -> Iterator[tuple[str, Sentence]]:
        if one in inputs and other in inputs:
            yield one, Sentence(f"{one} does not go together with {other}: leave one of them out.", "not_together")

    return rule


def at_most(limit: int, name: str, *, given: str) -> Rule:
    def rule(inputs: Mapping[str, object]) -> Iterator[tuple[str, Sentence]]:
        items = inputs.get(name)
        if given in inputs and isinstance(items, list) and len(items) > limit:
            yield name, Sentence(f"{len(items)} are too many together with {given}: at most {limit}.", "max_length")

    return rule


# Prices


@dataclass(frozen=True)
class Pricing:
    """USD for every started block of `per_seconds` of the video, or for the whole where that is None."""

    usd: Decimal
    per_seconds: int | None = None

    def price(self, seconds: int) -> Decimal:
        if self.per_seconds is None:
            return self.usd
        return self.usd * math.ceil(Decimal(seconds) / self.per_seconds)


# Endpoints


@dataclass(frozen=True)
class Endpoint:
    """A model of the provider: `id` is its path at the API."""

    id: str
    title: str
    parameters: tuple[Parameter, ...]
    rules: tuple[Rule, ...]
    pricing: Pricing
    usual_seconds: int  # how long a generation usually takes: what polling is paced by
    picture: tuple[int, int] = (
        3840,
        2160,
    )  # the long and the short side that it makes, in pixels, of a picture of 16:9

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    def parameter(self, name: str) -> Parameter:
        return next(parameter for parameter in self.parameters if parameter.name == name)

    def validate(self, inputs: object) -> dict[str, object]:
        """The inputs as plain JSON, defaults filled in, unset ones left out; InvalidInputs tells all that is wrong."""
        if not isinstance(inputs, Mapping):
            raise InvalidInputs(
                {"inputs": [Sentence(f"{show(inputs)} is not an object with {', '.join(self.names)}.")]}
            )
        errors = self._unknown(inputs)
        normalised = self._normalise(inputs, errors)
        for rule in self.rules:
            for name, sentence in rule(normalised):
                errors.setdefault(name, []).append(sentence)
        if errors:
            raise InvalidInputs(errors)
        return normalised

    def _unknown(self, inputs: Mapping[str, object]) -> Errors:
        unknown = (name for name in inputs if name not in self.names)
        known = f"This model takes: {', '.join(self.names)}."
        return {
            _key(name): [Sentence(f"There is no parameter “{_key(name)}”. {known}", "unknown_field")]
            for name in islice(unknown, MOST_TOLD)
        }

    def _normalise(self, inputs: Mapping[str, object], errors: Errors) -> dict[str, object]:
        """What the inputs set, with None for what is wrong, which is told in `errors`."""
        normalised: dict[str, object] = {}
        for parameter in self.parameters:
            value = inputs.get(parameter.name, parameter.default)
            if parameter.is_unset(value):
                continue
            try:
                if parameter.required and value in (None, ""):
                    raise _problem(f"{parameter.name} is required. {parameter.description}", "required")
                normalised[parameter.name] = parameter.check(value)
            except Problem as problem:
                normalised[parameter.name] = None
                errors[parameter.name] = problem.sentences
        return normalised

    def price(self, inputs: Mapping[str, object]) -> Decimal:
        """USD. Only the duration counts: a quote needs no complete inputs. Raises InvalidInputs for a bad duration."""
        if self.pricing.per_seconds is None:
            return self.pricing.price(0)
        duration = self.parameter("duration")
        try:
            seconds = duration.check(inputs.get("duration", duration.default))
        except Problem as problem:
            raise InvalidInputs({"duration": problem.sentences}) from None
        assert isinstance(seconds, int)
        return self.pricing.price(seconds)

    def body(self, inputs: Mapping[str, object], urls: Mapping[str, str | list[str]]) -> dict[str, object]:
        """The exact request body; raises InvalidInputs.

        `urls` holds the provider's URL (a list of them for a list) of each picture or video that the inputs name.
        """
        body = self.validate(inputs)
        media = {parameter.name for parameter in self.parameters if parameter.is_media} & body.keys()
        if media != urls.keys():
            raise ValueError(f"The inputs name {sorted(media)}, but URLs were given for {sorted(urls)}.")
        for name, url in urls.items():
            if _count(body[name]) != _count(url):
                raise ValueError(f"{name} needs one URL for each reference.")
            body[name] = url
        return body

    def json_schema(self) -> dict[str, object]:
        """JSON Schema 2020-12 of each parameter; the rules between parameters are `validate`'s."""
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.title,
            "type": "object",
            "properties": {parameter.name: parameter.schema() for parameter in self.parameters},
            "required": [parameter.name for parameter in self.parameters if parameter.required],
            "additionalProperties": False,
        }


def get(endpoint_id: str) -> Endpoint:
    try:
        return ENDPOINTS[endpoint_id]
    except (KeyError, TypeError):
        raise UnknownEndpoint(endpoint_id) from None


# Checks of values: hostile ones included, whatever JSON can carry and a little more.

MAX_REFERENCE = 2_000
MAX_ELEMENT_ID = 64
MOST_INVISIBLE = 4  # times the characters that a text may have, with those that nobody sees
MOST_TOLD = 10  # faulty items, unknown names: a flood of them is told by its first ones
# Neither a NUL nor half of a surrogate pair can be stored as text.
STORABLE = r"^[^\u0000\ud800-\udfff]*$"


def show(value: object) -> str:
    """The value as an error message quotes it, short whatever it is."""
    match value:
        case "":
            return "Empty text"
        case str():
            return f"“{_excerpt(value)}”"
        case Mapping():
            return "An object"
        case list() | tuple():
            return "A list"
        case None | bool():
            return json.dumps(value)
        case int() if abs(value) >= 10**15:
            return "A number of more than 15 digits"
        case int() | float() | Decimal():
            return _excerpt(str(value))
    return f"A {type(value).__name__}"


def _excerpt(text: str) -> str:
    printable = "".join(character if character.isprintable() else "�" for character in text[:40])
    return printable if len(text) <= 40 else f"{printable}…"


def _key(key: object) -> str:
    return _excerpt(key) if isinstance(key, str) else show(key)


def _either(choices: Sequence[str]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def _count(value: object) -> int | None:
    return len(value) if isinstance(value, list) else None


def _number(value: object) -> Decimal | None:
    """The number that a value is, exactly; None for what is none (true and false, NaN, text)."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return number if number.is_finite() else None


def _plain(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def _words(value: object, max_length: int) -> str:
    """A text as it is sent. How long it is, and whether it is empty, is what people see of it: see `projects.words`."""
    if not isinstance(value, str):
        raise _problem(f"{show(value)} is not text.")
    # So much longer than it looks it is no prompt, and what is sent must have a bound.
    seen = len(words.normal(value)) if len(value) <= MOST_INVISIBLE * max_length else len(value)
    if seen > max_length:
        raise _problem(f"This text has {seen:,} characters: at most {max_length:,}.", "max_length")
    if not seen:
        raise _problem("This text is empty.", "blank")
    return _text(words.typed(value), MOST_INVISIBLE * max_length)


def _text(value: object, max_length: int) -> str:
    if not isinstance(value, str):
        raise _problem(f"{show(value)} is not text.")
    if len(value) > max_length:
        raise _problem(f"This text has {len(value):,} characters: at most {max_length:,}.", "max_length")
    if not value.strip():
        raise _problem("This text is empty.", "blank")
    if not re.match(STORABLE, value):
        raise _problem(
            "This text holds a character that can't be stored (NUL, or half of a surrogate pair): take it out.",
            "unstorable",
        )
    return value


def _reference(value: object) -> str:
    return _text(value, MAX_REFERENCE)


def _text_schema(max_length: int) -> dict[str, object]:
    return {"type": "string", "maxLength": max_length, "allOf": [{"pattern": r"\S"}, {"pattern": STORABLE}]}


def _list(value: object, what: str, most: int | None = None) -> list[object]:
    """The items of a list that is not empty."""
    if not isinstance(value, list | tuple):
        raise _problem(f"{show(value)} is not a list of {what}.")
    if not value:
        raise _problem(f"There are no {what} in this list.", "empty")
    if most is not None and len(value) > most:
        raise _problem(f"{len(value)} {what} are too many: at most {most}.", "max_length")
    return list(value)


def _each(items: list[object], check: Callable[[object], Item], what: str) -> list[Item]:
    checked: list[Item] = []
    sentences: list[Sentence] = []
    for position, item in enumerate(items, start=1):
        try:
            checked.append(check(item))
        except Problem as problem:
            sentences.extend(
                Sentence(f"{what} {position}: {sentence}", sentence.code) for sentence in problem.sentences
            )
        if len(sentences) >= MOST_TOLD:
            break
    if sentences:
        raise Problem(*sentences)
    return checked


def _strange_keys(value: Mapping[object, object], known: tuple[str, ...], rule: str) -> list[Sentence]:
    strange = (key for key in value if key not in known)
    return [
        Sentence(f"There is no “{_key(key)}” in it. {rule}.", "unknown_field") for key in islice(strange, MOST_TOLD)
    ]


ENDPOINTS: dict[str, Endpoint] = {
    endpoint.id: endpoint
    for endpoint in (
        Endpoint(
            id="kwaivgi/kling-video-o3-4k/image-to-video",
            title="Kling Video O3 4K: image to video",
            parameters=(
                Image(name="image", required=True, description="The picture that the video starts from."),
                Text(
                    name="prompt",
                    max_length=2_500,
                    description="What happens: motion, camera, light, mood. Not together with shots.",
                ),
                Image(name="end_image", description="The picture that the video ends with. Not together with shots."),
                Duration(
                    name="duration",
                    seconds=tuple(range(3, 16)),
                    default=5,
                    description="Length of the video in seconds.",
                ),
                Boolean(name="sound", default=False, description="Sound that fits the picture, at no extra cost."),
                Choice(
                    name="shot_type",
                    choices=("customize", "intelligent"),
                    default="customize",
                    description="Who cuts the shots: customize, as they are given; intelligent, the model.",
                ),
                Shots(
                    name="multi_prompt",
                    max_items=6,
                    max_length=512,
                    max_seconds=15,
                    description="Shots instead of a prompt, 1 to 6; together they last as long as the video.",
                ),
                Elements(
                    name="element_list",
                    description="Elements to keep consistent, at most 3 with an end image. The prompt names them.",
                ),
            ),
            rules=(
                exactly_one("prompt", "multi_prompt", "prompt_or_shots"),
                shots_fill_duration,
                not_together("multi_prompt", "end_image"),
                at_most(3, "element_list", given="end_image"),
            ),
            pricing=Pricing(Decimal("0.42"), per_seconds=1),
            usual_seconds=150,
        ),
    )
}
