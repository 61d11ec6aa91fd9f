"""The lane: turns between projects, limits that hold for all workers, what slows it and what pauses it."""

import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from generations import lifecycle, provider
from generations.lifecycle import lane
from generations.models import Generation, Lane, PauseCause, PausedEndpoint, PauseEvent, Priority, ProjectTurn, Status
from generations.services import drafts, orders, pauses
from projects.models import Alert, Project
from tests import factories
from tests.histories import some_and_all
from tests.pipeline import ENDPOINT, money, run_to_end, submit_next
from tests.sandbox import SandboxControl
from tests.threads import at_once, one_test_at_a_time

__all__ = ["one_test_at_a_time"]

pytestmark = pytest.mark.django_db
PRICE = 2_100_000


@pytest.fixture
def wide(settings: Any) -> None:
    """So many slots that only turns count."""
    settings.WAVESPEED_VIDEOS_AT_ONCE = settings.WAVESPEED_VIDEOS_PER_MINUTE = 100_000


@pytest.fixture
def by(db: None) -> User:
    return factories.UserFactory(is_superuser=True)


def new_project(by: User) -> Project:
    return factories.ProjectFactory(created_by=by)


def queue(project: Project, number: int = 1, **fields: Any) -> list[Generation]:
    """Queued rows, one second after each other."""
    now = timezone.now()
    made = [
        Generation(
            **{
                "project": project,
                "requested_by": project.created_by,
                "endpoint": ENDPOINT,
                "inputs_digest": "x",
                "status": Status.QUEUED,
                "quote": PRICE,
                "queued_at": now - timedelta(hours=1) + timedelta(seconds=each),
                "next_action_at": now,
                **fields,
            }
        )
        for each in range(number)
    ]
    return Generation.objects.bulk_create(made, batch_size=1000)


def admitted() -> Generation | None:
    lease = lifecycle.admit()
    return Generation.objects.get(pk=lease.pk) if lease else None


def end(generation: Generation) -> None:
    Generation.objects.filter(pk=generation.pk).update(status=Status.COMPLETED, lease_until=None)


def projects_admitted(number: int) -> list[Project]:
    found = [admitted() for _ in range(number)]
    return [generation.project for generation in found if generation]


# --- Turns ------------------------------------------------------------------------------------------------------------


def test_a_project_that_queues_500_does_not_make_one_with_one_wait(wide: None, by: User) -> None:
    many, one = new_project(by), new_project(by)
    queue(many, 500)
    queue(one, queued_at=timezone.now())

    assert set(projects_admitted(2)) == {many, one}
    assert projects_admitted(2) == [many, many]


def test_projects_take_turns_and_who_was_never_let_in_is_first(wide: None, by: User) -> None:
    first, second = new_project(by), new_project(by)
    queue(first, 4)
    queue(second, 4)
    assert projects_admitted(4) == [first, second, first, second]

    new = new_project(by)
    queue(new, 2, queued_at=timezone.now())

    assert projects_admitted(4) == [new, first, second, new]


def test_within_a_project_the_priority_counts_then_the_age(wide: None, by: User) -> None:
    project = new_project(by)
    old, older = queue(project, 2)
    Generation.objects.filter(pk=older.pk).update(queued_at=timezone.now() - timedelta(days=1))
    [high] = queue(project, priority=Priority.HIGH, queued_at=timezone.now())
    [low] = queue(project, priority=Priority.LOW, queued_at=timezone.now() - timedelta(days=9))

    assert [admitted() for _ in range(5)] == [high, older, old, low, None]


def test_a_high_priority_takes_no_turn_of_another_project(wide: None, by: User) -> None:
    eager, other = new_project(by), new_project(by)
    queue(eager, 3, priority=Priority.HIGH)
    queue(other, 1, priority=Priority.LOW)

    assert projects_admitted(4) == [eager, other, eager, eager]


