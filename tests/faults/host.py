"""Runs studios that are killed: `python -m tests.faults.host` imports the studio once, then forks a process for each order.

Orders come as lines of JSON on standard input (`{"do": "work", "kill_at": 17}`), answers go as lines of JSON to standard output. What a
fork answers is in `result`; `killed` says that it died of SIGKILL. The process that forks has no thread, no connection and no open file of
the studio, so each fork is as fresh as a process that was just started, two seconds sooner.
"""

import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import django

django.setup()

import dramatiq  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.core.files.storage import default_storage  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.utils import timezone  # noqa: E402
from dramatiq.brokers.stub import StubBroker  # noqa: E402

import kling_studio.urls  # noqa: E402, F401
from generations import dispatch  # noqa: E402
from generations.models import (  # noqa: E402
    Generation,
    Lane,
    Status,
    UnassignedPrediction,
)
from generations.services import (  # noqa: E402
    decisions,
    drafts,
    orders,
)
from generations.timetable import Timetable  # noqa: E402
from projects.models import (  # noqa: E402
    Project,
    SpendEntry,
)
from projects.money import budgets  # noqa: E402
from tests import factories  # noqa: E402
from tests.faults import wrong_order  # noqa: E402
from tests.faults.points import (  # noqa: E402
    Points,
    step,
)
from tests.pipeline import ENDPOINT  # noqa: E402
from tests.sandbox import SandboxControl  # noqa: E402

PATIENCE = 60


def prepare() -> None:
    """A project with a budget, and a draft that nobody has queued."""
    call_command("migrate", verbosity=0)
    by = User.objects.create_superuser("olive")
    project = Project.objects.create(name="Coffee", created_by=by)
    factories.budget(project, 10_000_000)
    inputs = {
        "image": str(factories.source_image(project, by).pk),
        "prompt": "Steam rises",
        "duration": 3,
        "sound": False,
    }
    drafts.create(project, endpoint=ENDPOINT, inputs=inputs, by=by)


def work(kill_at: int = 0, inputs_are_hidden: bool = False) -> dict[str, Any]:
    """Queues what is a draft still, and works until there is nothing more to do; time passes only when all is at rest."""
    Points.kill_at = kill_at
    ends = time.monotonic() + PATIENCE
    # Before there is a worker that would take its message at once.
    queue_the_draft()
    is_idle = start()
    while not (is_idle() and has_ended()):
        if time.monotonic() > ends:
            raise TimeoutError(f"No end: {Generation.objects.values().get()} {Points.ended} {Points.errors}")
        if is_idle() and sandbox_is_at_rest():
            let_owner_decide(inputs_are_hidden)
            time_passes()
            dispatch.tick()
        time.sleep(0.02)
    return {"points": Points.number, "errors": Points.errors}


def queue_the_draft() -> None:
    if draft := Generation.objects.filter(status=Status.DRAFT).first():
        with step("queue"):
            orders.queue(draft, by=draft.requested_by)


def has_ended() -> bool:
    generation = Generation.objects.get()
    return generation.status in {Status.COMPLETED, Status.FAILED} and generation.settle_at is None


def let_owner_decide(inputs_are_hidden: bool) -> None:
    """What the studio has looked for and can't know, an owner decides: that it was not made, or which of those that were made it is."""
    generation = Generation.objects.get()
    if generation.status != Status.UNCONFIRMED or Points.ended["resolve"] < 2:
        return
    owner = User.objects.get(username="olive")
    if not sandbox().predictions():
        if decisions.why_not_yet(generation):
            return
        with step("decision"):
            decisions.settle_not_made(generation, by=owner, reason="The provider knows nothing of it.")
    elif inputs_are_hidden:
        [candidate] = decisions.candidates_of(generation)
        if candidate.stored_at:
            with step("decision"):
                decisions.assign(generation, candidate, by=owner, reason="It shows the picture.")


def sandbox() -> SandboxControl:
    return SandboxControl(settings.WAVESPEED_BASE_URL)


def sandbox_is_at_rest() -> bool:
    return all(made["status"] not in {"created", "processing"} for made in sandbox().predictions())


def time_passes() -> None:
    """Whatever waits for a time, its time has come; leases of dead workers have ended, and what was sent to them is sent again."""
    now = timezone.now()
    for rows in (Generation.objects, UnassignedPrediction.objects):
        rows.filter(lease_until__gt=now).update(lease_until=now)
        rows.filter(next_action_at__gt=now).update(next_action_at=now)
        rows.update(sent_at=None)
    Generation.objects.filter(settle_at__gt=now).update(settle_at=now)
    Generation.objects.update(settle_sent_at=None)
    Lane.objects.update(sent_at=None, slowed_until=None)


