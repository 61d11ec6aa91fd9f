import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import escape
from rest_framework.test import APIClient

from generations import failures
from generations.admin.confirmation import MOST_AT_ONCE, Kind
from generations.admin.generations import confirm_url
from generations.models import Element, Exchange, Generation, GenerationEvent, Status, Video
from generations.services import approvals, orders
from generations.services.drafts import create
from generations.storage import naming
from projects.models import Enforcement, Period, Project, Role, SourceImage
from tests import factories
from tests.pipeline import ENDPOINT, project_totals

ADD = reverse("admin:generations_generation_add")
LIST = reverse("admin:generations_generation_changelist")


def page_of(generation: Generation) -> str:
    return reverse("admin:generations_generation_change", args=[generation.pk])


def fields(picture: SourceImage, **changes: Any) -> dict[str, Any]:
    return {"endpoint": ENDPOINT, "image": str(picture.pk), "prompt": "Steam rises", "duration": "5", **changes}


def text_of(response: Any) -> str:
    return response.content.decode()


def told(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def reserved(project: Project) -> int:
    return project_totals(project.pk)["reserved"]


@pytest.fixture
def image(project: Project, editor: User) -> SourceImage:
    return factories.source_image(project, editor)


@pytest.fixture
def new_draft(project: Project, editor: User, image: SourceImage) -> Callable[..., Generation]:
    def make(prompt: str = "Steam rises", **inputs: Any) -> Generation:
        values = {"image": str(image.pk), "prompt": prompt, "duration": 5, **inputs}
        return create(project, endpoint=ENDPOINT, inputs=values, by=editor)

    return make


def become(generation: Generation, status: Status, **changes: Any) -> Generation:
    """Puts a generation into a state that the provider would bring about."""
    Generation.objects.filter(pk=generation.pk).update(status=status, **changes)
    generation.refresh_from_db()
    return generation


def add_video(generation: Generation) -> Video:
    video = Video(
        generation=generation,
        bytes=1234,
        sha256="ab" * 32,
        width=3840,
        height=2160,
        duration=5,
        fps=24,
        codec="h264",
        has_audio=True,
    )
    video.file.save("video.mp4", ContentFile(b"video"), save=False)
    video.poster.save("poster.jpg", ContentFile(factories.jpeg()), save=False)
    video.save()
    return video


# --- The form ---------------------------------------------------------------------------------------------------------


def test_form_saves_a_draft_and_pays_nothing(editor_client: Client, project: Project, image: SourceImage) -> None:
    response = editor_client.post(f"{ADD}?project={project.pk}", fields(image, sound="on", duration="8"))

    made = Generation.objects.get()
    assert response.headers["Location"] == page_of(made)
    assert (made.status, made.prompt, made.duration, made.sound, made.image) == ("draft", "Steam rises", 8, True, image)
    assert reserved(project) == 0


def test_form_save_and_generate_goes_to_the_confirmation(
    editor_client: Client, project: Project, image: SourceImage
) -> None:
    response = editor_client.post(f"{ADD}?project={project.pk}", fields(image, _generate="1"))

    assert response.headers["Location"] == confirm_url(Kind.GENERATE, [Generation.objects.get().pk])


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"image": ""}, "image", "image is required. The picture that the video starts from."),
        ({"prompt": ""}, "prompt", "Neither prompt nor multi_prompt was given; this model needs one of them."),
        ({"duration": "2"}, "duration", "2 is not a duration this model makes: whole seconds from 3 to 15."),
        ({"duration": "5.5"}, "duration", "“5.5” is not a duration this model makes: whole seconds from 3 to 15."),
        ({"duration": "abc"}, "duration", "“abc” is not a duration this model makes: whole seconds from 3 to 15."),
        (
            {"prompt": "", "multi_prompt-0-prompt": "Wide", "multi_prompt-0-duration": "7", "duration": "8"},
            "multi_prompt",
            "The shots last 7 s together, the video 8 s: make them the same.",
        ),
        (
            {"multi_prompt-0-prompt": "Wide", "multi_prompt-0-duration": "5"},
            "prompt",
            "Both prompt and multi_prompt were given; this model takes one of them. Leave one out.",
        ),
    ],
)
def test_form_shows_the_catalogues_sentence_at_the_field(
    editor_client: Client, project: Project, image: SourceImage, changes: dict[str, str], field: str, sentence: str
) -> None:
    response = editor_client.post(f"{ADD}?project={project.pk}", fields(image, **changes))

    assert response.status_code == 200
    assert response.context["form"].errors[field] == [sentence]
    assert Generation.objects.count() == 0


