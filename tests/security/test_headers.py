"""What each answer tells the browser that it may do; and what Django's own list of deployment faults says of a studio in production."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client, override_settings

from kling_studio import headers
from kling_studio.object_storage import entry
from kling_studio.object_storage import sources as media_sources
from kling_studio.object_storage.s3 import S3
from projects.models import Project

ROOT = Path(__file__).resolve().parents[2]


def policy(response: Any) -> dict[str, str]:
    lines = (line.strip().partition(" ") for line in response["Content-Security-Policy"].split(";"))
    return {name: sources for name, _, sources in lines}


def test_pages_run_our_own_scripts_alone(owner_client: Client) -> None:
    told = policy(owner_client.get("/admin/"))

    assert told == {
        "default-src": "'none'",
        "script-src": "'self' 'unsafe-eval'",
        "style-src": "'self' 'unsafe-inline'",
        "style-src-elem": "'self'",
        "style-src-attr": "'unsafe-inline'",
        "img-src": "'self' data:",
        "media-src": "'self'",
        "font-src": "'self'",
        "connect-src": "'self'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "object-src": "'none'",
    }


def test_the_documentation_needs_no_eval(client: Client) -> None:
    response = client.get("/api/v1/docs/")

    assert policy(response)["script-src"] == "'self'"
    assert "<style" not in response.content.decode()
    assert "<script>" not in response.content.decode()


def test_what_is_no_page_loads_nothing(owner_client: Client) -> None:
    name = default_storage.save("tests/a.mp4", ContentFile(b"x"))
    for path in ("/api/v1/projects/", "/api/v1/spend/entries.csv", default_storage.url(name), "/api/v1/none/"):
        response = owner_client.get(path)
        if response.streaming:
            b"".join(response.streaming_content)
        told = policy(response)
        assert (told["default-src"], told["frame-ancestors"]) == ("'none'", "'none'"), path
        assert "script-src" not in told


@pytest.mark.parametrize(
    "path", ["/admin/", "/admin/login/", "/api/v1/projects/", "/nowhere/", "/admin/nowhere/", "/join/x/"]
)
def test_every_answer_has_them(owner_client: Client, path: str) -> None:
    response = owner_client.get(path)

    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["X-Frame-Options"] == "DENY"
    assert response["Referrer-Policy"] == "same-origin"
    assert response["Cross-Origin-Opener-Policy"] == "same-origin"
    assert response["Permissions-Policy"] == headers.PERMISSIONS_POLICY
    assert "Content-Security-Policy" in response


def test_a_bug_s_page_has_them_too(owner_client: Client, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generations.reports.report", lambda *arguments: 1 / 0)
    owner_client.raise_request_exception = False
    response = owner_client.get("/admin/spend/")

    assert response.status_code == 500
    assert policy(response)["default-src"] == "'none'"


def test_with_https_browsers_keep_to_it() -> None:
    told = in_production(
        "print(settings.CONTENT_SECURITY_POLICY['DIRECTIVES']['upgrade-insecure-requests'], "
        "settings.SECURE_HSTS_SECONDS, settings.SESSION_COOKIE_SECURE, settings.CSRF_COOKIE_SECURE)"
    )

    assert told == "True 31536000 True True"


# --- Where pictures and videos are --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/prefix",
        "s3://bucket?region_name=eu-central-1",
        "s3://bucket?region_name=us-east-1",
        "s3://bucket.with.dots?region_name=eu-central-1",
        "s3://bucket?region_name=cn-north-1",
        "s3://bucket?region_name=eu-central-1&addressing_style=path",
        "s3://bucket?region_name=eu-central-1&addressing_style=virtual",
        "s3://bucket?endpoint_url=http://127.0.0.1:9000",
        "s3://bucket?endpoint_url=https://minio.example.com&addressing_style=virtual",
        "s3://bucket?custom_domain=media.example.com",
    ],
)
def test_the_policy_lets_in_what_the_storage_s_own_urls_name(url: str) -> None:
    options = entry(url, url_seconds=60)["OPTIONS"] | {"access_key": "key", "secret_key": "secret"}
    address = S3(**options).url("videos/a.mp4")

    sources = media_sources(url)
    assert any(address.startswith(source.rstrip("/") + "/") for source in sources), (address, sources)


@pytest.mark.parametrize(
    ("url", "sources"),
    [
        ("file:///srv/media", []),
        ("gs://bucket/prefix", ["https://storage.googleapis.com/bucket/"]),
        ("azure://videos?account_name=studio", ["https://studio.blob.core.windows.net/videos/"]),
        (
            "azure://videos?connection_string=AccountName%3Dstudio%3BAccountKey%3Dsecret%3BEndpointSuffix%3Dcore.chinacloudapi.cn",
            ["https://studio.blob.core.chinacloudapi.cn/videos/"],
        ),
        ("azure://videos?custom_domain=cdn.example.com", ["https://cdn.example.com"]),
    ],
)
def test_other_storages_are_named_too(url: str, sources: list[str]) -> None:
    assert media_sources(url) == sources


def test_the_storage_s_origin_reaches_the_policy() -> None:
    told = in_production(
        "print(settings.CONTENT_SECURITY_POLICY['DIRECTIVES']['media-src'])",
        STORAGE_URL="s3://videos?region_name=eu-central-1",
        MEDIA_ORIGINS="https://cdn.example.com",
    )

    assert "'https://videos.s3.eu-central-1.amazonaws.com'" in told
    assert "'https://cdn.example.com'" in told
    assert "secret" not in told


# --- In production ------------------------------------------------------------------------------------------------------


def production(home: Path, **changes: str) -> dict[str, str]:
    ours = ("WAVESPEED_", "STORAGE_", "DATABASE_", "SECRET_", "EMAIL_", "ALLOWED_", "TRUST", "DRAMATIQ_", "DJANGO_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(ours)},
        "DJANGO_SETTINGS_MODULE": "kling_studio.settings",
        "STUDIO_HOME": str(home),
        "SECRET_KEY": "of-fifty-and-more-characters-" + "kZ9-" * 12,
        "PUBLIC_URL": "https://studio.example.com",
        "ALLOWED_HOSTS": "studio.example.com",
        "TRUST_FORWARDED_PROTO": "true",
        "TRUSTED_PROXIES": "1",
        "WAVESPEED_API_KEY": "wsk-of-a-test",
        "EMAIL_URL": "smtp://mail.example.com:587",
        "DEFAULT_FROM_EMAIL": "studio@example.com",
        **changes,
    }


def in_production(code: str, **changes: str) -> str:
    program = f"from django.conf import settings\n{code}"
    home = Path(os.environ["STUDIO_HOME"]) / "production"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=production(home, **changes),
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return done.stdout.strip()


def test_django_finds_no_fault_in_a_studio_in_production(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=production(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )

    # What mail leaves as is told, and is no fault.
    assert done.returncode == 0, done.stderr
    assert "WARNINGS" not in done.stderr
    assert "I001" in done.stderr
    assert "wsk-of-a-test" not in done.stdout + done.stderr


@override_settings(DEBUG=True)
def test_the_policy_holds_while_developing_too(client: Client, db: None) -> None:
    assert policy(client.get("/admin/login/"))["default-src"] == "'none'"
