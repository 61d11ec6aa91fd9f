import json
import math
from dataclasses import FrozenInstanceError
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from generations import catalog
from generations.catalog import IMAGE_LIMITS, UnknownEndpoint, parameters
from generations.catalog.endpoint import Endpoint, InvalidInputs, Pricing, at_most
from generations.catalog.parameters import (
    Choice,
    Duration,
    Elements,
    Image,
    Images,
    Number,
    Parameter,
    Shots,
    Text,
    Video,
)
from projects.words import INVISIBLE, normal, typed

ID = "kwaivgi/kling-video-o3-4k/image-to-video"
KLING = catalog.get(ID)
NAMES = "image, prompt, end_image, duration, sound, shot_type, multi_prompt, element_list"
INPUTS = {"image": "img-1", "prompt": "A fox leaps."}
# The machine may be busy with other things.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

SHOTS = [{"prompt": "A fox.", "duration": 2}, {"prompt": "It leaps.", "duration": 3}]


def told(inputs: object, endpoint: Endpoint = KLING) -> dict[str, list[str]]:
    with pytest.raises(InvalidInputs) as caught:
        endpoint.validate(inputs)
    return caught.value.errors


def elements(count: int) -> list[dict[str, str]]:
    return [{"element_id": f"30669626583750{n}"} for n in range(count)]


# The registry


def test_get_finds_an_endpoint_by_its_id() -> None:
    assert catalog.get(ID) is catalog.ENDPOINTS[ID]
    assert ", ".join(KLING.names) == NAMES
    assert KLING.usual_seconds == 150


@pytest.mark.parametrize(("wrong", "shown"), [("kling", "“kling”"), (None, "null"), ([], "A list")])
def test_get_tells_which_endpoints_there_are(wrong: Any, shown: str) -> None:
    with pytest.raises(UnknownEndpoint) as caught:
        catalog.get(wrong)
    assert str(caught.value) == f"There is no endpoint {shown}. Known endpoints: {ID}."


def test_entries_can_not_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        KLING.id = "other"  # type: ignore[misc]


def test_image_limits_are_the_providers() -> None:
    assert (IMAGE_LIMITS.formats, IMAGE_LIMITS.max_bytes, IMAGE_LIMITS.min_side) == (("JPEG", "PNG"), 10_000_000, 300)
    assert (IMAGE_LIMITS.min_aspect, IMAGE_LIMITS.max_aspect) == (Decimal(1) / Decimal("2.5"), Decimal("2.5"))


# Valid inputs


def test_validate_fills_in_the_defaults_and_leaves_out_what_is_not_set() -> None:
    expected = INPUTS | {"duration": 5, "sound": False, "shot_type": "customize"}
    assert KLING.validate(INPUTS) == expected
    assert KLING.validate(INPUTS | {"end_image": None, "multi_prompt": [], "element_list": None}) == expected


def test_validate_takes_everything_at_its_limit() -> None:
    inputs = {
        "image": "img-1",
        "prompt": "x" * 2_500,
        "end_image": "img-2",
        "duration": 15,
        "sound": True,
        "shot_type": "intelligent",
        "element_list": elements(3),
    }
    assert KLING.validate(inputs) == inputs


def test_validate_takes_shots_instead_of_a_prompt() -> None:
    for shots in (SHOTS, [{"prompt": "x" * 512, "duration": 15}], [{"prompt": "x", "duration": 1}] * 6):
        duration = sum(int(str(shot["duration"])) for shot in shots)
        inputs = {
            "image": "img-1",
            "prompt": "",
            "duration": duration,
            "multi_prompt": shots,
            "element_list": elements(7),
        }
        assert KLING.validate(inputs)["multi_prompt"] == shots


def test_validate_takes_a_whole_number_however_it_is_written() -> None:
    assert (
        repr([KLING.validate(INPUTS | {"duration": seconds})["duration"] for seconds in (5, 5.0, Decimal("5.0"))])
        == "[5, 5, 5]"
    )


