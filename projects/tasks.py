"""Dramatiq actors for what people wait for in the post. No request waits for the mail server, and no one-time link lies in the broker."""

import dramatiq
import structlog
from django.conf import settings
from django.contrib.auth.forms import PasswordResetForm
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.urls import reverse

from projects.models import Invitation

log = structlog.get_logger(__name__)


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


@dramatiq.actor(queue_name="default", max_retries=8, min_backoff=15_000, max_backoff=600_000, time_limit=120_000)
def send_invitation(pk: str) -> None:
    """Tried for about an hour while the mail server is away; nothing is sent of what was revoked or used meanwhile."""
    invitation = Invitation.objects.open().filter(pk=pk).select_related("project", "invited_by").first()
    token = invitation and invitation.token()
    if not invitation or not token:
        log.info("invitation_not_sent", invitation=pk, reason="not open, or of another SECRET_KEY")
        return
    context = {"invitation": invitation, "link": link_to(token)}
    subject = render_to_string("projects/email/invitation_subject.txt", context)
    text = render_to_string("projects/email/invitation.txt", context)
    send_mail(" ".join(subject.split()), text, None, [invitation.email])


def link_to(token: str) -> str:
    return f"{settings.PUBLIC_URL}{reverse('join', args=[token])}"


def ask_for_password_reset(address: str) -> None:
    """Who asked asks again."""
    _ask(send_password_reset, address)


def ask_for_invitation(invitation: Invitation) -> None:
    """The invitation stands without it: its owner passes the link on, or invites again."""
    _ask(send_invitation, str(invitation.pk))


def _ask(actor: dramatiq.Actor[[str], None], argument: str) -> None:
    """A broker that is away makes no request fail, and tells nobody who has an account."""
    try:
        actor.send(argument)
    except Exception as error:
        log.error("not_sent", actor=actor.actor_name, reason=type(error).__name__)
