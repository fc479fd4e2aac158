"""Lanes while workers are killed: the limits and the order hold, fences only grow, nothing leaks."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from streamq import StreamQ
from tests.processes.conftest import Start, alive, ledger
from tests.running import wait_until


def test_limits_and_order_hold_while_workers_are_killed(
    jobs: StreamQ, worker: Callable[..., object], start: Start, tmp_path: Path
) -> None:
    start("daemon", "--claim-interval", "200ms")
    for _ in range(2):
        worker("--concurrency", "8")
    jobs.enqueue_many(
        [jobs.bound("post", {"customer": f"c{n % 8}", "seconds": 0.05}) for n in range(240)]
        + [jobs.bound("ship", {"order": f"o{n % 6}", "n": n // 6, "seconds": 0.02}) for n in range(60)]
    )
    for _ in range(4):
        time.sleep(random.uniform(0.5, 0.9))
        living = alive(jobs)
        if living:
            with suppress(ProcessLookupError):
                os.kill(random.choice(living), signal.SIGKILL)
    wait_until(lambda: ended(jobs) == 300, 90)
    assert_limits(ledger(tmp_path))
    assert_order(ledger(tmp_path))
    assert jobs.inspector.audit().problems == []


def ended(jobs: StreamQ) -> int:
    return sum(jobs.inspector.type_stats(name).counters["completed"] for name in ("post", "ship"))


def assert_limits(rows: list[list[str]]) -> None:
    """A task that was lost goes on holding its slot, so it counts until it is over."""
    running: dict[str, set[str]] = defaultdict(set)
    for event, task, *_ in rows:
        kind, _, customer = event.partition(":")
        if kind == "post":
            running[customer].add(task)
        elif kind == "posted":
            running[customer].discard(task)
        assert len(running[customer]) <= 2, event
        assert sum(map(len, running.values())) <= 6, event


def assert_order(rows: list[list[str]]) -> None:
    starts: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for event, *_ in rows:
        kind, *about = event.split(":")
        if kind == "ship":
            starts[about[0]].append((int(about[1]), int(about[2])))
    assert len(starts) == 6
    for found in starts.values():
        assert [n for n, _ in found] == sorted(n for n, _ in found)
        fences = [fence for _, fence in found]
        assert fences == sorted(set(fences))