def test_form_refuses_a_picture_of_another_project(editor_client: Client, project: Project, studio_owner: User) -> None:
    foreign = factories.source_image(factories.ProjectFactory(name="Secret", created_by=studio_owner))
    response = editor_client.post(f"{ADD}?project={project.pk}", fields(foreign))

    [sentence] = response.context["form"].errors["image"]
    assert sentence.startswith(f"There is no picture “{foreign.pk}” in Coffee.")
    assert foreign.thumbnail.url not in text_of(response)


def test_form_takes_shots_and_shows_them_again(editor_client: Client, project: Project, image: SourceImage) -> None:
    shots = {"prompt": "", "duration": "9", "shot_type": "intelligent"}
    for row, (prompt, seconds) in enumerate([("Wide", "4"), ("Close", "5")]):
        shots |= {f"multi_prompt-{row}-prompt": prompt, f"multi_prompt-{row}-duration": seconds}
    editor_client.post(f"{ADD}?project={project.pk}", fields(image, **shots))

    made = Generation.objects.get()
    assert made.multi_prompt == [{"prompt": "Wide", "duration": 4}, {"prompt": "Close", "duration": 5}]
    assert (made.shot_type, made.duration) == ("intelligent", 9)
    form = editor_client.get(page_of(made)).context["form"]
    assert form.shots()[:3] == [*made.multi_prompt, {"prompt": "", "duration": ""}]


def test_form_changes_a_draft(editor_client: Client, new_draft: Callable[..., Generation], image: SourceImage) -> None:
    draft = new_draft()
    editor_client.post(page_of(draft), fields(image, prompt="Beans fall", duration="10"))

    draft.refresh_from_db()
    assert (draft.prompt, draft.duration, draft.status) == ("Beans fall", 10, "draft")


def test_form_does_not_change_what_is_queued(
    editor_client: Client, new_draft: Callable[..., Generation], image: SourceImage, project: Project
) -> None:
    factories.budget(project, 10_000_000)
    queued = orders.queue(new_draft(), by=project.created_by)
    response = editor_client.post(page_of(queued), fields(image, prompt="Beans fall"), follow=True)

    queued.refresh_from_db()
    assert told(response) == ["Only a draft can be changed; this one is queued."]
    assert queued.prompt == "Steam rises"


def test_form_opens_with_the_picture_that_was_asked_for(
    editor_client: Client, image: SourceImage, project: Project
) -> None:
    form = editor_client.get(f"{ADD}?image={image.pk}").context["form"]

    assert (form.project, form.chosen_image) == (project, str(image.pk))


def test_quote_shows_price_and_what_is_left(editor_client: Client, project: Project, image: SourceImage) -> None:
    factories.budget(project, 10_000_000)
    url = f"{reverse('admin:generations_generation_quote')}?project={project.pk}"
    shown = text_of(editor_client.post(url, fields(image, duration="8")))

    assert "$3.36" in shown
    assert "$10.00 free of $10.00" in shown
    assert "$6.64 free after this." in shown


def test_quote_without_a_budget_says_who_can_set_one(
    editor_client: Client, project: Project, image: SourceImage
) -> None:
    url = f"{reverse('admin:generations_generation_quote')}?project={project.pk}"
    shown = text_of(editor_client.post(url, fields(image)))

    assert "Coffee has no budget, so nothing can be spent in it. A studio owner can set one: olive." in shown


# --- Money ------------------------------------------------------------------------------------------------------------


def test_confirmation_shows_the_price_before_anything_is_paid(
    editor_client: Client, project: Project, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 10_000_000)
    drafts = [new_draft(), new_draft("Beans fall", duration=10)]
    response = editor_client.get(confirm_url(Kind.GENERATE, [draft.pk for draft in drafts]))

    shown = text_of(response)
    assert response.context["plan"].total == 6_300_000
    assert "Generate for $6.30" in shown
    assert "$3.70 free after this." in shown
    assert reserved(project) == 0


def test_confirmation_queues_all_and_a_second_click_pays_nothing(
    editor_client: Client, project: Project, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 10_000_000)
    url = confirm_url(Kind.GENERATE, [new_draft().pk, new_draft("Beans fall").pk])
    first = editor_client.post(url, follow=True)
    second = editor_client.post(url, follow=True)

    assert told(first) == ["Queued 2 videos for $4.20."]
    assert told(second) == ["This was done before: they are no drafts any more. Nothing was paid again."]
    assert reserved(project) == 4_200_000


def test_confirmation_over_budget_queues_none(
    editor_client: Client, project: Project, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 3_000_000)
    url = confirm_url(Kind.GENERATE, [new_draft().pk, new_draft("Beans fall").pk])
    response = editor_client.post(url)

    [message] = told(response)
    assert message.startswith("Not enough budget: this needs $2.10, $0.90 is free")
    assert "Coffee, in total: $1.20 is missing." in text_of(response)
    assert "<li>Choose fewer of them.</li>" in text_of(response)
    assert set(Generation.objects.values_list("status", flat=True)) == {"draft"}
    assert reserved(project) == 0


def test_confirmation_without_a_budget_says_who_can_set_one(
    editor_client: Client, project: Project, new_draft: Callable[..., Generation]
) -> None:
    response = editor_client.post(confirm_url(Kind.GENERATE, [new_draft().pk]))

    sentence = "Coffee has no budget, so nothing can be spent in it. A studio owner can set one: olive."
    assert told(response) == [sentence]
    assert response.context["plan"].problems == [sentence]


def test_confirmation_asks_before_the_same_video_again(
    editor_client: Client, project: Project, editor: User, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 10_000_000)
    first = orders.queue(new_draft(), by=editor)
    url = confirm_url(Kind.GENERATE, [new_draft().pk])
    asked = editor_client.post(url)

    assert page_of(first) in text_of(asked)
    assert "The same video was asked for in the last 24 hours (queued). Another one costs $2.10" in text_of(asked)
    assert reserved(project) == 2_100_000
    assert told(editor_client.post(url, {"confirm": "1"}, follow=True)) == ["Queued 1 video for $2.10."]
    assert reserved(project) == 4_200_000


def test_confirmation_names_what_is_no_draft(
    editor_client: Client, project: Project, editor: User, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 10_000_000)
    queued, draft = orders.queue(new_draft(), by=editor), new_draft("Beans fall")
    url = confirm_url(Kind.GENERATE, [queued.pk, draft.pk])

    assert editor_client.get(url).context["plan"].problems == ["“Steam rises” is queued: only drafts can be generated."]
    assert told(editor_client.post(url)) == ["Only a draft can be queued; this one is queued."]
    draft.refresh_from_db()
    assert draft.status == Status.DRAFT


def test_retry_once_for_two_clicks_even_with_the_box_ticked(
    editor_client: Client, project: Project, editor: User, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 10_000_000)
    failed = become(new_draft(), Status.FAILED, error_code="task_failed")
    url = confirm_url(Kind.RETRY, [failed.pk])
    seen = editor_client.get(url).context["plan"].retries_seen
    first = editor_client.post(url, {"retries_seen": seen, "confirm": "1"}, follow=True)
    second = editor_client.post(url, {"retries_seen": seen, "confirm": "1"}, follow=True)

    assert told(first) == ["Queued 1 video for $2.10."]
    assert told(second) == [
        "This was retried meanwhile, and nothing was paid again. Look at its retries before you make another one."
    ]
    assert failed.retries.count() == 1
    assert reserved(project) == 2_100_000


def test_retry_of_what_runs_is_refused(
    editor_client: Client, project: Project, editor: User, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 10_000_000)
    queued = orders.queue(new_draft(), by=editor)
    response = editor_client.post(confirm_url(Kind.RETRY, [queued.pk]))

    assert told(response)[0].startswith("It is queued; only a failed, cancelled or completed one can be retried")
    assert queued.retries.count() == 0