@pytest.mark.parametrize(
    "hindrance",
    [
        {"lease_until": timezone.now() + timedelta(days=900), "lease_token": uuid.uuid4()},
        {"next_action_at": timezone.now() + timedelta(days=900)},
        {"endpoint": "paused/model"},
        {"status": Status.DRAFT},
    ],
)
def test_what_may_not_be_submitted_now_holds_nobody_up(hindrance: dict[str, Any], wide: None, by: User) -> None:
    held, free = new_project(by), new_project(by)
    queue(held, 3, **hindrance)
    PausedEndpoint.objects.create(endpoint="paused/model", reason="Its price is wrong.")
    [expected] = queue(free)

    assert (admitted(), admitted()) == (expected, None)


def test_a_paused_project_waits_and_the_others_go_on(wide: None, by: User) -> None:
    paused, other = new_project(by), new_project(by)
    queue(paused, 2)
    queue(other, 1)
    pauses.pause_project(paused, reason="The brief is being changed.", by=by)
    assert (projects_admitted(2), lifecycle.ask_for_worker()) == ([other], False)

    pauses.resume_project(paused, by=by)

    assert lifecycle.ask_for_worker() is True
    assert projects_admitted(3) == [paused, paused]


def test_turns_keep_their_order_when_clocks_differ(wide: None, by: User) -> None:
    """The last turn was given by a machine whose clock is an hour ahead."""
    first, second, third = (new_project(by) for _ in range(3))
    for project in (first, second, third):
        queue(project, 3)
    ProjectTurn.objects.create(project=second, last_at=timezone.now() - timedelta(minutes=1))
    ProjectTurn.objects.create(project=first, last_at=timezone.now() + timedelta(hours=1))
    ProjectTurn.objects.create(project=third, last_at=timezone.now() - timedelta(seconds=1))

    assert projects_admitted(6) == [second, third, first, second, third, first]


ARRIVALS = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(list(Priority))), max_size=6), min_size=3, max_size=12
)


@some_and_all
def test_no_project_with_something_due_waits_longer_than_there_are_projects(wide: None, by: User, share: float) -> None:
    """Between any two turns of the lane something may be queued, with any priority, by any project."""

    @hypothesis_settings(max_examples=round(25 * share), deadline=None, suppress_health_check=list(HealthCheck))
    @given(arrivals=ARRIVALS)
    def nobody_waits_longer(arrivals: Sequence[Sequence[tuple[int, Priority]]]) -> None:
        with transaction.atomic():
            projects = [new_project(by) for _ in range(5)]
            waits: Counter[uuid.UUID] = Counter()
            for arriving in [*arrivals, *[[]] * 30]:
                for number, priority in arriving:
                    queue(projects[number], priority=priority, queued_at=timezone.now())
                due = set(Generation.objects.filter(status=Status.QUEUED).values_list("project", flat=True))
                generation = admitted()
                assert (generation is None) == (not due)
                if generation:
                    end(generation)
                    waits.update(due - {generation.project_id})
                    del waits[generation.project_id]
                assert max(waits.values(), default=0) < len(projects)
            transaction.set_rollback(True)

    nobody_waits_longer()


@pytest.mark.both_databases
def test_admission_reads_no_whole_queue(wide: None, by: User) -> None:
    """10,000 queued rows in 50 projects: an index is asked for one row per project, with the same queries as for one row."""
    queue(new_project(by))
    with CaptureQueriesContext(connection) as few:
        assert lifecycle.admit()
    for project in [new_project(by) for _ in range(50)]:
        queue(project, 200)
    if connection.vendor == "postgresql":
        # As its autovacuum does; SQLite has to do without.
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")

    with CaptureQueriesContext(connection) as many:
        assert lifecycle.admit()

    assert len(many) <= len(few)
    # One finds the project, one its generation; neither reads all that is queued.
    selects = [each["sql"] for each in many.captured_queries if "priority" in each["sql"] and "SELECT" in each["sql"]]
    plans = [plan(sql) for sql in selects]
    assert len(plans) == 2
    assert all("generation_in_queue" in each for each in plans)
    assert not any("Seq Scan on generations_generation" in each for each in plans)


def plan(sql: str) -> str:
    explain = "EXPLAIN" if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN"
    with connection.cursor() as cursor:
        cursor.execute(f"{explain} {sql}".replace("%", "%%"))
        return "".join(f"{row[-1]}\n" for row in cursor.fetchall())