# What is wrong, and what would be right


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2, "2"),
        (16, "16"),
        (5.5, "5.5"),
        (-5, "-5"),
        ("abc", "“abc”"),
        ("5", "“5”"),
        ("", "Empty text"),
        (None, "null"),
        (True, "true"),
        (False, "false"),
        ([], "A list"),
        ({"seconds": 5}, "An object"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (Decimal("sNaN"), "sNaN"),
        (Decimal("1E+999999"), "1E+999999"),
        pytest.param(10**5000, "A number of more than 15 digits", id="too long a number"),
        pytest.param("x" * 10**6, f"“{'x' * 40}…”", id="too long a text"),
        ("a\0\nb", "“a��b”"),
        (5 + 0j, "A complex"),
    ],
)
def test_validate_tells_which_durations_there_are(value: object, shown: str) -> None:
    expected = [f"{shown} is not a duration this model makes: whole seconds from 3 to 15."]
    assert told(INPUTS | {"duration": value}) == {"duration": expected}


PROBLEMS: list[tuple[dict[str, object], dict[str, list[str]]]] = [
    ({"sound": 1}, {"sound": ["1 is neither true nor false."]}),
    ({"sound": "true"}, {"sound": ["“true” is neither true nor false."]}),
    ({"sound": None}, {"sound": ["null is neither true nor false."]}),
    (
        {"shot_type": "intelligence"},
        {"shot_type": ["“intelligence” is not one of the choices: customize or intelligent."]},
    ),
    ({"shot_type": ["customize"]}, {"shot_type": ["A list is not one of the choices: customize or intelligent."]}),
    ({"image": None}, {"image": ["image is required. The picture that the video starts from."]}),
    ({"image": ""}, {"image": ["image is required. The picture that the video starts from."]}),
    ({"image": 7}, {"image": ["7 is not text."]}),
    ({"image": ["img-1"]}, {"image": ["A list is not text."]}),
    ({"image": "x" * 2_001}, {"image": ["This text has 2,001 characters: at most 2,000."]}),
    ({"end_image": {}}, {"end_image": ["An object is not text."]}),
    ({"prompt": None}, {"prompt": ["Neither prompt nor multi_prompt was given; this model needs one of them."]}),
    ({"prompt": " \n"}, {"prompt": ["Neither prompt nor multi_prompt was given; this model needs one of them."]}),
    ({"prompt": 5}, {"prompt": ["5 is not text."]}),
    ({"prompt": "x" * 2_501}, {"prompt": ["This text has 2,501 characters: at most 2,500."]}),
    (
        {"prompt": "a\0"},
        {
            "prompt": [
                "This text holds a character that can't be stored (NUL, or half of a surrogate pair): take it out."
            ]
        },
    ),
    (
        {"prompt": "\ud83d"},
        {
            "prompt": [
                "This text holds a character that can't be stored (NUL, or half of a surrogate pair): take it out."
            ]
        },
    ),
    ({"element_list": "306"}, {"element_list": ["“306” is not a list of elements."]}),
    (
        {"element_list": ["306"]},
        {"element_list": ['Element 1: “306” is not an element: {"element_id": "306696265837507"}.']},
    ),
    (
        {"element_list": [{"element_id": 306696265837507}]},
        {"element_list": ['Element 1: The element_id 306696265837507 is not text. Ids are text: "306696265837507".']},
    ),
    ({"element_list": [{"element_id": ""}]}, {"element_list": ["Element 1: This text is empty."]}),
    (
        {"element_list": [{"element_id": "1", "name": "x"}]},
        {"element_list": ["Element 1: There is no “name” in it. An element has an element_id only."]},
    ),
    (
        {"element_list": elements(4), "end_image": "img-2"},
        {"element_list": ["4 are too many together with end_image: at most 3."]},
    ),
    (
        {"multi_prompt": SHOTS},
        {"prompt": ["Both prompt and multi_prompt were given; this model takes one of them. Leave one out."]},
    ),
    ({"camera": "pan"}, {"camera": [f"There is no parameter “camera”. This model takes: {NAMES}."]}),
    ({"Prompt": "x"}, {"Prompt": [f"There is no parameter “Prompt”. This model takes: {NAMES}."]}),
]


