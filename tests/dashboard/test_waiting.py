"""The dashboard before there is a server, or an app on it: it waits, says so, and fills by itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from streamq import StreamQ
from streamq.embedded import EmbeddedServer
from tests.ports import free_port
from tests.running import wait_until

TOKEN = "a-token-of-some-length-0123456789"  # noqa: S105
ROOT = Path(__file__).parents[2]


def asked(url: str) -> tuple[int, str]:
    try:
        request = urllib.request.Request(url, headers={"authorization": f"Bearer {TOKEN}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_the_dashboard_waits_for_a_server_and_for_an_app() -> None:
    port = free_port()
    command = [sys.executable, "-m", "streamq", "dashboard", "--port", "0", "--auth", f"bearer:{TOKEN}"]
    url = f"redis://:secret@127.0.0.1:{port}/0"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "STREAMQ_URL": url}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            said = ""
            while (found := re.search(r"the dashboard is at (http://\S+)", said)) is None:
                line = process.stderr.readline()
                assert line, said
                said += line
            assert "from STREAMQ_URL" in said
            assert "streamq dev" in said
            status, page = asked(found[1])
            assert status == 503
            assert "is unreachable" in page
            assert "secret" not in said + page
            assert asked(found[1] + "api/overview")[0] == 503
            assert asked(found[1] + "ready")[0] == 200
            with EmbeddedServer(port=port, config={"requirepass": "secret"}):
                wait_until(lambda: "There is no queue yet" in asked(found[1])[1])
                app = StreamQ("shop", url)
                app.send("email", {})
                wait_until(lambda: "email" in asked(found[1])[1])
                app.close()
        finally:
            process.send_signal(signal.SIGTERM)
