"""Steps, sleeps and follow-ups while workers are killed at random."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from streamq import StreamQ
from tests.processes.conftest import Start, alive, ledger
from tests.running import wait_until

KILLS: Final = 8


@pytest.mark.long
@pytest.mark.timeout(300)
def test_kills_repeat_no_stored_step_and_lose_and_double_no_follow_up(
    jobs: StreamQ, start: Start, worker: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    start("daemon", "--claim-interval", "200ms", "--tidy-interval", "500ms")
    worker("--processes", "2", "--concurrency", "4")
    rng, killed, number = random.Random(11), 0, 0
    while killed < KILLS:
        for _ in range(6):
            jobs.send("staged", {"number": number}, retention="1h")
            number += 1
        time.sleep(0.5)  # the pace of the kills
        killed += _killed(rng.choice(alive(jobs) or [0]))
    wait_until(lambda: jobs.idle(scheduled=True), 120)
    followers = jobs.inspector.type_stats("follower").counters
    assert (followers["accepted"], followers["completed"]) == (2 * number, 2 * number)
    assert jobs.inspector.type_stats("staged").counters["completed"] == number
    assert jobs.inspector.audit().problems == []
    parts = Counter(event for event, *_ in ledger(tmp_path) if event.startswith("part:"))
    assert set(parts) == {f"part:{one}-{step}" for one in range(number) for step in range(5)}
    # One step of each task that a killed worker had may be repeated: that whose memo was not yet stored.
    assert sum(parts.values()) - len(parts) <= 4 * killed


def _killed(pid: int) -> bool:
    """Kill a worker that runs; its heartbeat may outlive it."""
    if not pid:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
