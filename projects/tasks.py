"""Dramatiq actors for what people wait for in the post. No request waits for the mail server, and no one-time link lies in the broker."""

from datetime import timedelta
from smtplib import SMTPException
from uuid import UUID

import dramatiq
import structlog
from django.conf import settings
from django.contrib.auth.forms import PasswordResetForm
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from projects.models import Invitation

log = structlog.get_logger(__name__)

# Longer than a mail server may take; then the mail is due again.
LEASE = timedelta(minutes=5)
FIRST_WAIT = timedelta(minutes=1)
AT_ONCE = 200


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=120_000)
def send_password_reset(address: str) -> None:
    """To whoever has an account with this address. Not in the request, whose time would tell who has one."""
    form = PasswordResetForm({"email": address})
    if form.is_valid():
        form.save(
            # The link leads to `PUBLIC_URL`, not to whatever host the request claimed to be for.
            domain_override=settings.PUBLIC_URL,
            extra_email_context={
                "public_url": settings.PUBLIC_URL,
                "days": str(settings.PASSWORD_RESET_TIMEOUT // 86_400),
            },
        )


@dramatiq.actor(queue_name="default", max_retries=0, time_limit=120_000)
def send_invitation(pk: str) -> None:
    """At once; what gets lost, or what no mail server takes, `mail_due_invitations` finds."""
    _mail(UUID(pk))


def mail_due_invitations() -> None:
    """Mails what is owed, until the mail server is away."""
    for pk in Invitation.objects.to_mail().order_by("email_at").values_list("pk", flat=True)[:AT_ONCE]:
        if not _mail(pk):
            return


def _mail(pk: UUID) -> bool:
    """False if the mail server did not take it: it is due again, more seldom the longer that lasts. What is not open is not sent.

    A process that dies in between sends it once more rather than never.
    """
    row, now = Invitation.objects.filter(pk=pk), timezone.now()
    is_owed = Invitation.objects.to_mail().filter(pk=pk).exists()
    # The filter names columns of this one table: PostgreSQL rechecks no join after waiting for whoever else claims it.
    if not is_owed or not row.filter(email_at__lte=now).update(email_at=now + LEASE):
        log.info("invitation_not_sent", invitation=str(pk), reason="not open, or sent")
        return True
    invitation = row.select_related("project", "invited_by").get()
    token = invitation.token()
    if not token:
        log.warning("invitation_not_sent", invitation=str(pk), reason="of another SECRET_KEY")
        row.update(email_at=None)
        return True
    context = {"invitation": invitation, "link": link_to(token)}
    subject = render_to_string("projects/email/invitation_subject.txt", context)
    text = render_to_string("projects/email/invitation.txt", context)
    try:
        send_mail(" ".join(subject.split()), text, None, [invitation.email])
    except (SMTPException, OSError, ValueError) as error:  # ValueError: an address that is none
        log.warning("invitation_not_sent", invitation=str(pk), reason=str(error))
        row.update(email_at=now + max(FIRST_WAIT, (now - invitation.created_at) / 4))
        return False
    row.update(email_at=None, emailed_at=timezone.now())
    return True


def link_to(token: str) -> str:
    return f"{settings.PUBLIC_URL}{reverse('join', args=[token])}"


def ask_for_password_reset(address: str) -> None:
    """Who asked asks again."""
    _ask(send_password_reset, address)


def ask_for_invitation(invitation: Invitation) -> None:
    """Where the message gets lost, the dispatcher finds the invitation within a minute."""
    _ask(send_invitation, str(invitation.pk))


def _ask(actor: dramatiq.Actor[[str], None], argument: str) -> None:
    """A broker that is away makes no request fail, and tells nobody who has an account."""
    try:
        actor.send(argument)
    except Exception as error:
        log.error("not_sent", actor=actor.actor_name, reason=type(error).__name__)
