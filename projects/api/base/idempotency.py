"""Idempotency keys: requests of one person with one key are one request, also when 20 arrive at once.

The key's row is claimed and committed first, then the work is done and its answer is kept in the same transaction, so
that a crash leaves both or neither. A claim is held for seconds, and its process's sign of life goes on holding it (`renew`) while
the request is worked on: it ends with its process, and who repeats the request after a crash takes it over. Whoever was overtaken keeps
no answer, so that its work is rolled back. What is refused leaves no row.
"""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any
from uuid import UUID, uuid4

import structlog
from django.contrib.auth.models import User
from django.core.files.uploadedfile import UploadedFile
from django.db import DatabaseError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from projects.api.base.fields import with_addresses, with_names
from projects.models import IdempotencyKey

log = structlog.get_logger(__name__)

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
VALID_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# Two signs of life may fail; a client that repeats after a crash waits no longer than this.
LOCK = timedelta(seconds=25)
KEPT = timedelta(hours=48)


# The claims that this process works on now.
_working: set[UUID] = set()


class KeyRefused(Exception):
    """The request is not done because of its key. The text is for people."""


class InvalidKey(KeyRefused):
    """It is no key."""


class InFlight(KeyRefused):
    """The first request with this key has not answered yet."""


class KeyReused(KeyRefused):
    """Another request had this key."""


def idempotent(
    handler: Callable[..., Response] | None = None,
    *,
    atomic: bool = True,
    before: Callable[..., None] | None = None,
) -> Any:
    """Decorates a POST so that it honours `Idempotency-Key`. The handler raises what it refuses.

    `before` gets the same arguments, ahead of the transaction: what speaks to the outside and changes nothing. Not `atomic`
    is for a handler that does so itself or takes long, and whose effect is found, not doubled, when it is done again.
    """
    if handler is None:
        return lambda handler: idempotent(handler, atomic=atomic, before=before)
    prepare = before or _nothing

    @wraps(handler)
    def once(view: APIView, request: Request, *args: Any, **kwargs: Any) -> Response:
        key = request.headers.get(KEY_HEADER)
        if key is None:
            prepare(view, request, *args, **kwargs)
            return handler(view, request, *args, **kwargs)
        assert isinstance(request.user, User)
        claim = _claim(request.user, key, request_digest(request))
        if claim.status_code is not None:
            answer = with_addresses(claim.response, request)
            return Response(answer, status=claim.status_code, headers={REPLAYED_HEADER: "true"})
        _working.add(claim.holder)
        try:
            prepare(view, request, *args, **kwargs)
            if not atomic:
                response = handler(view, request, *args, **kwargs)
            with transaction.atomic():
                if atomic:
                    response = handler(view, request, *args, **kwargs)
                _keep(claim, response)
        except BaseException:
            _let_go(claim)
            raise
        finally:
            _working.discard(claim.holder)
        return response

    once.is_idempotent = True  # type: ignore[attr-defined]
    return once


def _nothing(*args: Any, **kwargs: Any) -> None:
    """There is nothing to do before."""


def renew() -> None:
    """Goes on holding what this process works on; called every few seconds, with its sign of life."""
    if holders := list(_working):
        IdempotencyKey.objects.filter(holder__in=holders, status_code=None).update(locked_until=timezone.now() + LOCK)


def end_all() -> None:
    """Ends all claims, for a studio whose only process begins: whoever had them is gone. Who isn't is overtaken, and rolled back."""
    IdempotencyKey.objects.filter(status_code=None).update(locked_until=timezone.now())


def _let_go(claim: IdempotencyKey) -> None:
    try:
        _held(claim).delete()
    except DatabaseError as error:
        # What went wrong is what is told. Without its holder the claim ends by itself.
        log.warning("claim_left", reason=type(error).__name__)


def _claim(user: User, key: str, digest: str) -> IdempotencyKey:
    """The key's row: ours to answer, or with the first answer."""
    if not VALID_KEY.fullmatch(key):
        raise InvalidKey(
            "An idempotency key has 1 to 255 visible ASCII characters and no spaces; a UUID is a good one."
        )
    now = timezone.now()
    IdempotencyKey.objects.filter(user=user, created_at__lt=now - KEPT, locked_until__lt=now).delete()
    claim, created = IdempotencyKey.objects.get_or_create(
        user=user, key=key, defaults={"request_digest": digest, "locked_until": now + LOCK}
    )
    if created:
        return claim
    if claim.request_digest != digest:
        raise KeyReused("This idempotency key came with another request before. Take a new key for a new request.")
    if claim.status_code is None and not _take_over(claim):
        raise InFlight("The first request with this idempotency key is still being worked on. Ask again in a moment.")
    return claim


def _take_over(claim: IdempotencyKey) -> bool:
    """Whether the claim had run out, and is ours now."""
    now = timezone.now()
    holder = uuid4()
    taken: bool = _held(claim).filter(locked_until__lte=now).update(holder=holder, locked_until=now + LOCK) == 1
    claim.holder = holder
    return taken


def _held(claim: IdempotencyKey) -> QuerySet[IdempotencyKey]:
    """The row while it is unanswered and nobody has taken it over."""
    return IdempotencyKey.objects.filter(pk=claim.pk, status_code=None, holder=claim.holder)


def _keep(claim: IdempotencyKey, response: Response) -> None:
    """Keeps the answer; raises `InFlight`, which rolls the work back, if somebody else took over meanwhile."""
    answer = json.loads(JSONRenderer().render(with_names(response.data))) if response.data is not None else None
    if _held(claim).update(status_code=response.status_code, response=answer) != 1:
        raise InFlight("This took too long, and another request with this idempotency key is doing it now.")


def request_digest(request: Request) -> str:
    """SHA-256 of method, address and body as it was understood: a form's digest does not depend on its boundary."""
    digest = hashlib.sha256()
    for part in (request.method, request.get_full_path(), json.dumps(_plain(request.data), sort_keys=True)):
        digest.update(str(part).encode("utf-8", "backslashreplace") + b"\0")
    return digest.hexdigest()


def _plain(data: Any) -> Any:
    if hasattr(data, "lists"):
        return {name: [_plain(value) for value in values] for name, values in data.lists()}
    if isinstance(data, UploadedFile):
        content = hashlib.sha256()
        for chunk in data.chunks():
            content.update(chunk)
        data.seek(0)
        return {"name": data.name, "sha256": content.hexdigest()}
    return data
