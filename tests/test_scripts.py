import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [
    "script/bootstrap",
    "script/chaos",
    "script/demo",
    "script/lint",
    "script/pythons",
    "script/server",
    "script/services",
    "script/test",
    ".ci/run",
]
# What the scripts may use on a bare machine, without any Python and without uv.
TOOLS = ["bash", "cat", "dirname", "env", "flock", "rm"]
NO_PYTHON = (
    "script/bootstrap: needs Python 3.11, 3.12 or 3.13 with its venv module: "
    "apt-get install python3 python3-venv (or set PYTHON to where one is).\n"
)
MARKED_TESTS = """
import pytest

def test_plain(): pass

@pytest.mark.services
def test_services(): pass

@pytest.mark.services
@pytest.mark.slow
def test_slow_services(): pass

@pytest.mark.browser
def test_browser(): pass
"""


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False, cwd="/")


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project that needs no packages, so that its .venv takes a second, in a folder with spaces."""
    folder = tmp_path / "a folder's spaces"
    shutil.copytree(ROOT / "script", folder / "script")
    (folder / "requirements.txt").write_text("# none\n")
    (folder / "requirements-dev.txt").write_text("# none\n")
    return folder


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_help_is_a_usage_line(script: str) -> None:
    told = run(ROOT / script, "--help")

    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(f"Usage: {script}")


def test_bootstrap_without_python_says_in_one_line_what_to_install(checkout: Path, bare_path: Path) -> None:
    refused = run(checkout / "script/bootstrap", PATH=str(bare_path))

    assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", NO_PYTHON)
    assert not (checkout / ".venv").exists()


def test_bootstrap_with_an_old_python_or_no_venv_module_says_the_same(checkout: Path, bare_path: Path) -> None:
    old = bare_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)

    assert run(checkout / "script/bootstrap", PATH=str(bare_path)).stderr == NO_PYTHON


def test_bootstrap_refuses_an_unknown_argument(checkout: Path) -> None:
    refused = run(checkout / "script/bootstrap", "--all")

    assert (refused.returncode, refused.stderr) == (
        2,
        "script/bootstrap: unknown argument '--all'; the only one is --dev.\n",
    )


def test_bootstrap_installs_once_and_the_second_call_is_silent_and_changes_nothing(checkout: Path) -> None:
    bootstrap, key = checkout / "script/bootstrap", checkout / "var/secret_key"
    first = run(bootstrap, "--dev", PYTHON=sys.executable)
    made = key.read_text()
    stamp, python = checkout / ".venv/.installed", checkout / ".venv/bin/python"
    made_at = [each.lstat().st_ctime_ns for each in (stamp, python, key)]
    second, runtime = run(bootstrap, "--dev"), run(bootstrap)

    version = f"Python {sys.version.split()[0]}"
    assert first.stderr.splitlines()[-1] == f"script/bootstrap: installing requirements-dev.txt into .venv ({version})"
    assert [(call.returncode, call.stdout, call.stderr) for call in (second, runtime)] == [(0, "", "")] * 2
    assert [each.lstat().st_ctime_ns for each in (stamp, python, key)] == made_at
    assert len(made) == 64
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert key.read_text() == made


def test_bootstrap_after_a_failed_install_installs_again(checkout: Path) -> None:
    bootstrap, requirements = checkout / "script/bootstrap", checkout / "requirements.txt"
    requirements.write_text(f"./missing-1.0-py3-none-any.whl --hash=sha256:{'0' * 64}\n")
    failed = run(bootstrap, PYTHON=sys.executable)
    again = run(bootstrap)
    requirements.write_text("# none\n")

    assert (failed.returncode, again.returncode) == (1, 1)
    assert again.stderr.splitlines()[-1] == (
        "script/bootstrap: could not install requirements.txt; the lines above say why. Run script/bootstrap again."
    )
    assert run(bootstrap).returncode == 0
    assert run(bootstrap).stderr == ""


OTHER_PYTHONS = [
    python
    for name in ("python3.11", "python3.12", "python3.13", "python3")
    for python in [shutil.which(name, path="/usr/bin:/usr/local/bin")]
    if python and Path(python).resolve() != Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
]


@pytest.mark.skipif(not OTHER_PYTHONS, reason="this machine has one Python")
def test_bootstrap_with_another_python_makes_the_environment_anew(checkout: Path) -> None:
    bootstrap = checkout / "script/bootstrap"
    run(bootstrap, PYTHON=sys.executable)
    again = run(bootstrap, PYTHON=OTHER_PYTHONS[0])

    assert "installing requirements.txt into .venv" in again.stderr
    assert (checkout / ".venv/bin/python").resolve() == Path(OTHER_PYTHONS[0]).resolve()
    assert run(bootstrap, PYTHON=OTHER_PYTHONS[0]).stderr == ""
    assert run(bootstrap, PYTHON="/nowhere/python").stderr.startswith("script/bootstrap: PYTHON=/nowhere/python is not")


@pytest.mark.skipif(os.geteuid() != 0, reason="of what root installs")
def test_bootstrap_run_by_root_says_so_of_a_python_that_others_cannot_run(checkout: Path) -> None:
    """Root's own, in its home: the units would not start with it."""
    told = run(checkout / "script/bootstrap", PYTHON=sys.executable)

    base = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]
    is_closed = not all(folder.stat().st_mode & 0o001 for folder in base.parents)
    assert ("lies where other users can't read it" in told.stderr) == is_closed
    assert told.stderr.splitlines()[-1].startswith("script/bootstrap: installing")


