"""The judge of the chaos soak: what it must never let pass, one thing wrong at a time."""

import copy
import hashlib
import json
import random
import uuid
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos import disturbances, fates, verdict
from tests.chaos.customers import ACCEPTED, BY_THE_BUDGET, NO_ANSWER
from tests.chaos.happened import OF_WEBHOOKS, Happened
from wavespeed_sandbox.faults import KINDS

CLIP = b"a clip"
SHA = hashlib.sha256(CLIP).hexdigest()
PAID, REFUNDED, UNSENT = (str(uuid.UUID(int=each)) for each in (1, 2, 3))
FIRST, SECOND, THIRD = (f"[{each:05d}]" for each in (1, 2, 3))
MADE, FAILED = "a" * 32, "b" * 32
PRICE = 1_260_000


def image(generation: str) -> str:
    return f"http://127.0.0.1:1/uploads/{'0' * 32}/{generation}-image.jpg"


def post(number: int, generation: str, prediction: str | None, **changes: Any) -> dict[str, Any]:
    webhook = f"http://127.0.0.1:2/api/v1/webhooks/wavespeed/{generation}/"
    body = json.dumps({"image": image(generation)})
    plain = {"fault": None, "status": 200, "prediction_id": prediction}
    return {"number": number, "body": body, "webhook": webhook, **plain, **changes}


def prediction(pk: str, generation: str, status: str) -> dict[str, Any]:
    made = SHA if status == "completed" else None
    return {"id": pk, "inputs": {"image": image(generation)}, "webhook": None, "status": status, "output_sha256": made}


def row(generation: str, mark: str, status: str, prediction_id: str | None, charged: int | None) -> dict[str, Any]:
    return {
        "id": generation,
        "status": status,
        "prediction_id": prediction_id,
        "charged": charged,
        "error": "",
        "prompt": f"{mark} Steam rises from the cup",
        "settles": False,
    }


def good() -> dict[str, Any]:
    """One that was made after a 429, one that failed and was given back, and one that was cancelled before it was sent."""
    return {
        "books": {
            "generations": [
                row(PAID, FIRST, "completed", MADE, PRICE),
                row(REFUNDED, SECOND, "failed", FAILED, 0),
                row(UNSENT, THIRD, "cancelled", None, None),
            ],
            "ledger": [
                {"generation": PAID, "reserved": 0, "spent": PRICE},
                {"generation": REFUNDED, "reserved": 0, "spent": 0},
            ],
            "videos": [{"prediction_id": MADE, "file": "one.mp4", "sha256": SHA}],
            "periods": [{"budget": "Tight", "limit": PRICE, "spent": PRICE, "reserved": 0}],
            "wrong_books": [],
            "due": {"generations": 0},
        },
        "posts": [
            post(1, PAID, None, fault="submit_429", status=None),
            post(2, PAID, MADE),
            post(3, REFUNDED, FAILED, fault="submit_drop_after"),
        ],
        "predictions": [prediction(MADE, PAID, "completed"), prediction(FAILED, REFUNDED, "failed")],
        "bill": [
            {"prediction_id": MADE, "billing_type": "deduct", "price_micros": PRICE},
            {"prediction_id": FAILED, "billing_type": "deduct", "price_micros": PRICE},
            {"prediction_id": FAILED, "billing_type": "refund", "price_micros": PRICE},
        ],
        "stored": {"one.mp4": CLIP},
        "accepted": {FIRST: PAID, SECOND: REFUNDED, THIRD: UNSENT},
    }


def judged(world: dict[str, Any]) -> verdict.Verdict:
    stored = world["stored"]
    return verdict.judge(
        world["books"], world["posts"], world["predictions"], world["bill"], stored.get, world["accepted"]
    )


def test_a_run_that_kept_every_promise_is_good() -> None:
    found = judged(good())

    assert found.wrong == []
    assert found.figures["of them after a sure refusal again"] == 1
    assert (found.figures["predictions completed"], found.figures["of them stored here, with their checksum"]) == (1, 1)
    assert (found.figures["accepted orders in the books"], found.figures["orders that became two generations"]) == (
        3,
        0,
    )
    assert found.figures["billed, micro-dollars"] == found.figures["spent by the ledger, micro-dollars"] == PRICE


