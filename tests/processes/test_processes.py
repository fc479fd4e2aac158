"""Workers and daemons as processes: killed, stopped, drained, poisoned."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from streamq import StreamQ
from tests.processes.conftest import ROOT, Start, alive, ledger
from tests.running import clean, wait_until

Work = Callable[..., "subprocess.Popen[bytes]"]
QUICK = ("daemon", "--claim-interval", "200ms", "--tidy-interval", "300ms")


def send(jobs: StreamQ, number: int, seconds: float) -> list[str]:
    return [handle.id for handle in jobs.enqueue_many([jobs.bound("work", {"seconds": seconds})] * number)]


def completed(jobs: StreamQ, task_type: str = "work") -> int:
    return jobs.inspector.type_stats(task_type).counters.get("completed", 0)


def test_a_killed_worker_loses_nothing(jobs: StreamQ, worker: Work, start: Start, tmp_path: Path) -> None:
    """The promise: At-least-once execution."""
    start(*QUICK)
    group = worker("--concurrency", "20", "--processes", "2")
    wait_until(lambda: len(alive(jobs)) == 2)
    ids = send(jobs, 200, 0.5)  # most of them are still to come when the worker is killed
    wait_until(lambda: completed(jobs) > 50)
    os.kill(alive(jobs)[0], signal.SIGKILL)
    wait_until(lambda: completed(jobs) == 200, 60)
    done = [line[1] for line in ledger(tmp_path) if line[0] == "done"]
    assert set(done) == set(ids)
    stats = jobs.inspector.type_stats("work")
    assert stats.counters["reclaimed"] > 0
    assert stats.counters["started"] == stats.counters["completed"] + stats.counters["reclaimed"]
    clean(jobs)
    wait_until(lambda: len(alive(jobs)) >= 2)  # the supervisor has started another
    group.terminate()
    assert group.wait(20) == 0


def test_a_stopped_worker_that_wakes_up_changes_nothing(
    jobs: StreamQ, worker: Work, start: Start, tmp_path: Path
) -> None:
    """Guard: the fence. Its deliveries were reclaimed and settled by another while it was stopped.

    The promise: a stale worker cannot write.
    """
    start(*QUICK)
    worker("--concurrency", "5")
    [stopped] = alive(jobs)
    ids = send(jobs, 5, 3.0)
    wait_until(lambda: len(ledger(tmp_path)) == 5)
    os.kill(stopped, signal.SIGSTOP)
    worker("--concurrency", "5")
    wait_until(lambda: completed(jobs) == 5)
    before = jobs.inspector.type_stats("work").counters
    results = {one: jobs.handle(one).result(5) for one in ids}
    assert stopped not in results.values()
    os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: stopped in alive(jobs))
    again = send(jobs, 4, 0.01)
    for one in again:
        jobs.handle(one).result(20)
    after = jobs.inspector.type_stats("work").counters
    assert after["completed"] == before["completed"] + 4
    assert {one: jobs.handle(one).result(5) for one in ids} == results
    clean(jobs)


def test_a_worker_that_stood_still_begins_nothing_that_others_have(
    jobs: StreamQ, worker: Work, start: Start, tmp_path: Path
) -> None:
    """It had fetched tasks ahead. When it goes on, its event loop may be quicker than its lease thread."""
    start(*QUICK)
    worker("--concurrency", "5")
    [stopped] = alive(jobs)

    def begun() -> int:
        return sum(line[0] == "start" and int(line[2]) == stopped for line in ledger(tmp_path))

    ids = send(jobs, 500, 0.02)
    wait_until(lambda: begun() > 100)
    os.kill(stopped, signal.SIGSTOP)
    before = begun()
    worker("--concurrency", "20")
    wait_until(lambda: completed(jobs) == len(ids), 60)
    os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: stopped in alive(jobs))
    again = send(jobs, 100, 0.2)  # so many that both have some
    wait_until(lambda: completed(jobs) == len(ids) + len(again))
    wait_until(lambda: begun() > before)
    twice = [line[1] for line in ledger(tmp_path) if line[0] == "start" and int(line[2]) == stopped][before:]
    assert set(twice) <= set(again)
    clean(jobs)


def test_sigterm_drains_and_exits_with_0(jobs: StreamQ, worker: Work, tmp_path: Path) -> None:
    group = worker("--concurrency", "3", "--drain-timeout", "2s")
    quick, slow, waiting = send(jobs, 1, 0.8), send(jobs, 2, 60), send(jobs, 3, 0)
    wait_until(lambda: len(ledger(tmp_path)) == 3)
    began = time.monotonic()
    group.terminate()
    assert group.wait(20) == 0
    assert 1.5 < time.monotonic() - began < 20
    assert [jobs.handle(one).status() for one in quick + slow + waiting] == ["completed"] + ["ready"] * 5
    assert jobs.inspector.workers() == []
    clean(jobs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_now_and_hands_back(
    jobs: StreamQ, worker: Work, tmp_path: Path, number: signal.Signals
) -> None:
    group = worker("--concurrency", "3", "--drain-timeout", "60s")
    ids = send(jobs, 3, 60)
    wait_until(lambda: len(ledger(tmp_path)) == 3)
    group.send_signal(number)
    wait_until(lambda: any(w.details.get("draining") for w in jobs.inspector.workers()))
    group.send_signal(number)
    assert group.wait(30) == 0
    assert [jobs.handle(one).status() for one in ids] == ["ready"] * 3


def test_workers_drain_when_their_supervisor_is_killed(jobs: StreamQ, worker: Work) -> None:
    group = worker("--concurrency", "3")
    [pid] = alive(jobs)
    group.kill()
    group.wait()
    wait_until(lambda: jobs.inspector.workers() == [])
    wait_until(
        lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    )


@pytest.mark.long  # the next one has two of them
def test_a_poison_task_ends_dead_and_the_innocent_do_not(
    jobs: StreamQ, worker: Work, start: Start, tmp_path: Path
) -> None:
    """Guard: suspects run alone. A task that kills its worker takes forty others down with it."""
    start(*QUICK)
    worker("--concurrency", "50")
    bad = jobs.send("poison")
    innocent = send(jobs, 40, 0.4)
    wait_until(lambda: bad.status() == "dead", 60)
    wait_until(lambda: completed(jobs) == 40, 60)
    assert [jobs.handle(one).status() for one in innocent] == ["completed"] * 40
    assert jobs.inspector.type_stats("work").counters.get("dead", 0) == 0
    info = jobs.inspector.task(bad.id)
    assert info.detail["reason"] == "lost"
    assert [f["error"] for f in info.failures] == ["WorkerLost"] * 3
    clean(jobs)


def test_no_innocent_is_buried_beside_one_poison_after_the_other(
    jobs: StreamQ, worker: Work, start: Start, tmp_path: Path
) -> None:
    """A task of some seconds was a dead letter at the third death, which another caused."""
    start(*QUICK)
    worker("--concurrency", "20")
    innocent = send(jobs, 2, 4.0)
    wait_until(lambda: len(ledger(tmp_path)) >= 2)
    for kind in ("poison", "poison_in_thread", "poison"):
        bad = jobs.send(kind)
        wait_until(lambda bad=bad: bad.status() == "dead", 60)  # type: ignore[misc]
        info = jobs.inspector.task(bad.id)
        assert info.detail["reason"] == "lost"
        assert [failure["error"] for failure in info.failures] == ["WorkerLost"] * len(info.failures)
        if all(jobs.handle(one).status() == "completed" for one in innocent):
            innocent += send(jobs, 1, 4.0)
    for one in innocent:
        assert isinstance(jobs.handle(one).result(60), int)
    assert jobs.inspector.type_stats("work").counters.get("dead", 0) == 0
    clean(jobs)


@pytest.mark.long
def test_a_task_that_kills_its_worker_from_its_own_process_ends_too(
    jobs: StreamQ, worker: Work, start: Start, tmp_path: Path
) -> None:
    """A loss together with the whole worker proves nothing, but there is an end: alone, it harms nobody."""
    start(*QUICK)
    worker("--concurrency", "5")
    innocent = send(jobs, 3, 2.0)
    wait_until(lambda: len(ledger(tmp_path)) >= 3)
    bad = jobs.send("kills_host")
    wait_until(lambda: bad.status() == "dead", 100)
    assert [failure["error"] for failure in jobs.inspector.task(bad.id).failures] == ["WorkerLost"] * 6
    for one in innocent:
        assert isinstance(jobs.handle(one).result(60), int)
    clean(jobs)


def test_a_worker_whose_event_loop_never_comes_back_is_replaced(
    jobs: StreamQ, worker: Work, start: Start, tmp_path: Path
) -> None:
    start(*QUICK)
    worker("--concurrency", "2")
    bad = jobs.send("wedges")
    wait_until(lambda: bad.status() == "dead", 40)
    assert jobs.inspector.task(bad.id).detail["reason"] == "lost"
    good = jobs.send("work", {"seconds": 0})
    assert isinstance(good.result(20), int)


def test_a_small_set_up_needs_one_command(jobs: StreamQ, worker: Work) -> None:
    group = worker("--concurrency", "3", "--with-daemon")
    assert isinstance(jobs.send("work", {"seconds": 0}, delay=0.2).result(20), int)
    group.terminate()
    assert group.wait(20) == 0


def test_two_daemons_share_the_work(jobs: StreamQ, worker: Work, start: Start, tmp_path: Path) -> None:
    first = start(*QUICK)
    start(*QUICK)
    worker("--concurrency", "50")
    jobs.enqueue_many([jobs.bound("steady", {"seconds": 0}, delay=0.2 + n / 200) for n in range(200)])
    wait_until(lambda: completed(jobs, "steady") > 20)
    first.kill()
    wait_until(lambda: completed(jobs, "steady") == 200)
    assert len({line[1] for line in ledger(tmp_path) if line[0] == "start"}) == 200
    assert len([line for line in ledger(tmp_path) if line[0] == "start"]) == 200
    clean(jobs)


def test_a_group_whose_app_is_wrong_ends_with_78(start: Start) -> None:
    assert start("worker", "no.such.module:app").wait(20) == 78
    assert start("worker", "tests.processes.jobs:nothing").wait(20) == 78
    assert start("worker", "tests.processes.jobs:app", "--types", "nonsense").wait(20) == 78


def test_a_worker_outlives_the_reader_of_its_log(jobs: StreamQ, url: str, tmp_path: Path) -> None:
    """Guard: what cannot be logged is dropped. `streamq worker 2>&1 | head` must not lose its worker."""
    environment = os.environ | {"STREAMQ_URL": url, "LEDGER": str(tmp_path / "ledger")}
    group = subprocess.Popen(
        [sys.executable, "-m", "streamq", "worker", "tests.processes.jobs:app", "--log-level", "debug"],
        env=environment, cwd=ROOT, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        wait_until(lambda: len(alive(jobs)) == 1)
        assert group.stderr is not None
        group.stderr.close()
        assert jobs.send("poisonless", {}).status() == "ready"
        for _ in range(3):
            assert isinstance(jobs.send("work", {"seconds": 0}).result(20), int)
        group.terminate()
        assert group.wait(20) == 0
    finally:
        if group.poll() is None:
            os.killpg(group.pid, signal.SIGKILL)
            group.wait()


def test_a_drained_worker_stays_away_and_the_group_ends_with_the_last(jobs: StreamQ, worker: Work) -> None:
    group = worker("--processes", "2", "--concurrency", "2")
    wait_until(lambda: len(alive(jobs)) == 2)
    first, second = (one.name for one in jobs.inspector.workers())
    send(jobs, 2, 0.5)
    assert jobs.admin.drain(first)
    wait_until(lambda: len(jobs.inspector.workers()) == 1)
    send(jobs, 4, 0.05)
    wait_until(lambda: completed(jobs) == 6)
    assert [one.name for one in jobs.inspector.workers()] == [second]
    assert group.poll() is None
    assert jobs.admin.drain(second)
    assert group.wait(20) == 0


UNGUARDED: Final = """
import asyncio
from streamq import StreamQ, TaskDead

app = StreamQ("shop")

@app.task(executor="process", max_attempts=1)
def heavy(n: int) -> int:
    return n

async def main():
    async with app.run_worker():
        handle = await heavy.aenqueue(1)
        try:
            await handle.aresult(timeout=30)
        except TaskDead as error:
            print(error)

asyncio.run(main())
"""


def test_a_program_without_a_main_guard_is_told(url: str, tmp_path: Path) -> None:
    """A child imports the program, which must not start a worker there, nor keep the parent waiting."""
    program = tmp_path / "unguarded.py"
    program.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "STREAMQ_URL": url}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    guard = 'put what starts the worker under `if __name__ == "__main__":`'
    assert guard in done.stdout, done.stderr
    assert f"which starts one: {guard}" in done.stderr
    assert done.returncode == 0
