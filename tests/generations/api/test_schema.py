import re
from io import StringIO
from pathlib import Path

import pytest
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
