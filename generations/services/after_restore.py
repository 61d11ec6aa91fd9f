"""Compares a database that was restored from a backup with the provider, so that nothing is paid twice and nothing that was paid is lost.

What shows as a draft or as queued may have been sent after the backup was made. Each submit uploads pictures of its own, whose name
carries the generation's id: a prediction that names one is surely its. Where the provider hides that, equal inputs are a perhaps, and
where it hides the inputs too, every prediction that nobody here knows is one. What is perhaps paid is never sent again by code.
"""

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Min
from django.utils import timezone

from generations import catalog, lifecycle, provider
from generations.lifecycle import matching, restored, unassigned
from generations.models import (
    NOT_ACCEPTED,
    Generation,
    Status,
    UnassignedPrediction,
)
from generations.provider import bill
from generations.services import approvals, queueing
from generations.wavespeed.replies import Prediction

TOLD_EVERY = 1_000

log = structlog.get_logger(__name__)

FoundBy = UnassignedPrediction.FoundBy
SECONDS_FOR_ONE = 60
# A row that people move while it is compared is looked at again.
LOOKS = 5
MOVED = "It was moved each time that it was looked at. Run this again."
PAUSED = "A database that was restored from a backup is being compared with the provider. Nothing is submitted until an owner resumes."


class Likeness(StrEnum):
    SURE = "sure"
    SAME_INPUTS = "same inputs"
    HIDDEN = "inputs hidden"


@dataclass(frozen=True)
class Finding:
    """What became of one row: `state` is where it stood in the backup, `now` where it stands after this, `why` a sentence for people."""

    generation: Generation
    state: str
    now: str
    why: str
    is_left: bool = False


@dataclass
class Report:
    since: datetime
    predictions: int = 0
    compared: int = 0
    findings: list[Finding] = field(default_factory=list)
    # Predictions that nobody here knows: their videos are stored as unassigned ones.
    strangers: int = 0
    # Seen on the bill alone, as the provider's list does not go back so far.
    billed_only: int = 0

    @property
    def left(self) -> list[Finding]:
        """What moved each time that it was looked at: to be compared once more, before anything is submitted."""
        return [finding for finding in self.findings if finding.is_left]


def compare(*, tell: Callable[[str], None] = lambda words: None) -> Report:
    """Pauses the lane, compares every draft and every unfinished row, and lets an owner resume if none of them is left.

    Raises `WaveSpeedError`: run it again. It may run while workers and people do, and again: what was dealt with is not dealt with twice.
    """
    restored.pause(PAUSED)
    # From here on nothing is sent, so that whatever is not in the list now was not sent by a row that is read later.
    report = Report(since=_earliest())
    listed = _listed(report, tell)
    strangers = _strangers(listed, report)
    for prediction in listed:
        is_ours = prediction.model in catalog.ENDPOINTS and not settings.WAVESPEED_ACCOUNT_IS_SHARED
        if prediction.id in strangers and is_ours:
            unassigned.remember(prediction, found_by=FoundBy.LIST)
    rows = Generation.objects.filter(status__in=NOT_ACCEPTED).select_related("project").order_by("queued_at", "pk")
    for row in list(rows):
        report.compared += 1
        _compare(row, strangers, report)
    report.strangers = len(strangers)
    if not report.left:
        restored.compared()
    log.info("compared_after_restore", compared=report.compared, strangers=report.strangers, left=len(report.left))
    return report


def _earliest() -> datetime:
    """Since when what is compared may have been sent."""
    first = Generation.objects.filter(status__in=NOT_ACCEPTED).aggregate(first=Min("created_at"))["first"]
    listed_from = timezone.now() - unassigned.LISTED_FOR
    return min(first, listed_from) if first else listed_from


def _listed(report: Report, tell: Callable[[str], None]) -> list[Prediction]:
    """Everything of the last 7 days, with its inputs where they are told."""
    since = timezone.now() - unassigned.LISTED_FOR
    listed = []
    for prediction in provider.client().all_predictions(created_after=since, include_inputs=True):
        listed.append(prediction)
        if len(listed) % TOLD_EVERY == 0:
            tell(f"Read {len(listed):,} predictions of the provider's list…")
    report.predictions = len(listed)
    return listed


