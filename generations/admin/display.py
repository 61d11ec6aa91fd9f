"""How generations and videos look in the admin; every text is escaped."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from generations import failures
from generations.lifecycle import progress
from generations.models import (
    CANCELLABLE,
    RETRYABLE,
    RUNNING,
    WATCHED,
    Exchange,
    Generation,
    Priority,
    Status,
    Video,
)
from generations.services import approvals
from projects.admin.display import amount, size, thumbnail

STATUS_COLOURS = {
    Status.DRAFT: "default",
    Status.AWAITING_APPROVAL: "warning",
    Status.QUEUED: "info",
    Status.SUBMITTING: "info",
    Status.PROCESSING: "primary",
    Status.UNCONFIRMED: "warning",
    Status.STORING: "primary",
    Status.COMPLETED: "success",
    Status.FAILED: "danger",
    Status.CANCELLED: "default",
}
LABEL_COLOURS = {status.label: colour for status, colour in STATUS_COLOURS.items()}
WHAT_HAPPENS = {
    Status.DRAFT: "Not sent, and nothing is paid. Change it as you like, then generate it.",
    Status.AWAITING_APPROVAL: "It costs more than the project lets people spend alone, so somebody has to approve it. Nothing is held.",
    Status.QUEUED: "It waits for a free place at the provider. It can still be cancelled, which costs nothing.",
    Status.SUBMITTING: "It is being handed to the provider.",
    Status.PROCESSING: "The provider is making the video.",
    Status.UNCONFIRMED: (
        "The provider’s answer was lost, so nobody knows yet whether the video is being made. The studio looks for it by itself; "
        "meanwhile it is not sent again, and its price stays held."
    ),
    Status.STORING: "The video is made and paid. It is being copied to the studio.",
    Status.COMPLETED: "The video is stored and checked.",
    Status.FAILED: "",
    Status.CANCELLED: "It was cancelled before it was sent, and cost nothing.",
}


def first_video(generation: Generation) -> Video | None:
    """From what was prefetched, so that a list asks once for all rows."""
    return next(iter(generation.videos.all()), None)


def poster(generation: Generation) -> SafeString:
    """The video's poster, else the picture that it starts from."""
    video = first_video(generation)
    if video and video.poster:
        return thumbnail(video.poster, str(generation))
    return thumbnail(generation.image.thumbnail if generation.image else None, str(generation))


def progress_bar(generation: Generation) -> SafeString:
    if generation.status not in RUNNING:
        return format_html("{}", "–")
    percent = progress.percent(generation)
    bar = '<span class="studio-progress" title="{}%"><span style="width: {}%"></span></span>'
    return format_html(bar, percent, percent)


def priority_note(generation: Generation) -> str:
    """Where it counts, and is not what nobody asks about."""
    if generation.status not in CANCELLABLE or generation.priority == Priority.NORMAL:
        return ""
    return f"{generation.get_priority_display()} priority"


def ago(moment: Any) -> SafeString:
    is_recent = timezone.now() - moment < timedelta(minutes=1)
    text = "just now" if is_recent else f"{timesince(moment, depth=1)} ago"
    return format_html('<span title="{}">{}</span>', f"{moment:%Y-%m-%d %H:%M:%S} UTC", text)


def failure_sentence(generation: Generation) -> str:
    return failures.Failure(generation.error_code).sentence if generation.status == Status.FAILED else ""


def video_facts(video: Video) -> list[tuple[str, str]]:
    """What the probe and the checksum say."""
    note = [("Note", video.probe_note)] if video.probe_note else []
    sound = {True: "yes", False: "no", None: "unknown"}[video.has_audio]
    return [
        ("Picture", f"{video.width} × {video.height} pixels" if video.width else "unknown"),
        ("Duration", f"{video.duration.normalize():f} seconds" if video.duration is not None else "unknown"),
        ("Frames", f"{video.fps.normalize():f} per second" if video.fps is not None else "unknown"),
        ("Codec", video.codec or "unknown"),
        ("File", video.content_type),
        ("Sound", sound),
        ("Size", f"{size(video.bytes)} ({video.bytes:,} bytes)"),
        ("SHA-256", video.sha256),
        *note,
    ]


@dataclass(frozen=True)
class Evidence:
    exchange: Exchange

    @property
    def detail(self) -> str:
        return json.dumps(self.exchange.detail, indent=2, ensure_ascii=False, sort_keys=True)


def offers(generation: Generation, *, may_edit: bool, may_spend: bool) -> dict[str, bool]:
    """Which buttons make sense in this state."""
    status = Status(generation.status)
    return {
        "generate": may_spend and status == Status.DRAFT,
        "retry": may_spend and status in RETRYABLE,
        "cancel": may_edit and status in CANCELLABLE,
        "prioritise": may_edit and status in CANCELLABLE,
        "ignore": may_edit and status in WATCHED - CANCELLABLE and generation.result_ignored_at is None,
        "want": may_edit and generation.result_ignored_at is not None,
    }


def approval_facts(generation: Generation, by: User) -> dict[str, Any]:
    """The request for approval that it is, or was last, in."""
    approval = generation.approval
    if approval is None:
        return {}
    is_waiting = generation.status == Status.AWAITING_APPROVAL
    return {
        "approval": approval,
        "approval_total": amount(approval.amount),
        "approval_waits": is_waiting,
        "may_decide": is_waiting and approvals.may_decide(approval, by),
    }


def waited(generation: Generation) -> str:
    """How long it runs already."""
    since = generation.submitted_at or generation.queued_at or generation.created_at
    elapsed = timezone.now() - since
    return f"{int(elapsed.total_seconds())} seconds" if elapsed < timedelta(minutes=2) else timesince(since, depth=1)
