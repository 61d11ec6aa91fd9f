"""A model of the provider as data: its parameters, the rules between them, and its price."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice

from generations.catalog.parameters import (
    MOST_TOLD,
    Errors,
    Parameter,
    Problem,
    Sentence,
    problem_of,
    show,
    shown_key,
    whole_number,
)

Rule = Callable[[Mapping[str, object]], Iterator[tuple[str, Sentence]]]


class InvalidInputs(ValueError):
    """`errors` holds the sentences for each parameter that can't be sent as it is."""

    def __init__(self, errors: Errors) -> None:
        super().__init__("; ".join(f"{name}: {' '.join(sentences)}" for name, sentences in errors.items()))
        self.errors = errors


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
            shown_key(name): [Sentence(f"There is no parameter “{shown_key(name)}”. {known}", "unknown_field")]
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
                    raise problem_of(f"{parameter.name} is required. {parameter.description}", "required")
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
            if whole_number(body[name]) != whole_number(url):
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
