import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import call_command
from django.test import Client

ROOT = Path(__file__).resolve().parents[3]


def test_committed_schema_is_what_the_code_says(tmp_path: Path) -> None:
    written = tmp_path / "openapi.yaml"

    call_command("spectacular", validate=True, fail_on_warn=True, file=str(written), stderr=StringIO())

    assert written.read_text() == (ROOT / "docs/openapi.yaml").read_text(), "script/lint --fix writes it anew"


@pytest.mark.django_db
def test_docs_ask_nothing_of_other_sites(client: Client) -> None:
    page = client.get("/api/v1/docs/")

    assert page.status_code == 200
    assert "swagger-ui" in page.content.decode()
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page.content.decode()) == []
    assert client.get("/api/v1/schema/").status_code == 200


METHODS = ("get", "post", "patch", "delete")


def operations() -> list[tuple[str, dict[str, Any]]]:
    paths = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["paths"]
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in paths.items()
        for method, operation in methods.items()
        if method in METHODS
    ]


def inside(part: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document, at whatever depth."""
    if isinstance(part, dict):
        yield part
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from inside(each)


def test_nothing_is_in_the_schema_that_generators_of_clients_drop() -> None:
    document = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())

    for part in inside(document):
        if isinstance(part.get("enum"), list):
            assert not any(isinstance(value, dict | list) for value in part["enum"]), part
            assert len({type(value) for value in part["enum"]}) == 1, part
        if isinstance(part.get("pattern"), str):
            assert not re.search(r"\\ud[89a-f]", part["pattern"], re.IGNORECASE), part
        if isinstance(part.get("anyOf"), list):
            assert all("type" in each or "$ref" in each for each in part["anyOf"]), part


def test_every_operation_says_what_it_does_and_how_it_refuses() -> None:
    for name, operation in operations():
        assert operation.get("description"), name
        assert "webhooks" not in name
        assert {"400", "401", "429", "500", "503"} <= operation["responses"].keys(), name
        if name.startswith("PATCH"):
            assert operation["requestBody"]["required"] is True, name


def test_an_answer_has_all_its_fields_always() -> None:
    schemas = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())["components"]["schemas"]

    for name, schema in schemas.items():
        if schema.get("type") == "object" and not name.endswith("Request") and name != "ErrorItem":
            assert set(schema["required"]) == set(schema["properties"]), name
