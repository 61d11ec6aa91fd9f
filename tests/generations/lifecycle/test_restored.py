"""A database that was restored from a backup is found out, compared with the provider, and pays for nothing twice."""

import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import timedelta
from html import unescape
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from generations import lifecycle, provider
from generations.lifecycle import restored
from generations.models import Generation, Lane, PauseCause, Priority, Status, UnassignedPrediction
from generations.services import after_restore, approvals, drafts, orders, pauses
from generations.services.refusals import WrongStatus
from generations.wavespeed.redaction import Redactor
from generations.wavespeed.replies import read_prediction
from projects.models import Alert, AlertKind, Project
from tests import factories
from tests.pipeline import ENDPOINT, booked, poll_to_end, run_to_end, submit_next
from tests.sandbox import SandboxControl
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

Make = Callable[..., Generation]
by_our_command = pytest.mark.skipif(connection.vendor != "sqlite", reason="“manage.py restore” is SQLite's")


@pytest.fixture
def sandbox(request: pytest.FixtureRequest, make_sandbox: Callable[..., object]) -> object:
    """With the options that a test gives it."""
    return make_sandbox(**getattr(request, "param", {}))


@pytest.fixture
def make(project: Project, editor: User) -> Make:
    """A draft with a picture of its own."""
    factories.budget(project, 100_000_000)

    def make(prompt: str, **columns: object) -> Generation:
        image = factories.source_image(project, editor)
        inputs = {"image": str(image.pk), "prompt": prompt, "duration": 3}
        generation = drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=editor)
        Generation.objects.filter(pk=generation.pk).update(**columns)
        return generation

    return make


@pytest.fixture
def queue(make: Make, editor: User) -> Make:
    return lambda prompt, **columns: orders.queue(make(prompt, **columns), by=editor)


def compare() -> str:
    out = StringIO()
    call_command("after_restore", stdout=out)
    return out.getvalue()


def lane() -> Lane:
    return Lane.objects.get(pk=Lane.WAVESPEED)


# --- Finding out ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_each_request_gets_a_number_in_the_database_and_in_the_storage(queue: Make, wavespeed: SandboxControl) -> None:
    for take in range(3):
        queue(f"Take {take}")
        submit_next()

    assert lane().admitted == restored.highest() == 3
    assert not restored.is_earlier()


@pytest.mark.django_db
def test_only_some_numbers_stay_in_the_storage(studio_owner: User) -> None:
    for _ in range(restored.KEPT + 5):
        restored.remember(restored.count())

    _, names = default_storage.listdir(restored.FOLDER)
    assert len(names) == restored.KEPT
    assert restored.highest() == restored.KEPT + 5


@pytest.mark.django_db
def test_an_earlier_database_submits_nothing_and_tells_the_owners(
    queue: Make, wavespeed: SandboxControl, studio_owner: User
) -> None:
    queue("sent"), submit_next()
    waiting = queue("waiting")
    Lane.objects.update(admitted=0)

    assert lifecycle.admit() is None

    assert (lane().paused_cause, lane().paused_by) == (PauseCause.RESTORED, None)
    assert "manage.py after_restore" in lane().paused_reason
    assert Alert.objects.get(kind=AlertKind.LANE_PAUSED).notifications.get().user == studio_owner
    waiting.refresh_from_db()
    assert (waiting.status, waiting.lease_token) == (Status.QUEUED, None)
    assert wavespeed.posts()["count"] == 1


@pytest.mark.django_db
def test_what_was_admitted_before_it_was_found_out_is_not_sent_either(queue: Make, wavespeed: SandboxControl) -> None:
    queue("sent"), submit_next()
    waiting = queue("waiting")
    lease = lifecycle.admit()
    assert lease
    Lane.objects.update(admitted=0)
    restored_number = default_storage.save(f"{restored.FOLDER}/{7:012d}", ContentFile(b"Sent by another database."))

    lifecycle.submit(lease)

    waiting.refresh_from_db()
    assert (waiting.status, waiting.submitted_at) == (Status.QUEUED, None)
    assert lane().paused_cause == PauseCause.RESTORED
    assert wavespeed.posts()["count"] == 1
    assert default_storage.exists(restored_number)