@pytest.mark.parametrize(("change", "errors"), PROBLEMS, ids=range(len(PROBLEMS)))
def test_validate_tells_what_is_wrong_and_what_would_be_right(
    change: dict[str, object], errors: dict[str, list[str]]
) -> None:
    assert told(INPUTS | change) == errors


SHOT_PROBLEMS: list[tuple[object, list[str]]] = [
    ("A fox", ["“A fox” is not a list of shots."]),
    (SHOTS * 4, ["8 shots are too many: at most 6."]),
    (["A fox"], ['Shot 1: “A fox” is not a shot: {"prompt": text, "duration": seconds}.']),
    ([{"duration": 5}], ["Shot 1: It has no prompt: say what happens in it."]),
    ([{"prompt": "x"}], ["Shot 1: null is not a duration of a shot: whole seconds from 1 to 15."]),
    ([{"prompt": "x", "duration": 0}], ["Shot 1: 0 is not a duration of a shot: whole seconds from 1 to 15."]),
    ([{"prompt": "x", "duration": 2.5}], ["Shot 1: 2.5 is not a duration of a shot: whole seconds from 1 to 15."]),
    ([{"prompt": "x", "duration": True}], ["Shot 1: true is not a duration of a shot: whole seconds from 1 to 15."]),
    ([{"prompt": "x" * 513, "duration": 5}], ["Shot 1: This text has 513 characters: at most 512."]),
    (
        [SHOTS[0], {"prompt": "", "duration": "3", "end": 1}],
        [
            "Shot 2: There is no “end” in it. A shot has a prompt and a duration.",
            "Shot 2: This text is empty.",
            "Shot 2: “3” is not a duration of a shot: whole seconds from 1 to 15.",
        ],
    ),
    ([SHOTS[0]], ["The shots last 2 s together, the video 5 s: make them the same."]),
    ([*SHOTS, *SHOTS], ["The shots last 10 s together, the video 5 s: make them the same."]),
]


@pytest.mark.parametrize(("shots", "sentences"), SHOT_PROBLEMS, ids=range(len(SHOT_PROBLEMS)))
def test_validate_tells_what_is_wrong_with_shots(shots: object, sentences: list[str]) -> None:
    assert told({"image": "img-1", "multi_prompt": shots}) == {"multi_prompt": sentences}


def test_validate_refuses_shots_that_do_not_fill_the_duration() -> None:
    shots = [{"prompt": "a", "duration": 3}, {"prompt": "b", "duration": 4}]
    assert told({"image": "img-1", "multi_prompt": shots, "duration": 8}) == {
        "multi_prompt": ["The shots last 7 s together, the video 8 s: make them the same."]
    }


def test_validate_refuses_shots_with_an_end_image() -> None:
    assert told({"image": "img-1", "multi_prompt": SHOTS, "end_image": "img-2"}) == {
        "multi_prompt": ["multi_prompt does not go together with end_image: leave one of them out."]
    }


def test_validate_tells_all_that_is_wrong_at_once() -> None:
    errors = told({"duration": 2, "sound": 0, "multi_prompt": "x", "prompt": "x", "camera": 1})
    assert sorted(errors) == ["camera", "duration", "image", "multi_prompt", "prompt", "sound"]


@pytest.mark.parametrize(("inputs", "shown"), [(None, "null"), ([], "A list"), ("image", "“image”"), (5, "5")])
def test_validate_refuses_what_is_no_object(inputs: object, shown: str) -> None:
    assert told(inputs) == {"inputs": [f"{shown} is not an object with {NAMES}."]}


def test_validate_tells_a_flood_of_problems_by_its_first_ones() -> None:
    assert len(told(INPUTS | {f"p{n}": n for n in range(10_000)})) == 10
    assert len(told(INPUTS | {"element_list": [{f"k{n}": n for n in range(1000)}] * 10_000})["element_list"]) == 11


def test_invalid_inputs_prints_its_sentences() -> None:
    with pytest.raises(InvalidInputs) as caught:
        KLING.validate(INPUTS | {"duration": 2})
    assert str(caught.value) == "duration: 2 is not a duration this model makes: whole seconds from 3 to 15."


# Prices


