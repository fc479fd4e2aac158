"""Real processes: worker groups and daemons started as a user starts them, ended by their ids."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from streamq import StreamQ
from tests.running import wait_until

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def jobs(url: str, tmp_path: Path) -> Iterator[StreamQ]:
    """The jobs app, as a producer without its code."""
    found = StreamQ("jobs", url)
    yield found
    found.close()


@pytest.fixture
def start(url: str, tmp_path: Path) -> Iterator[Start]:
    """Start `streamq ...`; whatever still runs at the end is killed with its group."""
    started: list[subprocess.Popen[bytes]] = []
    environment = os.environ | {
        "STREAMQ_URL": url,
        "LEDGER": str(tmp_path / "ledger"),
        "PYTHONPATH": str(ROOT),
    }

    def run(*args: str, **more: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{args[0]}-{len(started)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "streamq", *args], env=environment | more, cwd=tmp_path, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        started.append(process)
        return process

    # Tests that run under nohup ignore SIGHUP, and what they start would inherit that.
    inherited = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield run
    signal.signal(signal.SIGHUP, inherited)
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def worker(start: Start, jobs: StreamQ) -> Callable[..., subprocess.Popen[bytes]]:
    """A worker group that has begun to take tasks."""

    def run(*args: str, **more: str) -> subprocess.Popen[bytes]:
        before = len(alive(jobs))
        process = start("worker", "tests.processes.jobs:app", *args, **more)
        wait_until(lambda: len(alive(jobs)) > before)
        return process

    return run


def alive(jobs: StreamQ) -> list[int]:
    """The process ids of the workers by their heartbeats."""
    return [int(w.details["pid"]) for w in jobs.inspector.workers() if w.alive and "pid" in w.details]


def ledger(tmp_path: Path) -> list[list[str]]:
    """What handlers have noted: event, task id, process, attempt."""
    path = tmp_path / "ledger"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []
