"""E-mails people what they were told of: one digest each, not one mail an alert. What is urgent comes alone, and first.

A notification is due at `email_at`. Whoever sends it moves that ahead first, so that a second dispatcher leaves it alone,
and marks it only after the mail server took the mail: a process that dies in between sends it once more rather than never.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from smtplib import SMTPException

import structlog
from django.conf import settings
from django.contrib.auth.models import User
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.mail.backends.base import BaseEmailBackend
from django.db import transaction
from django.db.models import Min, QuerySet
from django.template.loader import render_to_string
from django.utils import timezone

from projects.models import AlertKind, Invitation, Notification

log = structlog.get_logger(__name__)

# What concerns the whole studio doesn't wait for the next digest, nor stands among what does: its mail's subject names it.
URGENT = (
    *(AlertKind.LANE_PAUSED, AlertKind.OVERCHARGED, AlertKind.DISPATCHER),
    *(AlertKind.STORAGE, AlertKind.CHECK_FAILED, AlertKind.PROVIDER_BALANCE),
)
# Longer than a mail server may take; then the mail is due again.
LEASE = timedelta(minutes=5)
# Who can't be reached for so long reads it in the bell.
GIVE_UP = timedelta(days=3)
PEOPLE_AT_ONCE = 200
SHOWN = 50


def send() -> None:
    """Sends what is due. A mail server that is down is asked again a minute later, and nothing is lost."""
    now = timezone.now()
    _give_up()
    due = Notification.objects.filter(email_at__lte=now, user__is_active=True).order_by("user_id")
    people = list(due.values_list("user_id", flat=True).distinct()[:PEOPLE_AT_ONCE])
    if not people:
        return
    connection = get_connection()
    try:
        connection.open()
    except (SMTPException, OSError) as error:
        log.warning("mail_server_unreachable", reason=str(error))
        return
    try:
        for user_id in people:
            for claimed in _claim(user_id):
                _send(claimed, connection)
    finally:
        connection.close()


def waiting_since() -> datetime | None:
    """Since when the oldest e-mail waits that nobody's mail server has taken yet; None while none waits."""
    waiting = Notification.objects.filter(email_at__isnull=False, user__is_active=True)
    invitations = Invitation.objects.open().filter(email_at__isnull=False)
    oldest = (
        waiting.aggregate(since=Min("alert__created_at"))["since"],
        invitations.aggregate(since=Min("created_at"))["since"],
    )
    return min(filter(None, oldest), default=None)


def _give_up() -> None:
    Notification.objects.filter(email_at__isnull=False, alert__created_at__lt=timezone.now() - GIVE_UP).update(
        email_at=None
    )


@transaction.atomic
def _claim(user_id: int) -> list[list[Notification]]:
    """What is due for one person, mail by mail: what is urgent, then the rest, unless their next digest is not due yet."""
    # Locked, so that what arrives meanwhile makes no second mail. Not against rows that name this person, which others insert.
    user = User.objects.select_for_update(no_key=True).get(pk=user_id)
    now = timezone.now()
    theirs = Notification.objects.filter(user=user)
    due = list(theirs.filter(email_at__lte=now).select_related("alert", "user").order_by("alert__created_at"))
    urgent = [notification for notification in due if notification.alert.kind in URGENT]
    others = [notification for notification in due if notification.alert.kind not in URGENT]
    digests = theirs.exclude(alert__kind__in=URGENT)
    recent = now - timedelta(minutes=settings.DIGEST_MINUTES)
    if digests.filter(emailed_at__gt=recent).exists() or digests.filter(email_at__gt=now).exists():
        others = []
    Notification.objects.filter(pk__in=[each.pk for each in [*urgent, *others]]).update(email_at=now + LEASE)
    return [mail for mail in (urgent, others) if mail]


def _send(claimed: Sequence[Notification], connection: BaseEmailBackend) -> None:
    try:
        _message(claimed, connection).send()
    except (SMTPException, OSError, ValueError) as error:  # ValueError: an address that is none
        log.warning("digest_not_sent", user=claimed[0].user_id, reason=str(error))
        # Rarer the longer it fails, so that an address which no server takes is not tried every few minutes.
        now = timezone.now()
        wait = max(LEASE, (now - claimed[0].alert.created_at) / 4)
        _of(claimed).update(email_at=now + wait)
    else:
        _of(claimed).update(email_at=None, emailed_at=timezone.now())


def _of(claimed: Sequence[Notification]) -> QuerySet[Notification]:
    return Notification.objects.filter(pk__in=[notification.pk for notification in claimed])


def _message(claimed: Sequence[Notification], connection: BaseEmailBackend) -> EmailMultiAlternatives:
    user = claimed[0].user
    alerts = [notification.alert for notification in claimed]
    context = {
        "name": user.first_name or user.get_username(),
        "alerts": alerts[-SHOWN:],
        "left_out": max(len(alerts) - SHOWN, 0),
        "host": settings.PUBLIC_URL,
    }
    subject = alerts[0].title
    if len(alerts) > 1:
        is_urgent = alerts[0].kind in URGENT
        subject = (
            f"{subject}, and {len(alerts) - 1} more"
            if is_urgent
            else f"{len(alerts)} things to know about your videos and budgets"
        )
    text = render_to_string("projects/email/digest.txt", context)
    message = EmailMultiAlternatives(" ".join(subject.split()), text, None, [user.email], connection=connection)
    message.attach_alternative(render_to_string("projects/email/digest.html", context), "text/html")
    return message
