"""What operators rely on: the units run the Procfile's commands, and docs/operations.md knows every alert."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from projects.models import AlertKind
from tests.services import procfile
from tests.studio_process import ROOT

DEPLOY = ROOT / "deploy"
OPERATIONS = ROOT / "docs" / "operations.md"
HOME = "/opt/kling-studio"
QUEUES = ("submit", "poll", "store", "default")


def directives(unit: Path) -> list[tuple[str, str]]:
    return re.findall(r"^([A-Za-z]+)=(.*)$", unit.read_text(), re.MULTILINE)


def values(unit: Path, name: str) -> list[str]:
    return [value for key, value in directives(unit) if key == name]


def unit_commands() -> dict[str, str]:
    """By the Procfile's names, without the folder of the installation."""
    web, worker, dispatcher, release = (
        [
            command.replace(f"{HOME}/.venv/bin/", "")
            for command in values(DEPLOY / f"kling-studio-{name}.service", "ExecStart")
        ]
        for name in ("web", "worker@", "dispatcher", "release")
    )
    workers = {f"worker-{queue}": worker[0].replace("%i", queue) for queue in QUEUES}
    return {"web": web[0], **workers, "dispatcher": dispatcher[0], "release": " && ".join(release)}


def test_the_units_run_the_commands_of_the_procfile() -> None:
    assert unit_commands() == procfile.commands()


def test_workers_look_for_work_ten_times_a_second_as_the_embedded_one_does() -> None:
    workers = {name: variables for name, variables in procfile.variables().items() if name.startswith("worker-")}
    assert workers == {f"worker-{queue}": ["dramatiq_worker_timeout=100"] for queue in QUEUES}
    assert "dramatiq_worker_timeout=100" in values(DEPLOY / "kling-studio-worker@.service", "Environment")


def test_the_commands_are_there() -> None:
    bin_folder = Path(sys.executable).parent
    for command in procfile.commands().values():
        for part in command.split(" && "):
            program, *arguments = part.split()
            assert (bin_folder / program).exists()
            assert program == "gunicorn" or arguments[0] == "manage.py"


@pytest.mark.parametrize("unit", sorted(DEPLOY.glob("*.service")), ids=lambda unit: unit.stem)
def test_each_unit_is_hardened_and_gets_its_secrets_as_files(unit: Path) -> None:
    one = dict(directives(unit))

    assert (one["User"], one["UMask"]) == ("kling-studio", "0077")
    for name in (
        "NoNewPrivileges",
        "PrivateTmp",
        "PrivateDevices",
        "ProtectHome",
        "ProtectKernelModules",
        "RestrictSUIDSGID",
    ):
        assert one[name] == "yes"
    assert (one["ProtectSystem"], one["CapabilityBoundingSet"]) == ("strict", "")
    assert values(unit, "LoadCredential") == ["secrets:/etc/kling-studio/secrets"]
    assert not re.search(r"(PASSWORD|SECRET|KEY|TOKEN|_URL)=", "\n".join(values(unit, "Environment")))


@pytest.mark.parametrize("name", ["web", "worker@", "dispatcher"])
def test_a_process_is_given_the_time_that_it_takes_to_drain(name: str) -> None:
    one = dict(directives(DEPLOY / f"kling-studio-{name}.service"))

    # More than what dramatiq waits for its workers, gunicorn for its requests, and a look of the dispatcher takes.
    assert int(one["TimeoutStopSec"]) > {"web": 30, "worker@": 600, "dispatcher": 30}[name]
    assert (one["KillMode"], one["Restart"]) == ("mixed", "always")


@pytest.mark.parametrize("name", ["web", "worker@", "dispatcher"])
def test_stopping_the_target_waits_for_what_drains(name: str) -> None:
    """systemd stops in the opposite order of starting: what comes after the target is stopped before it."""
    (after,) = values(DEPLOY / f"kling-studio-{name}.service", "After")
    assert "kling-studio.target" in after.split()


