from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from generations import failures
from generations.models import Element, Generation, GenerationEvent, Status, Video
from generations.services import drafts
from generations.storage import naming
from projects.models import Enforcement, Period, Project, Role, SourceImage, SpendEntry
from tests import factories
from tests.generations.conftest import ENDPOINT
from tests.pipeline import run_to_end
from tests.projects.api.client import API, client_of, errors, ids
from tests.sandbox import SandboxControl

ADDRESS = f"{API}/generations/"


def test_endpoints_tell_parameters_and_prices(api: APIClient) -> None:
    [row] = api.get(f"{API}/endpoints/").json()["results"]

    assert row["id"] == ENDPOINT
    assert row["price"] == {"amount": "0.42", "currency": "USD", "per_seconds": 1}
    parameters = row["parameters"]
    assert parameters["required"] == ["image"]
    assert parameters["properties"]["duration"]["minimum"] == 3
    assert parameters["properties"]["image"]["format"] == "uuid"
    assert parameters["properties"]["element_list"]["items"] == {"type": "string", "format": "uuid"}


def test_draft_is_made_and_costs_nothing(api: APIClient, body: dict[str, Any], editor: User) -> None:
    response = api.post(ADDRESS, body)

    assert response.status_code == 201
    row = response.json()
    assert row == {
        "id": row["id"],
        "version": 1,
        "project": body["project"],
        "endpoint": ENDPOINT,
        "status": "draft",
        "prompt": "Steam rises from the cup",
        "image": body["image"],
        "end_image": None,
        "duration": 5,
        "sound": False,
        "shot_type": "customize",
        "multi_prompt": [],
        "element_list": [],
        "tags": [],
        "priority": "normal",
        "quote": "2.10",
        "charged": None,
        "cost": {"state": "estimate", "amount": "2.10", "text": "It would cost $2.10. Nothing is paid yet."},
        "currency": "USD",
        "prediction_id": None,
        "error": None,
        "trouble": None,
        "needs_look": None,
        "looks": [],
        "refused_outputs": [],
        "progress": 0,
        "approval": None,
        "videos": [],
        "retry_of": None,
        "requested_by": "eddie",
        "created_at": row["created_at"],
        "queued_at": None,
        "submitted_at": None,
        "completed_at": None,
        "result_ignored_at": None,
    }
    assert not SpendEntry.objects.exists()


@pytest.mark.usefixtures("budget")
def test_queued_at_once_it_is_accepted_and_its_price_reserved(api: APIClient, body: dict[str, Any]) -> None:
    response = api.post(ADDRESS, {**body, "queue": True})

    assert (response.status_code, response.json()["status"], response.json()["quote"]) == (202, "queued", "2.10")
    entry = SpendEntry.objects.get()
    assert (str(entry.reference), entry.reserved_delta) == (response.json()["id"], 2_100_000)


def test_draft_is_queued_later(api: APIClient, draft: Generation) -> None:
    response = api.post(f"{ADDRESS}{draft.pk}/queue/")

    assert (response.status_code, response.json()["status"]) == (202, "queued")
    assert SpendEntry.objects.get().reserved_delta == 2_100_000

    again = api.post(f"{ADDRESS}{draft.pk}/queue/")
    assert again.status_code == 409
    assert errors(again) == [("wrong_status", None, "Only a draft can be queued; this one is queued.")]
    assert SpendEntry.objects.count() == 1


def test_completed_generation_reads_with_its_video(
    api: APIClient, queued: Generation, wavespeed: SandboxControl
) -> None:
    run_to_end(queued)

    row = api.get(f"{ADDRESS}{queued.pk}/").json()

    assert (row["status"], row["progress"], row["charged"], row["error"]) == ("completed", 100, "2.10", None)
    [video] = row["videos"]
    [stored] = Video.objects.all()
    assert (video["id"], video["bytes"], video["sha256"]) == (str(stored.pk), stored.bytes, stored.sha256)
    assert (video["duration"], video["has_audio"]) == (5.0, True)
    assert video["url"].startswith("http://testserver/media/")
    download = api.get(f"{API}/videos/{stored.pk}/download/")
    assert download.status_code == 302
    served = api.get(download["Location"], headers={"Range": "bytes=0-99"})
    assert (served.status_code, len(b"".join(served.streaming_content))) == (206, 100)
    assert served["Content-Disposition"] == f'attachment; filename="{naming.download_name(stored)}"'
    assert api.get(f"{API}/videos/{stored.pk}/").json()["generation"] == str(queued.pk)


