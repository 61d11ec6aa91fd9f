"""A list that has grown counts a part of its rows, says so, and still leads to each of them."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from projects.api.base.query import CountedRows
from projects.counting import UpTo
from projects.models import SourceImage
from tests import factories

LIST = reverse("admin:projects_sourceimage_changelist")


@pytest.fixture
def client(client: Client, studio_owner: User, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Of somebody whose lists count 100 rows, and show 50 a page."""
    monkeypatch.setattr(UpTo, "at_least", 100)
    monkeypatch.setattr(CountedRows, "at_least", 100)
    client.force_login(studio_owner)
    return client


def pictures(number: int) -> None:
    project = factories.ProjectFactory()
    first = factories.source_image(project)
    SourceImage.objects.bulk_create(
        SourceImage(
            project=project,
            created_by=first.created_by,
            title=f"More {each}",
            file=first.file.name,
            width=640,
            height=360,
            bytes=1,
            sha256=f"a{each:063d}",
        )
        for each in range(number - 1)
    )


def listed(client: Client, page: int = 1) -> Any:
    response = client.get(LIST, {"p": page} if page > 1 else {})
    assert response.status_code == 200
    return response


def test_a_list_says_how_many_there_are(client: Client) -> None:
    pictures(100)
    response = listed(client)

    assert response.context["cl"].result_count == 100
    assert "more than" not in response.content.decode()


def test_what_is_not_counted_is_told_and_every_row_is_on_a_page(client: Client) -> None:
    pictures(230)
    first = listed(client)
    pages = [listed(client, page).context["cl"] for page in range(1, 6)]
    rows = [row.pk for cl in pages for row in cl.result_list]

    assert "more than 100" in " ".join(first.content.decode().split())
    assert [len(cl.result_list) for cl in pages] == [50, 50, 50, 50, 30]
    assert len(set(rows)) == 230
    # From each page one can go on to the next, and the last one knows that it is the last.
    assert [cl.paginator.num_pages for cl in pages] == [3, 3, 4, 5, 5]
    assert client.get(LIST, {"p": 6}).status_code == 302


def test_no_count_reads_more_than_it_says(client: Client) -> None:
    pictures(150)
    with CaptureQueriesContext(connection) as captured:
        listed(client)

    counts = [query["sql"] for query in captured if "COUNT(" in query["sql"] and "projects_sourceimage" in query["sql"]]
    assert counts
    assert all("LIMIT 101" in sql for sql in counts)


def answers(client: Client) -> list[dict[str, Any]]:
    """All pages of the API's list, as `next` leads from one to the other."""
    found, address = [], "/api/v1/source-images/"
    while address:
        found.append(client.get(address).json())
        address = found[-1]["next"]
    return found


def test_the_api_counts_what_is_few(client: Client) -> None:
    pictures(100)

    assert [(page["count"], len(page["results"])) for page in answers(client)] == [(100, 50), (100, 50)]


def test_the_api_does_not_count_what_is_many_and_leads_to_every_row(client: Client) -> None:
    pictures(230)
    pages = answers(client)

    assert [page["count"] for page in pages] == [None, None, None, None, 230]
    assert [len(page["results"]) for page in pages] == [50, 50, 50, 50, 30]
    assert len({row["id"] for page in pages for row in page["results"]}) == 230
    assert pages[1]["previous"]
    assert client.get("/api/v1/source-images/?page=6").status_code == 404


def test_no_count_of_the_api_reads_more_than_it_says(client: Client) -> None:
    pictures(150)
    with CaptureQueriesContext(connection) as captured:
        client.get("/api/v1/source-images/")

    counts = [query["sql"] for query in captured if "COUNT(" in query["sql"] and "projects_sourceimage" in query["sql"]]
    assert len(counts) == 1
    assert "LIMIT 101" in counts[0]
