"""Tells people what concerns the pipeline, each thing once: charges above what was reserved, the paused lane, the provider's
balance, files that are wrong or late."""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from generations import provider
from generations.models import Generation, Lane, Status, UnassignedPrediction
from projects import alerts, permissions
from projects.models import Alert, AlertKind, SpendEntry
from projects.money import forecast, shown

LINKS_SHOWN = 50
# How long the provider keeps what it made, and when it becomes urgent that it is not stored here.
OUTPUTS_LAST = timedelta(days=7)
EXPIRES_SOON = timedelta(days=1)
# So many tries take about three quarters of an hour.
TRIES_UNTIL_TOLD = 15


def overcharged(generation: Generation, *, reserved: int, charged: int) -> None:
    """Tells that the provider took more than was reserved; amounts in micro-dollars."""
    with alerts.never_failing(AlertKind.OVERCHARGED):
        alerts.tell(
            AlertKind.OVERCHARGED,
            f"overcharged:{generation.pk}:{charged}",
            people=alerts.responsible_for(generation.project),
            title=f"{generation.project}: charged {shown(charged)}, {shown(charged - reserved)} more than was reserved",
            text=f"“{generation}” on {generation.endpoint}: {shown(reserved)} was reserved, and the provider took {shown(charged)}. "
            "Nothing more is submitted to this endpoint until a studio owner has looked at its price and resumes it.",
            project=generation.project,
            path=page_of(generation),
        )


def late_deduct(generation: Generation, *, amount: int) -> None:
    """Tells that the provider took micro-dollars for a failure whose hold had been released."""
    with alerts.never_failing(AlertKind.LATE_DEDUCT):
        alerts.tell(
            AlertKind.LATE_DEDUCT,
            f"late_deduct:{generation.pk}",
            people=alerts.responsible_for(generation.project),
            title=f"{generation.project}: {shown(amount)} was deducted for what had failed and cost nothing",
            text=f"“{generation}” had failed, and by the provider's bill it cost nothing: so its money was released. Now the bill has a "
            f"deduct for it. {shown(amount)} is charged in the budgets where it had been reserved. A refund of it is booked by itself.",
            project=generation.project,
            path=page_of(generation),
        )


def lane_paused(reason: str) -> None:
    """Tells the studio owners, once per pause, that nothing is submitted any more. Call it when the lane is paused."""
    with alerts.never_failing(AlertKind.LANE_PAUSED):
        paused_at = Lane.objects.values_list("paused_at", flat=True).get(pk=Lane.WAVESPEED)
        if paused_at is None:
            return
        _tell_of_lane(
            AlertKind.LANE_PAUSED,
            f"lane_paused:{paused_at:%Y-%m-%dT%H:%M:%S.%f}",
            title="Submitting is paused",
            text=reason,
        )


def key_refused() -> None:
    """Tells the studio owners, once a day, what a lane that was paused for another cause would hide: what was made is not fetched."""
    _tell_of_lane(
        AlertKind.LANE_PAUSED,
        f"key_refused:{timezone.now():%Y-%m-%d}",
        title="The provider refuses the studio's API key",
        text="Nobody sees what became of the videos that were ordered, and none is fetched; what is made is kept there for 7 days. "
        "Check WAVESPEED_API_KEY. That submitting is paused, too, has another cause.",
    )


def dispatcher_missing(since: datetime) -> bool:
    """Tells the studio owners that nobody looks for due work, once an outage and at most once an hour; True if it is told now."""
    is_told = False
    with alerts.never_failing(AlertKind.DISPATCHER):
        if not Alert.objects.filter(kind=AlertKind.DISPATCHER, created_at__gt=since).exists():
            is_told = alerts.tell(
                AlertKind.DISPATCHER,
                f"dispatcher:{timezone.now():%Y-%m-%dT%H}",
                people=permissions.studio_owners(),
                title="The dispatcher is missing",
                text=f"None has been seen since {since:%H:%M} UTC. What is queued may wait, and finished videos are fetched late or "
                "not at all; nothing is paid twice. Start it again with “manage.py dispatch”, or as the service that it is on your "
                "machines.",
                path=reverse("admin:generations_process_changelist"),
            )
    return is_told


