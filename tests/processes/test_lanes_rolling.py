"""A rolling deploy onto lanes: processes of the last release without lanes beside newer ones.

The old code is that of a commit, laid out from git; without git or that commit the tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from streamq import StreamQ
from streamq.keys import type_keys
from tests.conftest import command
from tests.processes.conftest import ROOT, Start, ledger
from tests.running import wait_until

Older = Callable[..., AbstractContextManager[None]]
COMMIT = "57e8e1fe055a100ca6b59b36f91be6614ac0cc54"
OLDER = """
import asyncio, os, sys
from streamq.worker import behind
behind.FIRST = behind.LONGEST = 0.3
from streamq import Daemon, DaemonOptions, StreamQ, Worker, WorkerOptions, get_context

app = StreamQ("jobs", os.environ["STREAMQ_URL"])

@app.task(lease=1, max_lost=20)
async def post(customer: str, seconds: float) -> None:
    with open(os.environ["LEDGER"], "a") as ledger:
        ledger.write(f"older:{customer} {get_context().id} 0 0\\n")

async def main() -> None:
    names = ("claim_interval", "tidy_interval", "discover_interval", "expire_interval", "heartbeat")
    daemon = Daemon(app.address, DaemonOptions(**dict.fromkeys(names, 0.2)))
    worker = Worker(app, WorkerOptions(concurrency=4, heartbeat=0.2))
    await asyncio.gather(worker.run(), enqueue(), *([daemon.run()] if sys.argv[1:] else []))

async def enqueue() -> None:
    for _ in range(10):
        await post.aenqueue("plain", 0)
        await asyncio.sleep(0.05)

asyncio.run(main())
"""
"""A worker, a producer and perhaps a daemon in one process. What is too new for it is offered again soon."""


@pytest.fixture(scope="module")
def older_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    git = ["git", "-C", str(ROOT), "archive", COMMIT, "streamq"]
    try:
        archive = subprocess.run(git, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the old release's commit is not to be had")
    target = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=BytesIO(archive)) as packed:
        packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python before 3.11.4 has none
        packed.extractall(target)  # noqa: S202 - from our own history
    return target


@pytest.fixture
def older(url: str, older_code: Path, tmp_path: Path) -> Older:
    """A context in which a process of the old release runs."""

    @contextmanager
    def run(*services: str) -> Iterator[None]:
        more = {"STREAMQ_URL": url, "LEDGER": str(tmp_path / "ledger"), "PYTHONPATH": str(older_code)}
        with (tmp_path / "older.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", OLDER, *services],
                env=os.environ | more,
                cwd=tmp_path,
                stdout=log,
                stderr=log,
            )
        try:
            yield
            assert process.poll() is None, (tmp_path / "older.log").read_text()
        finally:
            process.terminate()
            process.wait(30)

    return run


def put(jobs: StreamQ, number: int) -> None:
    """By name: the sender learns from the server that the type has lanes. A third of them are due later."""
    for n in range(number):
        delay = 0.2 if n % 3 == 0 else None
        jobs.send("post", {"customer": f"c{n % 4}", "seconds": 0.05}, delay=delay)


@pytest.mark.parametrize(
    "services",
    [pytest.param((), marks=pytest.mark.long), ("daemon",)],
    ids=["worker", "worker and daemon"],
)
def test_rules_hold_while_an_old_release_registers_its_own(
    services: tuple[str, ...],
    jobs: StreamQ,
    worker: Callable[..., object],
    start: Start,
    older: Older,
    url: str,
    tmp_path: Path,
) -> None:
    keys = type_keys("jobs", 0, "post")
    start("daemon", "--claim-interval", "200ms")
    worker("--concurrency", "8")
    put(jobs, 40)
    for _ in range(2):
        before = old_ones(tmp_path)
        with older(*services):
            wait_until(lambda before=before: old_ones(tmp_path) >= before + 10, 60)  # type: ignore[misc]
            # Its registration took the rules out of the policy, if nobody has put them back by now.
            command(url, "HDEL", keys.policy, "gate", "lane", "max_backlog", "sweep", "recount", "counting")
            put(jobs, 40)
            wait_until(lambda: counters(jobs)["handed_back"] > 0, 60)
    wait_until(lambda: completed(tmp_path) == 120, 90)
    assert_limits(ledger(tmp_path), 10_000 if services else 6)
    assert counters(jobs)["dead"] == 0
    wait_until(lambda: command(url, "EXISTS", keys.slots, keys.lanes, keys.turns) == 0, 30)
    assert jobs.inspector.audit().problems == []
    assert "gate" in jobs.inspector.policy("post")


def counters(jobs: StreamQ) -> dict[str, int]:
    return defaultdict(int, jobs.inspector.type_stats("post").counters)


def old_ones(tmp_path: Path) -> int:
    """Tasks of the old producer that ended: it enters no lane, whoever runs them."""
    return sum(row[0] in ("older:plain", "posted:plain") for row in ledger(tmp_path))


def completed(tmp_path: Path) -> int:
    return sum(row[0].startswith("posted:c") for row in ledger(tmp_path))


def assert_limits(rows: list[list[str]], most: int) -> None:
    """Of a customer two run at once, and of all so many; the old release ran none of them. What an old worker
    hands back leaves its stream, and an old daemon brings it back past the limit of the type."""
    running: dict[str, set[str]] = defaultdict(set)
    for event, task, *_ in rows:
        kind, _, customer = event.partition(":")
        assert customer == "plain" or kind != "older", event
        if customer == "plain":
            continue
        running[customer].add(task) if kind == "post" else running[customer].discard(task)
        assert len(running[customer]) <= 2, event
        assert sum(map(len, running.values())) <= most, event


def test_what_the_old_release_ends_gives_its_slot_back_when_it_is_gone(
    jobs: StreamQ,
    worker: Callable[..., object],
    start: Start,
    older: Older,
    url: str,
    tmp_path: Path,
) -> None:
    """Its daemon ends a ready task that has expired, and does not know that it holds a slot."""
    keys = type_keys("jobs", 0, "post")
    worker("--concurrency", "1")
    jobs.admin.pause("post")
    with older("daemon"):
        wait_until(lambda: command(url, "HGET", keys.policy, "gate") is None, 30)
        for _ in range(3):
            jobs.send("post", {"customer": "c0", "seconds": 0}, expires=0.3)
        wait_until(lambda: counters(jobs)["expired"] >= 2, 30)
        assert str(command(url, "HGET", keys.slots, "c0")).startswith("b'2;")
    start("daemon")
    jobs.admin.resume("post")
    wait_until(lambda: command(url, "EXISTS", keys.slots, keys.lanes) == 0, 60)
    assert jobs.inspector.audit().problems == []
