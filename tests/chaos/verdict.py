"""The end of a run: the provider's book against the studio's, and each promise counted. Pure; `python -m tests.chaos` reads the two."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ENDED = ("completed", "failed", "cancelled")
NEVER_SENT = ("draft", "awaiting_approval")
# What a POST was answered with when surely nothing was made: only then may another one follow.
REFUSED_STATUS = {400, 401, 403, 404, 413, 422, 429}
REFUSED_FAULTS = {
    "submit_400",
    "submit_insufficient_credits",
    "submit_401",
    "submit_403",
    "submit_404",
    "submit_413",
    "submit_422",
    "submit_429",
    "submit_concurrency",
}
GENERATION = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
MARK = re.compile(r"\[\d{5}\]")  # `Order.mark`


@dataclass
class Verdict:
    """`figures` to read, and `wrong`: a sentence for each thing that must never be."""

    figures: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.wrong


def of_request(post: dict[str, Any]) -> str:
    """The generation that a POST or a prediction was asked for: its own upload and its own webhook path carry the id."""
    body = json.loads(post["body"]) if "body" in post else post["inputs"]
    named = {
        found.group()
        for text in (str(body.get("image", "")), str(post.get("webhook") or ""))
        if (found := GENERATION.search(text))
    }
    if len(named) != 1:
        raise ValueError(f"A request names {len(named)} generations: {post}")
    return named.pop()


def judge(
    books: dict[str, Any],
    posts: list[dict[str, Any]],
    predictions: list[dict[str, Any]],
    bill: list[dict[str, Any]],
    stored: Callable[[str], bytes | None],
    accepted: dict[str, str],
) -> Verdict:
    """`stored` gives the bytes of an object in the storage, by its name; `accepted` is what customers were told: mark and id."""
    verdict = Verdict()
    _are_books(verdict, books)
    _ordered_once(verdict, books, accepted)
    _all_ended(verdict, books)
    _paid_once(verdict, books, posts, predictions)
    _videos_are_here(verdict, books, predictions, stored)
    _money_is_equal(verdict, books, predictions, bill)
    return verdict


def _are_books(verdict: Verdict, books: dict[str, Any]) -> None:
    """Of nothing, everything can be said."""
    for what in ("generations", "ledger", "periods"):
        if not books[what]:
            verdict.wrong.append(f"The books are empty: they have no {what}.")


def _ordered_once(verdict: Verdict, books: dict[str, Any], accepted: dict[str, str]) -> None:
    """An order is one generation, however often it was asked for; what was accepted is there."""
    became = defaultdict(list)
    for row in books["generations"]:
        if mark := MARK.match(row["prompt"]):
            became[mark.group()].append(row["id"])
        else:
            verdict.wrong.append(f"{row['id']} is no order's: “{row['prompt']}”.")
    for mark, generations in sorted(became.items()):
        if len(generations) > 1:
            verdict.wrong.append(f"Order {mark} became {len(generations)} generations: {', '.join(generations)}.")
    for mark, generation in sorted(accepted.items()):
        if generation not in became[mark]:
            verdict.wrong.append(f"Order {mark} was accepted as {generation}, and the books have no such generation.")
    verdict.figures |= {
        "accepted orders in the books": sum(generation in became[mark] for mark, generation in accepted.items()),
        "orders that became two generations": sum(len(generations) > 1 for generations in became.values()),
    }


def _all_ended(verdict: Verdict, books: dict[str, Any]) -> None:
    statuses = Counter(row["status"] for row in books["generations"])
    verdict.figures |= {f"generations {status}": count for status, count in sorted(statuses.items())}
    for row in books["generations"]:
        if row["status"] not in (*ENDED, *NEVER_SENT):
            verdict.wrong.append(f"{row['id']} has not ended: it is {row['status']}.")
        if row["settles"]:
            verdict.wrong.append(f"{row['id']} is not settled with the bill.")
    for what, count in books["due"].items():
        verdict.figures[f"{what} still due"] = count
        if count:
            verdict.wrong.append(f"{count} {what} are due and nobody took them.")


def _paid_once(
    verdict: Verdict, books: dict[str, Any], posts: list[dict[str, Any]], predictions: list[dict[str, Any]]
) -> None:
    """Only what was surely refused is POSTed again; what may have been made, never."""
    requests = defaultdict(list)
    for post in sorted(posts, key=lambda each: each["number"]):
        requests[of_request(post)].append(post)
    twice = 0
    for generation, sent in requests.items():
        unclear = [post for post in sent[:-1] if not _surely_refused(post)]
        if unclear:
            twice += 1
            verdict.wrong.append(f"{generation} was POSTed again after {unclear[0]['fault'] or 'it was accepted'}.")
    tasks = Counter(of_request(each) for each in predictions)
    for generation, count in tasks.items():
        if count > 1:
            verdict.wrong.append(f"{generation} has {count} tasks at the provider: it was paid {count} times.")
    for generation in requests.keys() - {row["id"] for row in books["generations"]}:
        verdict.wrong.append(f"{generation} was POSTed and the studio does not know it.")
    verdict.figures |= {
        "POSTs": len(posts),
        "generations that were POSTed": len(requests),
        "of them after a sure refusal again": sum(len(sent) > 1 for sent in requests.values()) - twice,
        "of them twice": twice,
        "tasks at the provider": len(predictions),
    }


def _surely_refused(post: dict[str, Any]) -> bool:
    if post["prediction_id"]:
        return False
    return post["fault"] in REFUSED_FAULTS or (not post["fault"] and post["status"] in REFUSED_STATUS)


def _videos_are_here(
    verdict: Verdict,
    books: dict[str, Any],
    predictions: list[dict[str, Any]],
    stored: Callable[[str], bytes | None],
) -> None:
    videos = {video["prediction_id"]: video for video in books["videos"]}
    rows = {row["prediction_id"]: row for row in books["generations"] if row["prediction_id"]}
    made = [each for each in predictions if each["status"] == "completed"]
    here = 0
    for prediction in made:
        video = videos.get(prediction["id"])
        if video is None:
            verdict.wrong.append(f"{of_request(prediction)} was made ({prediction['id']}) and its video is not here.")
            continue
        content = stored(video["file"])
        found = hashlib.sha256(content).hexdigest() if content is not None else "nothing"
        if not found == video["sha256"] == prediction["output_sha256"]:
            verdict.wrong.append(f"The video of {prediction['id']} has another checksum in the storage or the books.")
            continue
        here += 1
        row = rows.get(prediction["id"])
        if row is None or row["status"] != "completed":
            verdict.wrong.append(f"The video of {prediction['id']} is here, but no generation is completed by it.")
        elif row["id"] != of_request(prediction):
            verdict.wrong.append(f"{row['id']} has the video of another generation, {of_request(prediction)}.")
    completed = {row["prediction_id"] for row in books["generations"] if row["status"] == "completed"}
    for prediction_id in completed - {each["id"] for each in made}:
        verdict.wrong.append(f"{rows[prediction_id]['id']} is completed, and the provider did not make it.")
    verdict.figures |= {"predictions completed": len(made), "of them stored here, with their checksum": here}


def _money_is_equal(
    verdict: Verdict, books: dict[str, Any], predictions: list[dict[str, Any]], bill: list[dict[str, Any]]
) -> None:
    """In micro-dollars, generation by generation: what the ledger spent is what the provider took and kept."""
    owners = {each["id"]: of_request(each) for each in predictions}
    billed: Counter[str] = Counter()
    for row in bill:
        sign = -1 if row["billing_type"] == "refund" else 1
        billed[owners[row["prediction_id"]]] += sign * row["price_micros"]
    spent = {row["generation"]: row["spent"] for row in books["ledger"]}
    for generation in sorted(billed.keys() | spent.keys()):
        if billed[generation] != spent.get(generation, 0):
            verdict.wrong.append(
                f"{generation}: the bill says {billed[generation]:,}, the ledger {spent.get(generation, 0):,} micro-dollars."
            )
    held = sum(row["reserved"] for row in books["ledger"])
    for row in books["ledger"]:
        if row["reserved"]:
            verdict.wrong.append(f"{row['generation']} still holds {row['reserved']:,} micro-dollars.")
    verdict.wrong += [f"The books disagree with themselves: {each}." for each in books["wrong_books"]]
    for charged in books["generations"]:
        if charged["charged"] is not None and charged["charged"] != spent.get(charged["id"], 0):
            verdict.wrong.append(f"{charged['id']} shows another charge than the ledger.")
    for period in books["periods"]:
        if period["spent"] + period["reserved"] > period["limit"]:
            verdict.wrong.append(
                f"{period['budget']} was passed: {period['spent']:,} + {period['reserved']:,} of {period['limit']:,}."
            )
    # One total budget a project, and each entry is in it.
    in_periods = sum(period["spent"] for period in books["periods"])
    if in_periods != sum(spent.values()):
        verdict.wrong.append("The budgets' periods do not show what the ledger spent.")
    verdict.figures |= {
        "billed, micro-dollars": sum(billed.values()),
        "spent by the ledger, micro-dollars": sum(spent.values()),
        "still held, micro-dollars": held,
    }