# --- Limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("limit", "other"), [("AT_ONCE", "PER_MINUTE"), ("PER_MINUTE", "AT_ONCE")])
def test_no_crowd_of_workers_passes_a_limit(limit: str, other: str, settings: Any, one_test_at_a_time: None) -> None:
    by = factories.UserFactory(is_superuser=True)
    for project in (new_project(by), new_project(by), new_project(by)):
        queue(project, 10)
    setattr(settings, f"WAVESPEED_VIDEOS_{limit}", 5)
    setattr(settings, f"WAVESPEED_VIDEOS_{other}", 100)

    leases = at_once([lifecycle.admit] * 20)

    assert [each for each in leases if isinstance(each, Exception)] == []
    let_in = [each for each in leases if each]
    assert len({each.pk for each in let_in}) == len(let_in) == 5
    shares = Counter(Generation.objects.filter(lease_token__isnull=False).values_list("project", flat=True))
    assert sorted(shares.values()) == [1, 2, 2]


def test_an_unconfirmed_one_occupies_a_slot_for_as_long_as_it_may_be_made(settings: Any, by: User) -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE, settings.WAVESPEED_VIDEOS_PER_MINUTE = 1, 100
    project = new_project(by)
    queue(project, status=Status.UNCONFIRMED, submitted_at=timezone.now() - timedelta(minutes=2))
    queue(project)

    assert admitted() is None
    with time_machine.travel(timezone.now() + timedelta(minutes=settings.UNCONFIRMED_MINUTES)):
        assert admitted()


def test_one_that_the_provider_is_silent_about_gives_its_slot_back_when_it_can_have_no_result_any_more(
    settings: Any, by: User
) -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE, settings.WAVESPEED_VIDEOS_PER_MINUTE = 1, 100
    project = new_project(by)
    queue(project, status=Status.PROCESSING, submitted_at=timezone.now() - timedelta(days=7))
    queue(project)

    assert admitted() is None
    with time_machine.travel(timezone.now() + timedelta(days=1, minutes=1)):
        assert admitted()


def test_nothing_is_let_in_without_room_for_what_it_makes(wide: None, by: User, settings: Any) -> None:
    queue(new_project(by))
    settings.STORAGE_ROOM_MEGABYTES = 10**12
    assert admitted() is None

    settings.STORAGE_ROOM_MEGABYTES = 0

    assert admitted()


def test_a_worker_is_asked_for_once_in_a_redelivery_time_until_one_has_looked(wide: None, by: User) -> None:
    queue(new_project(by), 2)

    assert [lifecycle.ask_for_worker() for _ in range(3)] == [True, False, False]
    assert admitted()
    assert [lifecycle.ask_for_worker() for _ in range(2)] == [True, False]
    with time_machine.travel(timezone.now() + lifecycle.redelivery() + timedelta(seconds=1)):
        assert lifecycle.ask_for_worker() is True


def test_no_worker_is_asked_for_without_a_free_slot_or_somebody_who_waits(settings: Any, by: User) -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE = 1
    assert lifecycle.ask_for_worker() is False
    queue(new_project(by), 2)
    assert admitted()

    assert lifecycle.ask_for_worker() is False


# --- Too much ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hundred(settings: Any) -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE, settings.WAVESPEED_VIDEOS_PER_MINUTE = 100, 60


def now_limits() -> tuple[int, int]:
    found = lane.limits(Lane.objects.get(), timezone.now())
    return found.at_once, found.per_minute


def test_a_429_halves_the_rate_once_and_quiet_minutes_restore_it(hundred: None, db: None) -> None:
    with time_machine.travel("2026-11-22 12:00:00Z", tick=False) as traveller:
        until = lane.slow()
        # Others that were on their way at the same time.
        lane.slow()
        lane.slow()
        assert (until - timezone.now(), now_limits()) == (timedelta(seconds=5), (50, 30))

        seen = []
        for _ in range(7):
            traveller.shift(60)
            seen.append(now_limits())

    assert seen == [(50, 30), (60, 36), (70, 42), (80, 48), (90, 54), (100, 60), (100, 60)]