def test_failed_generation_tells_why_and_what_to_do(api: APIClient, draft: Generation) -> None:
    Generation.objects.filter(pk=draft.pk).update(
        status=Status.FAILED, error_code="content_moderation", error_message="NSFW content detected"
    )

    assert api.get(f"{ADDRESS}{draft.pk}/").json()["error"] == {
        "code": "content_moderation",
        "message": failures.SENTENCES["content_moderation"],
        "detail": "NSFW content detected",
    }


def test_quote_tells_price_and_budgets_and_makes_nothing(api: APIClient, body: dict[str, Any], budget: int) -> None:
    response = api.post(f"{ADDRESS}quote/", {**body, "duration": 15})

    assert response.status_code == 200
    row = response.json()
    assert (row["amount"], row["currency"], row["fits"], row["existing"]) == ("6.30", "USD", True, [])
    assert [(each["title"], each["free"]) for each in row["budgets"]] == [("Coffee", "10.00")]
    assert not Generation.objects.exists()


def test_quote_names_what_exists(api: APIClient, body: dict[str, Any], budget: int) -> None:
    queued = api.post(ADDRESS, {**body, "queue": True}).json()

    existing = api.post(f"{ADDRESS}quote/", body).json()["existing"]

    assert existing == [{"id": queued["id"], "status": "queued", "url": f"http://testserver{ADDRESS}{queued['id']}/"}]


def test_draft_is_changed_by_what_is_named(api: APIClient, draft: Generation) -> None:
    response = api.patch(f"{ADDRESS}{draft.pk}/", {"prompt": "Rain on the window", "duration": 10})

    assert response.status_code == 200
    row = response.json()
    assert (row["prompt"], row["duration"], row["sound"], row["quote"]) == ("Rain on the window", 10, True, "4.20")


def test_draft_takes_shots_when_its_prompt_is_unset(api: APIClient, draft: Generation) -> None:
    shots = [{"prompt": "A cup", "duration": 2}, {"prompt": "Steam", "duration": 3}]

    response = api.patch(f"{ADDRESS}{draft.pk}/", {"prompt": None, "multi_prompt": shots})

    assert response.status_code == 200
    assert (response.json()["prompt"], response.json()["multi_prompt"]) == ("", shots)


def test_what_is_queued_is_not_changed(api: APIClient, queued: Generation) -> None:
    response = api.patch(f"{ADDRESS}{queued.pk}/", {"duration": 15})

    assert response.status_code == 409
    assert errors(response) == [
        ("wrong_status", None, "Only a draft can be edited; this one is queued. Make a new one instead.")
    ]


def test_cancel_releases_the_money(api: APIClient, queued: Generation) -> None:
    response = api.post(f"{ADDRESS}{queued.pk}/cancel/", {"reason": "Wrong cup"})

    assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert sum(SpendEntry.objects.values_list("reserved_delta", flat=True)) == 0
    assert queued.events.last().reason == "Wrong cup"


def test_cancel_after_submitting_is_refused_plainly(api: APIClient, processing: Generation) -> None:
    response = api.post(f"{ADDRESS}{processing.pk}/cancel/")

    assert response.status_code == 409
    assert errors(response) == [
        (
            "wrong_status",
            None,
            "It was handed to the provider, who has no cancel and bills it. You can ignore the result instead: "
            "the video is still stored, and marked as not wanted.",
        )
    ]
    ignored = api.post(f"{ADDRESS}{processing.pk}/ignore-result/")
    assert ignored.status_code == 200
    assert ignored.json()["result_ignored_at"] is not None


