"""kill -9 while an order with an idempotency key is worked on: who repeats it, as told, waits seconds and has one order."""

import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.sandbox import SandboxControl, end_process, spawn_sandbox
from tests.studio_process import Studio
from tests.waiting import wait_until

PREPARE = """
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
from knox.models import AuthToken
from projects.models import Project
from tests import factories
by = User.objects.create_superuser("olive")
project = Project.objects.create(name="Coffee", created_by=by)
factories.budget(project, 10_000_000)
print(AuthToken.objects.create(by)[1], project.pk, factories.source_image(project, by).pk)
"""
CLAIMS = """
from projects.models import IdempotencyKey
print(IdempotencyKey.objects.filter(status_code=None).count())
"""
ORDERS = """
from generations.models import Generation
from projects.models import SpendEntry
print(Generation.objects.count(), SpendEntry.objects.filter(kind="reserve").count())
"""


@pytest.mark.slow
def test_order_that_is_repeated_after_a_kill_is_one_order(tmp_path: Path) -> None:
    process, url = spawn_sandbox(tmp_path / "sandbox", "--speed", "50")
    try:
        with Studio(
            tmp_path / "home", WAVESPEED_BASE_URL=url, WAVESPEED_LIVE_PRICES="true", WAVESPEED_DEADLINE="60"
        ) as studio:
            token, project, image = studio.run(PREPARE).split()
            order = {
                "project": project,
                "endpoint": "kwaivgi/kling-video-o3-4k/image-to-video",
                "image": image,
                "prompt": "Steam rises",
                "queue": True,
            }
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}
            studio.start("--no-seed")
            # The provider's price takes its time, and with it the first request.
            SandboxControl(url).arm("free_timeout", route="price", seconds=30)
            threading.Thread(target=tried, args=(studio, order, headers)).start()
            wait_until(lambda: studio.run(CLAIMS) == "1", seconds=60)

            studio.kill()
            SandboxControl(url).disarm()
            studio.start("--no-seed")
            began = time.monotonic()
            answer = tried(studio, order, headers)
            while answer is None or answer.status_code == 409:
                time.sleep(0.5)
                answer = tried(studio, order, headers)

            assert (answer.status_code, answer.json()["quote"]) == (202, "2.10")
            assert time.monotonic() - began < 40
            assert studio.run(ORDERS) == "1 1"
    finally:
        end_process(process)


def tried(studio: Studio, order: dict[str, Any], headers: dict[str, str]) -> requests.Response | None:
    try:
        return requests.post(f"{studio.url}/api/v1/generations/", json=order, headers=headers, timeout=60)
    except requests.ConnectionError:
        return None