def not_stored(cause: str, reason: str, *, generation: Generation | None = None) -> None:
    """Tells the studio owners, once a day and cause, that our own storage or disk does not take what was made and paid."""
    with alerts.never_failing(AlertKind.STORAGE):
        alerts.tell(
            AlertKind.STORAGE,
            f"storage:{cause}:{timezone.now():%Y-%m-%d}",
            people=permissions.studio_owners(),
            title="Finished videos can't be stored",
            text=f"{reason} What was made is paid, and the provider keeps it for 7 days: it is fetched again, at least once a minute, "
            "until it is stored. Nothing more is submitted meanwhile. Make room, or see to it that the storage can be written.",
            project=generation.project if generation else None,
            path=page_of(generation) if generation else reverse("admin:generations_lane_changelist"),
        )


def no_room(reason: str) -> None:
    """Tells the studio owners, once a day, that nothing is submitted for want of room."""
    _tell_of_lane(
        AlertKind.STORAGE,
        f"storage:room:{timezone.now():%Y-%m-%d}",
        title="Nothing is submitted: there is no room for videos",
        text=reason,
    )


def check_expiring() -> None:
    """Tells the studio owners, once a day, that the provider will soon drop videos that are paid and not stored here."""
    now = timezone.now()
    rows = _wait_for_their_videos().filter(submitted_at__lte=now - OUTPUTS_LAST + EXPIRES_SOON)
    unassigned = UnassignedPrediction.objects.alias(since=Coalesce("made_at", "found_at")).filter(
        stored_at=None, next_action_at__isnull=False, since__lte=now - OUTPUTS_LAST + EXPIRES_SOON
    )
    count = rows.count() + unassigned.count()
    if not count:
        return
    expiring = list(rows.select_related("project").order_by("submitted_at")[:LINKS_SHOWN])
    videos = f"{count} paid {'video' if count == 1 else 'videos'}"
    is_over = not (
        rows.filter(submitted_at__gt=now - OUTPUTS_LAST).exists()
        or unassigned.filter(since__gt=now - OUTPUTS_LAST).exists()
    )
    alerts.tell(
        AlertKind.STORAGE,
        f"storage:expiring:{now:%Y-%m-%d}",
        people=permissions.studio_owners(),
        title=f"{videos} may be lost: the provider’s 7 days are over"
        if is_over
        else f"{videos} will be lost within a day, unless stored",
        text=f"The provider keeps what it made for 7 days, and this is not stored here yet. {_trouble(expiring)}"
        "It is tried again until the provider says that it has it no more. See to it today that "
        "the studio reaches the provider with a good key, and that its storage can be written.",
        links=[[_line_of(generation), page_of(generation)] for generation in expiring],
        path=reverse("admin:generations_generation_changelist"),
    )


def check_not_sent() -> None:
    """Tells the studio owners, once a day, that pictures can't be brought to the provider, however often that is tried."""
    rows = Generation.objects.filter(
        status=Status.QUEUED, error_code__in=("not_uploaded", "picture_not_read"), attempts__gte=TRIES_UNTIL_TOLD
    )
    count = rows.count()
    if not count:
        return
    waiting = list(rows.select_related("project").order_by("queued_at")[:LINKS_SHOWN])
    alerts.tell(
        AlertKind.LANE_PAUSED,
        f"not_sent:{timezone.now():%Y-%m-%d}",
        people=permissions.studio_owners(),
        title="1 generation can't be submitted" if count == 1 else f"{count} generations can't be submitted",
        text=f"Pictures do not reach the provider. {waiting[0].error_message} Nothing was paid, the money stays held, and it is tried "
        "again every few minutes. See to it that the studio reaches the provider and its own storage.",
        links=[[_line_of(generation), page_of(generation)] for generation in waiting],
        path=reverse("admin:generations_generation_changelist"),
    )


def _wait_for_their_videos() -> QuerySet[Generation]:
    """What the provider accepted, also what it said had failed and is asked for again. Of the unconfirmed their owners are told."""
    late = Q(status=Status.FAILED, prediction_id__isnull=False, next_action_at__isnull=False)
    return Generation.objects.filter(Q(status__in=(Status.PROCESSING, Status.STORING)) | late)