@pytest.mark.django_db
def test_a_number_that_was_used_before_is_no_second_request(queue: Make, wavespeed: SandboxControl) -> None:
    """The storage has no higher number, but this very one."""
    waiting = queue("waiting")
    lease = lifecycle.admit()
    assert lease
    default_storage.save(f"{restored.FOLDER}/{1:012d}", ContentFile(b"Sent by another database."))

    lifecycle.submit(lease)

    waiting.refresh_from_db()
    assert waiting.status == Status.QUEUED
    assert wavespeed.posts()["count"] == 0


@pytest.mark.django_db
@pytest.mark.parametrize("when", ["before it is admitted", "after it was admitted"])
def test_nothing_is_sent_while_the_storage_does_not_take_the_note(
    when: str, queue: Make, wavespeed: SandboxControl, settings: object, tmp_path: Path
) -> None:
    waiting = queue("waiting")
    working = settings.STORAGES
    (tmp_path / "studio").write_bytes(b"A file where the folder should be.")
    broken = {**working, "default": {**working["default"], "OPTIONS": {"location": str(tmp_path)}}}
    if when.startswith("before"):
        settings.STORAGES = broken
        assert lifecycle.admit() is None
    else:
        lease = lifecycle.admit()
        assert lease
        Generation.objects.filter(pk=lease.pk).update(
            uploads={"image": f"{wavespeed.url}/x.jpg"}, uploaded_at=waiting.queued_at
        )
        settings.STORAGES = broken
        lifecycle.submit(lease)

    waiting.refresh_from_db()
    assert (waiting.status, waiting.lease_token) == (Status.QUEUED, None)
    assert waiting.next_action_at > waiting.queued_at
    assert lane().paused_at is None
    assert wavespeed.posts()["count"] == 0


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("one_test_at_a_time")
def test_many_processes_at_once_are_no_earlier_database(studio_owner: User) -> None:
    def send() -> int:
        number = restored.count()
        restored.remember(number)
        return number

    numbers = at_once([send] * 16)

    assert sorted(numbers) == list(range(1, 17))
    assert lane().admitted == restored.highest() == 16


# --- Resuming ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_owner_resumes_only_after_the_comparison(queue: Make, wavespeed: SandboxControl, studio_owner: User) -> None:
    queue("sent"), submit_next()
    Lane.objects.update(admitted=0)
    restored.pause_if_earlier()

    with pytest.raises(WrongStatus, match=r"manage\.py after_restore"):
        pauses.resume_lane(by=studio_owner)

    compare()
    assert lane().paused_cause == PauseCause.RESTORED
    assert "and compared with the provider at" in lane().paused_reason
    pauses.resume_lane(by=studio_owner)
    assert lane().paused_at is None
    assert not restored.pause_if_earlier()


@pytest.mark.django_db
def test_a_provider_that_does_not_answer_leaves_the_lane_paused(
    queue: Make, wavespeed: SandboxControl, studio_owner: User
) -> None:
    queue("sent"), submit_next()
    Lane.objects.update(admitted=0)
    wavespeed.arm("free_401", times=None)

    with pytest.raises(CommandError, match="The provider can't be read") as refused:
        compare()

    assert refused.value.returncode == 2
    assert lane().paused_cause == PauseCause.RESTORED
    with pytest.raises(WrongStatus):
        pauses.resume_lane(by=studio_owner)


@pytest.mark.django_db
def test_an_owner_can_t_resume_while_the_storage_can_t_be_read(
    queue: Make, studio_owner: User, owner_client: Client, settings: Any, tmp_path: Path
) -> None:
    queue("waiting")
    restored.pause("It was restored.")
    restored.compared()
    (tmp_path / "studio").write_bytes(b"A file where the folder should be.")
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {**settings.STORAGES["default"], "OPTIONS": {"location": str(tmp_path)}},
    }

    answer = owner_client.post(reverse("admin:generations_lane_resume"), follow=True)

    assert "The storage can't be read" in unescape(answer.content.decode())
    assert lane().paused_cause == PauseCause.RESTORED


# --- A real backup ----------------------------------------------------------------------------------------------------