def test_each_429_after_the_wait_halves_again_and_waits_longer_until_one_passes(hundred: None, db: None) -> None:
    waits, limits = [], []
    with time_machine.travel("2026-11-22 12:00:00Z", tick=False) as traveller:
        for _ in range(9):
            until = lane.slow()
            waits.append((until - timezone.now()).total_seconds())
            limits.append(now_limits())
            traveller.move_to(until)
        traveller.shift(120)
        again = lane.slow() - timezone.now()

    assert waits == [5, 10, 20, 40, 60, 60, 60, 60, 60]
    assert limits[:4] == [(50, 30), (25, 15), (12, 7), (6, 3)]
    assert limits[-1] == (1, 1)
    assert again == timedelta(seconds=5)


def test_a_lane_of_two_is_never_slowed_below_one(settings: Any, db: None) -> None:
    settings.WAVESPEED_VIDEOS_AT_ONCE = settings.WAVESPEED_VIDEOS_PER_MINUTE = 2
    with time_machine.travel("2026-11-22 12:00:00Z", tick=False) as traveller:
        for _ in range(4):
            traveller.move_to(lane.slow())
        assert (Lane.objects.get().rate, now_limits()) == (50, (1, 1))
        traveller.shift(300)
        assert now_limits() == (2, 2)


@pytest.mark.parametrize(("asked", "waits"), [(0, 5), (42, 42), (7 * 86_400, 15 * 60)])
def test_retry_after_is_honoured_within_reason(asked: int, waits: int, db: None) -> None:
    with time_machine.travel("2026-11-22 12:00:00Z", tick=False):
        assert lane.slow(timedelta(seconds=asked)) - timezone.now() == timedelta(seconds=waits)


def test_a_later_retry_after_of_the_same_crowd_counts(db: None) -> None:
    with time_machine.travel("2026-11-22 12:00:00Z", tick=False):
        lane.slow()
        assert lane.slow(timedelta(seconds=30)) - timezone.now() == timedelta(seconds=30)
        assert lane.slow(timedelta(seconds=10)) - timezone.now() == timedelta(seconds=30)


def test_a_429_is_no_failure_of_the_generation(queued: Generation, wavespeed: SandboxControl) -> None:
    """Two 429 and then one refusal: it was refused once, not three times."""
    wavespeed.arm("submit_429", times=2, retry_after=3)
    wavespeed.arm("submit_403")

    with time_machine.travel(timezone.now()) as traveller:
        for _ in range(3):
            submit_next()
            queued.refresh_from_db()
            assert queued.status == Status.QUEUED
            traveller.shift(120)
        run_to_end(queued)

    assert (queued.status, money(queued)) == (Status.COMPLETED, (0, PRICE))
    assert wavespeed.posts()["count"] == 4


def test_twenty_queued_come_through_an_account_that_is_narrower_than_the_settings_say(
    make_sandbox: Callable[..., Any], settings: Any
) -> None:
    """The provider takes 6 a minute and 3 at once, the studio believes in 100; some more 429 come for no reason at all."""
    sandbox = make_sandbox(per_minute=6, concurrent=3)
    control = SandboxControl(sandbox.url)
    settings.WAVESPEED_BASE_URL = sandbox.url
    settings.WAVESPEED_VIDEOS_AT_ONCE = settings.WAVESPEED_VIDEOS_PER_MINUTE = 100
    provider.client.cache_clear()
    project = factories.ProjectFactory()
    factories.budget(project, 100_000_000)
    by, image = project.created_by, str(factories.source_image(project).pk)
    for take in range(20):
        inputs = {"image": image, "prompt": f"Take {take}", "duration": 3}
        orders.queue(drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)
    control.arm("submit_429", times=3)
    control.arm("submit_concurrency", times=3)

    with time_machine.travel(timezone.now()) as traveller:
        for _ in range(200):
            work_once()
            if not Generation.objects.exclude(status=Status.COMPLETED).exists():
                break
            # The provider's clock and ours.
            traveller.shift(5)
            control.advance(5)

    assert Counter(Generation.objects.values_list("status", flat=True)) == {Status.COMPLETED: 20}
    accepted = [row for row in control.bill()["rows"] if row["billing_type"] == "deduct"]
    assert len(accepted) == len(control.predictions()) == 20
    assert control.bill()["total_micros"] == sum(Generation.objects.values_list("charged", flat=True))
    assert control.posts()["count"] > 26
    assert Lane.objects.get().rate < 100
    provider.client.cache_clear()


