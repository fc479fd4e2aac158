"""Unique keys while workers are killed: every lock is on a live task, and the last call of each key runs."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from streamq import StreamQ
from tests.processes.conftest import Start, alive, ledger
from tests.running import wait_until

SECONDS: Final = float(os.environ.get("STREAMQ_KILL_SECONDS", "8"))
"""How long workers are killed."""
KEYS: Final = 6


@pytest.mark.timeout(SECONDS + 120)
def test_random_kills_leave_every_lock_on_a_live_task(
    jobs: StreamQ, start: Start, worker: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    start("daemon", "--claim-interval", "200ms", "--tidy-interval", "500ms")
    worker("--processes", "2", "--concurrency", "4")
    rng, last, faults, until = random.Random(5), dict.fromkeys(range(KEYS), -1), list[str](), time.monotonic()
    killed = number = 0
    until += SECONDS
    # A busy machine may take so long to start workers that few were there to be killed by then.
    while (now := time.monotonic()) < until or (killed < SECONDS / 4 and now < until + 60):
        for _ in range(5):
            key, number = rng.randrange(KEYS), number + 1
            jobs.send("keyed", {"key": key, "number": number})
            last[key] = number
        assert all(lock.state != "gone" or _again(jobs, lock.key) for lock in jobs.inspector.locks("keyed"))
        faults += [problem.code for problem in jobs.inspector.audit().problems if "lock" in problem.code]
        if victims := alive(jobs):
            with suppress(ProcessLookupError):
                os.kill(rng.choice(victims), signal.SIGKILL)
                killed += 1
        time.sleep(0.3)  # the pace of the kills
    assert faults == []
    wait_until(lambda: jobs.idle(scheduled=True), 60)
    assert jobs.inspector.locks("keyed") == []
    assert jobs.inspector.audit().problems == []
    assert killed >= SECONDS / 4
    ran = {event for event, *_ in ledger(tmp_path) if event.startswith("keyed-")}
    assert {f"keyed-{key}-{n}" for key, n in last.items() if n >= 0} <= ran


def _again(jobs: StreamQ, key: str) -> bool:
    """Whether a lock whose task was nowhere is so no more: a page is not read at one instant."""
    return all(lock.state != "gone" for lock in jobs.inspector.locks("keyed") if lock.key == key)