@pytest.mark.parametrize(("seconds", "usd"), [(3, "1.26"), (5, "2.10"), (8, "3.36"), (10, "4.20"), (15, "6.30")])
def test_price_is_that_of_the_model_page_with_sound_or_without(seconds: int, usd: str) -> None:
    for sound in (False, True):
        assert str(KLING.price({"duration": seconds, "sound": sound})) == usd


def test_price_without_a_duration_is_that_of_the_default() -> None:
    assert KLING.price({}) == Decimal("2.10")


@pytest.mark.parametrize("duration", [2, "5", None, True])
def test_price_of_a_bad_duration_is_refused(duration: object) -> None:
    with pytest.raises(InvalidInputs, match="is not a duration this model makes"):
        KLING.price({"duration": duration})


@unhurried
@given(st.integers(3, 15), st.integers(3, 15))
def test_price_is_exact_and_linear(one: int, other: int) -> None:
    both = KLING.price({"duration": one}) + KLING.price({"duration": other})
    assert both == Decimal(42) * (one + other) / 100


# The request body


def test_body_is_exactly_what_the_provider_documents() -> None:
    inputs = INPUTS | {"end_image": "img-2", "element_list": elements(1), "sound": True}
    assert KLING.body(inputs, {"image": "https://x/1", "end_image": "https://x/2"}) == {
        "image": "https://x/1",
        "prompt": "A fox leaps.",
        "end_image": "https://x/2",
        "duration": 5,
        "sound": True,
        "shot_type": "customize",
        "element_list": [{"element_id": "306696265837500"}],
    }


def test_body_with_shots_has_no_prompt() -> None:
    body = KLING.body({"image": "img-1", "prompt": "", "multi_prompt": SHOTS}, {"image": "https://x/1"})
    assert list(body) == ["image", "duration", "sound", "shot_type", "multi_prompt"]
    assert body["multi_prompt"] == SHOTS


def test_body_is_never_built_from_invalid_inputs() -> None:
    with pytest.raises(InvalidInputs, match="There is no parameter “camera”"):
        KLING.body(INPUTS | {"camera": "pan"}, {"image": "https://x/1"})


@pytest.mark.parametrize("urls", [{}, {"image": "u", "end_image": "u"}, {"end_image": "u"}, {"prompt": "u"}])
def test_body_needs_the_url_of_each_picture_and_no_other(urls: dict[str, str | list[str]]) -> None:
    with pytest.raises(ValueError, match=r"The inputs name \['image'\], but URLs were given for"):
        KLING.body(INPUTS, urls)


def test_body_leaves_the_inputs_as_they_were() -> None:
    inputs: dict[str, object] = {"image": "img-1", "multi_prompt": [{"prompt": "x", "duration": 5.0}]}
    before = json.dumps(inputs)
    KLING.body(inputs, {"image": "https://x/1"})
    assert json.dumps(inputs) == before


# Whatever JSON can say

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
SHOT = st.fixed_dictionaries({}, optional={"prompt": JSON | st.text(min_size=1), "duration": JSON | st.integers(0, 16)})
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "image": st.text(max_size=9),
    "prompt": st.text(max_size=9) | st.integers(2_499, 2_501).map(lambda length: "x" * length),
    "end_image": st.text(max_size=9),
    "duration": st.integers(0, 17) | st.floats(2, 16),
    "sound": st.booleans() | st.integers(0, 1),
    "shot_type": st.sampled_from(["customize", "intelligent", "intelligence", ""]),
    "multi_prompt": st.lists(SHOT, max_size=7),
    "element_list": st.lists(
        st.fixed_dictionaries({}, optional={"element_id": JSON | st.text(max_size=65)}), max_size=4
    ),
}
ANY_INPUTS = st.fixed_dictionaries({}, optional={name: values | JSON for name, values in LIKELY.items()})
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
PROMPTS = st.text(CHARACTERS, min_size=1, max_size=20).map(typed).filter(normal)


