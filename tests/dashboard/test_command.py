"""`streamq dashboard`: what it refuses, and that it serves and ends."""

from __future__ import annotations

import os
import re
import signal
import socket
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
            address, _, token = found[0].partition("?token=")
            for path, headers, status in (
                ("api/overview", {}, 401), ("", {}, 401), ("", {"x-forwarded-for": "10.0.0.1"}, 401),
                ("", {"host": "evil.example"}, 421), ("?token=wrong", {}, 401),
            ):  # fmt: skip
                assert _status(address + path, headers) == status, path
            jar = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with jar.open(f"{address}?token={token}", timeout=10) as answer:
                assert (answer.status, answer.url) == (200, address)
            with jar.open(f"{address}api/overview", timeout=10) as answer:
                assert b'"ready":1' in answer.read()
            assert _status(f"{address}?token={token}") == 401
            other = process.stderr.readline()
            while "for another one" not in other:
                other = process.stderr.readline()
            assert f"{address}?token=" in other
            port = address.rstrip("/").rpartition(":")[2]
            asked = [sys.executable, "-m", "streamq", "check", "--port", port]
            assert subprocess.run(asked, env=environment, check=True, capture_output=True).stdout == b"ok\n"
            silent = [socket.create_connection(("127.0.0.1", int(port))) for _ in range(600)]
            try:
                assert _status(f"{address}live") == 200
                assert _status(address) == 401
            finally:
                for one in silent:
                    one.close()
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def _status(url: str, headers: dict[str, str] | None = None) -> int:
    request = urllib.request.Request(url, headers=headers or {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
