"""The app of the process tests: handlers that note what they did in a file outside Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from tenacity import wait_fixed

from streamq import StreamQ, get_context

app = StreamQ("jobs", shards=int(os.environ.get("SHARDS", "1")))


def note(event: str) -> None:
    """A line in the ledger: event, task id, process, attempt."""
    line = f"{event} {get_context().id} {os.getpid()} {get_context().attempt}\n"
    descriptor = os.open(Path(os.environ["LEDGER"]), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line.encode())
    os.close(descriptor)


@app.task(lease=1, backoff=wait_fixed(0.05))
async def work(seconds: float) -> int:
    note("start")
    await asyncio.sleep(seconds)
    note("done")
    return os.getpid()


@app.task(lease=1)
async def poison() -> None:
    """Kills its worker, always."""
    note("start")
    await asyncio.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(lease=1)
def poison_in_thread() -> None:
    """The same of another kind."""
    note("start")
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(lease=1, max_lost=2)
async def kills_host() -> None:
    """Kills its worker from wherever it runs, so that its own death proves nothing."""
    note("start")
    worker = int(get_context().worker.rpartition("-")[0].rpartition("-")[2])
    os.kill(worker, signal.SIGKILL)
    await asyncio.sleep(60)


@app.task(timeout=1, lease=1, max_lost=1)
async def wedges() -> None:
    """Blocks its event loop for ever."""
    note("start")
    while True:
        time.sleep(1)  # noqa: ASYNC251 - that is the point


def _forked() -> int:
    """The exit code of a child that goes on where its parent was, or the number of a signal, negative."""
    if (child := os.fork()) == 0:
        raise SystemExit(0)
    note(f"forked-{child}")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@app.task(max_attempts=1)
async def forks_on_loop() -> int:
    return _forked()


@app.task(max_attempts=1)
def forks_in_thread() -> int:
    return _forked()


@app.task(max_attempts=1, executor="process")
def forks_in_process() -> int:
    return _forked()


@app.task(max_attempts=1, timeout=0.2)
async def ignores_its_end() -> None:
    """Goes on whatever it is told."""
    note("start")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue
