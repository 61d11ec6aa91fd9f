"""What concerns the pipeline is told once: ends to who asked, the lane, the balance and surprising charges to owners."""

from collections.abc import Callable
from decimal import Decimal
from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core import mail
from django.utils import timezone

from generations import alerts, announcements, dispatch, lifecycle, provider
from generations.models import Generation, Lane, Status
from generations.services import pauses
from generations.timetable import Timetable
from projects import digest
from projects.models import Alert, AlertKind, Notification, Project, Role
from projects.money import spend
from tests import factories
from tests.pipeline import ENDPOINT, run_to_end, submit_next
from tests.projects.money.test_spend_concurrency import at_once, one_test_at_a_time
from tests.sandbox import SandboxControl
from wavespeed_sandbox import Sandbox

__all__ = ["one_test_at_a_time"]

pytestmark = pytest.mark.django_db

DOLLAR = 1_000_000


def told(user: User, kind: AlertKind) -> list[Alert]:
    rows = Notification.objects.filter(user=user, alert__kind=kind).select_related("alert")
    return [row.alert for row in rows.order_by("alert__created_at")]


def ended(project: Project, by: User, status: Status, **fields: object) -> Generation:
    """A row as the pipeline leaves it at its end."""
    now = timezone.now()
    values = {"prompt": "Steam", "completed_at": None if status == Status.UNCONFIRMED else now} | fields
    return Generation.objects.create(
        project=project, requested_by=by, endpoint=ENDPOINT, inputs_digest="x", status=status, **values
    )


# --- Ends -------------------------------------------------------------------------------------------------------------


def test_who_asked_hears_once_that_the_video_is_ready(
    queued: Generation, editor: User, wavespeed: SandboxControl
) -> None:
    announcements.announce_ended()
    assert told(editor, AlertKind.ENDED) == []

    run_to_end(queued)
    announcements.announce_ended()
    announcements.announce_ended()

    (alert,) = told(editor, AlertKind.ENDED)
    assert alert.title == "Ready: “Steam rises from the cup” in Coffee"
    assert alert.text == "It cost $2.10."
    assert alert.path == f"/admin/generations/generation/{queued.pk}/change/"
    assert Notification.objects.count() == 1


def test_several_ends_are_one_alert_with_a_link_to_each(project: Project, editor: User) -> None:
    rows = [
        *(ended(project, editor, Status.COMPLETED, prompt=f"Take {n}") for n in range(3)),
        ended(project, editor, Status.FAILED, prompt="Rain"),
        ended(project, editor, Status.UNCONFIRMED, prompt="Snow"),
    ]

    announcements.announce_ended()

    (alert,) = told(editor, AlertKind.ENDED)
    assert alert.title == "3 videos are ready, 1 failed, 1 is unconfirmed"
    assert sorted(alert.links) == sorted(
        [text, f"/admin/generations/generation/{row.pk}/change/"]
        for text, row in zip(
            [
                *(f"Ready: “Take {n}” in Coffee" for n in range(3)),
                "Failed: “Rain” in Coffee",
                "Unconfirmed: “Snow” in Coffee",
            ],
            rows,
            strict=True,
        )
    )
    assert alert.path == "/admin/generations/generation/"


def test_a_failure_says_what_happened_and_what_to_do(project: Project, editor: User) -> None:
    ended(project, editor, Status.FAILED, error_code="content_moderation", error_message="the provider's words")

    announcements.announce_ended()

    (alert,) = told(editor, AlertKind.ENDED)
    assert alert.title == "Failed: “Steam” in Coffee"
    assert alert.text == (
        "The provider's moderation refused the picture or the prompt. Change them: the same ones will be refused again."
    )


def test_an_unconfirmed_one_is_told_and_so_is_its_end(
    queued: Generation, editor: User, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("submit_drop_after")
    submit_next()
    announcements.announce_ended()
    queued.refresh_from_db()
    assert queued.status == Status.UNCONFIRMED
    (first,) = told(editor, AlertKind.ENDED)
    assert first.title == "Unconfirmed: “Steam rises from the cup” in Coffee"
    assert first.text.startswith("Nobody knows yet whether the provider accepted it. Its money stays held")

    assert Generation.objects.move(queued.pk, Status.UNCONFIRMED, Status.PROCESSING)
    announcements.announce_ended()
    assert Generation.objects.move(queued.pk, Status.PROCESSING, Status.FAILED, completed_at=timezone.now())
    announcements.announce_ended()

    assert [alert.title for alert in told(editor, AlertKind.ENDED)] == [
        "Unconfirmed: “Steam rises from the cup” in Coffee",
        "Failed: “Steam rises from the cup” in Coffee",
    ]


def test_a_late_success_is_told_after_the_failure_that_it_was(project: Project, editor: User) -> None:
    row = ended(project, editor, Status.FAILED)
    announcements.announce_ended()

    assert Generation.objects.move(row.pk, Status.FAILED, Status.STORING)
    announcements.announce_ended()
    assert Generation.objects.move(row.pk, Status.STORING, Status.COMPLETED, completed_at=timezone.now())
    announcements.announce_ended()

    titles = [alert.title for alert in told(editor, AlertKind.ENDED)]
    assert titles == ["Failed: “Steam” in Coffee", "Ready: “Steam” in Coffee"]


def test_everybody_hears_of_their_own(project: Project, editor: User) -> None:
    other = factories.member(project, Role.EDITOR)
    ended(project, editor, Status.COMPLETED, prompt="Mine")
    ended(project, other, Status.COMPLETED, prompt="Theirs")

    announcements.announce_ended()

    assert [alert.title for alert in told(editor, AlertKind.ENDED)] == ["Ready: “Mine” in Coffee"]
    assert [alert.title for alert in told(other, AlertKind.ENDED)] == ["Ready: “Theirs” in Coffee"]


def test_a_result_that_nobody_wants_and_people_who_are_switched_off_are_not_told(
    project: Project, editor: User
) -> None:
    ended(project, editor, Status.COMPLETED, result_ignored_at=timezone.now())
    ended(project, factories.member(project, is_active=False), Status.COMPLETED)

    announcements.announce_ended()

    assert Alert.objects.count() == 0
    assert Generation.objects.filter(announced_at=None).count() == 0


def test_very_many_ends_are_one_alert_with_the_first_links(project: Project, editor: User) -> None:
    for _ in range(alerts.LINKS_SHOWN + 1):
        ended(project, editor, Status.COMPLETED)

    announcements.announce_ended()

    (alert,) = told(editor, AlertKind.ENDED)
    assert alert.title == "51 videos are ready"
    assert alert.text == "The first 50 of them:"
    assert len(alert.links) == 50


def test_the_mail_links_to_each_video(project: Project, editor: User, settings: object) -> None:
    settings.PUBLIC_URL = "https://studio.example.com"
    rows = [ended(project, editor, Status.COMPLETED) for _ in range(2)]

    announcements.announce_ended()
    digest.send()

    (message,) = mail.outbox
    assert (message.to, message.subject) == (["eddie@example.com"], "2 videos are ready")
    for row in rows:
        assert f"https://studio.example.com/admin/generations/generation/{row.pk}/change/" in message.body


def test_what_ended_before_the_studio_told_anybody_is_not_told_afterwards(project: Project, editor: User) -> None:
    for status in (Status.COMPLETED, Status.FAILED, Status.UNCONFIRMED):
        ended(project, editor, status)
    running = ended(project, editor, Status.PROCESSING, completed_at=None)
    migration = import_module("generations.migrations.0002_money")

    migration.announce_what_had_ended(apps, None)
    announcements.announce_ended()

    assert Alert.objects.count() == 0
    assert list(Generation.objects.filter(announced_at=None)) == [running]


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_the_dispatchers_jobs_tell_and_mail_by_themselves(
    project: Project, editor: User, studio_owner: User, budget: int, wavespeed: SandboxControl
) -> None:
    ended(project, editor, Status.COMPLETED)
    held = factories.reservation(project, amount=5 * DOLLAR)
    spend.charge(held, amount=5 * DOLLAR, key="charge")
    timetable = Timetable()
    dispatch.schedule(timetable)

    for job in timetable.jobs.values():
        job.run()

    assert sorted((message.to[0], message.subject) for message in mail.outbox) == [
        ("eddie@example.com", "Ready: “Steam” in Coffee"),
        ("olive@example.com", "Coffee: 50% of the budget in total is spent"),
    ]


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_ten_dispatchers_tell_of_each_end_once(project: Project, editor: User) -> None:
    rows = [ended(project, editor, Status.COMPLETED, prompt=f"Take {n}") for n in range(20)]

    assert at_once([announcements.announce_ended] * 10) == [None] * 10

    links = [path for alert in told(editor, AlertKind.ENDED) for _, path in alert.links]
    assert sorted(links) == sorted(f"/admin/generations/generation/{row.pk}/change/" for row in rows)


# --- The lane, charges, refusals and the balance ----------------------------------------------------------------------


def test_a_lane_paused_for_want_of_credits_is_told_to_studio_owners_once_per_pause(
    queued: Generation, editor: User, studio_owner: User, wavespeed: SandboxControl
) -> None:
    wavespeed.arm("submit_insufficient_credits")
    wavespeed.arm("free_500", times=None, route="balance")
    submit_next()

    (alert,) = told(studio_owner, AlertKind.LANE_PAUSED)
    assert (alert.title, alert.path) == ("Submitting is paused", "/admin/generations/lane/")
    assert alert.text == (
        "The provider's account has not enough credits. Top it up; submitting goes on by itself once they cover the next video."
    )
    alerts.lane_paused(alert.text)
    assert told(editor, AlertKind.LANE_PAUSED) == []
    assert len(told(studio_owner, AlertKind.LANE_PAUSED)) == 1

    pauses.resume_lane(by=studio_owner)
    alerts.lane_paused("It is open again, so there is nothing to tell.")
    Lane.objects.update(paused_at=timezone.now())
    alerts.lane_paused("Once more.")
    assert [alert.text for alert in told(studio_owner, AlertKind.LANE_PAUSED)][1:] == ["Once more."]


def test_a_charge_above_its_reservation_is_told_once_to_who_answers_for_the_money(
    processing: Generation, editor: User, studio_owner: User, project: Project
) -> None:
    owner = factories.member(project, Role.OWNER)
    reservation = spend.reservation_of(processing.pk)
    assert reservation
    spend.charge(reservation, amount=reservation.reserved_delta + DOLLAR, key=f"charge:{processing.pk}")

    for _ in range(3):
        lifecycle.pause_if_overcharged(processing, reservation)

    (alert,) = told(owner, AlertKind.OVERCHARGED)
    assert alert.title == "Coffee: charged $3.10, $1.00 more than was reserved"
    assert len(told(studio_owner, AlertKind.OVERCHARGED)) == 1
    assert told(editor, AlertKind.OVERCHARGED) == []


@pytest.fixture
def seven_dollars_spent(project: Project, budget: int) -> None:
    """In the last day, which is all that was ever spent: $7 a day."""
    held = factories.reservation(project, amount=7 * DOLLAR)
    spend.charge(held, amount=7 * DOLLAR, key="charge")


@pytest.fixture
def account(
    wavespeed: SandboxControl, make_sandbox: Callable[..., Sandbox], settings: object
) -> Callable[[str], SandboxControl]:
    """Gives the studio an account at the provider with that many dollars in it."""

    def account(dollars: str) -> SandboxControl:
        settings.WAVESPEED_BASE_URL = make_sandbox(balance=Decimal(dollars)).url
        provider.client.cache_clear()
        return SandboxControl(settings.WAVESPEED_BASE_URL)

    return account


def test_a_balance_below_some_days_of_spend_is_told_once_a_day(
    seven_dollars_spent: None,
    editor: User,
    studio_owner: User,
    account: Callable[[str], SandboxControl],
    settings: object,
) -> None:
    settings.ALERT_BALANCE_DAYS = 7
    account("49.00")
    alerts.check_balance()
    assert told(studio_owner, AlertKind.PROVIDER_BALANCE) == []

    account("21.50")
    alerts.check_balance()
    alerts.check_balance()

    (alert,) = told(studio_owner, AlertKind.PROVIDER_BALANCE)
    assert alert.title == "The provider's balance lasts about 3 days"
    assert alert.text.startswith("$21.50 is left, and the mean spend of the last 24 hours is $7.00 a day.")
    assert told(editor, AlertKind.PROVIDER_BALANCE) == []
    Alert.objects.filter(pk=alert.pk).update(key="provider_balance:yesterday")
    alerts.check_balance()
    assert len(told(studio_owner, AlertKind.PROVIDER_BALANCE)) == 2


def test_a_balance_that_can_not_be_read_tells_nothing(
    seven_dollars_spent: None, studio_owner: User, account: Callable[[str], SandboxControl]
) -> None:
    account("1.00").arm("free_500", route="balance", times=None)

    alerts.check_balance()

    assert Alert.objects.count() == 0


def test_without_spending_no_balance_is_too_low(studio_owner: User, account: Callable[[str], SandboxControl]) -> None:
    account("0.01")

    alerts.check_balance()

    assert Alert.objects.count() == 0


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_ten_looks_at_once_tell_of_the_balance_once(
    seven_dollars_spent: None, studio_owner: User, account: Callable[[str], SandboxControl]
) -> None:
    account("1.00")

    assert at_once([alerts.check_balance] * 10) == [None] * 10

    assert len(told(studio_owner, AlertKind.PROVIDER_BALANCE)) == 1
