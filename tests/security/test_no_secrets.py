"""A whole studio with secrets that can be recognised, run from end to end with everything logged: they are found nowhere afterwards."""

import json
import re
import sqlite3
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.sandbox import SandboxControl, end_process, spawn_sandbox
from tests.studio_process import ROOT, Studio

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("a studio with secrets")]

API_KEY = "wsk_live_5ecretKeyOfThisTest000111222"
WEBHOOK_SECRET = "whsec_d2ViaG9va1NlY3JldE9mVGhpc1Rlc3Q="
SECRET_KEY = "secretKeyOfThisTest-" + "Zq7" * 20
S3_SECRET = "s3SecretAccessKeyOfThisTest/00112233445566"
METRICS_TOKEN = "metricsTokenOfThisTest-0011223344"
MAIL_PASSWORD = "mailPasswordOfThisTest001122"
PASSWORD = "passwordOfOliveInThisTest-77"
SECRETS = {
    "API key": API_KEY,
    "webhook secret": WEBHOOK_SECRET,
    "webhook secret's own bytes": "webhookSecretOfThisTest",
    "SECRET_KEY": SECRET_KEY,
    "S3 secret": S3_SECRET,
    "METRICS_TOKEN": METRICS_TOKEN,
    "mail password": MAIL_PASSWORD,
    "password": PASSWORD,
}
PATIENCE = 120
# What stands in an upload ticket's URL and opens it: also of any other signed URL.
SIGNATURE = re.compile(
    r"(?:[?&]|\\u0026|%3F|%26)(?:X-Amz-Signature|X-Amz-Credential|signature|sig|token)(?:=|%3D)([\w%+/.-]{8,})", re.I
)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    home = tmp_path_factory.mktemp("secrets")
    process, url = spawn_sandbox(home / "sandbox", "--api-key", API_KEY)
    secrets = {
        "WAVESPEED_API_KEY": API_KEY,
        "WAVESPEED_BASE_URL": url,
        "WAVESPEED_WEBHOOK_SECRET": WEBHOOK_SECRET,
        "SECRET_KEY": SECRET_KEY,
        "METRICS_TOKEN": METRICS_TOKEN,
        "EMAIL_URL": f"smtp://studio:{MAIL_PASSWORD}@127.0.0.1:9",
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        "WAVESPEED_VIDEOS_PER_MINUTE": "20",
        "LOG_LEVEL": "DEBUG",
        "LOG_FORMAT": "json",
    }
    with ExitStack() as stack:
        stack.callback(end_process, process)
        studio = stack.enter_context(Studio(home / "studio", **secrets))
        # Called back, it does not wait for its first look, which with a key is half a minute after the order.
        studio.environment["WAVESPEED_WEBHOOK_BASE_URL"] = studio.url
        studio.environment["WAVESPEED_WEBHOOK_SECRET"] += f" {told_secret(url)}"
        studio.manage("migrate")
        prepare(studio)
        studio.start()
        control = SandboxControl(url)
        live(studio, control)
        yield studio
        studio.stop()


def told_secret(url: str) -> str:
    """The one that the provider really signs with, beside ours."""
    answer = requests.get(f"{url}/api/v3/webhook/secret", headers={"Authorization": f"Bearer {API_KEY}"}, timeout=60)
    return str(answer.json()["data"]["secret"])


def prepare(studio: Studio) -> None:
    studio.run(
        f"""
from django.contrib.auth.models import User
from projects.models import Project
from projects.money import budgets
from projects.models import Period, Enforcement
olive = User.objects.create_superuser("olive", "olive@example.com", {PASSWORD!r})
project = Project.objects.create(name="Coffee", created_by=olive)
budgets.create(project=project, user=None, period=Period.TOTAL, enforcement=Enforcement.HARD, limit=100_000_000, by=olive)
"""
    )