def _strangers(listed: list[Prediction], report: Report) -> dict[str, Prediction]:
    """What was made there and is nobody's here, by id. What is older than the list, the bill alone tells of."""
    nobodys = unassigned.unknown(prediction.id for prediction in listed)
    found = {prediction.id: prediction for prediction in listed if prediction.id in nobodys}
    billed = bill.between(report.since, timezone.now())
    known = {prediction.id for prediction in listed}
    for prediction_id in unassigned.unknown(pk for pk in billed if pk and pk not in known):
        found[prediction_id] = _from_bill(billed[prediction_id])
        report.billed_only += 1
    return found


def _from_bill(billed: bill.Bill) -> Prediction:
    return Prediction(
        id=billed.prediction_id,
        model="",
        status="",
        outputs=(),
        error="",
        code=None,
        has_nsfw=False,
        created_at=billed.first_at,
        input=None,
    )


# --- Likeness ---------------------------------------------------------------------------------------------------------


def likeness(generation: Generation, prediction: Prediction) -> Likeness | None:
    """How sure it is that this prediction is the one of this generation; None: it is not."""
    inputs = prediction.input or {}
    if owners := matching.named(inputs.get("image")) | matching.named(inputs.get("end_image")):
        return Likeness.SURE if str(generation.pk) in owners else None
    if prediction.model not in ("", generation.endpoint):
        return None
    # Not when it was queued: that may have been done again since the backup was restored.
    if prediction.created_at and prediction.created_at < generation.created_at - matching.SKEW:
        return None
    if not prediction.input:
        return Likeness.HIDDEN
    return Likeness.SAME_INPUTS if _are_same(generation, prediction.input) else None


def _are_same(generation: Generation, inputs: Mapping[str, Any]) -> bool:
    """Nothing of what is told differs; what is not told says nothing."""
    ours = {
        "prompt": _words(generation.prompt),
        "duration": _number(generation.duration),
        "sound": str(generation.sound).lower(),
        "multi_prompt": [_words(shot["prompt"]) for shot in generation.multi_prompt],
    }
    theirs = {
        "prompt": _words(inputs.get("prompt") or ""),
        "duration": _number(inputs.get("duration")),
        "sound": str(inputs.get("sound")).lower(),
        "multi_prompt": [_words(shot.get("prompt", "")) for shot in _shots(inputs.get("multi_prompt"))],
    }
    return all(ours[name] == theirs[name] for name in ours if inputs.get(name) is not None)


def _words(text: object) -> str:
    """However it is spaced and composed: nobody says that the provider gives it back letter by letter."""
    return " ".join(unicodedata.normalize("NFKC", str(text)).split()).casefold()


def _number(value: object) -> object:
    """`5`, `"5"` and `5.0` are one."""
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return value


def _shots(value: object) -> list[Mapping[str, Any]]:
    return [shot for shot in value if isinstance(shot, dict)] if isinstance(value, list) else []


# --- One row ----------------------------------------------------------------------------------------------------------


def _compare(generation: Generation, strangers: Mapping[str, Prediction], report: Report) -> None:
    alike: defaultdict[Likeness, list[Prediction]] = defaultdict(list)
    for prediction in strangers.values():
        if like := likeness(generation, prediction):
            alike[like].append(prediction)
    state, looks = Status(generation.status), 1
    while (why := _deal_with(generation, alike)) is None and looks < LOOKS:
        looks += 1
        generation.refresh_from_db()
    if why != "":
        generation.refresh_from_db()
        now = generation.get_status_display()
        report.findings.append(Finding(generation, state.label, now, why or MOVED, is_left=why is None))


def _deal_with(generation: Generation, alike: Mapping[Likeness, list[Prediction]]) -> str | None:
    """What became of it; empty: nothing had to. None: it was moved by somebody else meanwhile."""
    match generation.status:
        case Status.QUEUED:
            return _hold_queued(generation, alike)
        case Status.DRAFT | Status.AWAITING_APPROVAL:
            return _stop_draft(generation, alike)
        case Status.SUBMITTING | Status.UNCONFIRMED:
            return _take_up(generation, alike[Likeness.SURE])
    return ""


