"""Each code that an error can have is in the catalogue, in the schema and in the documentation, and says what is wrong."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from rest_framework import serializers
from rest_framework.test import APIClient

from projects.api.base.codes import CODES, OURS
from projects.api.base.errors import ErrorItem
from projects.models import Project, SourceImage
from tests.projects.api.client import API, errors

ROOT = Path(__file__).resolve().parents[3]
ADDRESS = f"{API}/generations/"
# Refusals whose code is their first argument, or their second.
FIRST = {"ImageRefused", "MembershipRefused", "FetchRefused", "FetchFailed", "error_body"}
SECOND = {"ApiError", "ErrorDetail", "Sentence", "_problem", "ValidationError"}
# The provider's route is no part of what others use; the last one's own page tells them that they can't switch themselves off.
NOT_TOLD_BY_THE_API = {"bad_signature", "no_secret", "self"}


def codes_in(source: str) -> Iterator[str]:
    """What a program's text gives as codes: arguments of refusals, `code="…"`, and `code = "…"` in a class of one."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args, keywords=keywords):
                places = {0: FIRST, 1: SECOND}
                given = [each for at, each in enumerate(args) if name in places.get(at, ())]
                if name == "ApiError" and len(args) > 1:
                    given = [args[1]]
                given += [each.value for each in keywords if each.arg == "code"]
                yield from (
                    each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)
                )
            case ast.ClassDef(body=body):
                for each in body:
                    match each:
                        case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str() as value)):
                            yield value


def test_every_code_in_the_source_is_in_the_catalogue() -> None:
    files = [*ROOT.glob("kling_studio/*.py"), *ROOT.glob("projects/**/*.py"), *ROOT.glob("generations/**/*.py")]
    pages_only = {"checks.py", "admin"}
    told = {
        code: file.name
        for file in files
        if not pages_only & {*file.relative_to(ROOT).parts}
        for code in codes_in(file.read_text())
    }

    assert len(told) > 60
    assert {code: name for code, name in told.items() if code not in CODES.keys() | NOT_TOLD_BY_THE_API} == {}


def test_every_code_of_the_frameworks_fields_is_in_the_catalogue() -> None:
    used = [
        serializers.CharField,
        serializers.ChoiceField,
        serializers.UUIDField,
        serializers.DateTimeField,
        serializers.DateField,
        serializers.IntegerField,
        serializers.BooleanField,
        serializers.EmailField,
        serializers.FileField,
        serializers.ListField,
        serializers.Serializer,
    ]
    codes = {code for field in used for each in field.__mro__ for code in getattr(each, "default_error_messages", {})}

    assert {OURS.get(code, code) for code in codes} - CODES.keys() == set()


def test_schema_has_the_codes() -> None:
    assert list(ErrorItem().fields["code"].choices) == list(CODES)
    assert not OURS.keys() & CODES.keys()


def test_documentation_has_a_table_of_the_codes() -> None:
    rows = [f"| `{name}` | {', '.join(map(str, code.statuses))} | {code.what_to_do} |" for name, code in CODES.items()]

    assert (
        "| code | status | what to do |\n| --- | --- | --- |\n" + "\n".join(rows) in (ROOT / "docs/api.md").read_text()
    )


SHOTS = [{"prompt": "A cup", "duration": 3}, {"prompt": "Steam", "duration": 4}]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"multi_prompt": SHOTS, "duration": 7}, ("prompt_or_shots", "prompt")),
        ({"prompt": ""}, ("prompt_or_shots", "prompt")),
        ({"prompt": None, "multi_prompt": SHOTS, "duration": 8}, ("shots_sum", "multi_prompt")),
        ({"duration": 2}, ("duration_not_offered", "duration")),
        ({"image": None}, ("required", "image")),
        ({"cfg_scale": 1}, ("unknown_field", "cfg_scale")),
        ({"image": "0" * 32}, ("not_found_here", "image")),
        ({"element_list": ["0" * 32]}, ("not_found_here", "element_list")),
        ({"shot_type": "x"}, ("invalid_choice", "shot_type")),
        ({"endpoint": "kling-9"}, ("invalid_choice", "endpoint")),
        ({"prompt": "x" * 2501}, ("max_length", "prompt")),
        ({"prompt": "a\0"}, ("unstorable", "prompt")),
        ({"sound": "yes"}, ("invalid", "sound")),
        ({"tags": ["x" * 41]}, ("max_length", "tags")),
        ({"tags": "x"}, ("invalid", "tags")),
    ],
)
def test_each_rule_of_the_catalogue_has_its_code(
    api: APIClient, body: dict[str, Any], change: dict[str, Any], expected: tuple[str, str]
) -> None:
    response = api.post(ADDRESS, {**body, **change})

    assert (response.status_code, [error[:2] for error in errors(response)]) == (400, [expected])


def test_an_end_image_does_not_go_with_shots(api: APIClient, body: dict[str, Any], image: SourceImage) -> None:
    shots = {"prompt": None, "multi_prompt": SHOTS, "duration": 7, "end_image": str(image.pk)}

    assert errors(api.post(ADDRESS, {**body, **shots}))[0][:2] == ("not_together", "multi_prompt")


def test_what_is_archived_says_so(api: APIClient, body: dict[str, Any], image: SourceImage, project: Project) -> None:
    SourceImage.objects.filter(pk=image.pk).update(archived_at=timezone.now())
    of_picture = api.post(ADDRESS, body)
    Project.objects.filter(pk=project.pk).update(archived_at=timezone.now())
    of_project = api.post(f"{API}/source-images/", {"project": str(project.pk), "url": "https://example.com/a.jpg"})

    assert (of_picture.status_code, errors(of_picture)[0][:2]) == (400, ("archived", "image"))
    assert (of_project.status_code, errors(of_project)[0][:2]) == (409, ("archived", None))


@pytest.mark.parametrize("address", ["generations/", "generations/quote/", "projects/", "elements/", "source-images/"])
@pytest.mark.parametrize(
    ("content", "code", "detail"),
    [
        (b"[]", "invalid", "The body is a JSON object: {…}. This is another kind of value."),
        (b'"x"', "invalid", "The body is a JSON object: {…}. This is another kind of value."),
        (b'{"a": \xff}', "parse_error", "The body is not in UTF-8."),
        (b'{"a": ' + b"9" * 5000 + b"}", "parse_error", None),
        (b'{"a": NaN}', "parse_error", None),
        (b"{", "parse_error", None),
    ],
)
def test_a_body_of_another_kind_is_refused_in_plain_words(
    owner_api: APIClient, address: str, content: bytes, code: str, detail: str | None
) -> None:
    response = owner_api.post(f"{API}/{address}", content, content_type="application/json")

    [(told, attr, words)] = errors(response)
    assert (response.status_code, told, attr) == (400, code, None)
    assert detail in (None, words)
    assert not any(strange in words for strange in ("sys.", "codec", "dictionary", "Expected", "parse error"))


def test_the_whole_body_is_no_field(owner_api: APIClient, project: Project, studio_owner: User) -> None:
    picture = owner_api.post(f"{API}/source-images/", {"project": str(project.pk)})
    twice = owner_api.post(f"{API}/projects/", {"name": project.name})

    assert [error[1] for error in (*errors(picture), *errors(twice))] == [None, None]
