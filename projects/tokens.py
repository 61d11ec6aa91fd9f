"""Tokens of the REST API: kept as a digest alone, shown once, until they expire or somebody revokes them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
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


def make(user: User, *, days: int | None = None) -> tuple[Token, str]:
    """A token that works for `days`, and its key, which can't be shown again. Raises `TooManyTokens`, `PermissionDenied`."""
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
    return [token for token in visible(user) if token.user == user]


def find(pk: str, by: User) -> Token | None:
    """None too for somebody else's."""
    found = _find(pk, by)
    return _told(found) if found else None


def revoke(pk: str, *, by: User) -> bool:
    """Ends a token of one's own; studio owners end anybody's. False: there is none, or it is not theirs to see."""
    found = _find(pk, by)
    return bool(found and found.delete()[0])


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