def test_viewer_can_not_spend(client: Client, project: Project, new_draft: Callable[..., Generation]) -> None:
    factories.budget(project, 10_000_000)
    client.force_login(factories.member(project, Role.VIEWER))
    draft = new_draft()
    response = client.post(confirm_url(Kind.GENERATE, [draft.pk]))

    assert told(response) == [
        "This takes the role “Editor” or higher in Coffee; an owner of the project can give it to you."
    ]
    assert reserved(project) == 0


def test_generate_action_of_the_list_goes_to_the_confirmation(
    editor_client: Client, new_draft: Callable[..., Generation]
) -> None:
    draft = new_draft()
    response = editor_client.post(LIST, {"action": "generate", "_selected_action": [str(draft.pk)]})

    assert response.headers["Location"] == confirm_url(Kind.GENERATE, [draft.pk])


def test_cancel_action_counts_and_says_why_not(
    editor_client: Client, project: Project, editor: User, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 10_000_000)
    queued = orders.queue(new_draft(), by=editor)
    processing = become(new_draft("Beans fall"), Status.PROCESSING, submitted_at=timezone.now())
    chosen = {"action": "cancel", "_selected_action": [str(queued.pk), str(processing.pk)], "sure": "1"}
    messages = told(editor_client.post(LIST, chosen, follow=True))

    assert messages[0] == "Cancelled 1 generation."
    assert messages[1].startswith("“Beans fall”: It was handed to the provider, who has no cancel and bills it.")
    assert reserved(project) == 0


def test_cancelling_several_asks_first_and_names_them(
    editor_client: Client, editor: User, project: Project, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 10_000_000)
    queued = orders.queue_many([new_draft(), new_draft("Beans fall")], by=editor)
    chosen = {"action": "cancel", "_selected_action": [str(each.pk) for each in queued]}
    asked = text_of(editor_client.post(LIST, chosen))

    assert "Cancel 2 generations?" in asked
    assert asked.count("<li>Steam rises</li>") == asked.count("<li>Beans fall</li>") == 1
    assert reserved(project) == sum(each.quote or 0 for each in queued)

    fields = dict(re.findall(r'<input type="hidden" name="(action|sure)" value="(\w+)">', asked))
    again = re.findall(r'<input type="hidden" name="_selected_action" value="([\w-]+)">', asked)
    assert told(editor_client.post(LIST, {**fields, "_selected_action": again}, follow=True)) == [
        "Cancelled 2 generations."
    ]
    assert reserved(project) == 0


def test_a_result_on_its_way_is_ignored_and_wanted_again(
    editor_client: Client, editor: User, new_draft: Callable[..., Generation]
) -> None:
    making = become(new_draft(), Status.PROCESSING, submitted_at=timezone.now())
    ignore, want = (reverse(f"admin:generations_generation_{name}", args=[making.pk]) for name in ("ignore", "want"))

    assert "You can take this back at any time." in text_of(editor_client.post(ignore))
    making.refresh_from_db()
    assert making.result_ignored_at is None
    editor_client.post(ignore, {"sure": "1"})
    shown = text_of(editor_client.get(page_of(making)))
    assert (ignore in shown, want in shown) == (False, True)
    assert "The result is not wanted." in shown

    become(making, Status.COMPLETED, charged=2_100_000)
    assert told(editor_client.post(want, follow=True)) == ["Wanted after all."]
    making.refresh_from_db()
    assert making.result_ignored_at is None
    assert [(event.reason, event.by) for event in making.events.all()][1:] == [
        ("The result is not wanted.", editor),
        ("The result is wanted after all.", editor),
    ]


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_what_has_ended_can_not_be_ignored(
    editor_client: Client, new_draft: Callable[..., Generation], status: Status
) -> None:
    done = become(new_draft(), status, charged=2_100_000)
    ignore = reverse("admin:generations_generation_ignore", args=[done.pk])

    assert ignore not in text_of(editor_client.get(page_of(done)))
    editor_client.post(ignore, {"sure": "1"})
    editor_client.post(LIST, {"action": "ignore_result", "_selected_action": [str(done.pk)], "sure": "1"})
    done.refresh_from_db()
    assert done.result_ignored_at is None


