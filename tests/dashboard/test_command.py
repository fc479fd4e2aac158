"""`streamq dashboard`: what it refuses, and that it serves and ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from streamq import StreamQ
from streamq.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "queue.example.com"])  # noqa: S104
def test_an_open_address_without_a_login_is_refused(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--host", host]) == 78
    assert "--auth basic:NAME:@FILE" in capsys.readouterr().err


def test_a_login_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", "--auth", "basic:ada:short"]) == 2
    assert "8 characters" in capsys.readouterr().err


def test_it_serves_on_loopback_until_it_is_told_to_end(url: str) -> None:
    app = StreamQ("shop", url)
    app.send("email", {"to": "ada"})
    app.close()
    command = [sys.executable, "-m", "streamq", "dashboard", "--url", url, "--port", "0"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            found = re.search(r"http://\S+", process.stderr.readline())
            assert found is not None
            with urllib.request.urlopen(found[0] + "api/overview", timeout=10) as answer:  # noqa: S310
                assert answer.status == 200
                assert b'"ready":1' in answer.read()
            asked = [
                sys.executable,
                "-m",
                "streamq",
                "check",
                "--port",
                found[0].rstrip("/").rpartition(":")[2],
            ]
            assert subprocess.run(asked, env=environment, check=True, capture_output=True).stdout == b"ok\n"
            request = urllib.request.Request(found[0], headers={"host": "evil.example"})  # noqa: S310
            with pytest.raises(urllib.error.HTTPError, match="421"):
                urllib.request.urlopen(request, timeout=10)  # noqa: S310
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(10) in (0, -signal.SIGTERM)
