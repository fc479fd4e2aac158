"""The worker command on several servers: its child processes and its daemon get the URL."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from streamq import StreamQ
from tests.processes.conftest import ROOT
from tests.topology.conftest import Servers


def test_the_worker_command(servers: Servers, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LEDGER": str(tmp_path / "ledger")}
    environment.pop("STREAMQ_URL", None)
    command = ["worker", "tests.processes.jobs:app", "--with-daemon", "--url", servers.url]
    with (tmp_path / "log").open("wb") as log:
        group = subprocess.Popen(
            [sys.executable, "-m", "streamq", *command], env=environment, cwd=tmp_path, stderr=log
        )
    try:
        jobs = StreamQ("jobs", servers.url)
        handles = [jobs.send("work", {"seconds": 0.0}, delay=delay) for delay in (None, 0.1)]
        assert all(isinstance(handle.result(40), int) for handle in handles), (tmp_path / "log").read_text()
        jobs.close()
    finally:
        group.terminate()
        code = group.wait(40)
    assert code == 0, (tmp_path / "log").read_text()