def test_retry_is_a_new_generation_that_names_the_old_one(api: APIClient, queued: Generation) -> None:
    api.post(f"{ADDRESS}{queued.pk}/cancel/")

    response = api.post(f"{ADDRESS}{queued.pk}/retry/")

    assert (response.status_code, response.json()["status"]) == (202, "queued")
    assert response.json()["retry_of"] == str(queued.pk)
    assert response.json()["id"] != str(queued.pk)


def test_second_retry_needs_a_word_of_confirmation(api: APIClient, queued: Generation) -> None:
    api.post(f"{ADDRESS}{queued.pk}/cancel/")
    first = api.post(f"{ADDRESS}{queued.pk}/retry/").json()

    refused = api.post(f"{ADDRESS}{queued.pk}/retry/")

    assert refused.status_code == 409
    [error] = refused.json()["errors"]
    assert error["code"] == "needs_confirmation"
    assert "costs $2.10: confirm that you want it." in error["detail"]
    assert error["existing"] == [
        {"id": first["id"], "status": "queued", "url": f"http://testserver{ADDRESS}{first['id']}/"}
    ]
    assert SpendEntry.objects.filter(kind="reserve").count() == 2
    assert api.post(f"{ADDRESS}{queued.pk}/retry/", {"confirm": True}).status_code == 202
    assert SpendEntry.objects.filter(kind="reserve").count() == 3


def test_retry_of_what_runs_is_refused(api: APIClient, queued: Generation) -> None:
    response = api.post(f"{ADDRESS}{queued.pk}/retry/")

    assert (response.status_code, errors(response)[0][0]) == (409, "wrong_status")
    assert Generation.objects.count() == 1


def test_same_inputs_again_need_a_word_of_confirmation(api: APIClient, body: dict[str, Any], budget: int) -> None:
    first = api.post(ADDRESS, {**body, "queue": True}).json()

    refused = api.post(ADDRESS, {**body, "queue": True})

    assert refused.status_code == 409
    assert [each["id"] for each in refused.json()["errors"][0]["existing"]] == [first["id"]]
    assert Generation.objects.count() == 1
    assert api.post(ADDRESS, {**body, "queue": True, "confirm": True}).status_code == 202


def test_events_tell_the_history(api: APIClient, queued: Generation) -> None:
    rows = api.get(f"{ADDRESS}{queued.pk}/events/").json()["results"]

    assert [(row["old_status"], row["new_status"], row["by"]) for row in rows] == [
        (None, "draft", "eddie"),
        ("draft", "queued", "eddie"),
    ]
    assert rows[1]["reason"] == "Queued for $2.10."


def test_generations_are_filtered_and_ordered(
    api: APIClient, project: Project, editor: User, body: dict[str, Any]
) -> None:
    first, second = (api.post(ADDRESS, {**body, "duration": seconds}).json()["id"] for seconds in (5, 6))
    Generation.objects.filter(pk=first).update(
        status=Status.FAILED, error_code="failed", created_at=timezone.now() - timedelta(days=2)
    )
    yesterday = (timezone.now() - timedelta(days=1)).isoformat()

    assert ids(api.get(ADDRESS)) == [second, first]
    assert ids(api.get(ADDRESS, {"ordering": "created_at"})) == [first, second]
    assert ids(api.get(ADDRESS, {"ordering": "-duration"})) == [second, first]
    assert ids(api.get(ADDRESS, {"status": "failed"})) == [first]
    assert ids(api.get(f"{ADDRESS}?status=failed&status=draft")) == [second, first]
    assert ids(api.get(ADDRESS, {"created_after": yesterday})) == [second]
    assert ids(api.get(ADDRESS, {"created_before": yesterday})) == [first]
    assert ids(api.get(ADDRESS, {"endpoint": ENDPOINT, "project": str(project.pk)})) == [second, first]
    assert ids(api.get(ADDRESS, {"page_size": 1, "page": 2})) == [first]