def nothing_in_the_books(world: dict[str, Any]) -> None:
    """And nothing anywhere else, so that all of it agrees."""
    world["books"] |= {"generations": [], "ledger": [], "videos": [], "periods": []}
    world |= {"posts": [], "predictions": [], "bill": [], "stored": {}, "accepted": {}}


def no_budgets(world: dict[str, Any]) -> None:
    world["books"]["periods"] = []


def ordered_twice(world: dict[str, Any]) -> None:
    """Both were made, paid, stored and booked: only that it was one order is wrong."""
    again, made = str(uuid.UUID(int=4)), "c" * 32
    books = world["books"]
    books["generations"].append(row(again, FIRST, "completed", made, PRICE))
    books["ledger"].append({"generation": again, "reserved": 0, "spent": PRICE})
    books["videos"].append({"prediction_id": made, "file": "two.mp4", "sha256": SHA})
    books["periods"][0] |= {"spent": 2 * PRICE, "limit": 2 * PRICE}
    world["posts"].append(post(4, again, made))
    world["predictions"].append(prediction(made, again, "completed"))
    world["bill"].append({"prediction_id": made, "billing_type": "deduct", "price_micros": PRICE})
    world["stored"]["two.mp4"] = CLIP


def ordered_twice_and_one_cancelled(world: dict[str, Any]) -> None:
    world["books"]["generations"].append(row(str(uuid.UUID(int=4)), FIRST, "cancelled", None, None))


def ordered_by_nobody(world: dict[str, Any]) -> None:
    world["books"]["generations"].append(row(str(uuid.UUID(int=4)), "", "cancelled", None, None))


def accepted_and_gone(world: dict[str, Any]) -> None:
    """It was not sent yet, so nothing else tells of it."""
    world["books"]["generations"].pop()


def accepted_as_another(world: dict[str, Any]) -> None:
    world["accepted"][THIRD] = PAID


def budget_passed_in_the_end(world: dict[str, Any]) -> None:
    world["books"]["periods"][0]["limit"] -= 1


def budget_passed_by_what_is_held(world: dict[str, Any]) -> None:
    world["books"]["periods"][0]["reserved"] = 1


def not_ended(world: dict[str, Any]) -> None:
    world["books"]["generations"][1] |= {"status": "unconfirmed", "charged": None}


def not_settled(world: dict[str, Any]) -> None:
    world["books"]["generations"][1]["settles"] = True


def left_due(world: dict[str, Any]) -> None:
    world["books"]["due"] = {"generations": 1}


def posted_after_an_unclear_answer(world: dict[str, Any]) -> None:
    world["posts"].append(post(4, REFUNDED, None, fault="submit_500", status=None))


def posted_after_it_was_accepted(world: dict[str, Any]) -> None:
    world["posts"].append(post(4, PAID, None, status=400))


def two_tasks(world: dict[str, Any]) -> None:
    world["predictions"].append(prediction("c" * 32, PAID, "failed"))


def posted_for_nobody(world: dict[str, Any]) -> None:
    world["posts"].append(post(4, str(uuid.UUID(int=9)), None, status=400))


def video_missing(world: dict[str, Any]) -> None:
    world["books"]["videos"] = []


def object_missing(world: dict[str, Any]) -> None:
    world["stored"] = {}


def object_damaged(world: dict[str, Any]) -> None:
    world["stored"] = {"one.mp4": b"another clip"}


def late_success_not_told(world: dict[str, Any]) -> None:
    world["books"]["generations"][0]["status"] = "failed"


def mixed_up(world: dict[str, Any]) -> None:
    first, second = world["books"]["generations"][:2]
    first["prediction_id"], second["prediction_id"] = FAILED, MADE
    first["status"], second["status"] = second["status"], first["status"]


def completed_by_nothing(world: dict[str, Any]) -> None:
    world["predictions"][0] |= {"status": "failed"}


def billed_more(world: dict[str, Any]) -> None:
    world["bill"][0]["price_micros"] += 1


def billed_and_not_booked(world: dict[str, Any]) -> None:
    world["bill"].pop()


def still_held(world: dict[str, Any]) -> None:
    world["books"]["ledger"][1]["reserved"] = PRICE


def period_off(world: dict[str, Any]) -> None:
    world["books"]["periods"][0]["spent"] -= 1


def charge_shown_is_another(world: dict[str, Any]) -> None:
    world["books"]["generations"][0]["charged"] = PRICE + 1