class Person:
    """Olive in a browser, and her program."""

    def __init__(self, studio: Studio) -> None:
        self.url = studio.url
        self.browser = requests.Session()
        page = self.browser.get(f"{self.url}/admin/login/", timeout=60).text
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert token
        form = {"username": "olive", "password": PASSWORD, "csrfmiddlewaretoken": token[1], "next": "/admin/"}
        assert self.browser.post(f"{self.url}/admin/login/", form, timeout=60).ok
        self.token = studio.manage("create_token", "olive").stdout.strip()

    def api(self, method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return requests.request(method, f"{self.url}/api/v1/{path}", headers=headers, timeout=60, **options)

    def page(self, path: str) -> requests.Response:
        return self.browser.get(f"{self.url}{path}", timeout=120)


def live(studio: Studio, control: SandboxControl) -> None:
    """A video that is made, one that fails there, one whose answer is garbage, a refused key, a wrong password, a wrong token."""
    person = Person(studio)
    project = person.api("GET", "projects/").json()["results"][0]["id"]
    with (ROOT / "kling_studio/photos/chelsea.png").open("rb") as file:
        image = person.api("POST", "source-images/", data={"project": project}, files={"file": file}).json()["id"]
    order = {
        "project": project,
        "endpoint": "kwaivgi/kling-video-o3-4k/image-to-video",
        "image": image,
        "duration": 3,
        "queue": True,
    }

    def run(prompt: str, ends: set[str]) -> None:
        made = person.api("POST", "generations/", json={**order, "prompt": prompt}).json()
        deadline = time.monotonic() + PATIENCE
        while True:
            now = person.api("GET", f"generations/{made['id']}/").json()
            if now["status"] in ends:
                return
            assert time.monotonic() < deadline, now
            time.sleep(0.3)

    run("One that is made", {"completed"})
    control.arm("task_failed")
    run("One that fails", {"failed"})
    control.arm("upload_put_500")
    control.arm("submit_500_created")
    run("One that nobody knows of", {"unconfirmed", "completed", "processing"})
    control.arm("free_401", times=3)
    for path in ("spend/", "generations/", "source-images/"):
        person.api("GET", path)
    requests.get(f"{studio.url}/api/v1/projects/", headers={"Authorization": "Bearer " + "f" * 64}, timeout=60)
    requests.get(f"{studio.url}/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"}, timeout=60)
    requests.post(f"{studio.url}/api/v1/webhooks/wavespeed/{order['image']}/", json={"id": "x"}, timeout=60)
    studio.person = person  # type: ignore[attr-defined]


def found_in(text: str) -> list[str]:
    return [name for name, secret in SECRETS.items() if secret in text]


def signatures_in(text: str, studio: Studio) -> list[str]:
    """What opens a file at the provider; our own media addresses look otherwise."""
    return [match[0] for match in SIGNATURE.finditer(text)]


def test_the_logs_hold_none(studio: Studio) -> None:
    log = studio.log.read_text(errors="replace")

    assert '"level": "debug"' in log or '"level":"debug"' in log
    assert found_in(log) == []
    assert signatures_in(log, studio) == []
    assert studio.person.token not in log  # type: ignore[attr-defined]


def test_the_database_holds_none(studio: Studio) -> None:
    with sqlite3.connect(studio.home / "studio.sqlite3") as database:
        dump = "\n".join(database.iterdump())
    database.close()

    assert "One that is made" in dump
    # The webhook's secret that the provider told is kept to check what it signs; ours from the environment is not.
    assert found_in(dump) == []
    # A row keeps the addresses that its outputs are fetched from; the provider lets them die after 7 days.
    outputs = re.compile(r"/outputs/\w+/output\.mp4\?Expires=\d+&Signature=\w+")
    assert signatures_in(outputs.sub("", dump), studio) == []
    assert studio.person.token not in dump  # type: ignore[attr-defined]


