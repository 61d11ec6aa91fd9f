from typing import Any

from django.test import Client
from django.urls import reverse

from projects.models import Budget, Project, Studio

SETTINGS = reverse("admin:projects_studio_changelist")
PAGE = reverse("admin:projects_studio_change", args=[1])
INDEX = reverse("admin:index")


def text_of(response: Any) -> str:
    return response.content.decode()


def test_time_zone_of_the_studio_is_set_by_studio_owners(owner_client: Client) -> None:
    Studio.objects.all().delete()
    assert SETTINGS in text_of(owner_client.get(INDEX))
    assert owner_client.get(SETTINGS).headers["Location"] == PAGE
    assert "Studio-wide budgets turn at midnight here; a change applies from their next period." in text_of(
        owner_client.get(PAGE)
    )

    owner_client.post(PAGE, {"time_zone": "Asia/Kolkata"})

    studio = Studio.objects.get()
    assert studio.time_zone == "Asia/Kolkata"
    assert studio.history.first().history_user.username == "olive"


def test_what_is_no_time_zone_is_refused_with_examples(owner_client: Client) -> None:
    answer = owner_client.post(SETTINGS, {"time_zone": "Mars/Olympus"})
    assert answer.headers["Location"] == PAGE
    answer = owner_client.post(PAGE, {"time_zone": "Mars/Olympus"})

    sentence = "“Mars/Olympus” is no time zone; use a name such as Europe/Berlin or America/Los_Angeles."
    assert answer.context["adminform"].form.errors == {"time_zone": [sentence]}
    assert Studio.current().time_zone == "UTC"


def test_nobody_else_sees_or_sets_it(editor_client: Client) -> None:
    Studio.current()

    assert SETTINGS not in text_of(editor_client.get(INDEX))
    answers = [
        editor_client.get(SETTINGS),
        editor_client.get(PAGE),
        editor_client.post(PAGE, {"time_zone": "Asia/Tokyo"}),
    ]
    assert [answer.status_code for answer in answers] == [403, 404, 404]
    assert Studio.current().time_zone == "UTC"


def test_there_is_one_studio_and_it_stays(owner_client: Client) -> None:
    Studio.current()

    assert owner_client.post(reverse("admin:projects_studio_add"), {"time_zone": "UTC"}).status_code == 403
    assert owner_client.post(reverse("admin:projects_studio_delete", args=[1]), {"post": "yes"}).status_code == 403
    assert Studio.objects.count() == 1


def test_a_studio_budget_is_set_and_shown_before_money_ever_moved(owner_client: Client, project: Project) -> None:
    Studio.objects.all().delete()
    fields = {"project": "", "user": "", "period": "month", "enforcement": "hard", "limit": "12.34"}
    assert owner_client.get(reverse("admin:projects_budget_add")).status_code == 200
    owner_client.post(reverse("admin:projects_budget_add"), fields)
    [budget] = Budget.objects.all()
    assert (budget.project, budget.limit) == (None, 12_340_000)

    Studio.objects.all().delete()  # as in a database that was filled by hand
    for page in (
        reverse("admin:projects_budget_changelist"),
        reverse("admin:projects_budget_change", args=[budget.pk]),
        reverse("admin:projects_project_change", args=[project.pk]),
        INDEX,
    ):
        assert "$12.34" in text_of(owner_client.get(page)), page