NOW, EARLIER = "now", "five hours ago"
COSTS: list[tuple[Status, dict[str, Any], str, str]] = [
    (Status.DRAFT, {}, "would cost $2.10", "It would cost $2.10. Nothing is paid yet."),
    (
        Status.AWAITING_APPROVAL,
        {},
        "would cost $2.10",
        "It would cost $2.10. Nothing is reserved until somebody approves it.",
    ),
    (Status.QUEUED, {}, "$2.10 reserved", "$2.10 is reserved, and charged when the video is made."),
    (Status.SUBMITTING, {}, "$2.10 reserved", "$2.10 is reserved, and charged when the video is made."),
    (Status.PROCESSING, {}, "$2.10 reserved", "$2.10 is reserved, and charged when the video is made."),
    (Status.UNCONFIRMED, {}, "$2.10 held", "$2.10 is held until it is known whether the video was made."),
    (Status.STORING, {"charged": 2_100_000}, "$2.10 charged", "$2.10 was charged."),
    (Status.COMPLETED, {"charged": 2_100_000}, "$2.10 charged", "$2.10 was charged."),
    (
        Status.FAILED,
        {"settle_at": NOW, "completed_at": NOW},
        "$2.10 held",
        "$2.10 is held until the provider’s bill shows the refund (at most 4 hours).",
    ),
    (
        Status.FAILED,
        {"settle_at": NOW, "completed_at": EARLIER},
        "$2.10 held",
        "$2.10 is held until the provider’s bill could be read.",
    ),
    (
        Status.FAILED,
        {"charged": 0},
        "–",
        "It cost nothing: the provider did not bill it, or gave its price back.",
    ),
    (
        Status.FAILED,
        {"charged": 2_100_000},
        "$2.10 charged",
        "$2.10 was charged: the provider billed it, and gave nothing back.",
    ),
    (Status.FAILED, {}, "–", "It cost nothing."),
    (Status.CANCELLED, {}, "–", "It cost nothing."),
]


@pytest.mark.parametrize(("status", "row", "in_list", "on_page"), COSTS)
def test_cost_is_said_in_words_on_page_in_list_and_in_the_api(
    editor: User,
    editor_client: Client,
    new_draft: Callable[..., Generation],
    status: Status,
    row: dict[str, Any],
    in_list: str,
    on_page: str,
) -> None:
    times = {NOW: timezone.now(), EARLIER: timezone.now() - timedelta(hours=5)}
    changes = {name: times.get(value, value) for name, value in row.items()}
    generation = become(new_draft(), status, quote=2_100_000, **changes)
    api = APIClient()
    api.force_authenticate(editor)

    if status != Status.DRAFT:
        assert f"<strong>{on_page}</strong>" in text_of(editor_client.get(page_of(generation)))
    assert in_list in text_of(editor_client.get(LIST))
    told = api.get(reverse("generation-detail", args=[generation.pk])).json()["cost"]
    assert told["text"] == on_page
    assert in_list in ("–", f"would cost ${told['amount']}", f"${told['amount']} {told['state']}")


def test_a_refusal_says_what_fits_and_who_can_raise_the_limit_and_keeps_the_draft(
    editor_client: Client, owner_client: Client, project: Project, new_draft: Callable[..., Generation]
) -> None:
    budget = factories.budget(project, 3_000_000)
    draft = new_draft(duration=8)
    shown = text_of(editor_client.get(confirm_url(Kind.GENERATE, [draft.pk])))

    assert "Coffee, in total: $0.36 is missing." in shown
    shorter = f"{page_of(draft)}?duration=7"
    assert f'<a class="text-link" href="{shorter}">Make it 7 seconds: $2.94 fits</a>' in shown
    assert "can be raised by: olive." in shown
    assert f'It is kept as a draft: <a class="text-link" href="{page_of(draft)}">Steam rises</a>.' in shown
    assert '<option value="7" selected' in text_of(editor_client.get(shorter))

    shown = text_of(owner_client.get(confirm_url(Kind.GENERATE, [draft.pk])))
    assert reverse("admin:projects_budget_change", args=[budget.pk]) in shown
    assert "can be raised by" not in shown


def test_who_can_set_a_budget_is_led_there(
    editor_client: Client, owner_client: Client, project: Project, new_draft: Callable[..., Generation]
) -> None:
    url = f"{reverse('admin:projects_budget_add')}?project={project.pk}"
    confirm = confirm_url(Kind.GENERATE, [new_draft().pk])
    pages = [confirm, f"{ADD}?project={project.pk}", reverse("admin:projects_project_change", args=[project.pk])]
    for page in pages:
        theirs, ours = text_of(editor_client.get(page)), text_of(owner_client.get(page))
        assert (url in theirs, "A studio owner can set one: olive." in theirs) == (False, True)
        assert (url in ours, "A studio owner can set one" in ours) == (True, False)
    assert f'<option value="{project.pk}" selected' in text_of(owner_client.get(url))


