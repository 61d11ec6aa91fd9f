"""Where tries are counted: by all processes together, and by each alone while Redis is away."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.test import Client
from django.urls import reverse
from environs import EnvError

from kling_studio import environment
from projects.people.throttling import too_many
from tests.services.servers import own_redis

ROOT = Path(__file__).parents[2]
NOBODY = "redis://127.0.0.1:1/0"


def shared(settings: Any, url: str) -> BaseCache:
    settings.CACHES = {"default": environment.cache(url)}
    return caches["default"]


@pytest.mark.services
def test_processes_count_together(settings: Any) -> None:
    url = own_redis()
    shared(settings, url)
    code = (
        "import django; django.setup()\n"
        "from projects.people.throttling import too_many\n"
        "print([too_many('login', '192.0.2.1', limit=3, seconds=60) for _ in range(2)])"
    )
    named = {"DJANGO_SETTINGS_MODULE": "tests.settings", "CACHE_URL": url}

    counted = [
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **named}, cwd=ROOT, capture_output=True, text=True
        )
        for _ in range(2)
    ]

    assert [each.stdout.strip() for each in counted] == ["[False, False]", "[False, True]"], counted[0].stderr
    assert too_many("login", "192.0.2.1", limit=3, seconds=60)
    assert not too_many("login", "192.0.2.2", limit=3, seconds=60)


@pytest.mark.services
def test_api_counts_its_calls_there(settings: Any, editor: User, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = shared(settings, own_redis())
    client = Client()
    client.force_login(editor)

    assert client.get("/api/v1/projects/").status_code == 200
    assert len(cache.get(f"throttle_user_{editor.pk}")) == 1
    assert not caches["default"].alone.get(f"throttle_user_{editor.pk}")


def test_while_redis_is_away_each_process_counts_alone_and_people_log_in(
    settings: Any, client: Client, editor: User
) -> None:
    shared(settings, NOBODY)
    editor.set_password("a-good-password")
    editor.save()

    tries = {"username": editor.username, "password": "a-good-password"}
    assert client.post(reverse("admin:login"), tries).status_code == 302
    assert client.get("/api/v1/projects/").status_code == 200
    assert [too_many("reset", "192.0.2.1", limit=2, seconds=60) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("url", ["memcached://127.0.0.1:11211", "redis://127.0.0.1:6379/x", "127.0.0.1"])
def test_an_address_of_another_kind_is_refused_by_name(url: str) -> None:
    with pytest.raises(EnvError, match=r"^CACHE_URL: Use redis://"):
        environment.cache(url)