@pytest.mark.parametrize(
    ("parameters", "attr"),
    [
        ({"project": "coffee"}, "project"),
        ({"status": "done"}, "status"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"ordering": "price"}, "ordering"),
    ],
)
def test_bad_filter_is_refused(api: APIClient, parameters: dict[str, str], attr: str) -> None:
    response = api.get(ADDRESS, parameters)

    assert (response.status_code, [error[1] for error in errors(response)]) == (400, [attr])


@pytest.mark.parametrize("rows", [1, 30])
def test_generations_list_with_few_queries(project: Project, editor: User, rows: int) -> None:
    element = Element.objects.create(project=project, name="Cup", element_id="306", created_by=editor)
    for _ in range(rows):
        image = factories.source_image(project, editor)
        inputs = {"image": str(image.pk), "prompt": "Steam", "element_list": [str(element.pk)]}
        generation = drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=editor)
        video = Video(generation=generation, bytes=1, sha256="0" * 64, duration=Decimal(5))
        video.file.save("clip.mp4", ContentFile(b"0"))
    client = client_of(editor)

    with CaptureQueriesContext(connection) as queries:
        assert client.get(ADDRESS).json()["count"] == rows

    # Token, its owner's tokens, group, count, rows, videos, elements, what came instead of videos, looks, settling.
    assert len(queries) == 10, [query["sql"] for query in queries]


@pytest.mark.parametrize("rows", [1, 30])
def test_events_list_with_few_queries(api: APIClient, draft: Generation, editor: User, rows: int) -> None:
    GenerationEvent.objects.all().delete()
    for _ in range(rows):
        GenerationEvent.objects.create(generation=draft, new_status=Status.DRAFT, by=editor)

    with CaptureQueriesContext(connection) as queries:
        assert api.get(f"{ADDRESS}{draft.pk}/events/").json()["count"] == rows

    # Token, its owner's tokens, group, the generation with all that belongs to it, count, rows.
    assert len(queries) == 11, [query["sql"] for query in queries]


def test_spend_tells_where_the_money_stands(api: APIClient, queued: Generation, project: Project) -> None:
    row = api.get(f"{API}/projects/{project.pk}/spend/").json()

    assert (row["limit"], row["spent"], row["reserved"]) == ("10.00", "0.00", "2.10")
    assert (row["unconfirmed"], row["free"], row["currency"]) == ("0.00", "7.90", "USD")
    assert [each["reserved"] for each in row["budgets"]] == ["2.10"]
    assert row["since"] == project.created_at.isoformat().replace("+00:00", "Z")

    Generation.objects.update(status=Status.UNCONFIRMED)
    assert api.get(f"{API}/projects/{project.pk}/spend/").json()["unconfirmed"] == "2.10"


def test_spend_of_a_project_without_budget_has_no_limit(api: APIClient, project: Project) -> None:
    row = api.get(f"{API}/projects/{project.pk}/spend/").json()

    assert (row["limit"], row["free"], row["budgets"]) == (None, None, [])


# --- Elements ---------------------------------------------------------------------------------------------------------


def test_element_is_made_used_changed_and_archived(api: APIClient, project: Project, body: dict[str, Any]) -> None:
    made = api.post(f"{API}/elements/", {"project": str(project.pk), "name": "Cup", "element_id": "306696265837507"})
    assert (made.status_code, made.json()["element_id"]) == (201, "306696265837507")
    address = f"{API}/elements/{made.json()['id']}/"

    draft = api.post(ADDRESS, {**body, "element_list": [made.json()["id"]]})
    assert draft.json()["element_list"] == [made.json()["id"]]
    assert api.patch(address, {"description": "Red"}).json()["description"] == "Red"
    assert ids(api.get(f"{API}/elements/", {"project": str(project.pk)})) == [made.json()["id"]]
    assert api.delete(address).status_code == 204
    assert ids(api.get(f"{API}/elements/")) == []
    assert ids(api.get(f"{API}/elements/?archived=true")) == [made.json()["id"]]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"element_id": "abc"}, ("element_id", "An element id is digits only, such as 306696265837507.")),
        ({"name": "x" * 21}, ("name", "Ensure this field has no more than 20 characters.")),
        (
            {"image": "x"},
            ("image", "There is no field “image”. This takes: name, description, project, element_id."),
        ),
    ],
)
def test_bad_element_is_refused(api: APIClient, project: Project, fields: dict[str, str], expected: tuple) -> None:
    response = api.post(f"{API}/elements/", {"project": str(project.pk), "name": "Cup", "element_id": "306", **fields})

    assert response.status_code == 400
    assert [error[1:] for error in errors(response)] == [expected]