def test_bootstrap_remakes_a_venv_that_was_moved(checkout: Path) -> None:
    run(checkout / "script/bootstrap", PYTHON=sys.executable)
    (checkout / ".venv/from-the-old-place").touch()
    moved = checkout.rename(checkout.parent / "moved")

    assert run(moved / "script/bootstrap", PYTHON=sys.executable).returncode == 0
    assert not (moved / ".venv/from-the-old-place").exists()
    assert run(moved / ".venv/bin/python", "-c", "import sys; print(sys.prefix)").stdout == f"{moved / '.venv'}\n"


def test_bootstrap_puts_the_secret_key_where_the_settings_look(checkout: Path, tmp_path: Path) -> None:
    run(checkout / "script/bootstrap", PYTHON=sys.executable, STUDIO_HOME="relative home")
    run(checkout / "script/bootstrap", STUDIO_HOME=str(tmp_path / "absolute"))
    (checkout / ".env").write_text('DEBUG=true\nSTUDIO_HOME="from file"\n')
    run(checkout / "script/bootstrap")

    keys = [checkout / "relative home/secret_key", tmp_path / "absolute/secret_key", checkout / "from file/secret_key"]
    assert len({key.read_text() for key in keys}) == 3
    assert not (checkout / "var").exists()


def test_services_env_tells_the_tests_where_everything_is() -> None:
    told = run(ROOT / "script/services", "env", POSTGRES_PORT="15432", CHROMIUM_PATH="/opt/my chromium")

    assert told.stdout.splitlines() == [
        "export TEST_DATABASE_URL=postgres://kling_studio:kling_studio@127.0.0.1:15432/kling_studio",
        "export TEST_REDIS_URL=redis://127.0.0.1:6379/9",
        "export TEST_AMQP_URL=amqp://guest:guest@127.0.0.1:5672",
        "export TEST_S3_ENDPOINT_URL=http://127.0.0.1:5055",
        "export TEST_GCS_ENDPOINT_URL=http://127.0.0.1:5056",
        "export TEST_AZURE_ENDPOINT_URL=http://127.0.0.1:5057",
        "export CHROMIUM_PATH=/opt/my\\ chromium",
    ]


def test_services_refuses_an_unknown_command() -> None:
    refused = run(ROOT / "script/services", "restart")

    assert refused.returncode == 1
    assert refused.stderr.startswith(
        "script/services: unknown command 'restart'. Usage: script/services [start|status|stop|env]"
    )


@pytest.mark.parametrize("workers", ["0", "2"])
def test_left_out_counts_each_test_once_under_its_first_marker(tmp_path: Path, workers: str) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  services\n  browser\n  slow\n")
    (tmp_path / "test_marked.py").write_text(MARKED_TESTS)
    fast = ["-n", workers, "-m", "not services and not browser and not slow"]
    plugins = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "xdist.plugin,tests.left_out",
        "PYTHONPATH": str(ROOT),
    }
    ended = run(sys.executable, "-m", "pytest", *fast, tmp_path, **plugins)

    told = "Left out: 2 services, 1 browser. Run them with script/test --rest, or everything with script/test --all."
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.splitlines()[-2] == told
    assert "1 passed" in ended.stdout.splitlines()[-1]
