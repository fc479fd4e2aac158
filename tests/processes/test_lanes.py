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

import pytest

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


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_no_instant_shows_more_of_100_000_tasks_of_500_customers(
    jobs: StreamQ, worker: Callable[..., object], start: Start, tmp_path: Path
) -> None:
    """A worker process is killed each second until all have ended."""
    start("daemon", "--claim-interval", "200ms")
    for _ in range(2):
        worker("--processes", "2", "--concurrency", "8")
    for n in range(0, 100_000, 1000):
        jobs.enqueue_many([jobs.bound("brief", {"customer": f"c{m % 500}"}) for m in range(n, n + 1000)])
    rng, killed, began = random.Random(7), 0, time.monotonic()
    while jobs.inspector.type_stats("brief").counters["completed"] < 100_000:
        time.sleep(1)  # the pace of the kills
        if living := alive(jobs):
            with suppress(ProcessLookupError):
                os.kill(rng.choice(living), signal.SIGKILL)
                killed += 1
    print(f"\nended in {time.monotonic() - began:.0f} s, {killed} killed")
    assert killed > 5
    assert_limits(ledger(tmp_path), most=10)
    assert jobs.inspector.audit().problems == []


def ended(jobs: StreamQ) -> int:
    return sum(jobs.inspector.type_stats(name).counters["completed"] for name in ("post", "ship"))


def assert_limits(rows: list[list[str]], most: int = 6) -> None:
    """A task that was lost goes on holding its slot, so it counts until it is over."""
    running: dict[str, set[str]] = defaultdict(set)
    in_all = 0
    for event, task, *_ in rows:
        kind, _, customer = event.partition(":")
        before = len(running[customer])
        if kind == "post":
            running[customer].add(task)
        elif kind == "posted":
            running[customer].discard(task)
        in_all += len(running[customer]) - before
        assert len(running[customer]) <= 2, event
        assert in_all <= most, event


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