def test_element_that_exists_is_refused(api: APIClient, project: Project) -> None:
    fields = {"project": str(project.pk), "name": "Cup", "element_id": "306"}
    api.post(f"{API}/elements/", fields)

    response = api.post(f"{API}/elements/", fields)

    assert response.status_code == 400
    assert [error[2] for error in errors(response)] == ["This project has this element already."]


# --- Roles ------------------------------------------------------------------------------------------------------------

OUTSIDER, VIEWER, EDITOR, APPROVER, OWNER, STUDIO = range(6)
# The least of them that may; below, a member is refused, and who is no member finds nothing.
MATRIX = [
    ("get", "projects/{project}/", None, VIEWER, 200),
    ("patch", "projects/{project}/", {"description": "New"}, OWNER, 200),
    ("post", "projects/{project}/archive/", None, STUDIO, 200),
    ("get", "projects/{project}/members/", None, VIEWER, 200),
    ("post", "projects/{project}/members/", {"email": "new@example.com", "role": "viewer"}, OWNER, 201),
    ("patch", "projects/{project}/members/{membership}/", {"role": "viewer"}, OWNER, 200),
    ("delete", "projects/{project}/members/{membership}/", None, OWNER, 204),
    ("get", "projects/{project}/budgets/", None, VIEWER, 200),
    ("post", "projects/{project}/budgets/", {"period": "day", "limit": "1"}, STUDIO, 201),
    ("post", "projects/{project}/budgets/", {"period": "day", "limit": "1", "user": "eddie"}, OWNER, 201),
    ("patch", "projects/{project}/budgets/{budget}/", {"limit": "9"}, STUDIO, 200),
    ("delete", "projects/{project}/budgets/{budget}/", None, STUDIO, 204),
    ("get", "projects/{project}/spend/", None, VIEWER, 200),
    ("get", "projects/{project}/spend/entries/", None, VIEWER, 200),
    ("get", "source-images/{image}/", None, VIEWER, 200),
    ("patch", "source-images/{image}/", {"title": "New"}, EDITOR, 200),
    ("delete", "source-images/{image}/", None, EDITOR, 204),
    ("get", "elements/{element}/", None, VIEWER, 200),
    ("post", "elements/", {"project": "{project}", "name": "Cup", "element_id": "1"}, EDITOR, 201),
    ("patch", "elements/{element}/", {"name": "New"}, EDITOR, 200),
    ("delete", "elements/{element}/", None, EDITOR, 204),
    ("get", "generations/{generation}/", None, VIEWER, 200),
    ("get", "generations/{generation}/events/", None, VIEWER, 200),
    (
        "post",
        "generations/",
        {"project": "{project}", "endpoint": ENDPOINT, "image": "{image}", "prompt": "A"},
        EDITOR,
        201,
    ),
    (
        "post",
        "generations/quote/",
        {"project": "{project}", "endpoint": ENDPOINT, "image": "{image}", "prompt": "A"},
        VIEWER,
        200,
    ),
    ("patch", "generations/{generation}/", {"duration": 7}, EDITOR, 200),
    ("post", "generations/{generation}/queue/", None, EDITOR, 202),
    ("post", "generations/{generation}/cancel/", None, EDITOR, 200),
    ("post", "generations/{failed}/retry/", {"confirm": True}, EDITOR, 202),
    ("post", "generations/{making}/ignore-result/", None, EDITOR, 200),
    ("post", "generations/{making}/want-result/", None, EDITOR, 200),
    ("get", "videos/{video}/", None, VIEWER, 200),
    ("get", "videos/{video}/download/", None, VIEWER, 302),
]