def _trouble(expiring: Sequence[Generation]) -> str:
    """What the oldest waits for, with a space after it."""
    if not expiring:
        return ""
    if expiring[0].status != Status.STORING:
        return "The provider gives no result of it. "
    return f"{expiring[0].error_message} " if expiring[0].error_message else ""


def lane_resumed(paused_at: datetime | None, reason: str) -> None:
    """Tells the studio owners that the pause which began at `paused_at` ended by itself."""
    _tell_of_lane(
        AlertKind.LANE_PAUSED,
        f"lane_resumed:{paused_at:%Y-%m-%dT%H:%M:%S.%f}",
        title="Submitting goes on again",
        text=f"{reason} What is queued is submitted in turn; there is nothing that you have to do.",
    )


def _tell_of_lane(kind: AlertKind, key: str, *, title: str, text: str) -> None:
    """Tells the studio owners, once per `key`, what the page Lane shows; never breaks the work that it tells of."""
    with alerts.never_failing(kind):
        path = reverse("admin:generations_lane_changelist")
        alerts.tell(kind, key, people=permissions.studio_owners(), title=title, text=text, path=path)


def unconfirmed(generation: Generation, *, candidates: int) -> None:
    """Tells the project's owners and the studio's, once, that only people can decide what became of a request."""
    with alerts.never_failing(AlertKind.UNCONFIRMED):
        found = {0: "No prediction at the provider looks like it.", 1: "One prediction at the provider may be it."}
        alerts.tell(
            AlertKind.UNCONFIRMED,
            f"unconfirmed:{generation.pk}",
            people=permissions.who_may("manage", generation.project),
            title=f"{generation.project}: nobody knows whether “{generation}” was made",
            text="The provider's answer was lost, and it was not found there for sure. "
            f"{found.get(candidates, f'{candidates} predictions at the provider may be it.')} "
            f"{shown(generation.quote or 0)} stays held, and it is not sent again, until you decide: which it is, or none.",
            project=generation.project,
            path=page_of(generation),
        )


def needs_look(generation: Generation, *, why: str, studio_knows: bool) -> None:
    """Tells the project's owners and the studio's why a generation does not go on without people.

    One alert a project, status and day: it grows with each further generation, and is unread and due by e-mail again. `studio_knows`:
    the studio owners have an alert of their own about it (`check_not_sent`), so that only the project's owners hear of it here.
    """
    with alerts.never_failing(AlertKind.NEEDS_LOOK):
        people = permissions.who_may("manage", generation.project)
        if studio_knows:
            people = people.exclude(pk__in=permissions.studio_owners().values("pk"))
        key = f"needs_look:{generation.project_id}:{generation.status}:{studio_knows:d}:{timezone.now():%Y-%m-%d}"
        is_new = alerts.tell(
            AlertKind.NEEDS_LOOK,
            key,
            people=people,
            title=f"{generation.project}: “{generation}” needs a look",
            text=f"It is {generation.get_status_display().lower()}. {why}",
            project=generation.project,
            path=page_of(generation),
        )
        if not is_new:
            _grow(key, generation, why, people)


def _grow(key: str, generation: Generation, why: str, people: QuerySet[User]) -> None:
    """Names all that need a look in the alert that was told for the first of them."""
    alert = Alert.objects.select_for_update(no_key=True).get(key=key)
    if page_of(generation) in (alert.path, *(path for _, path in alert.links)):
        return
    waiting = Generation.objects.filter(
        project=generation.project_id, status=generation.status, needs_look_since__isnull=False
    )
    count = waiting.count()
    newest = waiting.select_related("project").order_by("-needs_look_since", "pk")[:LINKS_SHOWN]
    filters = urlencode({"needs_look": "yes", "project": generation.project_id, "status__exact": generation.status})
    alerts.tell_again(
        alert,
        people=people,
        title=f"{generation.project}: {count:,} generation{'s need' if count > 1 else ' needs'} a look",
        text=f"{'They are' if count > 1 else 'It is'} {generation.get_status_display().lower()}. “{generation}”: {why}",
        links=[[_line_of(each), page_of(each)] for each in newest],
        path=f"{reverse('admin:generations_generation_changelist')}?{filters}",
    )


