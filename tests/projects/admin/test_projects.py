import html
import io
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django import forms
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from PIL import Image

from projects.admin.display import BudgetBar, DollarsField, size
from projects.models import Budget, Invitation, Membership, Project, Role, SourceImage, SpendEntry
from projects.money import spend
from projects.money.budgets import Figures
from tests import factories

UPLOAD = reverse("admin:projects_sourceimage_add")
BUDGETS = reverse("admin:projects_budget_changelist")


def told(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def text_of(response: Any) -> str:
    return response.content.decode()


def picture(name: str = "cup.jpg", **shape: Any) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, factories.jpeg(**shape), "image/jpeg")


# --- Amounts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "micros"),
    [
        ("10", 10_000_000),
        ("1,250.50", 1_250_500_000),
        (" $0.42 ", 420_000),
        ("0", 0),
        ("0.000001", 1),
        ("0.1", 100_000),
    ],
)
def test_dollars_are_converted_exactly(typed: str, micros: int) -> None:
    assert DollarsField().clean(typed) == micros


@pytest.mark.parametrize("typed", ["-1", "abc", "1e3", "1.2.3", "NaN", "0.0000001", "٣", "10 EUR"])
def test_dollars_refuse_what_is_no_amount(typed: str) -> None:
    with pytest.raises(forms.ValidationError):
        DollarsField().clean(typed)


def test_dollars_are_shown_as_they_are_typed() -> None:
    assert DollarsField().prepare_value(1_250_500_000) == "1250.50"
    assert DollarsField().clean(DollarsField().prepare_value(1_234_567)) == 1_234_567


def test_bar_shares_add_up_to_the_limit() -> None:
    figures = Figures(Budget(limit=10_000_000), timezone.now(), None, spent=6_000_000, reserved=3_000_000)
    bar = BudgetBar(figures, needed=2_100_000)

    assert (bar.spent_percent, bar.reserved_percent, bar.needed_percent) == (60, 30, 10)
    assert (bar.refuses, bar.missing_shown) == (True, "$1.10")


def test_size_reads_like_people_say_it() -> None:
    assert [size(count) for count in (999, 1_500, 4_200_000, 3 * 10**9)] == ["999 bytes", "1.5 kB", "4.2 MB", "3.0 GB"]


# --- Budgets ----------------------------------------------------------------------------------------------------------


def new_budget(project: Project | None, limit: str, user: User | None = None) -> dict[str, Any]:
    return {
        "project": str(project.pk) if project else "",
        "user": user.pk if user else "",
        "period": "month",
        "enforcement": "hard",
        "limit": limit,
    }


def test_budget_is_set_in_dollars_and_changed(owner_client: Client, project: Project) -> None:
    owner_client.post(reverse("admin:projects_budget_add"), new_budget(project, "12.34"))
    budget = Budget.objects.get()
    assert (budget.project, budget.limit, budget.created_by.username) == (project, 12_340_000, "olive")
    owner_client.post(reverse("admin:projects_budget_change", args=[budget.pk]), {"limit": "20"})

    budget.refresh_from_db()
    assert budget.limit == 20_000_000
    assert budget.periods.count() == 1


def test_budget_of_a_kind_that_exists_is_a_form_error(owner_client: Client, project: Project) -> None:
    url = reverse("admin:projects_budget_add")
    owner_client.post(url, new_budget(project, "10"))
    again = owner_client.post(url, new_budget(project, "20"))

    assert "The project has a budget of this kind already: change its limit instead." in text_of(again)
    assert Budget.objects.get().limit == 10_000_000


def test_budget_with_a_bad_amount_is_a_form_error(owner_client: Client, project: Project) -> None:
    answer = owner_client.post(reverse("admin:projects_budget_add"), new_budget(project, "ten"))

    assert "Type an amount in dollars, such as 10 or 1,250.50; zero or more." in text_of(answer)


def test_project_owner_sets_members_budgets_but_not_the_projects(
    client: Client, project: Project, editor: User
) -> None:
    owner = factories.member(project, Role.OWNER)
    client.force_login(owner)
    url = reverse("admin:projects_budget_add")
    refused = [client.post(url, new_budget(project, "10")), client.post(url, new_budget(project, "10", owner))]
    client.post(url, new_budget(project, "5", editor))

    assert ["Studio owners set the budgets" in text_of(answer) for answer in refused] == [True, True]
    assert [(budget.user, budget.limit) for budget in Budget.objects.all()] == [(editor, 5_000_000)]


def test_editor_reads_budgets_but_moves_none(editor_client: Client, project: Project) -> None:
    budget = factories.budget(project, 10_000_000)
    page = reverse("admin:projects_budget_change", args=[budget.pk])

    assert "$10.00 free of $10.00" in text_of(editor_client.get(page))
    assert editor_client.post(page, {"limit": "500"}).status_code == 403
    assert editor_client.get(reverse("admin:projects_budget_add")).status_code == 403
    editor_client.post(BUDGETS, {"action": "archive", "_selected_action": [str(budget.pk)], "sure": "1"})
    budget.refresh_from_db()
    assert (budget.limit, budget.archived_at) == (10_000_000, None)


def test_budgets_are_archived_by_action(owner_client: Client, project: Project) -> None:
    budget = factories.budget(project, 10_000_000)
    answer = owner_client.post(
        BUDGETS, {"action": "archive", "_selected_action": [str(budget.pk)], "sure": "1"}, follow=True
    )

    budget.refresh_from_db()
    assert told(answer) == ["Archived 1 of 1 budgets."]
    assert budget.archived_at is not None


# --- Members ----------------------------------------------------------------------------------------------------------


def test_invitation_shows_its_link_once(owner_client: Client, project: Project) -> None:
    fields = {"project": str(project.pk), "email": "ada@example.com", "role": "editor"}
    answer = owner_client.post(reverse("admin:projects_invitation_add"), fields, follow=True)

    [message] = told(answer)
    assert message.startswith("Invited ada@example.com. The one-time link is shown only now:")
    assert Invitation.objects.get().email == "ada@example.com"
    assert "/join/" not in text_of(owner_client.get(reverse("admin:projects_invitation_changelist")))


def test_invitation_of_a_member_is_refused_in_the_form(owner_client: Client, project: Project, editor: User) -> None:
    fields = {"project": str(project.pk), "email": "eddie@example.com", "role": "editor"}
    answer = owner_client.post(reverse("admin:projects_invitation_add"), fields)

    assert "eddie@example.com is a member of Coffee already; change their role instead." in text_of(answer)


def test_editor_invites_nobody(editor_client: Client) -> None:
    assert editor_client.get(reverse("admin:projects_invitation_add")).status_code == 403
    assert editor_client.get(reverse("admin:projects_invitation_changelist")).status_code == 403


def inline(membership: Membership, **changes: str) -> dict[str, str]:
    counts = {"memberships-TOTAL_FORMS": "1", "memberships-INITIAL_FORMS": "1"}
    row = {"id": str(membership.pk), "role": membership.role, "is_active": "on", **changes}
    project = {"name": membership.project.name, "time_zone": "UTC"}
    return project | counts | {f"memberships-0-{name}": value for name, value in row.items() if value}


def test_roles_are_changed_on_the_projects_page(owner_client: Client, project: Project, editor: User) -> None:
    membership = project.memberships.get()
    owner_client.post(reverse("admin:projects_project_change", args=[project.pk]), inline(membership, role="approver"))

    membership.refresh_from_db()
    assert membership.role == Role.APPROVER


def test_last_owner_stays(client: Client, project: Project) -> None:
    owner = factories.member(project, Role.OWNER, username="oscar")
    client.force_login(owner)
    page = reverse("admin:projects_project_change", args=[project.pk])
    answer = client.post(page, inline(project.memberships.get(), role="viewer"), follow=True)

    assert told(answer)[0].startswith("oscar is the last owner of Coffee: make somebody else owner first")
    assert project.memberships.get().role == Role.OWNER


def test_editor_changes_no_role(editor_client: Client, project: Project) -> None:
    membership = project.memberships.get()
    page = reverse("admin:projects_membership_change", args=[membership.pk])

    assert editor_client.post(page, {"role": "owner", "is_active": "on"}).status_code == 403
    editor_client.post(reverse("admin:projects_project_change", args=[project.pk]), inline(membership, role="owner"))
    membership.refresh_from_db()
    assert membership.role == Role.EDITOR


# --- Source images ----------------------------------------------------------------------------------------------------


def test_upload_of_several_takes_the_good_ones_and_names_the_bad(editor_client: Client, project: Project) -> None:
    files = [picture("a.jpg"), picture("b.jpg", width=200), picture("c.jpg", colour=(1, 2, 3))]
    answer = editor_client.post(
        UPLOAD, {"project": str(project.pk), "pictures": files, "tags": "autumn, autumn , warm"}, follow=True
    )

    added, refused = told(answer)[:2], told(answer)[2:]
    assert sorted(str(image) for image in SourceImage.objects.all()) == ["a.jpg", "c.jpg"]
    assert [image.tags for image in SourceImage.objects.all()] == [["autumn", "warm"]] * 2
    assert ["Added" in message for message in added] == [True, True]
    assert len(refused) == 1
    assert refused[0].startswith("b.jpg: ")
    assert "300" in refused[0]


def test_upload_of_the_same_picture_links_the_one_that_exists(editor_client: Client, project: Project) -> None:
    editor_client.post(UPLOAD, {"project": str(project.pk), "pictures": [picture()]}, follow=True)
    answer = editor_client.post(UPLOAD, {"project": str(project.pk), "pictures": [picture("other.jpg")]}, follow=True)

    image = SourceImage.objects.get()
    [message] = told(answer)
    assert message.startswith("The same picture exists already in Coffee:")
    assert reverse("admin:projects_sourceimage_change", args=[image.pk]) in message


def test_upload_of_what_is_no_picture_says_so(editor_client: Client, project: Project) -> None:
    file = SimpleUploadedFile("notes.jpg", b"just some words", "image/jpeg")
    answer = editor_client.post(UPLOAD, {"project": str(project.pk), "pictures": [file]})

    [sentence] = answer.context["form"].errors["pictures"]
    assert sentence == "notes.jpg: This is no picture that is known here: send a JPEG, PNG, WebP or HEIC picture."


def test_upload_of_nothing_asks_for_a_picture(editor_client: Client, project: Project) -> None:
    answer = editor_client.post(UPLOAD, {"project": str(project.pk)})

    assert answer.context["form"].non_field_errors() == ["Choose one or several pictures, or give the address of one."]


def test_import_of_a_private_address_is_refused(editor_client: Client, project: Project) -> None:
    answer = editor_client.post(UPLOAD, {"project": str(project.pk), "url": "http://127.0.0.1:9/cup.jpg"})

    assert len(answer.context["form"].errors["url"]) == 1
    assert SourceImage.objects.count() == 0


def test_upload_into_another_project_is_no_choice(editor_client: Client, studio_owner: User) -> None:
    secret = factories.ProjectFactory(name="Secret", created_by=studio_owner)
    answer = editor_client.post(UPLOAD, {"project": str(secret.pk), "pictures": [picture()]})

    assert "project" in answer.context["form"].errors
    assert "Secret" not in text_of(answer)
    assert SourceImage.objects.count() == 0


def test_title_and_tags_are_edited_and_escaped(editor_client: Client, editor: User, project: Project) -> None:
    image = factories.source_image(project, editor)
    page = reverse("admin:projects_sourceimage_change", args=[image.pk])
    editor_client.post(page, {"title": "<script>alert(1)</script>", "tags": "a, b"})

    image.refresh_from_db()
    assert (image.title, image.tags) == ("<script>alert(1)</script>", ["a", "b"])
    for url in (page, reverse("admin:projects_sourceimage_changelist"), reverse("admin:generations_generation_add")):
        shown = text_of(editor_client.get(url))
        assert "<script>alert(1)" not in shown
        assert "&lt;script&gt;alert(1)" in shown


def test_viewer_looks_but_changes_nothing(client: Client, project: Project, editor: User) -> None:
    image = factories.source_image(project, editor)
    client.force_login(factories.member(project, Role.VIEWER))
    page = reverse("admin:projects_sourceimage_change", args=[image.pk])
    shown = client.get(page)

    assert image.file.name.split("/")[-1] in text_of(shown)
    assert "Make a video from this" not in text_of(shown)
    assert client.post(page, {"title": "Mine"}).status_code == 403
    assert client.get(UPLOAD).status_code == 403
    client.post(reverse("admin:projects_sourceimage_archive", args=[image.pk]), {"sure": "1"})
    image.refresh_from_db()
    assert image.archived_at is None


