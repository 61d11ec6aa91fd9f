"""deploy/nginx.conf in front of the studio, on loopback and with TLS."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import urllib3

from tests import factories
from tests.studio_process import ROOT, Studio, free_port
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        not (shutil.which("nginx") or Path("/usr/sbin/nginx").exists()) or not shutil.which("openssl"),
        reason="this machine has no nginx or openssl; script/services installs them",
    ),
    pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning"),
]
urllib3.disable_warnings()

MEGABYTE = 1_000_000
PREPARE = """
from django.contrib.auth.models import User
from django.core.management import call_command
call_command("migrate", verbosity=0)
from knox.models import AuthToken
from projects.models import Project
by = User.objects.create_superuser("olive", "olive@example.com", "a-good-password")
print(Project.objects.create(name="Coffee", created_by=by).pk, AuthToken.objects.create(user=by)[1])
"""


@dataclass
class Site:
    url: str
    studio: Studio
    project: str
    token: str

    def get(self, path: str, **headers: str) -> requests.Response:
        return requests.get(self.url + path, headers=headers, verify=False, timeout=60)

    def upload(self, content: bytes) -> requests.Response:
        return requests.post(
            f"{self.url}/api/v1/source-images/",
            data={"project": self.project},
            files={"file": ("cup.jpg", content)},
            headers={"Authorization": f"Bearer {self.token}"},
            verify=False,
            timeout=120,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nginx")
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    studio = Studio(
        folder / "home", PUBLIC_URL=url, ALLOWED_HOSTS="127.0.0.1", TRUST_FORWARDED_PROTO="true", TRUSTED_PROXIES="1"
    )
    project, token = studio.run(PREPARE).splitlines()[-1].split()
    with studio:
        studio.launch("--no-seed")
        process = subprocess.Popen(
            [
                shutil.which("nginx") or "/usr/sbin/nginx",
                "-c",
                str(configuration(folder, port, studio.port)),
                "-p",
                folder,
            ]
        )
        try:
            wait_until(lambda: reachable(f"{url}/livez"), why=(folder / "error.log").read_text)
            yield Site(url, studio, project, token)
        finally:
            process.terminate()
            process.wait(timeout=30)


def configuration(folder: Path, port: int, studio: int) -> Path:
    """The file as it is, with this test's ports and certificate, and folders that need no root."""
    certificate = ["-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=127.0.0.1",
            *certificate,
        ],
        check=True,
        capture_output=True,
    )
    site = (ROOT / "deploy" / "nginx.conf").read_text()
    site = re.sub(r"^ *listen \[::\].*\n", "", site, flags=re.MULTILINE)
    for there, here in {
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
        "server_name studio.example.com;": "server_name 127.0.0.1;",
        "/etc/letsencrypt/live/studio.example.com/": f"{folder}/",
        "127.0.0.1:8000": f"127.0.0.1:{studio}",
    }.items():
        assert there in site
        site = site.replace(there, here)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{site}}}\n"
    )
    (folder / "error.log").touch()
    return path


def reachable(url: str) -> bool:
    try:
        return requests.get(url, verify=False, timeout=10).status_code == 200
    except requests.RequestException:
        return False


def test_the_front_door_leads_to_the_admin_with_secure_cookies(site: Site) -> None:
    page = site.get("/")

    assert (page.status_code, page.url) == (200, f"{site.url}/admin/login/?next=/admin/")
    assert [cookie.secure for cookie in page.cookies] == [True]
    assert "Strict-Transport-Security" in page.headers


def test_a_picture_of_a_few_megabytes_goes_through_and_is_read_back_in_pieces(site: Site) -> None:
    """nginx's own limit is 1 MB. JPEGs may have anything after their end."""
    made = site.upload(factories.jpeg(1600, 900) + bytes(3 * MEGABYTE))
    assert made.status_code == 201, made.text

    address = made.json()["url"]
    assert address.startswith(site.url)
    piece = site.get(address.removeprefix(site.url), Range="bytes=10-19")
    assert (piece.status_code, len(piece.content)) == (206, 10)


@pytest.mark.parametrize("megabytes", [49, 53])
def test_at_the_limit_it_is_the_studio_that_answers(site: Site, megabytes: int) -> None:
    refused = site.upload(bytes(megabytes * MEGABYTE))

    assert refused.status_code in {400, 413}
    assert refused.json()["errors"][0]["detail"], "in the API's own words, and not a page of nginx"


def test_who_asks_is_who_connects_to_nginx_whatever_they_say(site: Site) -> None:
    form = f"{site.url}/accounts/password-reset/"
    with requests.Session() as browser:
        browser.get(form, verify=False, timeout=60)
        body = {"email": "nobody@example.com", "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
        for number in range(11):
            said = {"X-Forwarded-For": f"203.0.113.{number}", "X-Forwarded-Proto": "http", "Referer": form}
            answer = browser.post(form, body, headers=said, verify=False, timeout=60, allow_redirects=False)
    assert answer.status_code == 429


def test_metrics_stay_inside(site: Site) -> None:
    assert site.get("/metrics").status_code == 404