def unexpected(step: str, kind: str, why: str, *, generation: Generation | None = None) -> None:
    """Tells the studio owners, once a day for each step and kind of error, of an error that nobody expected."""
    with alerts.never_failing(AlertKind.NEEDS_LOOK):
        alerts.tell(
            AlertKind.NEEDS_LOOK,
            f"unexpected:{step}:{kind}:{timezone.now():%Y-%m-%d}"[:200],
            people=permissions.studio_owners(),
            title=f"An unexpected error in the step “{step}”",
            text=f"{why} Nothing is lost or paid twice by it. If it comes again and again, the log of the workers tells where it is from.",
            project=generation.project if generation else None,
            path=page_of(generation) if generation else reverse("admin:generations_process_changelist"),
        )


def late_success(generation: Generation, *, charged: int) -> None:
    """Tells the owners and who asked that what had failed came after all, and what it costs (micro-dollars)."""
    with alerts.never_failing(AlertKind.LATE_SUCCESS):
        owners = permissions.who_may("manage", generation.project).values("pk")
        alerts.tell(
            AlertKind.LATE_SUCCESS,
            f"late_success:{generation.pk}",
            people=User.objects.filter(Q(pk__in=owners) | Q(pk=generation.requested_by_id, is_active=True)),
            title=f"{generation.project}: “{generation}” came after all",
            text=f"It had failed, and the provider has made it. It cost {shown(charged)}, and its video is being stored; "
            "nothing was asked for a second time.",
            project=generation.project,
            path=page_of(generation),
        )


def files_not_in_order(found: str) -> None:
    """Tells the studio owners, once a day, that the storage does not hold what the database says."""
    _check_failed(
        "Stored files are not in order",
        f"The nightly check found: {found}. “manage.py check_storage” lists them; with --repair it fetches videos again while the "
        "provider has them (7 days), makes posters anew and deletes what belongs to nothing.",
    )


def files_kept(names: Sequence[str]) -> None:
    """Tells the studio owners, once for the same files, of those that belong to nothing and that only people may delete."""
    several = "s that belong" if len(names) > 1 else " that belongs"
    these = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
    _check_failed(
        "Stored files that may have been paid for are kept",
        f"The nightly check found {len(names):,} file{several} to nothing here. They may be what was paid for, so they are kept, and you "
        "are not told of them again. “manage.py check_storage” lists them, each with the reason; docs/operations.md says what to do.",
        key=f"kept:{these}",
    )


def files_not_checked(reason: str) -> None:
    _check_failed(
        "Stored files could not be checked",
        f"{reason} See to it that the storage can be reached; it is checked again tomorrow night, or now by “manage.py check_storage”.",
    )


def _check_failed(title: str, text: str, *, key: str = "") -> None:
    """Once for each `key`; without one, once a day."""
    alerts.tell(
        AlertKind.CHECK_FAILED,
        f"check_failed:files:{key or f'{timezone.now():%Y-%m-%d}'}",
        people=permissions.studio_owners(),
        title=title,
        text=text,
    )


def check_balance() -> None:
    """Tells the studio owners, once a day, that the provider's balance won't last; one that can't be read tells nothing."""
    balance = provider.balance()
    if balance is None:
        return
    now = timezone.now()
    net, span = forecast.recent_spend(SpendEntry.objects.all(), now)
    if net <= 0 or balance >= forecast.at_pace(net, span, timedelta(days=settings.ALERT_BALANCE_DAYS)):
        return
    lasts = forecast.duration(max(balance, 0) * (span // forecast.SECOND) // net * forecast.SECOND)
    daily = shown(forecast.at_pace(net, span, forecast.DAY))
    alerts.tell(
        AlertKind.PROVIDER_BALANCE,
        f"provider_balance:{now:%Y-%m-%d}",
        people=permissions.studio_owners(),
        title=f"The provider's balance lasts about {lasts}",
        text=f"{shown(balance)} is left, and the mean spend of the last {forecast.duration(span)} is {daily} a day. "
        "Top up the account at the provider: without credits, submitting pauses.",
        path=reverse("admin:generations_lane_changelist"),
    )


def _line_of(generation: Generation) -> str:
    return f"“{generation}” in {generation.project}"


def page_of(generation: Generation) -> str:
    return reverse("admin:generations_generation_change", args=[generation.pk])