@st.composite
def valid_inputs(draw: st.DrawFn) -> dict[str, object]:
    inputs: dict[str, object] = {"image": draw(PROMPTS), "sound": draw(st.booleans())}
    if draw(st.booleans()):
        seconds = draw(st.lists(st.integers(1, 15), min_size=1, max_size=6).filter(lambda shots: 3 <= sum(shots) <= 15))
        shots = [{"prompt": draw(PROMPTS), "duration": duration} for duration in seconds]
        return inputs | {"multi_prompt": shots, "duration": sum(seconds)}
    inputs |= {"prompt": draw(PROMPTS), "duration": draw(st.integers(3, 15))}
    return inputs | draw(
        st.sampled_from([{}, {"end_image": "img-2", "element_list": elements(3)}, {"element_list": elements(9)}])
    )


@unhurried
@given(JSON | ANY_INPUTS)
def test_validate_answers_any_json_with_inputs_or_sentences(inputs: object) -> None:
    try:
        normalised = KLING.validate(inputs)
    except InvalidInputs as error:
        sentences = [sentence for list_ in error.errors.values() for sentence in list_]
        assert sentences
        assert all(len(sentence) < 400 and sentence.endswith((".", '"}.')) for sentence in sentences)
    else:
        assert KLING.validate(json.loads(json.dumps(normalised))) == normalised


@unhurried
@given(valid_inputs())
def test_validate_changes_nothing_of_what_it_returned(inputs: dict[str, object]) -> None:
    normalised = KLING.validate(inputs)
    assert KLING.validate(normalised) == normalised
    assert normalised.items() >= inputs.items()


@unhurried
@given(valid_inputs())
def test_body_has_known_keys_only_and_one_kind_of_prompt(inputs: dict[str, object]) -> None:
    urls: dict[str, str | list[str]] = {name: f"https://x/{name}" for name in ("image", "end_image") if name in inputs}
    body = KLING.body(inputs, urls)
    assert set(body) <= set(KLING.names)
    assert ("prompt" in body) != ("multi_prompt" in body)
    assert None not in body.values()
    assert {name: body[name] for name in urls} == urls


# JSON Schema

SCHEMA = KLING.json_schema()


def accepts(parameter: Parameter, value: object) -> bool:
    if parameter.is_unset(value):
        return True
    try:
        parameter.check(value)
    except parameters.Problem:
        return False
    return True


def agrees(parameter: Parameter, value: object) -> bool:
    """Of the ways to write “not set”, the schema names null alone."""
    valid: bool = Draft202012Validator(parameter.schema()).is_valid(value)
    if value is not None and parameter.is_unset(value):
        return not valid
    return valid is accepts(parameter, value)


def test_json_schema_is_one_and_lists_the_parameters() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert list(SCHEMA["properties"]) == list(KLING.names)  # type: ignore[call-overload]
    assert (SCHEMA["required"], SCHEMA["additionalProperties"]) == (["image"], False)
    assert SCHEMA["properties"]["duration"] == {  # type: ignore[index]
        "description": "Length of the video in seconds.",
        "type": "integer",
        "minimum": 3,
        "maximum": 15,
        "default": 5,
    }


@unhurried
@given(st.data())
def test_json_schema_agrees_with_validate_on_each_parameter(data: st.DataObject) -> None:
    parameter = data.draw(st.sampled_from(KLING.parameters))
    value = data.draw(JSON.filter(sendable) | LIKELY[parameter.name].filter(sendable))
    assert agrees(parameter, value)


def sendable(value: object) -> bool:
    """NaN, infinity and halves of surrogate pairs are no JSON, so that a schema says nothing about them.

    Nor does it of what nobody sees: a text of nothing else is empty, for which readers of schemas have no pattern.
    """
    match value:
        case str():
            is_half = any("\ud800" <= character <= "\udfff" for character in value)
            return not is_half and not INVISIBLE.search(value.replace("\0", ""))
        case float():
            return math.isfinite(value)
        case list():
            return all(map(sendable, value))
        case dict():
            return all(map(sendable, value.values()))
    return True


@unhurried
@given(valid_inputs())
def test_json_schema_accepts_what_validate_accepts(inputs: dict[str, object]) -> None:
    Draft202012Validator(SCHEMA).validate(inputs)


# Related endpoints are data