def work_once() -> None:
    while lease := lifecycle.admit():
        lifecycle.submit(lease)
    for pk in Generation.objects.filter(status=Status.PROCESSING).values_list("pk", flat=True):
        if lifecycle.poll(pk) == Status.STORING:
            lifecycle.store(pk)


# --- Pauses -----------------------------------------------------------------------------------------------------------


def test_a_refused_key_resumes_by_itself_once_it_is_accepted(
    queued: Generation, wavespeed: SandboxControl, studio_owner: User
) -> None:
    wavespeed.arm("submit_401", times=None)
    wavespeed.arm("free_401", times=None, route="balance")
    submit_next()
    assert Lane.objects.get().paused_cause == PauseCause.KEY_REFUSED
    assert lifecycle.resume_if_account_is_back() is False

    wavespeed.disarm()

    assert lifecycle.resume_if_account_is_back() is True
    assert lifecycle.resume_if_account_is_back() is False
    assert list(Alert.objects.order_by("created_at").values_list("title", flat=True)) == [
        "Submitting is paused",
        "Submitting goes on again",
    ]
    assert [(event.is_pause, event.by) for event in PauseEvent.objects.order_by("at")] == [(True, None), (False, None)]
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        run_to_end(queued)
    assert queued.status == Status.COMPLETED