def test_archived_picture_is_out_of_sight_until_asked_for(
    editor_client: Client, project: Project, editor: User
) -> None:
    image = factories.source_image(project, editor)
    editor_client.post(reverse("admin:projects_sourceimage_archive", args=[image.pk]), {"sure": "1"})
    listed = reverse("admin:projects_sourceimage_changelist")

    assert list(editor_client.get(listed).context["cl"].result_list) == []
    assert list(editor_client.get(f"{listed}?archived=only").context["cl"].result_list) == [image]


# --- The ledger, and lists ----------------------------------------------------------------------------------------------


def test_ledger_is_read_only_and_says_what_happened(owner_client: Client, project: Project) -> None:
    factories.budget(project, 10_000_000)
    reservation = factories.reservation(project)
    entry = spend.charge(reservation, amount=2_000_000, key="charge:1", reason="Made <script>")
    page = reverse("admin:projects_spendentry_change", args=[entry.pk])
    shown = text_of(owner_client.get(page))

    assert "Charge of $2.00" in shown
    assert "+$2.00" in shown
    assert "-$2.10" in shown
    assert "Made &lt;script&gt;" in shown
    assert owner_client.get(reverse("admin:projects_spendentry_add")).status_code == 403
    assert SpendEntry.objects.count() == 2


def test_filters_name_no_foreign_project(editor_client: Client, studio_owner: User) -> None:
    factories.ProjectFactory(name="Secret", created_by=studio_owner)
    for name in ("sourceimage", "spendentry", "budget", "membership"):
        assert "Secret" not in text_of(editor_client.get(reverse(f"admin:projects_{name}_changelist")))


def _queries(client: Client, url: str) -> int:
    client.get(url)
    with CaptureQueriesContext(connection) as captured:
        assert client.get(url).status_code == 200
    return len(captured)


def _fill(name: str, project: Project) -> None:
    match name:
        case "project":
            factories.ProjectFactory(created_by=project.created_by)
        case "membership":
            factories.member(project)
        case "sourceimage":
            factories.source_image(project)
        case "spendentry":
            factories.reservation(project, amount=1)
        case "budget":
            factories.budget(project, 10, user=factories.member(project))
        case "invitation":
            Invitation.objects.create(
                project=project,
                email="a@example.com",
                token_digest=str(Invitation.objects.count()),
                invited_by=project.created_by,
                expires_at=timezone.now() + timedelta(days=1),
            )


@pytest.mark.parametrize("name", ["project", "membership", "sourceimage", "spendentry", "budget", "invitation"])
def test_list_needs_as_many_queries_for_30_rows_as_for_one(owner_client: Client, project: Project, name: str) -> None:
    factories.budget(project, 10_000_000)
    url = reverse(f"admin:projects_{name}_changelist")
    _fill(name, project)
    one = _queries(owner_client, url)
    for _ in range(29):
        _fill(name, project)

    assert _queries(owner_client, url) == one


def test_amounts_in_forms_survive_a_round_trip(owner_client: Client, project: Project) -> None:
    budget = factories.budget(project, 1_234_567)
    page = reverse("admin:projects_budget_change", args=[budget.pk])
    typed = owner_client.get(page).context["adminform"].form["limit"].value()

    assert Decimal(DollarsField().prepare_value(typed)) == Decimal("1.234567")


def test_who_may_only_look_reads_a_pictures_tags_as_words(client: Client, project: Project) -> None:
    image = factories.source_image(project)
    SourceImage.objects.filter(pk=image.pk).update(tags=["launch", "winter"])
    client.force_login(factories.member(project, Role.VIEWER))

    page = client.get(reverse("admin:projects_sourceimage_change", args=[image.pk])).content.decode()

    assert "launch, winter" in page
    assert "[" not in page.split("launch, winter")[0][-200:]


def test_a_pictures_page_says_what_was_changed_of_it(editor_client: Client, project: Project) -> None:
    png = io.BytesIO()
    Image.new("RGBA", (640, 360), (10, 20, 30, 128)).save(png, "PNG")
    file = SimpleUploadedFile("cup.png", png.getvalue(), "image/png")
    editor_client.post(UPLOAD, {"project": str(project.pk), "pictures": [file]})
    image = SourceImage.objects.get()

    page = editor_client.get(reverse("admin:projects_sourceimage_change", args=[image.pk])).content.decode()

    assert image.notes
    for note in image.notes:
        assert html.escape(note) in page