def test_a_reload_and_a_release_are_refused_with_bad_settings_before_anything_ends() -> None:
    first, second = values(DEPLOY / "kling-studio-web.service", "ExecReload")
    assert first.endswith("manage.py check --database default")
    assert second == "/bin/kill -HUP $MAINPID"
    (before,) = values(DEPLOY / "kling-studio-release.service", "ExecStartPre")
    assert before.endswith("manage.py check")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    """With the folder of this checkout in place of the installation's, as it looks for the programs."""
    bin_folder = str(Path(sys.executable).parent)
    for unit in DEPLOY.glob("kling-studio*"):
        text = unit.read_text().replace(f"{HOME}/.venv/bin", bin_folder).replace(HOME, str(ROOT))
        for name in [unit.name.replace("@", f"@{queue}") for queue in QUEUES] if "@" in unit.name else [unit.name]:
            (tmp_path / name).write_text(text)

    units = [str(unit) for unit in tmp_path.iterdir()]
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=120
    )

    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "kling-studio" in line]) == (0, [])


def test_the_target_has_what_is_enabled_and_nothing_else() -> None:
    """On each machine only the units that it shall run are enabled; all that run are the target's, to be stopped with it."""
    running = {f"kling-studio-{name}" for name in ("web", "worker@", "dispatcher")}
    for unit in DEPLOY.glob("*.service"):
        belongs = ["kling-studio.target"] if unit.stem in running else []
        assert (values(unit, "WantedBy"), values(unit, "PartOf")) == (belongs, belongs)

    assert values(DEPLOY / "kling-studio.target", "Wants") == []
    assert values(DEPLOY / "kling-studio.target", "WantedBy") == ["multi-user.target"]


def test_the_documented_installation_enables_everything() -> None:
    (command,) = re.findall(r"^systemctl enable (.+)$", OPERATIONS.read_text(), re.MULTILINE)

    assert command.split() == [
        "--now",
        "kling-studio.target",
        "kling-studio-web",
        "kling-studio-dispatcher",
        f"kling-studio-worker@{{{','.join(QUEUES)}}}",
    ]


# As systemd 252 reads them. What is quoted begins a value; what is not is its line's rest.
ENVIRONMENT_FILE = r"""
# A comment=with a sign
; ANOTHER=one

STORAGE_URL=s3://b/p?region_name=auto&endpoint_url=https://s3.example.com
DEFAULT_FROM_EMAIL=kling_studio <studio@localhost>
EMAIL_URL="submission://user:pa$$word`id`@mail.example.com:587"
  SPACED = around the sign is cut
UNQUOTED=$HOME|$(id);it's "as" it # is
SINGLE='$HOME "and" \n'
DOUBLE="says \"so\" for \$5 \q"
LINES="one
NOT_ONE=two"
GOES_ON=one \
and two
ESCAPED=a\\b\c
PIECES='a' "b" c
EMPTY=
not an assignment
export NOR=this
"""
READ = {
    "STORAGE_URL": "s3://b/p?region_name=auto&endpoint_url=https://s3.example.com",
    "DEFAULT_FROM_EMAIL": "kling_studio <studio@localhost>",
    "EMAIL_URL": "submission://user:pa$$word`id`@mail.example.com:587",
    "SPACED": "around the sign is cut",
    "UNQUOTED": '$HOME|$(id);it\'s "as" it # is',
    "SINGLE": '$HOME "and" \\n',
    "DOUBLE": 'says "so" for $5 \\q',
    "LINES": "one\nNOT_ONE=two",
    "GOES_ON": "one and two",
    "ESCAPED": "a\\bc",
    "PIECES": "abc",
    "EMPTY": "",
}


@pytest.fixture
def studio(tmp_path: Path) -> Callable[..., str]:
    """Runs `deploy/studio`, with the folders of this test in place of the system's, and its own user in place of the studio's."""
    (tmp_path / "etc" / "secrets").mkdir(parents=True)
    (tmp_path / "etc" / "environment").write_text("")
    (tmp_path / "etc" / "secrets" / "secret_key").write_text("k" * 60 + "\n")
    script = (DEPLOY / "studio").read_text()
    for there, here in {
        "#!/opt/kling-studio/.venv/bin/python\n": f"#!{sys.executable}\n",
        "/etc/kling-studio": str(tmp_path / "etc"),
        "/var/lib/kling-studio": str(tmp_path / "home"),
        "/opt/kling-studio": str(ROOT),
        '"runuser", "-u", "kling-studio", "--", ".venv/bin/python"': f'"{sys.executable}"',
    }.items():
        assert there in script
        script = script.replace(there, here)
    program = tmp_path / "studio"
    program.write_text(script)
    program.chmod(0o755)

    systemctl = tmp_path / "systemctl"
    systemctl.write_text("#!/bin/sh\necho systemctl $*\n")
    systemctl.chmod(0o755)

    def run(*arguments: str, status: int = 0) -> str:
        path = f"{tmp_path}:/usr/bin:/bin"
        said = subprocess.run([program, *arguments], env={"PATH": path}, capture_output=True, text=True, timeout=120)
        assert said.returncode == status, said.stderr
        return said.stdout if status == 0 else said.stderr + said.stdout

    return run


