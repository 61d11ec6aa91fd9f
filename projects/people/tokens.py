"""Tokens of the REST API: kept as a digest alone, shown once, until they expire or somebody revokes them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from knox.models import AuthToken

from projects import permissions

# Of its 64 characters: enough to find it in one's own notes, nothing to guess the rest by.
CHARACTERS_SHOWN = 8
DIGITS_OF_DIGEST = 32
MOST_EACH = 20


class TooManyTokens(Exception):
    """The text is for people."""


@dataclass(frozen=True)
class Token:
    """What may be told of a token. `pk` is the beginning of its digest, from which no token can be made."""

    pk: str
    begins_with: str
    user: User
    created_at: datetime
    expires_at: datetime


@transaction.atomic
def make(user: User, *, days: int | None = None) -> tuple[Token, str]:
    """A token that works for `days`, and its key, which can't be shown again. Raises `TooManyTokens`, `PermissionDenied`."""
    # Locked, so that no token outlives its owner's being switched off at this moment.
    user = User.objects.select_for_update(no_key=True).get(pk=user.pk)
    if not user.is_active:
        raise PermissionDenied(f"{user} is switched off: a token would not work.")
    AuthToken.objects.filter(user=user, expiry__lte=timezone.now()).delete()
    if AuthToken.objects.filter(user=user).count() >= MOST_EACH:
        raise TooManyTokens(f"There are {MOST_EACH} tokens already: revoke one that is not used any more.")
    made, key = AuthToken.objects.create(user, expiry=timedelta(days=days or settings.TOKEN_DAYS))
    return _told(made), key


def visible(by: User) -> list[Token]:
    """One's own that work, and to studio owners everybody's; the newest first."""
    return [_told(token) for token in _visible(by).order_by("-created", "digest")]


def own(user: User) -> list[Token]:
    """Those of `user` that work; the newest first."""
    rows = AuthToken.objects.filter(user=user, expiry__gt=timezone.now()).select_related("user")
    return [_told(token) for token in rows.order_by("-created", "digest")]


def told(user: User) -> str:
    """What to say of them after a new password."""
    works = len(own(user))
    return f"{works} API {'token goes' if works == 1 else 'tokens go'} on working." if works else "No API token works."


def find(pk: str, by: User) -> Token | None:
    """None too for somebody else's."""
    found = _find(pk, by)
    return _told(found) if found else None


def revoke(pk: str, *, by: User) -> bool:
    """Ends a token of one's own; studio owners end anybody's. False: there is none, or it is not theirs to see."""
    found = _find(pk, by)
    return bool(found and found.delete()[0])


def revoke_all(user: User) -> int:
    """Ends all tokens of `user`; how many there were."""
    return int(AuthToken.objects.filter(user=user).delete()[0])


def _find(pk: str, by: User) -> AuthToken | None:
    is_id = len(pk) == DIGITS_OF_DIGEST and pk.isascii() and pk.isalnum()
    return _visible(by).filter(digest__startswith=pk).first() if is_id else None


def _visible(by: User) -> QuerySet[AuthToken]:
    whose = Q() if permissions.is_studio_owner(by) else Q(user=by)
    rows: QuerySet[AuthToken] = AuthToken.objects.filter(whose, expiry__gt=timezone.now())
    return rows.select_related("user")


def _told(token: AuthToken) -> Token:
    return Token(
        pk=token.digest[:DIGITS_OF_DIGEST],
        begins_with=token.token_key[:CHARACTERS_SHOWN],
        user=token.user,
        created_at=token.created,
        expires_at=token.expiry,
    )
