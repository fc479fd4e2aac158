"""A rolling deploy onto lanes, from the release that the chaos test's plain deploys start from: it knows no
lanes, and does not hand back what it cannot run.

The old code is that of a commit, laid out from git; without git or that commit the test is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streamq import StreamQ
from streamq.calls import producer as producer_calls
from streamq.keys import type_keys
from tests.chaos.release import COMMITS, check_out
from tests.conftest import command
from tests.processes.conftest import ROOT, ledger
from tests.processes.test_lanes_rolling import assert_limits
from tests.running import wait_until

OLDER = """
import asyncio, os
from streamq import StreamQ, Worker, WorkerOptions, get_context

app = StreamQ("jobs", os.environ["STREAMQ_URL"])

@app.task
async def post(customer: str, seconds: float) -> None:
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"older:{customer} {get_context().id} 0 0\\n")

asyncio.run(Worker(app, WorkerOptions(concurrency=4, heartbeat=0.2)).run())
"""
DAEMON = """
import asyncio, os
from streamq import Daemon, DaemonOptions, StreamQ
app = StreamQ("jobs", os.environ["STREAMQ_URL"])
asyncio.run(Daemon(app.address, DaemonOptions(discover_interval=0.2, heartbeat=0.2)).run())
"""
"""A daemon that looks after held rules more often than the command line lets it."""


def test_rules_come_into_force_when_the_last_old_worker_is_gone(
    jobs: StreamQ, worker: Callable[..., object], url: str, tmp_path: Path
) -> None:
    code = check_out(tmp_path, COMMITS["plain"])
    if code is None:
        pytest.skip("the old release's commit is not to be had")
    more = {"STREAMQ_URL": url, "LEDGER": str(tmp_path / "ledger"), "PYTHONPATH": str(code)}
    old = subprocess.Popen([sys.executable, "-c", OLDER], env=os.environ | more, cwd=tmp_path)
    now = os.environ | {"STREAMQ_URL": url, "PYTHONPATH": str(ROOT)}
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON], env=now, cwd=tmp_path)
    try:
        wait_until(lambda: bool(jobs.inspector.workers()), 60)
        worker("--concurrency", "8")
        wait_until(lambda: len(jobs.inspector.workers()) == 2, 60)
        assert held(jobs) == "lanes"
        for n in range(40):
            jobs.send("post", {"customer": f"c{n % 4}", "seconds": 0})
        wait_until(lambda: jobs.inspector.type_stats("post").counters["completed"] == 40, 60)
        assert any(row[0].startswith("older:") for row in ledger(tmp_path))  # it may run them all
        assert command(url, "EXISTS", type_keys("jobs", 0, "post").slots) == 0
        assert old.poll() is None
    finally:
        old.terminate()
        old.wait(30)
    try:
        wait_until(lambda: held(jobs) == "", 60)
    finally:
        daemon.terminate()
        daemon.wait(30)
    (tmp_path / "ledger").write_text("")
    for n in range(40):
        jobs.send("post", {"customer": f"c{n % 4}", "seconds": 0.02})
    wait_until(lambda: jobs.inspector.type_stats("post").counters["completed"] == 80, 60)
    assert_limits(ledger(tmp_path), 6)
    assert jobs.inspector.type_stats("post").counters.get("dead", 0) == 0
    assert jobs.inspector.audit().problems == []


def held(jobs: StreamQ) -> str:
    """The features that the held rules of the type need."""
    found = jobs._client.transport.run(producer_calls.policy_rules(type_keys("jobs", 0, "post")))
    return found.get("held", "")