def _hold_queued(generation: Generation, alike: Mapping[Likeness, list[Prediction]]) -> str | None:
    """A queued row that may be paid is not queued any more: surely paid, it goes on; else it is unconfirmed, for an owner to decide."""
    sure = alike[Likeness.SURE]
    perhaps = [*alike[Likeness.SAME_INPUTS], *alike[Likeness.HIDDEN]]
    if not sure and not perhaps:
        return ""
    if not _unconfirm(generation, sure or perhaps):
        return None
    if len(sure) == 1 and lifecycle.adopt(
        generation.pk, sure[0].id, reason="It was sent after the backup: the provider's list names its own picture."
    ):
        return "It was sent after the backup; its video is fetched and charged."
    for prediction in sure or perhaps:
        unassigned.remember(prediction, found_by=_found_by(prediction), candidate_for=generation)
    count = len(sure or perhaps)
    return (
        f"It may have been sent after the backup: {count} prediction{'' if count == 1 else 's'} at the provider may be it. "
        "An owner decides; until then its money stays held, and it is not sent."
    )


@transaction.atomic
def _unconfirm(generation: Generation, predictions: Iterable[Prediction]) -> bool:
    """As if its worker had died after the POST, at the time of the earliest prediction that may be it.

    Whoever has its lease, which may be of the time of the backup: a worker that prepares it now finds it taken, and sends nothing.
    """
    times = [prediction.created_at for prediction in predictions if prediction.created_at]
    token = Generation.objects.take_over(generation.pk, SECONDS_FOR_ONE, status=Status.QUEUED)
    if token is None:
        return False
    reason = "The database was restored from a backup, and it may have been sent since that was made."
    return Generation.objects.move(
        generation.pk,
        Status.QUEUED,
        Status.SUBMITTING,
        token=token,
        reason=reason,
        submitted_at=min(times, default=timezone.now()),
        request_body={"prompt": generation.prompt, "duration": generation.duration, "sound": generation.sound},
        next_action_at=None,
    ) and Generation.objects.move(
        generation.pk, Status.SUBMITTING, Status.UNCONFIRMED, reason=reason, next_action_at=timezone.now()
    )


def _stop_draft(generation: Generation, alike: Mapping[Likeness, list[Prediction]]) -> str | None:
    """A draft whose video was made after the backup is cancelled, so that nobody pays for it again without meaning to."""
    made = [*alike[Likeness.SURE], *alike[Likeness.SAME_INPUTS]]
    if not made:
        return (
            "Look whether it was made, before you queue it: the provider hides what was asked for."
            if alike[Likeness.HIDDEN]
            else ""
        )
    at = f"{made[0].created_at:%Y-%m-%d %H:%M} UTC" if made[0].created_at else "after the backup"
    reason = f"It was made after the backup that this database was restored from: see the unassigned video of {at} ({made[0].id})."
    with transaction.atomic():
        queueing.lock_projects([generation.project_id])
        if not Generation.objects.filter(pk=generation.pk, status=generation.status).exists():
            return None
        approvals.withdraw_of(generation, reason="The database was restored from a backup.", by=None)
        Generation.objects.move(generation.pk, Status.DRAFT, Status.CANCELLED, reason=reason, next_action_at=None)
    return f"{reason} Its video is kept; retry it if you want another one."


def _take_up(generation: Generation, sure: list[Prediction]) -> str:
    """What was on its way in the backup: its reply is lost, so that the provider is asked."""
    if generation.status == Status.SUBMITTING:
        lifecycle.recover_submit(generation.pk)
    if len(sure) == 1:
        reason = "The provider's list names this request's own picture: accepted."
        lifecycle.adopt(generation.pk, sure[0].id, reason=reason)
    else:
        lifecycle.resolve(generation.pk)
    generation.refresh_from_db()
    match generation.status:
        case Status.PROCESSING:
            return "It was on its way when the backup was made, and was found at the provider; it goes on."
        case Status.SUBMITTING:
            return "It was being sent when the backup was made; it is taken up by itself in a few minutes."
    return "It was on its way when the backup was made, and was not found for sure: an owner decides."


def _found_by(prediction: Prediction) -> str:
    return FoundBy.LIST if prediction.model else FoundBy.BILL