def books_disagree(world: dict[str, Any]) -> None:
    world["books"]["wrong_books"] = ["balance: Tight"]


WRONGS = {
    nothing_in_the_books: "The books are empty: they have no generations",
    no_budgets: "The books are empty: they have no periods",
    ordered_twice: f"Order {FIRST} became 2 generations",
    ordered_twice_and_one_cancelled: f"Order {FIRST} became 2 generations",
    ordered_by_nobody: "is no order's",
    accepted_and_gone: f"Order {THIRD} was accepted as {UNSENT}, and the books have no such generation",
    accepted_as_another: f"Order {THIRD} was accepted as {PAID}",
    budget_passed_in_the_end: "Tight was passed: 1,260,000 + 0 of 1,259,999",
    budget_passed_by_what_is_held: "Tight was passed: 1,260,000 + 1 of 1,260,000",
    not_ended: "has not ended: it is unconfirmed",
    not_settled: "is not settled",
    left_due: "1 generations are due",
    posted_after_an_unclear_answer: "was POSTed again after submit_drop_after",
    posted_after_it_was_accepted: "was POSTed again after it was accepted",
    two_tasks: "has 2 tasks at the provider",
    posted_for_nobody: "the studio does not know it",
    video_missing: "its video is not here",
    object_missing: "another checksum",
    object_damaged: "another checksum",
    late_success_not_told: "no generation is completed by it",
    mixed_up: "has the video of another generation",
    completed_by_nothing: "the provider did not make it",
    billed_more: "the bill says 1,260,001, the ledger 1,260,000",
    billed_and_not_booked: "the bill says 1,260,000, the ledger 0",
    still_held: "still holds 1,260,000",
    period_off: "do not show what the ledger spent",
    charge_shown_is_another: "shows another charge",
    books_disagree: "disagree with themselves",
}


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda wrong: wrong.__name__)
def test_one_thing_that_is_wrong_is_found(wrong: Any) -> None:
    world = copy.deepcopy(good())
    wrong(world)

    found = judged(world)

    assert not found.is_good
    assert any(WRONGS[wrong] in each for each in found.wrong), found.wrong


def a_day() -> Happened:
    """The least that proves something, of ten orders."""
    faults = [{"kind": kind, "taken": 1, "prompt": FIRST} for kind in OF_WEBHOOKS]
    return Happened(
        orders=10,
        told=Counter({ACCEPTED: 7, BY_THE_BUDGET: 1, NO_ANSWER: 2}),
        asked_again=1,
        broken=Counter(dict.fromkeys(disturbances.RATES, 1)),
        connections_cut=1,
        refused_by_storage=1,
        faults=[*faults, {"kind": "submit_500", "taken": 0, "prompt": SECOND}, {"kind": "free_500", "taken": 0}],
        deliveries=[{"state": "delivered"}, {"state": "given up"}],
        made=1,
    )


def test_a_day_on_which_all_of_it_happened_proves_something() -> None:
    assert a_day().wrong == []
    assert a_day().struck == dict.fromkeys(OF_WEBHOOKS, 1)


def nothing_struck(kind: str) -> list[dict[str, Any]]:
    return [{**fault, "taken": 0} if fault["kind"] == kind else fault for fault in a_day().faults]


TOO_LITTLE = {
    "orders that were answered: 7, and at least 8": {"told": Counter({ACCEPTED: 6, BY_THE_BUDGET: 1, NO_ANSWER: 3})},
    "refused by the budget: 0": {"told": Counter({ACCEPTED: 10})},
    "requests sent again with their key: 0": {"asked_again": 0},
    "videos made: 0": {"made": 0},
    "connections of PostgreSQL that were cut: 0": {"connections_cut": 0},
    "connections that the storage refused: 0": {"refused_by_storage": 0},
    "generations' faults that struck: 3, and at least 4": {
        "faults": [*a_day().faults, *[{"kind": "submit_slow", "taken": 0, "prompt": THIRD}] * 6]
    },
    "webhooks delivered: 0": {"deliveries": [{"state": "given up"}, {"state": "pending"}]},
    **{f"{kind}: 0": {"faults": nothing_struck(kind)} for kind in OF_WEBHOOKS},
    **{
        f"{kind}: 0": {"broken": Counter(dict.fromkeys(disturbances.RATES.keys() - {kind}, 1))}
        for kind in disturbances.RATES
    },
}


