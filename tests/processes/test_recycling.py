"""Workers that end by themselves: with an empty queue, and processes that are replaced."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from streamq import InvalidOption, StreamQ, WorkerGroup, WorkerOptions
from tests.processes.conftest import Start, alive, ledger
from tests.running import clean, wait_until


def log(tmp_path: Path, number: int = 0) -> str:
    return (tmp_path / f"worker-{number}.log").read_text()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_burst_ends_with_0_when_the_queue_is_empty(
    jobs: StreamQ, start: Start, tmp_path: Path, processes: str
) -> None:
    for _ in range(20):
        jobs.send("work", {"seconds": 0.05})
    later = jobs.send("work", {"seconds": 0}, delay="1h")
    group = start("worker", "tests.processes.jobs:app", "--burst", "--processes", processes, "--with-daemon")
    assert group.wait(60) == 0
    assert len([line for line in ledger(tmp_path) if line[0] == "done"]) == 20
    assert later.status() == "scheduled"
    clean(jobs)
    group = start("worker", "tests.processes.jobs:app", "--burst", "--concurrency", "1")
    assert group.wait(60) == 0  # there is nothing to do


def test_a_process_is_replaced_after_its_tasks_and_the_new_one_is_ready_first(
    jobs: StreamQ, start: Start, tmp_path: Path
) -> None:
    group = start(
        "worker", "tests.processes.jobs:app", "--recycle-after", "10", "--concurrency", "2",
        "--log-format", "json",
    )  # fmt: skip
    seen: set[int] = set()
    sent = 0

    def runs_in_another() -> bool:
        nonlocal sent
        sent += 1
        seen.add(jobs.send("work", {"seconds": 0.01}).result(60))
        return len(seen) > 1

    wait_until(runs_in_another, 120)
    wait_until(lambda: "process.recycled" in log(tmp_path))
    lines = log(tmp_path)
    told = [
        lines.index(one)
        for one in ("worker.recycles", "process.replaces", '"worker.drain"', "process.recycled")
    ]
    assert told == sorted(told)
    assert lines.count('"worker.ready"') >= 2
    assert lines.index('"worker.ready"', lines.index("process.replaces")) < lines.index('"worker.drain"')
    assert "process.crashed" not in lines
    group.send_signal(signal.SIGTERM)
    assert group.wait(60) == 0
    assert len(ledger(tmp_path)) == 2 * sent
    clean(jobs)


@pytest.mark.long
def test_a_leak_is_cured_and_neither_a_task_nor_a_process_is_missed(
    jobs: StreamQ, start: Start, tmp_path: Path
) -> None:
    probe = start("worker", "tests.processes.jobs:app", "--burst")
    size: int = jobs.send("leak", {"megabytes": 0}).result(60)
    assert probe.wait(60) == 0
    limit = (size >> 20) + 40
    group = start(
        "worker", "tests.processes.jobs:app", "--processes", "2", "--concurrency", "1",
        "--log-format", "json", "--recycle-rss", f"{limit}MB", "--with-daemon",
    )  # fmt: skip
    wait_until(lambda: len(alive(jobs)) == 2, 60)
    sent, least, largest = 0, 2, 0

    def is_replaced() -> bool:
        nonlocal sent, least, largest
        sent += 1
        largest = max(largest, jobs.send("leak", {"megabytes": 1}).result(60))
        least = min(least, len(alive(jobs)))
        time.sleep(0.05)
        return log(tmp_path, 1).count("process.recycled") >= 2

    wait_until(is_replaced, 150)
    assert least == 2  # the new process is ready before the old one drains
    assert largest < (limit + 60) << 20
    group.send_signal(signal.SIGTERM)
    assert group.wait(60) == 0
    assert len(ledger(tmp_path)) == sent + 1
    assert "process.crashed" not in log(tmp_path, 1)
    clean(jobs)


def test_a_limit_below_the_size_at_the_start_is_refused_once(
    jobs: StreamQ, start: Start, tmp_path: Path
) -> None:
    group = start("worker", "tests.processes.jobs:app", "--recycle-rss", "1MB")
    wait_until(lambda: "worker.recycle_refused" in log(tmp_path), 60)
    [pid] = alive(jobs)
    for _ in range(3):
        assert jobs.send("work", {"seconds": 0}).result(30) == pid
    assert log(tmp_path).count("worker.recycle_refused") == 1
    group.send_signal(signal.SIGTERM)
    assert group.wait(60) == 0


def test_a_replaced_process_that_dies_is_not_started_again(
    jobs: StreamQ, start: Start, tmp_path: Path
) -> None:
    group = start("worker", "tests.processes.jobs:app", "--recycle-after", "1", "--with-daemon")
    first: int = jobs.send("work", {"seconds": 0}).result(60)
    wait_until(lambda: "process.replaces" in log(tmp_path))
    try:
        os.kill(first, signal.SIGKILL)
    except ProcessLookupError:
        pytest.skip("it was replaced before it could be killed")
    second: int = jobs.send("work", {"seconds": 0}).result(60)
    assert second != first
    group.send_signal(signal.SIGTERM)
    assert group.wait(60) == 0
    clean(jobs)


def test_sizes_are_read() -> None:
    for text, wanted in (
        ("1GB", 1 << 30),
        ("512mb", 512 << 20),
        ("1.5 GiB", 3 << 29),
        (4096, 4096),
        ("7", 7),
    ):
        assert WorkerOptions(recycle_rss=text).recycle_rss == wanted
    for wrong in ("much", "0", 0, True, "1 TB"):
        with pytest.raises(InvalidOption, match="recycle_rss"):
            WorkerOptions(recycle_rss=wrong)
    with pytest.raises(InvalidOption, match="recycle_after"):
        WorkerOptions(recycle_after=0)


def test_a_signal_while_a_process_is_being_started_ends_that_too(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = SpawnProcess.start

    def signalled(process: SpawnProcess) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        start(process)

    monkeypatch.setattr(SpawnProcess, "start", signalled)
    numbers = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    try:
        assert WorkerGroup("tests.processes.jobs:app", url=url).run() == 0
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