def test_manage_py_runs_with_the_secrets_of_the_units(studio: Callable[..., str]) -> None:
    code = "from django.conf import settings as s; print(len(s.SECRET_KEY), s.STUDIO_HOME.name)"

    assert studio("shell", "-c", code).splitlines()[-1] == "60 home"


def test_manage_py_runs_in_the_environment_that_systemd_reads(studio: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "etc" / "environment").write_text(ENVIRONMENT_FILE)
    code = "import os; print(dict(os.environ))"

    given = ast.literal_eval(studio("shell", "-c", code).splitlines()[-1])

    assert {name: given.get(name) for name in READ} == READ
    assert not {"A comment", "ANOTHER", "NOT_ONE", "NOR", "export NOR"} & given.keys()


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_an_address_with_several_options_reaches_the_settings(
    quote: str, studio: Callable[..., str], tmp_path: Path
) -> None:
    url = "s3://b/p?region_name=auto&endpoint_url=https://s3.example.com"
    (tmp_path / "etc" / "environment").write_text(f"STORAGE_URL={quote}{url}{quote}\n")
    code = "from django.conf import settings as s; print(s.STORAGES['default']['OPTIONS']['endpoint_url'])"

    assert studio("shell", "-c", code).splitlines()[-1] == "https://s3.example.com"


def test_each_alert_has_a_section() -> None:
    text = OPERATIONS.read_text()
    section = text.split("## What to do on each alert")[1].split("\n## ")[0]

    assert re.findall(r"^### (.+)$", section, re.MULTILINE) == [str(kind.label) for kind in AlertKind]


def test_a_restart_with_a_bad_value_stops_nothing(studio: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "etc" / "environment").write_text("LOG_FORMAT=xml\n")
    told = studio("restart", status=1)
    assert told.splitlines() == [
        "kling_studio can't start: LOG_FORMAT: Must be one of: console, json.",
        "studio restart: nothing was stopped. Put right what the lines above say, then try again.",
    ]

    (tmp_path / "etc" / "environment").write_text("WAVESPEED_API_KEY=none\n")
    assert studio("restart").splitlines()[-1] == "systemctl restart kling-studio.target"
    assert studio("restart", "kling-studio-web").splitlines()[-1] == "systemctl restart kling-studio-web"


def test_the_documented_environment_holds_no_secret() -> None:
    """It is a file that others may read, unlike those in `secrets`."""
    (text,) = re.findall(r"^cat >/etc/kling-studio/environment <<END\n(.*?)^END$", OPERATIONS.read_text(), re.M | re.S)

    assert not re.search(r"^(SECRET_KEY|DATABASE_URL|WAVESPEED_API_KEY|EMAIL_URL|METRICS_TOKEN)", text, re.MULTILINE)
    assert not re.search(r"://[^/\s]*:[^/\s]*@", text)


# --- Rules of Prometheus ----------------------------------------------------------------------------------------------

RULES = DEPLOY / "prometheus-rules.yml"


@pytest.mark.services
@pytest.mark.skipif(not shutil.which("promtool"), reason="this machine has no promtool; script/services installs it")
def test_prometheus_loads_the_rules() -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, timeout=60)

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_rule_has_a_section_that_says_what_to_do() -> None:
    rules = re.findall(r"- alert: (\w+)", RULES.read_text())
    section = OPERATIONS.read_text().split("## What to do on each rule of Prometheus")[1].split("\n## ")[0]

    assert re.findall(r"^### (.+)$", section, re.MULTILINE) == rules


def test_the_rules_ask_for_metrics_that_there_are() -> None:
    """By the names in docs/watching.md, which says what each means; `_count` is a histogram's."""
    asked = set(re.findall(r"kling_studio_(\w+)", re.sub(r"name: \w+", "", RULES.read_text())))
    told = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "watching.md").read_text()))

    assert {name.removesuffix("_count") for name in asked} <= told
