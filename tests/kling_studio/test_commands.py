"""The commands as an operator types them, in a studio of their own."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.studio_process import ROOT, Studio

# Its studio is made once for all of them.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]

PHOTO = str(ROOT / "kling_studio" / "photos" / "rocket.jpg")
PREPARE = """
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
from projects.models import Project
from tests import factories
by = User.objects.create_superuser("olive")
project = Project.objects.create(name="Coffee", created_by=by)
factories.budget(project, 3_000_000)
"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with Studio(tmp_path_factory.mktemp("commands") / "home") as studio:
        studio.run(PREPARE)
        yield studio


def generate(studio: Studio, *arguments: str) -> tuple[int, str, str]:
    done = studio.manage(
        "generate", "--project", "Coffee", "--user", "olive", "--image", PHOTO, *arguments, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_generate_makes_one_video_and_tells_it_as_json(studio: Studio) -> None:
    status, out, err = generate(studio, "--prompt", "Lift-off", "--duration", "3", "--json")

    assert status == 0, err
    told = json.loads(out)
    (video,) = told["videos"]
    stored = studio.home / "media" / video["file"]
    assert (told["status"], told["quote"], told["charged"]) == ("completed", "1.26", "1.26")
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == video["sha256"]
    assert (video["has_audio"], video["bytes"]) == (False, stored.stat().st_size)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--prompt", "Lift-off", "--duration", "2"],
            "2 is not a duration this model makes: whole seconds from 3 to 15.",
        ),
        (["--prompt", "Lift-off", "--duration", "abc"], "“abc” is not a duration this model makes"),
        (["--prompt", " "], "Neither prompt nor multi_prompt was given"),
        (["--prompt", "Lift-off", "--duration", "15"], "Not enough budget: this needs $6.30"),
        (["--prompt", "x", "--project", "Tea"], "There is no project “Tea”. Projects: Coffee."),
        (["--prompt", "x", "--user", "nobody"], "There is no active user “nobody”."),
        (["--prompt", "x", "--endpoint", "kling/9"], "There is no endpoint “kling/9”. Known endpoints: kwaivgi/"),
    ],
)
def test_generate_refuses_with_a_sentence_and_pays_nothing(studio: Studio, arguments: list[str], sentence: str) -> None:
    status, out, err = generate(studio, *arguments)

    assert status == 1
    assert sentence in err
    assert "Traceback" not in err
    assert out == ""


def test_generate_refuses_what_is_no_picture(studio: Studio, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a picture")

    for path, sentence in (
        (text, "JPEG, PNG, WebP"),
        (tmp_path / "missing.png", "missing.png can't be read: No such file"),
    ):
        status, _, err = generate(studio, "--prompt", "x", "--image", str(path))
        assert (status, "Traceback" in err) == (1, False)
        assert sentence in err


def test_quote_prints_the_price(studio: Studio) -> None:
    assert studio.manage("quote", "--duration", "15").stdout == "$6.30\n"
    refused = studio.manage("quote", "--duration", "16", check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "whole seconds from 3 to 15" in refused.stderr


def test_links_lead_to_the_port_that_the_server_listens_at(tmp_path: Path) -> None:
    """Where nobody says PUBLIC_URL: the banner, the mail and what the invited person opens."""
    with Studio(tmp_path / "home", EMAIL_URL="console://") as studio:
        del studio.environment["PUBLIC_URL"]
        studio.start("--no-seed")
        password = re.search(r"with the password (\S+)", studio.log.read_text())
        assert password
        session = logged_in(studio, "admin", password[1])
        answer = post(session, f"{studio.url}/admin/projects/project/add/", name="Tea", time_zone="UTC")
        project = re.search(r"/projects/project/([0-9a-f-]{36})/", answer.text)
        assert project
        fields = {"project": project[1], "email": "ines@example.com", "role": "editor"}
        banner = post(session, f"{studio.url}/admin/projects/invitation/add/", **fields).text

        [shown] = set(re.findall(r"http://[\w.:]+/join/[\w-]+/", banner))
        [mailed] = set(re.findall(r"http://[\w.:]+/join/[\w-]+/", studio.log.read_text()))
        assert shown == mailed
        assert shown.startswith(f"{studio.url}/join/")
        assert "Tea" in requests.get(shown, timeout=10).text
        studio.stop()


def logged_in(studio: Studio, username: str, password: str) -> requests.Session:
    session = requests.Session()
    page = f"{studio.url}/admin/login/"
    session.get(page, timeout=10)
    post(session, page, username=username, password=password, next="/admin/")
    return session


def post(session: requests.Session, url: str, **fields: str) -> requests.Response:
    session.get(url, timeout=10)
    form = {"csrfmiddlewaretoken": session.cookies["csrftoken"], **fields}
    answer = session.post(url, form, timeout=10)
    answer.raise_for_status()
    return answer