# --- The page of one --------------------------------------------------------------------------------------------------


def test_page_plays_and_hands_out_the_video(editor_client: Client, new_draft: Callable[..., Generation]) -> None:
    done = become(new_draft(), Status.COMPLETED, charged=2_100_000)
    video = add_video(done)
    shown = text_of(editor_client.get(page_of(done)))

    assert "<video controls" in shown
    assert "3840 × 2160 pixels" in shown
    assert video.sha256 in shown
    assert f"?download={naming.download_name(video)}" in shown
    assert "Retry…" in shown


def test_page_of_a_failure_says_what_to_do_and_escapes_the_provider(
    editor_client: Client, new_draft: Callable[..., Generation]
) -> None:
    failed = become(
        new_draft("<script>alert('prompt')</script>"),
        Status.FAILED,
        error_code="content_moderation",
        error_message="<script>alert('provider')</script>",
        completed_at=timezone.now(),
    )
    GenerationEvent.objects.create(
        generation=failed, new_status=Status.FAILED, reason="<script>alert('event')</script>"
    )
    Exchange.objects.create(
        generation=failed,
        kind=Exchange.Kind.RESULT,
        summary="<script>alert('summary')</script>",
        detail={"a": "<script>alert('body')</script>"},
    )
    for url in (page_of(failed), LIST, reverse("admin:index")):
        shown = text_of(editor_client.get(url))
        assert "<script>alert(" not in shown
        assert "&lt;script&gt;alert(" in shown
    shown = text_of(editor_client.get(page_of(failed)))
    assert escape(failures.SENTENCES["content_moderation"]) in shown
    for source in ("prompt", "provider", "event", "summary", "body"):
        assert f"&lt;script&gt;alert(&#x27;{source}&#x27;)" in shown


def test_status_tells_the_progress(editor_client: Client, new_draft: Callable[..., Generation], settings: Any) -> None:
    settings.SANDBOX_SPEED = 1.0
    running = become(new_draft(), Status.PROCESSING, submitted_at=timezone.now() - timedelta(seconds=75))
    url = reverse("admin:generations_generation_status", args=[running.pk])
    told_now = editor_client.get(url).json()

    assert (told_now["status"], told_now["label"], told_now["is_running"]) == ("processing", "Processing", True)
    assert 47 <= told_now["progress"] <= 50


def test_another_projects_generation_does_not_exist(client: Client, new_draft: Callable[..., Generation]) -> None:
    client.force_login(factories.member(factories.ProjectFactory(name="Tea"), Role.OWNER))
    draft = new_draft()
    addresses = [
        page_of(draft),
        reverse("admin:generations_generation_status", args=[draft.pk]),
        confirm_url(Kind.GENERATE, [draft.pk]),
        f"{ADD}?project={draft.project_id}",
    ]
    posted = [reverse(f"admin:generations_generation_{name}", args=[draft.pk]) for name in ("cancel", "ignore")]

    assert [client.get(url).status_code for url in addresses] == [404] * 4
    assert [client.post(url).status_code for url in posted] == [404] * 2
    assert "Steam rises" not in text_of(client.get(LIST))


# --- Lists ------------------------------------------------------------------------------------------------------------


def _queries(client: Client, url: str) -> int:
    client.get(url)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


@pytest.mark.parametrize("name", ["generations_generation", "generations_video"])
def test_list_needs_as_many_queries_for_30_rows_as_for_one(
    editor_client: Client, new_draft: Callable[..., Generation], name: str
) -> None:
    url = reverse(f"admin:{name}_changelist")
    add_video(new_draft("First"))
    one = _queries(editor_client, url)
    for number in range(29):
        add_video(new_draft(f"Number {number}"))

    assert _queries(editor_client, url) == one