def start() -> Callable[[], bool]:
    """Starts the workers; what tells whether no message is waiting or being worked on.

    Redis has a dispatcher in a process of its own. In one process `work` looks for what is due itself, whenever all is at rest: what a
    dispatcher does besides, by the clock, would take as long again.
    """
    broker = dramatiq.get_broker()
    # As each process of `rundramatiq` does.
    broker.emit_after("process_boot")
    worker = dramatiq.Worker(broker, worker_threads=settings.WORKER_THREADS, worker_timeout=100)
    worker.start()
    if isinstance(broker, StubBroker):
        return lambda: not any(queue.unfinished_tasks for queue in broker.queues.values())
    return lambda: (
        not (
            Points.busy
            or worker.work_queue.qsize()
            or any(broker.client.llen(f"{broker.namespace}:{queue}") for queue in broker.queues)
        )
    )


def dispatch_until_gone(pipe: int) -> NoReturn:
    """`manage.py dispatch`, until whoever holds the other end of the pipe is gone."""
    timetable = Timetable()
    dispatch.schedule(timetable)
    timetable.start()
    os.read(pipe, 1)
    os._exit(0)


class Dispatcher:
    """A dispatcher that outlives the workers; it ends with the host at the latest."""

    def __init__(self) -> None:
        self._alive = -1
        self._pid = 0

    def start(self) -> None:
        inlet, self._alive = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self.let_go()
            dispatch_until_gone(inlet)
        os.close(inlet)

    def let_go(self) -> None:
        """In a fork: it must not keep the dispatcher alive."""
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1

    def stop(self) -> None:
        if self._pid:
            self.let_go()
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


dispatcher = Dispatcher()


def status() -> str:
    return Generation.objects.get().status


def facts() -> dict[str, Any]:
    """What is in the books and in the storage."""
    generation = Generation.objects.get()
    [figures] = budgets.figures(budgets.of_project(generation.project))
    entries = SpendEntry.objects.order_by("created_at", "pk")
    return {
        "status": generation.status,
        "prediction": generation.prediction_id,
        "history": list(generation.events.values_list("new_status", flat=True)),
        "ledger": [(entry.kind, entry.reserved_delta, entry.spent_delta) for entry in entries],
        "reserved": figures.reserved,
        "spent": figures.spent,
        "charged": generation.charged,
        "videos": [
            {"file": video.file.name, "poster": video.poster.name, "sha256": video.sha256, "stored": sha256(video.file)}
            for video in generation.videos.all()
        ],
        "unassigned": UnassignedPrediction.objects.count(),
        "files": sorted(stored_files(f"projects/{generation.project_id}/videos") + stored_files("unassigned")),
    }


def sha256(stored: Any) -> str:
    with stored.open("rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def stored_files(folder: str) -> list[str]:
    """Every file below `folder`."""
    try:
        folders, files = default_storage.listdir(folder)
    except FileNotFoundError:
        return []
    return [f"{folder}/{name}" for name in files] + [
        each for name in folders if name for each in stored_files(f"{folder}/{name}")
    ]


ORDERS: dict[str, Callable[..., Any]] = {
    "prepare": prepare,
    "work": work,
    "status": status,
    "facts": facts,
}

HERE = {"start_dispatcher": dispatcher.start, "stop_dispatcher": dispatcher.stop}


def forked(order: Callable[..., Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """What `order` answers in a process of its own."""
    inlet, outlet = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(inlet)
        dispatcher.let_go()
        obey(order, parameters, outlet)
    os.close(outlet)
    with os.fdopen(inlet) as answers:
        answer = answers.read()
    _, ended = os.waitpid(pid, 0)
    if os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL:
        return {"killed": True}
    return {"killed": False, **json.loads(answer or '{"error": "It ended without an answer."}')}


def obey(order: Callable[..., Any], parameters: dict[str, Any], outlet: int) -> NoReturn:
    """In the fork: does it, answers, and is gone without a clean end."""
    try:
        answer = {"result": order(**parameters)}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    with os.fdopen(outlet, "w") as answers:
        json.dump(answer, answers)
    os._exit(0)


def main() -> None:
    wrong_order.submit_if_told()
    print("ready", flush=True)
    for line in sys.stdin:
        parameters = json.loads(line)
        do = parameters.pop("do")
        if do in HERE:
            HERE[do]()
            answer = {"killed": False, "result": None}
        else:
            answer = forked(ORDERS[do], parameters)
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main()