def test_missing_credits_resume_by_themselves_once_they_cover_the_next_video(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    spent = {"prediction_id": "elsewhere", "billing_type": "deduct", "price": 998}
    wavespeed.doctor(add=[spent])
    submit_next()
    assert Lane.objects.get().paused_cause == PauseCause.NO_CREDITS
    assert lifecycle.resume_if_account_is_back() is False

    wavespeed.doctor(add=[{**spent, "billing_type": "refund", "price": 0.1}])

    assert lifecycle.resume_if_account_is_back() is True
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        run_to_end(queued)
    assert (queued.status, wavespeed.posts()["count"]) == (Status.COMPLETED, 2)


def test_credits_that_suffice_are_not_what_is_missing(queued: Generation, wavespeed: SandboxControl) -> None:
    """It alone is refused three times, while the balance covers it: it fails, and the lane was never paused."""
    wavespeed.arm("submit_insufficient_credits", times=None)

    for minutes in (0, 10, 20):
        with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
            submit_next()

    queued.refresh_from_db()
    assert (queued.status, queued.error_code, money(queued)) == (Status.FAILED, "insufficient_credits", (0, 0))
    assert not PauseEvent.objects.exists()


def test_refusals_that_paused_the_lane_are_not_the_generations(queued: Generation, wavespeed: SandboxControl) -> None:
    """The key was bad twice, and mended: then it alone is refused once, and not for the third time."""
    with time_machine.travel(timezone.now()) as traveller:
        for _ in range(2):
            wavespeed.arm("submit_401")
            wavespeed.arm("free_401", route="balance")
            submit_next()
            assert Lane.objects.get().paused_cause == PauseCause.KEY_REFUSED
            wavespeed.disarm()
            assert lifecycle.resume_if_account_is_back()
            traveller.shift(600)
        wavespeed.arm("submit_401")
        submit_next()
        queued.refresh_from_db()
        assert queued.status == Status.QUEUED
        traveller.shift(600)
        run_to_end(queued)

    assert (queued.status, wavespeed.posts()["count"]) == (Status.COMPLETED, 4)


def test_refusals_of_several_kinds_do_not_add_up_where_http_says_200(
    queued: Generation, wavespeed: SandboxControl
) -> None:
    """Two 429 and a refused key, all wrapped in HTTP 200."""
    wavespeed.arm("submit_error_code", times=2, code=429)
    wavespeed.arm("submit_error_code", code=401)

    with time_machine.travel(timezone.now()) as traveller:
        for _ in range(3):
            submit_next()
            queued.refresh_from_db()
            assert queued.status == Status.QUEUED
            traveller.shift(600)
        run_to_end(queued)

    assert (queued.status, wavespeed.posts()["count"]) == (Status.COMPLETED, 4)


@pytest.mark.parametrize("fault", ["free_500", "free_garbage"])
def test_a_pause_lasts_while_nobody_can_tell(fault: str, queued: Generation, wavespeed: SandboxControl) -> None:
    wavespeed.arm("submit_401")
    wavespeed.arm(fault, times=None, route="balance")
    submit_next()

    assert Lane.objects.get().paused_cause == PauseCause.KEY_REFUSED
    assert lifecycle.resume_if_account_is_back() is False


@pytest.mark.parametrize("cause", [PauseCause.OWNER, PauseCause.RESTORED, ""])
def test_what_a_person_has_to_resume_is_never_resumed_by_code(cause: str, wavespeed: SandboxControl, db: None) -> None:
    Lane.objects.create(paused_at=timezone.now(), paused_cause=cause, paused_reason="On hold.")

    assert lifecycle.resume_if_account_is_back() is False
    assert Lane.objects.get().paused_reason == "On hold."


def test_an_owner_who_pauses_what_the_studio_has_paused_takes_it_over(
    queued: Generation, wavespeed: SandboxControl, studio_owner: User
) -> None:
    wavespeed.arm("submit_401")
    wavespeed.arm("free_401", route="balance")
    submit_next()
    pauses.pause_lane(reason="Wait for the new contract.", by=studio_owner)

    assert lifecycle.resume_if_account_is_back() is False
    assert Lane.objects.get().paused_cause == PauseCause.OWNER


def test_a_key_that_is_refused_while_an_owner_has_paused_is_told_once_a_day(
    processing: Generation, make_sandbox: Any, studio_owner: User, settings: Any
) -> None:
    """Polls go on, and nothing else would say why no video comes."""
    pauses.pause_lane(reason="Wait for the new contract.", by=studio_owner)
    told = Alert.objects.exclude(title="Submitting is paused")
    settings.WAVESPEED_BASE_URL = make_sandbox(api_key="another").url
    provider.client.cache_clear()

    for days, count in [(0, 1), (0, 1), (1, 2)]:
        with time_machine.travel(timezone.now() + timedelta(days=days)):
            assert lifecycle.poll(processing.pk) is None
            Generation.objects.update(next_action_at=timezone.now())
        assert told.count() == count

    assert set(told.values_list("title", flat=True)) == {"The provider refuses the studio's API key"}
    assert Lane.objects.get().paused_cause == PauseCause.OWNER


@pytest.mark.parametrize("what", ["lane", "project", "endpoint"])
def test_what_is_paused_while_it_uploads_is_not_submitted(
    what: str, queued: Generation, wavespeed: SandboxControl, studio_owner: User
) -> None:
    lease = lifecycle.admit()
    assert lease
    pause = {
        "lane": lambda: pauses.pause_lane(reason="Stop.", by=studio_owner),
        "project": lambda: pauses.pause_project(queued.project, reason="Stop.", by=studio_owner),
        "endpoint": lambda: pauses.pause_endpoint(ENDPOINT, reason="Stop.", by=studio_owner),
    }
    pause[what]()

    lifecycle.submit(lease)

    queued.refresh_from_db()
    assert (queued.status, queued.lease_token, money(queued)) == (Status.QUEUED, None, (PRICE, 0))
    assert wavespeed.posts()["count"] == 0
    resume = {
        "lane": lambda: pauses.resume_lane(by=studio_owner),
        "project": lambda: pauses.resume_project(queued.project, by=studio_owner),
        "endpoint": lambda: pauses.resume_endpoint(ENDPOINT, by=studio_owner),
    }
    resume[what]()
    run_to_end(queued)
    assert (queued.status, wavespeed.posts()["count"]) == (Status.COMPLETED, 1)
