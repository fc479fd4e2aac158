"""Short forms of the long proofs; `python -m tests.endurance` has the long ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endurance import day, load, recovery
from tests.endurance.stage import staged


async def test_many_tasks_leave_nothing_behind(tmp_path: Path) -> None:
    """None is lost, each is settled once, and the server's memory comes back.

    The promise: an accepted task is never lost while Redis keeps what it acknowledged.
    """
    with staged(tmp_path) as stage:
        found = await load.Run(stage, 2500).go()
    # What a crowded machine may do to a single step is the long form's business.
    assert [finding for finding in found.findings if "slow every time" not in finding] == []
    assert (found.completed, found.lost, found.settled_twice) == (2500, 0, 0)


@pytest.mark.long
async def test_some_minutes_of_a_day_leave_nothing_behind(tmp_path: Path) -> None:
    """No memory, file, connection or key is left by rounds, heartbeats, renewals and dead workers."""
    with staged(tmp_path) as stage:
        found = await day.measure(stage, 5.0)
    assert found.findings == []
    assert found.rounds["reclaim"] > 50
    assert found.rounds["beat"] > 50  # of the worker that lived, not of the one that was killed
    assert found.ended["completed"] > 10
    assert found.workers_killed >= 2


async def test_the_work_of_a_killed_worker_runs_again_soon(tmp_path: Path) -> None:
    """With default settings, and no living worker is robbed.

    The promise: At-least-once execution.
    """
    with staged(tmp_path) as stage:
        found = await recovery.measure(stage, 4, 1)
    assert found.findings == []
    assert (found.kills_of_a_process, found.kills_of_a_group) == (3, 1)
    assert found.tasks_recovered > 0


def test_a_leak_is_told() -> None:
    before = {"worker": {"rss_kb": 30_000, "fds": 11, "threads": 2}, "server": {"keys": 40}}
    after = {"worker": {"rss_kb": 35_000, "fds": 20, "threads": 2}, "server": {"keys": 400}}
    grown = day._grown(day.Day(before=before, after=after))
    assert grown == [
        "worker: rss_kb has grown by 5,000, from 30,000", "worker: fds has grown by 9, from 11",
        "server: keys has grown by 360, from 40",
    ]  # fmt: skip