@pytest.mark.parametrize("sentence", TOO_LITTLE)
def test_a_day_without_one_thing_proves_nothing(sentence: str) -> None:
    (found,) = replace(a_day(), **TOO_LITTLE[sentence]).wrong

    assert sentence in found


def test_nothing_at_all_proves_nothing() -> None:
    nothing = Happened(0, Counter(), 0, Counter(), 0, 0, [], [], 0)

    assert len(nothing.wrong) == len(nothing.required) - 1, "of no orders, all were answered"


class StillTown:
    """Of dead processes, without connections to cut, and with a storage that nobody asks."""

    def __init__(self) -> None:
        self.gate = SimpleNamespace(refused=0, is_open=True)
        self.gate.shut = lambda: setattr(self.gate, "is_open", False)
        self.gate.open = lambda: setattr(self.gate, "is_open", True)
        self.services = {name: self for names in disturbances.KILLED.values() for name in names}
        self.is_running = False
        self.killed = 0

    def cut_connections(self) -> int:
        return 0

    def kill(self) -> None:
        self.killed += 1

    def start(self) -> None:
        pass


def test_what_was_dead_was_not_killed_and_is_killed_as_soon_as_it_lives() -> None:
    town: Any = StillTown()
    kinds = [*disturbances.KILLED, "PostgreSQL connections cut"]
    disturber = disturbances.Disturber(town, [disturbances.Disturbance(5, kind, 0, 1) for kind in kinds])

    disturber.look(5.5)
    assert (disturber.done, disturber.cut, town.killed) == (Counter(), 0, 0)
    town.is_running = True
    disturber.look(6.5)

    assert disturber.done == Counter(dict.fromkeys(disturbances.KILLED, 1))
    assert town.killed == len(disturbances.KILLED)


def test_the_storage_is_out_of_order_until_somebody_has_noticed() -> None:
    town: Any = StillTown()
    disturber = disturbances.Disturber(town, [disturbances.Disturbance(5, "storage refuses", 0, seconds=3)])

    for elapsed, refused, is_open in ((5.1, 0, False), (8.1, 0, False), (8.9, 1, False), (9.1, 1, True)):
        town.gate.refused = refused
        disturber.look(elapsed)
        assert town.gate.is_open is is_open, elapsed


def test_everything_is_mended_in_the_end() -> None:
    town: Any = StillTown()
    disturber = disturbances.Disturber(town, [disturbances.Disturbance(5, "storage refuses", 0, seconds=3)])
    disturber.look(6)

    disturber.end()

    assert town.gate.is_open


def test_a_request_that_names_no_generation_is_no_guess() -> None:
    with pytest.raises(ValueError, match="names 0 generations"):
        verdict.of_request({"inputs": {"image": "http://127.0.0.1/cat.jpg"}, "webhook": None})


def test_a_seed_gives_the_same_weather_again() -> None:
    first, second = (
        (fates.orders(dice, 60, 50.0), disturbances.timetable(dice, 60.0))
        for dice in (random.Random(7), random.Random(7))
    )

    assert first == second
    assert fates.orders(random.Random(8), 60, 50.0) != first[0]


def test_a_short_run_breaks_everything_at_least_once() -> None:
    orders = fates.orders(random.Random(1), 60, 50.0)
    planned = disturbances.timetable(random.Random(1), 60.0)

    assert {each.kind for each in planned} == disturbances.RATES.keys()
    assert [each.at for each in planned] == sorted(each.at for each in planned)
    assert len({each.mark for each in orders}) == 60
    assert 30 <= sum(bool(each.faults) for each in orders) <= 60
    alone = [each.faults for each in orders if each.project == "generous" and not each.cancel]
    assert all((fault,) in alone for fault in fates.WEBHOOK_FAULTS), "each on one that is surely made"
    assert any(each.impatient for each in orders)


def test_every_fault_of_the_sandbox_is_in_it_or_left_out_with_a_reason() -> None:
    armed = {fault.kind for fate in fates.FATES for fault in fate} | {fault.kind for fault in fates.WEBHOOK_FAULTS}
    armed |= {fault.kind for fault, _ in fates.EVERYWHERE}

    assert armed | fates.LEFT_OUT.keys() == KINDS.keys()
    assert not armed & fates.LEFT_OUT.keys()