class Backup:
    """Of the tests' database, by the tool that docs/operations.md names for it."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def save(self) -> None:
        if connection.vendor == "sqlite":
            call_command("backup", str(self.file), stdout=StringIO())
        else:
            self._postgresql("pg_dump", "--format=custom", f"--file={self.file}", connection.settings_dict["NAME"])

    def put_back(self) -> None:
        if connection.vendor == "sqlite":
            call_command("restore", str(self.file), stdout=StringIO())
        else:
            connection.close()
            database = f"--dbname={connection.settings_dict['NAME']}"
            self._postgresql("pg_restore", "--clean", "--if-exists", "--single-transaction", database, str(self.file))

    def _postgresql(self, *command: str) -> None:
        server = connection.settings_dict
        environment = {
            **os.environ,
            "PGHOST": server["HOST"],
            "PGPORT": str(server["PORT"]),
            "PGUSER": server["USER"],
            "PGPASSWORD": server["PASSWORD"],
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr


@pytest.fixture
def backup(tmp_path: Path) -> Backup:
    if connection.vendor == "postgresql" and not shutil.which("pg_dump"):
        pytest.skip("this machine has no pg_dump")
    return Backup(tmp_path / "backup")


def work(control: SandboxControl) -> None:
    """What workers would do with everything that is on its way, until nothing moves any more."""
    for generation in Generation.objects.filter(status=Status.UNCONFIRMED):
        lifecycle.resolve(generation.pk)
    for generation in Generation.objects.filter(status=Status.PROCESSING):
        poll_to_end(generation)
    for generation in Generation.objects.filter(status=Status.STORING):
        lifecycle.store(generation.pk)
    for unassigned in UnassignedPrediction.objects.filter(next_action_at__isnull=False):
        lifecycle.store_unassigned(unassigned.pk)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_a_restored_studio_pays_for_nothing_twice_and_loses_no_video(
    make: Make, queue: Make, wavespeed: SandboxControl, studio_owner: User, editor: User, backup: Backup
) -> None:
    done = queue("done before the backup")
    run_to_end(done)
    sent_later = queue("queued, sent after the backup")
    never_sent = queue("queued, never sent", priority=Priority.LOW)
    draft = make("a draft, sent after the backup")
    untouched = make("a draft, never sent")
    under_way = queue("on its way during the backup", priority=Priority.HIGH)
    submit_next()
    backup.save()

    run_to_end(sent_later)
    run_to_end(orders.queue(draft, by=editor))
    orphan = queue("asked for after the backup")
    run_to_end(orphan)
    assert {each.status for each in Generation.objects.filter(pk__in=[sent_later.pk, draft.pk, orphan.pk])} == {
        "completed"
    }
    backup.put_back()

    assert statuses(sent_later, never_sent, draft, untouched, under_way) == [
        "queued",
        "queued",
        "draft",
        "draft",
        "processing",
    ]
    assert not Generation.objects.filter(pk=orphan.pk).exists()
    assert lifecycle.admit() is None
    assert wavespeed.posts()["count"] == 5
    report = compare()
    assert "“queued, sent after the backup”\n    Queued → Processing. It was sent after the backup" in report
    assert "“a draft, sent after the backup”\n    Draft → Cancelled. It was made after the backup" in report
    assert "never sent" not in report
    assert "“manage.py reconcile” lists it as orphans" in report
    pauses.resume_lane(by=studio_owner)
    work(wavespeed)
    submit_next()
    work(wavespeed)

    assert statuses(done, sent_later, never_sent, under_way) == ["completed"] * 4
    assert statuses(draft, untouched) == ["cancelled", "draft"]
    assert set(wavespeed.posts()["by_image"].values()) == {1}
    assert wavespeed.posts()["count"] == 6
    assert [kind for kind, *_ in booked(sent_later)] == ["reserve", "charge"]
    # The draft's video and the orphan's are kept.
    kept = {row.prediction_id: row for row in UnassignedPrediction.objects.filter(assigned_to=None)}
    assert len(kept) == 2
    made = {each["id"]: each["output_sha256"] for each in wavespeed.predictions()}
    assert {pk: row.videos.get().sha256 for pk, row in kept.items()} == {pk: made[pk] for pk in kept}


def statuses(*generations: Generation) -> list[str]:
    rows = dict(Generation.objects.values_list("pk", "status"))
    return [rows[generation.pk] for generation in generations]


@by_our_command
@pytest.mark.django_db(transaction=True)
def test_a_studio_whose_storage_was_put_back_too_is_compared_before_an_owner_resumes(
    queue: Make, wavespeed: SandboxControl, studio_owner: User, backup: Backup, tmp_path: Path
) -> None:
    """Database and media of the same night: the storage's numbers tell nothing then."""
    sent = queue("queued, sent after the backup")
    backup.save()
    media = Path(default_storage.location)
    shutil.copytree(media, tmp_path / "media")
    submit_next()
    backup.put_back()
    shutil.rmtree(media)
    shutil.copytree(tmp_path / "media", media)
    assert not restored.is_earlier()

    with pytest.raises(WrongStatus, match=r"manage\.py after_restore"):
        pauses.resume_lane(by=studio_owner)
    compare()
    pauses.resume_lane(by=studio_owner)

    assert lifecycle.admit() is None
    assert statuses(sent) == ["processing"]
    assert wavespeed.posts()["count"] == 1