REFERENCE = Endpoint(
    id="maker/model/reference-to-video",
    title="Reference to video",
    parameters=(
        Text(name="prompt", max_length=100, description="What happens.", required=True),
        Images(name="images", max_items=7, description="Pictures to keep to."),
        Video(name="video", description="A video to keep to."),
        Choice(name="aspect_ratio", choices=("16:9", "9:16", "1:1"), default="16:9", description="Shape."),
        Duration(name="duration", seconds=(5, 10), default=5, description="Seconds."),
        Number(name="guidance_scale", minimum=Decimal(0), maximum=Decimal(1), default=0.5, description="How close."),
    ),
    rules=(at_most(4, "images", given="video"),),
    pricing=Pricing(Decimal("2.10"), per_seconds=5),
    usual_seconds=60,
)
FLAT = Endpoint(
    "maker/elements",
    "Elements",
    (Image(name="image", required=True, description="x"),),
    (),
    Pricing(Decimal("0.01")),
    20,
)


def test_related_endpoint_validates_and_builds_its_body() -> None:
    inputs = {"prompt": "x", "images": ["a", "b"], "video": "v", "duration": 10, "guidance_scale": Decimal("0.35")}
    assert REFERENCE.body(inputs, {"images": ["https://x/a", "https://x/b"], "video": "https://x/v"}) == {
        "prompt": "x",
        "images": ["https://x/a", "https://x/b"],
        "video": "https://x/v",
        "aspect_ratio": "16:9",
        "duration": 10,
        "guidance_scale": 0.35,
    }
    with pytest.raises(ValueError, match="images needs one URL for each reference"):
        REFERENCE.body(inputs, {"images": ["https://x/a"], "video": "https://x/v"})


def test_related_endpoint_tells_what_is_wrong() -> None:
    inputs = {"images": ["a"] * 5, "video": "v", "aspect_ratio": "4:3", "duration": 7, "guidance_scale": 1.1}
    assert told(inputs, REFERENCE) == {
        "prompt": ["prompt is required. What happens."],
        "aspect_ratio": ["“4:3” is not one of the choices: 16:9, 9:16 or 1:1."],
        "duration": ["7 is not a duration this model makes: 5 or 10 seconds."],
        "guidance_scale": ["1.1 is not a number from 0 to 1."],
        "images": ["5 are too many together with video: at most 4."],
    }
    assert told({"prompt": "x", "images": ["a"] * 8 + [1]}, REFERENCE) == {
        "images": ["9 images are too many: at most 7."]
    }
    assert told({"prompt": "x", "images": ["a", 1]}, REFERENCE) == {"images": ["Image 2: 1 is not text."]}


def test_related_endpoints_have_prices_per_block_and_flat_ones() -> None:
    assert [REFERENCE.price({"duration": seconds}) for seconds in (5, 10)] == [Decimal("2.10"), Decimal("4.20")]
    assert [Pricing(Decimal("2.10"), per_seconds=5).price(seconds) for seconds in (3, 6)] == [
        Decimal("2.10"),
        Decimal("4.20"),
    ]
    assert FLAT.price({"image": "x"}) == Decimal("0.01")


@unhurried
@given(st.data())
def test_related_json_schema_agrees_with_validate(data: st.DataObject) -> None:
    parameter = data.draw(st.sampled_from(REFERENCE.parameters))
    likely = (
        st.floats(-1, 2)
        | st.integers(0, 11)
        | st.lists(st.text(max_size=3), max_size=8)
        | st.sampled_from(["16:9", ""])
    )
    value = data.draw((JSON | likely).filter(sendable))
    assert agrees(parameter, value)


def test_kinds_name_what_a_form_needs() -> None:
    assert [parameter.kind for parameter in KLING.parameters] == [
        "image", "text", "image", "duration", "boolean", "choice", "shots", "elements"
    ]  # fmt: skip
    assert [type(parameter) for parameter in KLING.parameters[-2:]] == [Shots, Elements]


@pytest.mark.parametrize("text", ["\x00", "cup\x00", " ", "\t\n", ""])
def test_json_schema_takes_no_text_that_can_not_be_stored_or_says_nothing(text: str) -> None:
    for parameter in KLING.parameters:
        assert agrees(parameter, text), parameter.name
