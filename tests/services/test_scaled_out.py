"""The studio as several processes on PostgreSQL, a real broker and S3, by environment alone."""

import hashlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pika
import psycopg
import pytest
import redis
import requests

from tests.sandbox import SandboxControl, end_process, spawn_sandbox
from tests.studio_process import PATIENCE, ROOT, Studio

pytestmark = pytest.mark.services

QUEUES = ("default", "submit", "poll", "store")
PREPARE = """
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
from generations import services
from knox.models import AuthToken
from projects.models import Project
from tests import factories
from tests.pipeline import ENDPOINT
by = User.objects.create_superuser("olive")
project = Project.objects.create(name="Coffee", created_by=by)
factories.budget(project, 10_000_000)
image = str(factories.source_image(project, by).pk)
for take in range(3):
    inputs = {"image": image, "prompt": f"Take {take}", "duration": 3}
    services.queue(services.create(project, endpoint=ENDPOINT, inputs=inputs, by=by), by=by)
print(AuthToken.objects.create(user=by)[1])
"""


@contextmanager
def scratch_database() -> Iterator[str]:
    server = os.environ["TEST_DATABASE_URL"]
    name = f"scaled_out_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def scratch_bucket() -> Iterator[str]:
    endpoint = os.environ["TEST_S3_ENDPOINT_URL"]
    name = f"scaled-out-{uuid.uuid4().hex[:12]}"
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    )
    s3.create_bucket(Bucket=name)
    yield f"s3://{name}/studio?endpoint_url={endpoint}&region_name=us-east-1"
    for item in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=item["Key"])
    s3.delete_bucket(Bucket=name)
    s3.close()


def empty_redis() -> str:
    url = os.environ["TEST_REDIS_URL"]
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


def empty_rabbitmq() -> str:
    url = os.environ["TEST_AMQP_URL"]
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    for queue in QUEUES:
        for suffix in ("", ".DQ", ".XQ"):
            channel.queue_delete(queue + suffix)
    connection.close()
    return url


@contextmanager
def process(studio: Studio, *command: str) -> Iterator[None]:
    """One of the studio's processes, ended by SIGTERM as systemd would."""
    with (studio.home / "processes.log").open("ab") as log:
        started = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=studio.environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        started.terminate()
        try:
            started.wait(timeout=30)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
            raise


@pytest.fixture(params=["redis", "rabbitmq"])
def studio(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Studio, SandboxControl]]:
    sandbox, url = spawn_sandbox(tmp_path / "sandbox")
    with ExitStack() as stack:
        stack.callback(end_process, sandbox)
        studio = Studio(
            tmp_path / "home",
            DATABASE_URL=stack.enter_context(scratch_database()),
            STORAGE_URL=stack.enter_context(scratch_bucket()),
            DRAMATIQ_BROKER_URL=empty_redis() if request.param == "redis" else empty_rabbitmq(),
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            WAVESPEED_BASE_URL=url,
            WAVESPEED_VIDEOS_PER_MINUTE="10",
        )
        yield studio, SandboxControl(url)


def test_videos_are_made_by_separate_processes_and_stored_on_s3(studio: tuple[Studio, SandboxControl]) -> None:
    processes, control = studio
    token = processes.run(PREPARE).split()[-1]
    api = requests.Session()
    api.headers["Authorization"] = f"Bearer {token}"
    with (
        api,
        process(processes, "manage.py", "rundramatiq", "--processes", "2", "--threads", "2", "--skip-logging"),
        process(processes, "manage.py", "dispatch"),
        process(
            processes, "-m", "gunicorn", "kling_studio.wsgi", "--bind", f"127.0.0.1:{processes.port}", "--workers", "1"
        ),
    ):
        rows = wait_until_completed(api, processes)
        stored = {fetched_sha256(api, processes, row["videos"][0]["id"]) for row in rows}

    assert control.posts()["count"] == 3
    assert control.bill()["total_micros"] == 3 * 1_260_000
    assert stored == {made["output_sha256"] for made in control.predictions()}
    assert [row["charged"] for row in rows] == ["1.26"] * 3


def wait_until_completed(api: requests.Session, studio: Studio) -> list[dict[str, object]]:
    ends = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < ends, (studio.home / "processes.log").read_text()[-4000:]
        try:
            answer = api.get(f"{studio.url}/api/v1/generations/", timeout=10)
        except requests.ConnectionError:
            time.sleep(0.3)
            continue
        answer.raise_for_status()
        rows = answer.json()["results"]
        if {row["status"] for row in rows} == {"completed"}:
            return rows
        time.sleep(0.3)


def fetched_sha256(api: requests.Session, studio: Studio, video: object) -> str:
    """The checksum of what a frontend downloads: a redirect to a signed address of the bucket."""
    answer = api.get(f"{studio.url}/api/v1/videos/{video}/download/", timeout=10, allow_redirects=False)
    assert answer.status_code == 302
    target = answer.headers["Location"]
    assert target.startswith(os.environ["TEST_S3_ENDPOINT_URL"])
    assert "X-Amz-Signature" in target
    return hashlib.sha256(requests.get(target, timeout=30).content).hexdigest()