@by_our_command
@pytest.mark.django_db(transaction=True)
def test_a_backup_of_a_studio_that_was_compared_before_is_compared_again(
    queue: Make, wavespeed: SandboxControl, studio_owner: User, backup: Backup
) -> None:
    restored.pause("It was restored once.")
    compare()
    backup.save()
    backup.put_back()

    with pytest.raises(WrongStatus, match=r"manage\.py after_restore"):
        pauses.resume_lane(by=studio_owner)


@pytest.mark.django_db(transaction=True)
def test_a_row_that_was_leased_at_the_time_of_the_backup_is_held_too(
    queue: Make, wavespeed: SandboxControl, studio_owner: User, backup: Backup
) -> None:
    """Restored to the second in which a worker uploaded its picture."""
    sent = queue("being prepared during the backup")
    lease = lifecycle.admit()
    assert lease
    backup.save()
    lifecycle.submit(lease)
    backup.put_back()

    report = compare()

    assert "It was sent after the backup; its video is fetched and charged." in report
    pauses.resume_lane(by=studio_owner)
    work(wavespeed)
    assert statuses(sent) == ["completed"]
    assert wavespeed.posts()["count"] == 1


@pytest.mark.django_db(transaction=True)
def test_what_people_queue_again_before_the_comparison_is_found_too(
    make: Make, wavespeed: SandboxControl, studio_owner: User, editor: User, backup: Backup
) -> None:
    draft = make("a draft, sent after the backup")
    backup.save()
    run_to_end(orders.queue(draft, by=editor))
    backup.put_back()
    with time_machine.travel(timezone.now() + timedelta(hours=1)):
        orders.queue(Generation.objects.get(pk=draft.pk), by=editor)
    with time_machine.travel(timezone.now() + timedelta(hours=2)):
        report = compare()
        pauses.resume_lane(by=studio_owner)
        work(wavespeed)
        assert lifecycle.admit() is None

    assert "It was sent after the backup; its video is fetched and charged." in report
    assert statuses(draft) == ["completed"]
    assert wavespeed.posts()["count"] == 1


@pytest.mark.django_db(transaction=True)
def test_comparing_twice_changes_nothing_more(queue: Make, wavespeed: SandboxControl, backup: Backup) -> None:
    sent = queue("sent after the backup")
    backup.save()
    run_to_end(sent)
    backup.put_back()
    compare()
    work(wavespeed)

    report = compare()

    assert "None of them was sent after the backup." in report
    assert statuses(sent) == ["completed"]
    assert wavespeed.posts()["count"] == 1


@pytest.mark.parametrize("sandbox", [{"list_inputs": False}], indirect=True)
@pytest.mark.django_db(transaction=True)
def test_where_the_provider_hides_inputs_an_owner_decides_about_each(
    queue: Make, make: Make, wavespeed: SandboxControl, backup: Backup
) -> None:
    sent, never_sent, draft = queue("sent after the backup"), queue("never sent"), make("a draft")
    backup.save()
    run_to_end(sent)
    backup.put_back()

    report = compare()

    assert statuses(sent, never_sent, draft) == ["unconfirmed", "unconfirmed", "draft"]
    assert "1 prediction at the provider may be it. An owner decides" in report
    assert "Look whether it was made, before you queue it" in report
    for generation in (sent, never_sent):
        assert [each.prediction_id for each in lifecycle.candidates(generation)] == [wavespeed.predictions()[0]["id"]]
        assert booked(generation) == [("reserve", 1_260_000, 0)]
    assert wavespeed.posts()["count"] == 1


@pytest.mark.django_db(transaction=True)
def test_a_request_for_approval_whose_video_was_made_is_withdrawn(
    make: Make, wavespeed: SandboxControl, project: Project, editor: User, studio_owner: User, backup: Backup
) -> None:
    Project.objects.update(approval_above=0)
    waiting, together = orders.queue_many([make("asked for"), make("asked for together")], by=editor)
    backup.save()
    approvals.approve(approvals.approval_of(waiting), by=studio_owner)
    submit_next()
    sent = Generation.objects.get(status=Status.PROCESSING)
    other = together if sent == waiting else waiting
    backup.put_back()
    assert statuses(waiting, together) == ["awaiting_approval"] * 2

    report = compare()

    assert f"“{sent}”\n    Awaiting approval → Cancelled. It was made after the backup" in report
    assert statuses(sent, other) == ["cancelled", "draft"]
    assert wavespeed.posts()["count"] == 1


