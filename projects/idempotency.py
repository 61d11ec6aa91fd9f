"""Idempotency keys: requests of one person with one key are one request, also when 20 arrive at once.

The key's row is claimed and committed first, then the work is done and its answer is kept in the same transaction, so
that a crash leaves both or neither; the claim of a crashed request is taken over after `LOCK`. What is refused leaves no row.
"""

import hashlib
import json
import re
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.contrib.auth.models import User
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils import timezone
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from projects.models import IdempotencyKey

KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
VALID_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# Longer than any request takes.
LOCK = timedelta(minutes=5)
KEPT = timedelta(hours=48)


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
            return Response(claim.response, status=claim.status_code, headers={REPLAYED_HEADER: "true"})
        try:
            prepare(view, request, *args, **kwargs)
            if not atomic:
                response = handler(view, request, *args, **kwargs)
            with transaction.atomic():
                if atomic:
                    response = handler(view, request, *args, **kwargs)
                _keep(claim, response)
        except BaseException:
            _held(claim).delete()
            raise
        return response

    once.is_idempotent = True  # type: ignore[attr-defined]
    return once


def _nothing(*args: Any, **kwargs: Any) -> None:
    """There is nothing to do before."""


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
    if claim.status_code is None and not _taken_over(claim):
        raise InFlight("The first request with this idempotency key is still being worked on. Ask again in a moment.")
    return claim


def _taken_over(claim: IdempotencyKey) -> bool:
    """Whether the claim had run out, and is ours now."""
    now = timezone.now()
    if claim.locked_until > now:
        return False
    taken: bool = _held(claim).update(locked_until=now + LOCK) == 1
    claim.locked_until = now + LOCK
    return taken


def _held(claim: IdempotencyKey) -> Any:
    """The row while it is unanswered and nobody has taken it over: a claim is known by the end of its lock."""
    return IdempotencyKey.objects.filter(pk=claim.pk, status_code=None, locked_until=claim.locked_until)


def _keep(claim: IdempotencyKey, response: Response) -> None:
    """Keeps the answer; raises `InFlight`, which rolls the work back, if somebody else took over meanwhile."""
    answer = json.loads(JSONRenderer().render(response.data)) if response.data is not None else None
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
