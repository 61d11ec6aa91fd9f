"""What the service tests take from `script/services`: a database and a bucket of their own, and an emptied broker."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
import pika
import psycopg
import pytest
import redis

# All processes of a studio at once: two of them would be more than the 100 connections that PostgreSQL takes by default,
# and more than this machine can hurry.
one_at_a_time = pytest.mark.xdist_group("whole studios")
# Redis has 16 databases by default; those of `TEST_REDIS_URL` and before are other tests'.
FIRST_REDIS = 10
QUEUES = ("default", "submit", "poll", "store")


@contextmanager
def scratch_database() -> Iterator[str]:
    server = os.environ["TEST_DATABASE_URL"]
    name = f"scratch_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def s3_client() -> Any:
    return boto3.client(
        "s3",
        endpoint_url=os.environ["TEST_S3_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )


@contextmanager
def scratch_bucket() -> Iterator[str]:
    endpoint = os.environ["TEST_S3_ENDPOINT_URL"]
    name = f"scaled-out-{uuid.uuid4().hex[:12]}"
    s3 = s3_client()
    s3.create_bucket(Bucket=name)
    try:
        yield f"s3://{name}/studio?endpoint_url={endpoint}&region_name=us-east-1"
    finally:
        for item in s3.list_objects_v2(Bucket=name).get("Contents", []):
            s3.delete_object(Bucket=name, Key=item["Key"])
        s3.delete_bucket(Bucket=name)
        s3.close()


def own_redis() -> str:
    """The address of an emptied database: with pytest-xdist one for each worker, else the one of `TEST_REDIS_URL`."""
    url = os.environ["TEST_REDIS_URL"]
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker:
        url = f"{url.rsplit('/', 1)[0]}/{FIRST_REDIS + int(worker.removeprefix('gw')) % (16 - FIRST_REDIS)}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


def empty_rabbitmq() -> str:
    """Its queues have the same names for all, so who uses it is `one_at_a_time`."""
    url = os.environ["TEST_AMQP_URL"]
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    for queue in QUEUES:
        for suffix in ("", ".DQ", ".XQ"):
            channel.queue_delete(queue + suffix)
    connection.close()
    return url
