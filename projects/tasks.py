"""Dramatiq actors for what people wait for in the post."""

import dramatiq
import structlog
from django.conf import settings
from django.contrib.auth.forms import PasswordResetForm

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


def ask_for_password_reset(address: str) -> None:
    """A broker that is away must not tell by an error either; who asked asks again."""
    try:
        send_password_reset.send(address)
    except Exception as error:
        log.error("not_sent", actor=send_password_reset.actor_name, reason=type(error).__name__)