@pytest.mark.django_db(transaction=True)
def test_a_row_that_moves_during_the_comparison_is_looked_at_as_it_is_then(
    make: Make, wavespeed: SandboxControl, project: Project, editor: User, studio_owner: User, backup: Backup
) -> None:
    """Withdrawing what the first waits in makes a draft of the second."""
    Project.objects.update(approval_above=0)
    together = orders.queue_many([make("first"), make("second")], by=editor)
    backup.save()
    approvals.approve(approvals.approval_of(together[0]), by=studio_owner)
    for generation in together:
        run_to_end(generation)
    backup.put_back()

    report = compare()

    assert report.count("Awaiting approval → Cancelled. It was made after the backup") == 2
    assert statuses(*together) == ["cancelled", "cancelled"]
    pauses.resume_lane(by=studio_owner)
    assert lifecycle.admit() is None
    assert wavespeed.posts()["count"] == 2


@pytest.mark.django_db
def test_equal_inputs_with_a_picture_of_another_generation_are_no_match(
    make: Make, wavespeed: SandboxControl, editor: User
) -> None:
    generation = orders.queue(make("the same words"), by=editor)
    run_to_end(generation)
    listed = next(provider.client().all_predictions(include_inputs=True))

    assert after_restore.likeness(generation, listed) == after_restore.Likeness.SURE
    assert after_restore.likeness(make("the same words"), listed) is None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"prompt": "Steam", "duration": 3}, after_restore.Likeness.SAME_INPUTS),
        (
            {"prompt": " Steam ", "duration": "3", "image": "https://elsewhere.example/a8f.jpg"},
            after_restore.Likeness.SAME_INPUTS,
        ),
        ({"prompt": "STEAM\n", "duration": 3.0}, after_restore.Likeness.SAME_INPUTS),
        ({"duration": 3}, after_restore.Likeness.SAME_INPUTS),
        ({"prompt": "Smoke", "duration": 3}, None),
        ({"prompt": "Steam", "duration": 5}, None),
        ({"prompt": "Steam", "sound": True}, None),
        ({}, after_restore.Likeness.HIDDEN),
        (None, after_restore.Likeness.HIDDEN),
    ],
)
def test_what_the_provider_tells_of_the_inputs_decides(
    inputs: dict[str, object] | None, expected: str | None, make: Make
) -> None:
    generation = make("Steam")
    prediction = read_prediction({"id": "p1", "model": ENDPOINT, "input": inputs}, Redactor())
    assert prediction

    assert after_restore.likeness(generation, prediction) == expected


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("made", "expected"), [("2020-01-01T00:00:00Z", None), ("2999-01-01T00:00:00Z", "same inputs")]
)
def test_what_was_made_before_it_was_asked_for_is_no_match(made: str, expected: str | None, make: Make) -> None:
    prediction = read_prediction(
        {"id": "p1", "model": ENDPOINT, "input": {"prompt": "Steam"}, "created_at": made}, Redactor()
    )
    assert prediction

    assert after_restore.likeness(make("Steam"), prediction) == expected


@pytest.mark.django_db
def test_on_a_shared_account_what_nobody_here_asked_for_is_not_stored(
    queue: Make, wavespeed: SandboxControl, studio_owner: User, settings: Any
) -> None:
    settings.WAVESPEED_ACCOUNT_IS_SHARED = True
    theirs = queue("theirs")
    submit_next()
    Generation.objects.filter(pk=theirs.pk).update(prediction_id=None, status=Status.CANCELLED)
    queue("waiting")

    compare()

    assert not UnassignedPrediction.objects.exists()


@pytest.mark.django_db
def test_a_list_without_end_is_given_up_and_told(
    queue: Make, wavespeed: SandboxControl, studio_owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generations.wavespeed.client.MOST_LISTED", 500)
    queue("waiting")
    wavespeed.arm("free_endless", times=None, route="predictions")

    with pytest.raises(CommandError, match="does not end"):
        compare()

    assert lane().paused_cause == PauseCause.RESTORED
    assert lane().compared_at is None