def test_the_pages_hold_none(studio: Studio) -> None:
    person: Person = studio.person  # type: ignore[attr-defined]
    rows = person.api("GET", "generations/").json()["results"]
    paths = ["/admin/", "/admin/spend/", "/admin/tokens/", "/admin/nowhere/", "/livez", "/readyz", "/metrics"]
    paths += [f"/admin/generations/generation/{row['id']}/change/" for row in rows]
    models = ["generation", "video", "approval", "lane", "reconciliation", "process", "unassignedprediction"]
    paths += [f"/admin/generations/{model}/" for model in models]
    models = ["project", "membership", "invitation", "sourceimage", "budget", "spendentry", "notification", "studio"]
    paths += [f"/admin/projects/{model}/" for model in models]
    paths += ["/admin/auth/user/", "/admin/auth/user/1/change/"]
    for path in paths:
        page = person.page(path)
        assert found_in(page.text) == [], path
        assert signatures_in(page.text, studio) == [], path


def test_the_api_s_answers_hold_none(studio: Studio) -> None:
    person: Person = studio.person  # type: ignore[attr-defined]
    project = person.api("GET", "projects/").json()["results"][0]["id"]
    rows = person.api("GET", "generations/").json()["results"]
    paths = ["projects/", "generations/", "source-images/", "videos/", "spend/", "tokens/", "endpoints/", "schema/"]
    paths += [f"generations/{row['id']}/events/" for row in rows] + [f"projects/{project}/spend/entries/", "nowhere/"]
    paths += [f"{base}spend/{name}" for base in ("", f"projects/{project}/") for name in ("entries.csv", "focus.csv")]
    for path in paths:
        answer = person.api("GET", path)
        assert found_in(answer.text) == [], path
        assert signatures_in(answer.text, studio) == [], path
    for name in ("entries.xlsx", "breakdown.xlsx"):
        with zipfile.ZipFile(BytesIO(person.api("GET", f"spend/{name}").content)) as book:
            text = "".join(book.read(part).decode("utf-8", "replace") for part in book.namelist())
        assert found_in(text) == [], name


def test_what_is_refused_at_the_start_shows_none(studio: Studio) -> None:
    """A setting that is wrong is named, and not shown."""
    for name, value in {
        "DATABASE_URL": f"mysql://studio:{MAIL_PASSWORD}@db/studio",
        "EMAIL_URL": f"carrier://studio:{MAIL_PASSWORD}@mail",
        "STORAGE_URL": f"ftp://key:{S3_SECRET}@bucket",
        "WAVESPEED_BASE_URL": f"https://user:{API_KEY}@api.example.com/x",
    }.items():
        broken = Studio(studio.home, **{**studio.environment, name: value})
        done = broken.manage("check", check=False)
        assert done.returncode != 0, name
        assert found_in(done.stdout + done.stderr) == [], name


def test_a_bug_s_page_and_log_line_hold_none(studio: Studio) -> None:
    """Django's own report of a failed request names settings, cookies and local variables: none of it is sent or logged."""
    told = studio.run(
        """
import json, logging, io
from django.conf import settings
from django.test import Client
from django.contrib.auth.models import User
from generations import reports
stream = io.StringIO()
logging.getLogger().addHandler(logging.StreamHandler(stream))
def broken(*arguments, **options):
    api_key = settings.WAVESPEED_API_KEY
    raise RuntimeError("a bug")
reports.report = broken
client = Client(raise_request_exception=False)
client.force_login(User.objects.get(), "django.contrib.auth.backends.ModelBackend")
page = client.get("/admin/spend/", headers={"host": "127.0.0.1"})
print(json.dumps({"status": page.status_code, "page": page.content.decode(), "log": stream.getvalue()}))
"""
    )
    answer = json.loads(told.splitlines()[-1])

    assert answer["status"] == 500
    assert "a bug" in answer["log"]
    assert "a bug" not in answer["page"]
    assert found_in(answer["page"] + answer["log"]) == []


def test_the_files_of_the_studio_are_its_owner_s_alone(studio: Studio) -> None:
    media = [path for path in (studio.home / "media").rglob("*") if path.is_file()]

    assert media
    assert {oct(path.stat().st_mode & 0o777) for path in media} == {"0o600"}
    assert all(found_in(Path(path).read_bytes().decode("latin-1")) == [] for path in media)