@pytest.fixture
def rows(project: Project, draft: Generation, editor: User, image: SourceImage) -> dict[str, str]:
    """The ids of one row of each kind in “Coffee”."""
    failed = Generation.objects.create(
        project=project, endpoint=ENDPOINT, requested_by=editor, image=image, prompt="B", status=Status.FAILED
    )
    making = Generation.objects.create(
        project=project, endpoint=ENDPOINT, requested_by=editor, image=image, prompt="C", status=Status.PROCESSING
    )
    video = Video(generation=failed, bytes=1, sha256="0" * 64)
    video.file.save("clip.mp4", ContentFile(b"0"))
    element = Element.objects.create(project=project, name="Cup", element_id="306", created_by=editor)
    named = {
        "project": project,
        "membership": editor.memberships.get(),
        "budget": project.budgets.get(),
        "image": image,
    }
    named |= {"element": element, "generation": draft, "failed": failed, "making": making, "video": video}
    return {name: str(row.pk) for name, row in named.items()}


def filled(value: Any, rows: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: filled(each, rows) for name, each in value.items()}
    return value.format(**rows) if isinstance(value, str) else value


def person_with(role: int, project: Project, studio_owner: User) -> User:
    if role == STUDIO:
        return studio_owner
    return factories.UserFactory() if role == OUTSIDER else factories.member(project, list(Role)[role - 1])


@pytest.mark.parametrize(("method", "path", "fields", "least", "success"), MATRIX)
def test_roles_may_do_what_they_may(
    project: Project,
    studio_owner: User,
    rows: dict[str, str],
    method: str,
    path: str,
    fields: dict[str, Any] | None,
    least: int,
    success: int,
) -> None:
    answers = []
    for role in (OUTSIDER, VIEWER, EDITOR, APPROVER, OWNER, STUDIO):
        with transaction.atomic():
            client = client_of(person_with(role, project, studio_owner))
            answers.append(getattr(client, method)(f"{API}/{filled(path, rows)}", filled(fields, rows)).status_code)
            transaction.set_rollback(True)

    assert answers == [404] + [403] * (least - VIEWER) + [success] * (STUDIO - least + 1)


# --- Tags -------------------------------------------------------------------------------------------------------------


def test_tags_are_set_shown_and_replaced(api: APIClient, body: dict[str, Any]) -> None:
    made = api.post(ADDRESS, {**body, "tags": [" launch ", "Herbst-Aktion “süß”", *["launch", "LAUNCH"] * 30]}).json()
    address = f"{ADDRESS}{made['id']}/"
    assert made["tags"] == ["launch", "Herbst-Aktion “süß”"]

    assert api.patch(address, {"duration": 8}).json()["tags"] == ["launch", "Herbst-Aktion “süß”"]
    assert api.patch(address, {"tags": ["winter"]}).json()["tags"] == ["winter"]
    row = api.get(address).json()
    assert (row["tags"], row["duration"]) == (["winter"], 8)
    assert api.patch(address, {"tags": []}).json()["tags"] == []


@pytest.mark.parametrize(
    ("tags", "attr", "sentence"),
    [
        ([str(number) for number in range(21)], "tags", "At most 20 tags; these are 21."),
        (["x" * 41], "tags", f"A tag has at most 40 characters; “{'x' * 40}…” has 41."),
        ("launch", "tags", 'Expected a list of items but got type "str".'),
        ([["launch"]], "tags.0", "Not a valid string."),
    ],
)
def test_tags_that_can_not_be_kept_are_refused(
    api: APIClient, body: dict[str, Any], draft: Generation, tags: Any, attr: str, sentence: str
) -> None:
    for response in (api.post(ADDRESS, {**body, "tags": tags}), api.patch(f"{ADDRESS}{draft.pk}/", {"tags": tags})):
        assert (response.status_code, [(name, text) for _, name, text in errors(response)]) == (400, [(attr, sentence)])
    draft.refresh_from_db()
    assert (Generation.objects.get(), draft.tags) == (draft, [])


