"""The cache in Redis that all processes share. It counts tries, so nothing fails for its sake: without Redis each process counts alone."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

import structlog
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


class Serializer:
    """JSON: whoever can write into Redis shall not run code here, as they could with Django's pickles."""

    def dumps(self, value: Any) -> Any:
        # Whole numbers as they are, so that Redis can count them.
        return value if type(value) is int else json.dumps(value)

    def loads(self, data: Any) -> Any:
        return json.loads(data)


def _alone_while_away(name: str) -> Callable[..., Any]:
    shared = getattr(RedisCache, name)

    @wraps(shared)
    def call(cache: "SharedCache", *args: Any, **kwargs: Any) -> Any:
        try:
            return shared(cache, *args, **kwargs)
        except RedisError as error:
            log.warning("cache_away", error=type(error).__name__)
            return getattr(cache.alone, name)(*args, **kwargs)

    return call


class SharedCache(RedisCache):
    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(server, params)
        self.alone = LocMemCache("while-redis-is-away", {"OPTIONS": {"MAX_ENTRIES": 20_000}})

    add = _alone_while_away("add")
    get = _alone_while_away("get")
    set = _alone_while_away("set")
    incr = _alone_while_away("incr")
    delete = _alone_while_away("delete")
