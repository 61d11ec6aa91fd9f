"""The commands of docs/operations.md that keep and bring back a PostgreSQL database, run as they stand there."""

import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.services.servers import scratch_database
from tests.studio_process import ROOT, Studio

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes postgres"),
]

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
WRITE = """
from django.contrib.auth.models import User
from projects.models import Project
by, _ = User.objects.get_or_create(username="olive")
Project.objects.create(name="{name}", created_by=by)
print(sorted(Project.objects.values_list("name", flat=True)))
"""


def documented(beginning: str) -> str:
    """The one command that begins so; `runuser` does for root what sudo does."""
    (line,) = re.findall(rf"sudo -u postgres ({beginning} [^`\n]+)", OPERATIONS)
    return f"runuser -u postgres -- {line}"


@pytest.fixture
def new_database() -> Iterator[str]:
    """The address of one that the test makes itself."""
    server = os.environ["TEST_DATABASE_URL"]
    name = f"scratch_{uuid.uuid4().hex[:12]}"
    yield urlsplit(server)._replace(path=f"/{name}").geturl()
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def run(command: str, folder: Path) -> None:
    port = str(urlsplit(os.environ["TEST_DATABASE_URL"]).port or 5432)
    environment = {**os.environ, "PGPORT": port}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_restored_as_documented_is_the_studios_own(new_database: str, tmp_path: Path) -> None:
    with scratch_database() as database:
        studio = Studio(tmp_path / "home", DATABASE_URL=database)
        studio.manage("migrate")
        studio.run(WRITE.format(name="Coffee"))
        old = urlsplit(database).path[1:]
        run(documented("pg_dump").replace(" kling_studio ", f" {old} "), tmp_path)

    new = urlsplit(new_database).path[1:]
    run(documented("createdb NEW").replace("NEW", new), tmp_path)
    run(documented("pg_restore").replace("NEW", new), tmp_path)

    restored = Studio(tmp_path / "home", DATABASE_URL=new_database)
    assert restored.run(WRITE.format(name="Tea")) == "['Coffee', 'Tea']"
    with psycopg.connect(new_database) as connection:
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert owners == [(urlsplit(new_database).username,)]