@pytest.mark.parametrize("kind", Kind)
def test_page_that_confirms_needs_as_many_queries_for_50_as_for_one(
    editor_client: Client, project: Project, editor: User, new_draft: Callable[..., Generation], kind: Kind
) -> None:
    factories.budget(project, 1_000_000_000)
    element = Element.objects.create(project=project, name="Cup", element_id="306", created_by=editor)
    made = [new_draft(f"Number {number}", element_list=[str(element.pk)]) for number in range(MOST_AT_ONCE)]
    if kind == Kind.RETRY:
        made = [become(each, Status.FAILED) for each in made]
    pks = [each.pk for each in made]

    assert _queries(editor_client, confirm_url(kind, pks)) == _queries(editor_client, confirm_url(kind, pks[:1]))


def test_list_finds_and_filters(
    editor_client: Client, project: Project, editor: User, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 10_000_000)
    orders.queue(new_draft("Beans fall"), by=editor)
    new_draft("Steam rises")

    def found(query: str) -> list[str]:
        return [str(row) for row in editor_client.get(f"{LIST}?{query}").context["cl"].result_list]

    assert found("q=beans") == ["Beans fall"]
    assert found("status__exact=draft") == ["Steam rises"]
    assert found(f"project={project.pk}&endpoint={ENDPOINT}") == ["Steam rises", "Beans fall"]


# --- Tags and soft budgets --------------------------------------------------------------------------------------------


def test_form_takes_tags_between_commas_and_shows_them_again(
    editor_client: Client, project: Project, image: SourceImage
) -> None:
    factories.budget(project, 10_000_000)
    editor_client.post(f"{ADD}?project={project.pk}", fields(image, tags=" launch, <b>winter</b>,, launch"))
    made = Generation.objects.get()
    assert made.tags == ["launch", "<b>winter</b>"]

    form = editor_client.get(page_of(made)).context["form"]
    assert form["tags"].value() == "launch, <b>winter</b>"
    editor_client.post(page_of(made), fields(image, tags="launch, &c"))
    made.refresh_from_db()
    assert (made.tags, made.prompt) == (["launch", "&c"], "Steam rises")

    orders.queue(made, by=made.requested_by)
    assert "<dt>Tags</dt><dd>launch, &amp;c</dd>" in text_of(editor_client.get(page_of(made)))


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (", ".join(map(str, range(21))), "At most 20 tags; these are 21."),
        ("x" * 41, f"A tag has at most 40 characters; “{'x' * 40}…” has 41."),
    ],
)
def test_form_names_tags_that_can_not_be_kept(
    editor_client: Client, project: Project, image: SourceImage, typed: str, sentence: str
) -> None:
    response = editor_client.post(f"{ADD}?project={project.pk}", fields(image, tags=typed))

    assert response.context["form"].errors == {"tags": [sentence]}
    assert not Generation.objects.exists()


def test_who_generates_is_warned_of_a_soft_budget(
    editor_client: Client, project: Project, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 3_000_000, period=Period.MONTH, enforcement=Enforcement.SOFT)
    first, second = new_draft("First"), new_draft("Second")

    fits = editor_client.post(confirm_url(Kind.GENERATE, [first.pk]), {"total_seen": "2100000"}, follow=True)
    passes = editor_client.post(confirm_url(Kind.GENERATE, [second.pk]), {"total_seen": "2100000"}, follow=True)

    assert told(fits) == ["Queued 1 video for $2.10."]
    assert [(message.level_tag, str(message)) for message in passes.context["messages"]] == [
        ("success", "Queued 1 video for $2.10."),
        ("warning", "The soft budget “Coffee budget, per month” is passed: $4.20 of $3.00."),
    ]


def test_who_approves_is_warned_of_a_soft_budget(
    owner_client: Client, project: Project, new_draft: Callable[..., Generation]
) -> None:
    factories.budget(project, 1_000_000, enforcement=Enforcement.SOFT)
    Project.objects.filter(pk=project.pk).update(approval_above=0)
    draft = new_draft()
    approval = approvals.approval_of(orders.queue(draft, by=draft.requested_by))

    answer = owner_client.post(reverse("admin:generations_approval_change", args=[approval.pk]), follow=True)

    assert told(answer) == [
        "Approved: $2.10 is held, and they are queued.",
        "The soft budget “Coffee budget, in total” is passed: $2.10 of $1.00.",
    ]