def test_only_a_draft_takes_tags(api: APIClient, queued: Generation) -> None:
    response = api.patch(f"{ADDRESS}{queued.pk}/", {"tags": ["launch"]})

    assert response.status_code == 409
    queued.refresh_from_db()
    assert queued.tags == []


def test_generations_are_filtered_by_their_own_tags(api: APIClient, body: dict[str, Any], image: SourceImage) -> None:
    SourceImage.objects.filter(pk=image.pk).update(tags=["launch"])
    plain, tagged = (api.post(ADDRESS, {**body, "tags": tags}).json()["id"] for tags in ([], ["launch", "50% off"]))

    assert ids(api.get(ADDRESS, {"tag": "launch"})) == [tagged]
    assert ids(api.get(ADDRESS, {"tag": "50% off"})) == [tagged]
    assert ids(api.get(ADDRESS, {"tag": "50"})) == []
    assert api.get(ADDRESS, {"tag": ""}).status_code == 400
    assert set(ids(api.get(ADDRESS))) == {plain, tagged}


# --- Soft budgets -----------------------------------------------------------------------------------------------------

WARNING = "The soft budget “Coffee budget, per month” is passed: $4.20 of $3.00."


@pytest.fixture
def soft_budget(project: Project) -> None:
    """Of $3 a month: one video of $2.10 fits."""
    factories.budget(project, 3_000_000, period=Period.MONTH, enforcement=Enforcement.SOFT)


@pytest.mark.usefixtures("soft_budget")
def test_soft_budget_lets_through_and_warns_whoever_queues(api: APIClient, body: dict[str, Any]) -> None:
    fits = api.post(ADDRESS, {**body, "queue": True}).json()
    later = api.post(ADDRESS, {**body, "prompt": "Another one"}).json()
    assert (fits["warnings"], "warnings" in later) == ([], False)

    passes = api.post(f"{ADDRESS}{later['id']}/queue/", headers={"Idempotency-Key": "once"})
    again = api.post(f"{ADDRESS}{later['id']}/queue/", headers={"Idempotency-Key": "once"})
    assert (passes.status_code, passes.json()["status"], passes.json()["warnings"]) == (202, "queued", [WARNING])
    assert (again.status_code, again.json()) == (202, passes.json())
    at_once = api.post(ADDRESS, {**body, "prompt": "A third one", "queue": True})
    assert at_once.json()["warnings"] == [WARNING.replace("$4.20", "$6.30")]


@pytest.mark.usefixtures("soft_budget")
def test_retry_and_approval_warn_too(
    api: APIClient, owner_api: APIClient, body: dict[str, Any], project: Project
) -> None:
    first = api.post(ADDRESS, {**body, "queue": True}).json()
    Generation.objects.filter(pk=first["id"]).update(status=Status.FAILED)
    retried = api.post(f"{ADDRESS}{first['id']}/retry/")
    assert (retried.status_code, retried.json()["warnings"]) == (202, [WARNING])

    Project.objects.filter(pk=project.pk).update(approval_above=0)
    asked = [api.post(ADDRESS, {**body, "prompt": f"Take {n}", "queue": True}).json() for n in range(2)]
    assert [(each["status"], each["warnings"]) for each in asked] == [("awaiting_approval", [])] * 2
    approved = owner_api.post(f"{ADDRESS}{asked[0]['id']}/approve/")
    assert approved.json()["warnings"] == [WARNING.replace("$4.20", "$6.30")]
    approved = owner_api.post(f"{API}/approvals/{asked[1]['approval']['id']}/approve/")
    assert approved.json()["warnings"] == [WARNING.replace("$4.20", "$8.40")]
