import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.sandbox import ROOT, SandboxControl, end_process, spawn_sandbox
from tests.wavespeed_sandbox.conftest import Provider
from wavespeed_sandbox.__main__ import main


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_process_serves_until_it_is_told_to_stop(tmp_path: Path, signum: signal.Signals) -> None:
    process, url = spawn_sandbox(tmp_path, "--api-key", "right", "--balance", "12.50", "--latency", "0.05")
    try:
        assert Provider(url, "right").data("GET", "balance") == {"balance": 12.5}
        assert Provider(url, "wrong").call("GET", "balance").status_code == 401
        assert SandboxControl(url).info()["data_dir"] == str(tmp_path)
        process.send_signal(signum)
        assert process.wait(timeout=10) == 0
        with pytest.raises(requests.ConnectionError):
            SandboxControl(url).info()
    finally:
        end_process(process)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speed", "0"], "argument --speed: '0' is not a number above 0"),
        (["--port", "99999"], "argument --port: '99999' is not a port from 0 to 65535"),
        (["--balance", "much"], "argument --balance: 'much' is not an amount of USD from 0"),
        (["--per-minute", "0"], "argument --per-minute: '0' is not a whole number from 1"),
        (["--latency", "inf"], "argument --latency: 'inf' is not a number of seconds from 0"),
    ],
)
def test_bad_options_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"python -m wavespeed_sandbox: error: {message}"


def test_process_says_why_it_can_not_start(tmp_path: Path) -> None:
    process, url = spawn_sandbox(tmp_path / "a")
    try:
        port = url.rsplit(":", 1)[1]
        command = [sys.executable, "-m", "wavespeed_sandbox", "--data", str(tmp_path / "b"), "--port", port]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1
        assert done.stderr == "The sandbox can't start: [Errno 98] Address already in use.\n"
    finally:
        end_process(process)
