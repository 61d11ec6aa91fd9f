"""What must not grow with a studio: the queries of a page with its rows, and the rows that a list looks at with all there are."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import QuerySet
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.test import APIClient

from generations.models import Approval, Generation, Status, Video
from generations.services import drafts
from projects.models import Membership, Project, Role
from tests import factories
from tests.pipeline import ENDPOINT

PROJECTS = reverse("admin:projects_project_changelist")


def queries_of(client: Any, url: str) -> list[str]:
    client.get(url)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return [query["sql"] for query in captured]


def filled(studio_owner: User) -> Project:
    project = factories.ProjectFactory()
    Membership.objects.create(project=project, user=studio_owner, role=Role.OWNER)
    image = factories.source_image(project)
    factories.source_image(project)
    inputs = {"image": str(image.pk), "prompt": "Steam rises"}
    for _ in range(3):
        drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=studio_owner)
    return project


def test_the_list_of_projects_asks_as_often_for_thirty_as_for_one(client: Client, studio_owner: User) -> None:
    client.force_login(studio_owner)
    filled(studio_owner)
    one = queries_of(client, PROJECTS)
    for _ in range(29):
        filled(studio_owner)
    thirty = queries_of(client, PROJECTS)

    assert len(thirty) == len(one)
    [row] = [row for row in client.get(PROJECTS).context["cl"].result_list if row.name == Project.objects.first().name]
    assert (row.members_count, row.pictures_count, row.generations_count) == (1, 2, 3)


@pytest.mark.parametrize(
    ("rows", "index"),
    [
        (Generation.objects.all(), "generation_by_time"),
        (Generation.objects.filter(status=Status.FAILED), "generation_by_status_and_time"),
        (Generation.objects.filter(status=Status.FAILED).order_by("-completed_at"), "generation_ended"),
        (Video.objects.order_by("-created_at", "-id"), "video_by_time"),
    ],
)
@pytest.mark.django_db
def test_a_list_reads_no_more_than_its_page(rows: QuerySet[Any], index: str) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("with a handful of rows PostgreSQL reads the table")
    plan = rows[:50].explain()
    assert index in plan
    assert "TEMP B-TREE" not in plan


@pytest.mark.parametrize("address", ["generation-list", "approval-list", "video-list"])
def test_no_filter_of_the_api_sorts_every_row_by_every_column(editor: User, address: str) -> None:
    api = APIClient()
    api.force_authenticate(editor)
    asked = {
        "generation-list": "status=failed&status=completed",
        "approval-list": f"decision={Approval.Decision.WAITING}",
    }
    queries = queries_of(api, f"{reverse(address)}?{asked.get(address, '')}")

    assert [sql for sql in queries if "DISTINCT" in sql] == []


@pytest.mark.parametrize("section", ["generations_generation", "generations_video", "projects_sourceimage"])
def test_a_narrowed_list_does_not_count_what_it_leaves_out(client: Client, studio_owner: User, section: str) -> None:
    client.force_login(studio_owner)
    queries = queries_of(client, reverse(f"admin:{section}_changelist") + "?q=steam")

    assert [sql for sql in queries if sql.startswith("SELECT COUNT(*)") and "WHERE" not in sql] == []
    assert "Show all" not in client.get(reverse(f"admin:{section}_changelist")).content.decode()
