"""The lifecycle under due-work-harness: every profile claimed or declined, and each handoff crashed at each of its commits and calls."""

import pytest
from due_work_harness import (
    CallableDelivery,
    Claim,
    Decline,
    DueWorkContract,
    ExternalCall,
    HandoffHistory,
    Profile,
    SafetyContract,
    SafetyProfile,
    configure,
    due_work_contract_suite,
)
from due_work_harness.integrations.django import django_host

from generations import lifecycle, tasks
from generations.services import orders
from generations.wavespeed.client import Client
from kling_studio.media import SignedFileSystemStorage
from tests.faults import due_work
from tests.faults.due_work import Studio, studio
from tests.generations.conftest import control, make_sandbox, sandbox, wavespeed

__all__ = ["control", "make_sandbox", "sandbox", "studio", "wavespeed"]

pytestmark = [pytest.mark.services, pytest.mark.slow]

configure(
    django_host(
        production_packages={"generations", "projects", "kling_studio"},
        publication_recorder=due_work.recorded,
        publication_breaker=due_work.broker_refuses,
    )
)

STORAGE = ExternalCall(SignedFileSystemStorage, "save")
BILL = ExternalCall(Client, "billings")

HANDOFFS = (
    HandoffHistory(
        name="queue",
        arrange=due_work.draft,
        transition=lambda draft: orders.queue(draft, by=Studio.owner),
        observe=due_work.outcome,
    ),
    # At most once: killed between its commit and its request it made nothing, and an owner says so. All the rest must converge.
    HandoffHistory(
        name="submit",
        arrange=due_work.queued,
        transition=lambda queued: tasks.fill_lane(),
        observe=due_work.promise,
        external_calls=(ExternalCall(Client, "upload"), STORAGE, ExternalCall(Client, "submit")),
    ),
    HandoffHistory(
        name="poll",
        arrange=due_work.finished_at_provider,
        transition=lambda generation: tasks.poll(str(generation.pk)),
        observe=due_work.outcome,
        external_calls=(ExternalCall(Client, "result"), BILL),
    ),
    HandoffHistory(
        name="store",
        arrange=due_work.storing,
        transition=lambda generation: lifecycle.store(generation.pk),
        observe=due_work.outcome,
        external_calls=(STORAGE,),
    ),
    HandoffHistory(
        name="settle a failure",
        arrange=due_work.failed,
        transition=lambda generation: lifecycle.settle(generation.pk),
        observe=due_work.outcome,
        external_calls=(BILL,),
    ),
)

PAID_GENERATIONS = DueWorkContract(
    name="paid generations",
    profiles={
        Profile.AUTOMATIC_RECOVERY: Claim(),
        Profile.BOUNDED_OWNERSHIP: Claim(),
        Profile.CRASH_AMBIGUITY: Claim(),
        Profile.DURABLE_RETENTION: Claim(),
        Profile.EVENTUAL_CONVERGENCE: Claim(),
        Profile.FACT_DERIVED_OBLIGATIONS: Decline(
            "whatever is owed is in the row itself, written in the transaction that owes it: its status, and when it is looked at "
            "again. No obligation is derived from other facts of the studio; what only the provider knows of, orphans, is looked for "
            "in its list (tests/generations/test_orphans.py)"
        ),
    },
    safety=SafetyContract(
        name="paid generations",
        profiles={
            SafetyProfile.REPLAY_SAFE_EXECUTION: Decline(
                "the paid request can't be repeated safely, which is the point: a replay is stopped before it, by the row's status and "
                "lease (profiles B and C, and the crash matrix), and never reaches the provider a second time"
            ),
            SafetyProfile.BOUNDED_RETRY: Claim(),
        },
        retry=due_work.refused,
        fixtures=("studio",),
        transactional=True,
    ),
    sweep=due_work.sweep,
    ownership=due_work.ownership,
    ambiguity=due_work.ambiguity,
    retention=due_work.retention,
    convergence=due_work.convergence,
    snapshot=due_work.snapshot,
    handoffs=HANDOFFS,
    handoff_delivery=CallableDelivery(
        name="dramatiq and the dispatcher",
        recover=due_work.recover,
        deliver=due_work.deliver,
        lose=lambda: due_work.broker().flush_all(),
    ),
    fixtures=("studio",),
    transactional=True,
)


@due_work_contract_suite(PAID_GENERATIONS, covers=())
class TestPaidGenerations:
    pass
