"""The kinds of parameters that a model of the provider takes. Each checks a value, brings it to its normal form, and describes
itself as JSON Schema. Pure: nothing here knows Django."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
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


class Problem(Exception):
    """What is wrong with one value."""

    def __init__(self, *sentences: Sentence) -> None:
        super().__init__(*sentences)
        self.sentences = list(sentences)


def problem_of(text: str, code: str = "invalid") -> Problem:
    return Problem(Sentence(text, code))


# Parameters
@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a model.

    Blank (null, empty text, empty list) means “not set” where it is optional and has no default; the schema names null alone, as
    code that is generated from it has one word for it.
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
        value = self.value_schema()
        return schema | value | {"type": [value["type"], "null"]}


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
            raise problem_of(
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
            raise problem_of(f"{show(value)} is not a number from {self.minimum} to {self.maximum}.")
        return _plain(number)

    def value_schema(self) -> dict[str, object]:
        return {"type": "number", "minimum": _plain(self.minimum), "maximum": _plain(self.maximum)}


@dataclass(frozen=True, kw_only=True)
class Boolean(Parameter):
    kind = "boolean"

    def check(self, value: object) -> bool:
        if not isinstance(value, bool):
            raise problem_of(f"{show(value)} is neither true nor false.")
        return value

    def value_schema(self) -> dict[str, object]:
        return {"type": "boolean"}


@dataclass(frozen=True, kw_only=True)
class Choice(Parameter):
    kind = "choice"

    choices: tuple[str, ...]

    def check(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise problem_of(f"{show(value)} is not one of the choices: {_either(self.choices)}.", "invalid_choice")
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
            raise problem_of(f'{show(shot)} is not a shot: {{"prompt": text, "duration": seconds}}.')
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
            raise problem_of("It has no prompt: say what happens in it.", "required")
        return _words(value, self.max_length)

    def compared(self, value: object) -> object:
        assert isinstance(value, list)
        return [{**shot, "prompt": words.normal(shot["prompt"])} for shot in value]

    def _seconds(self, value: object) -> int:
        number = _number(value)
        if number is None or not 1 <= number <= self.max_seconds or number != int(number):
            raise problem_of(f"{show(value)} is not a duration of a shot: whole seconds from 1 to {self.max_seconds}.")
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
            raise problem_of(f'{show(element)} is not an element: {{"element_id": "306696265837507"}}.')
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


def shown_key(key: object) -> str:
    return _excerpt(key) if isinstance(key, str) else show(key)


def _either(choices: Sequence[str]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def whole_number(value: object) -> int | None:
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
        raise problem_of(f"{show(value)} is not text.")
    # So much longer than it looks it is no prompt, and what is sent must have a bound.
    seen = len(words.normal(value)) if len(value) <= MOST_INVISIBLE * max_length else len(value)
    if seen > max_length:
        raise problem_of(f"This text has {seen:,} characters: at most {max_length:,}.", "max_length")
    if not seen:
        raise problem_of("This text is empty.", "blank")
    return _text(words.typed(value), MOST_INVISIBLE * max_length)


def _text(value: object, max_length: int) -> str:
    if not isinstance(value, str):
        raise problem_of(f"{show(value)} is not text.")
    if len(value) > max_length:
        raise problem_of(f"This text has {len(value):,} characters: at most {max_length:,}.", "max_length")
    if not value.strip():
        raise problem_of("This text is empty.", "blank")
    if not re.match(STORABLE, value):
        raise problem_of(
            "This text holds a character that can't be stored (NUL, or half of a surrogate pair): take it out.",
            "unstorable",
        )
    return value


def _reference(value: object) -> str:
    return _text(value, MAX_REFERENCE)


def _text_schema(max_length: int) -> dict[str, object]:
    # Halves of surrogate pairs, which UTF-8 can't carry, have no pattern that all readers of schemas understand.
    return {"type": "string", "minLength": 1, "maxLength": max_length, "pattern": r"^[^\u0000]*[^\s\u0000][^\u0000]*$"}


def _list(value: object, what: str, most: int | None = None) -> list[object]:
    """The items of a list that is not empty."""
    if not isinstance(value, list | tuple):
        raise problem_of(f"{show(value)} is not a list of {what}.")
    if not value:
        raise problem_of(f"There are no {what} in this list.", "empty")
    if most is not None and len(value) > most:
        raise problem_of(f"{len(value)} {what} are too many: at most {most}.", "max_length")
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
        Sentence(f"There is no “{shown_key(key)}” in it. {rule}.", "unknown_field")
        for key in islice(strange, MOST_TOLD)
    ]
