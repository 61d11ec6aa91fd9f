"""What is said while the database is away, and at addresses that are none."""

import json
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, close_old_connections, connection
from django.test import Client

from projects.api.base.away import RETRY_AFTER
from tests.projects.api.client import API, client_of, errors
from tests.studio_process import Studio, free_port

ASK = """
import json
from django.test import Client
client = Client(raise_request_exception=False, SERVER_NAME="127.0.0.1")
client.cookies["sessionid"] = "0123456789abcdef0123456789abcdef"
told = []
for method, path, headers in (
    ("GET", "/admin/", {}),
    ("POST", "/admin/login/", {}),
    ("GET", "/join/abc/", {}),
    ("GET", "/api/v1/generations/", {}),
    ("GET", "/api/v1/generations/", {"Authorization": "Bearer abc"}),
    ("POST", "/api/v1/generations/", {"Authorization": "Bearer abc", "Idempotency-Key": "a"}),
):
    response = client.generic(method, path, headers=headers)
    told.append([response.status_code, response.get("Retry-After"), response["Content-Type"].split(";")[0]])
print(json.dumps(told))
"""


@pytest.mark.slow
def test_database_that_is_away_is_a_503_that_says_when_to_come_back(tmp_path: Path) -> None:
    nowhere = f"postgres://postgres@127.0.0.1:{free_port()}/nowhere"

    with Studio(tmp_path / "home", DATABASE_URL=nowhere) as studio:
        pages = json.loads(studio.run(ASK).splitlines()[-1])

    assert pages == [[503, str(RETRY_AFTER), "text/html"]] * 3 + [[503, str(RETRY_AFTER), "application/json"]] * 3


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_connection_that_is_cut_is_a_503_and_the_next_request_is_answered(studio_owner: User) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has no connection that can be cut.")
    client, pages = client_of(studio_owner), Client(raise_request_exception=False)
    pages.force_login(studio_owner)

    for ask, address in ((client.get, f"{API}/projects/"), (pages.get, "/admin/")):
        cut()
        away = ask(address)
        close_old_connections()  # as the server does between two requests; the test client does not
        back = ask(address)
        assert (away.status_code, away["Retry-After"], back.status_code) == (503, str(RETRY_AFTER), 200)


def cut() -> None:
    with pytest.raises(OperationalError), connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


@pytest.mark.django_db
def test_what_the_database_says_of_a_query_of_ours_is_no_503(studio_owner: User) -> None:
    client = client_of(studio_owner)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE projects_project RENAME TO projects_gone")

    response = client.get(f"{API}/projects/")

    assert response.status_code == 500


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v2/", "/api/v1/nothing/", "/api/v1/generations/x"])
def test_addresses_of_nothing_below_api_are_json(client: Client, path: str) -> None:
    response = client.get(path)

    assert (response.status_code, response["Content-Type"]) == (404, "application/json")
    assert [error[:2] for error in errors(response)] == [("not_found", None)]


@pytest.mark.parametrize("path", [f"{API}/generations", f"{API}/projects/6a1b0d7e-c74d-4f44-997b-ca278ec1f13b/budgets"])
def test_missing_slash_is_told(client: Client, path: str) -> None:
    for method in (client.get, client.post):
        response = method(path)

        assert (response.status_code, errors(response)[0][2]) == (
            404,
            f"There is no such address; with a slash at its end there is: {path}/",
        )


@pytest.mark.parametrize("path", [f"{API}/projects/", "/api/nothing"])
def test_unknown_host_is_told_in_the_shape_of_errors(path: str) -> None:
    response = Client(raise_request_exception=False).get(path, headers={"Host": "evil.example"})

    assert (response.status_code, response["Content-Type"]) == (400, "application/json")
    assert errors(response) == [
        ("bad_request", None, "This request can't be read. Is its Host header the studio's own address?")
    ]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/admin/%00/", 404), ("/join/a%00b/", 404), (f"{API}/tokens/a%00b/", 404), ("/admin/?q=%00", 400)],
)
def test_nul_in_an_address_is_nothing_to_look_for(client: Client, path: str, status: int) -> None:
    assert client.get(path).status_code == status
