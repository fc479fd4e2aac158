"""The app of the process tests: handlers that note what they did in a file outside Redis."""

from __future__ import annotations

import asyncio
import atexit
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tenacity import wait_fixed

from streamq import Lane, Retry, StreamQ, Unique, get_context

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


leaked: list[bytes] = []


@app.task(lease=1)
def leak(megabytes: int) -> int:
    """Keep some memory for ever; return the resident size in bytes."""
    note("leak")
    leaked.append(b"\1" * (megabytes << 20))
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@app.task(unique=Unique(by=("key",), on_conflict="after"), lease=1, max_lost=5, backoff=wait_fixed(0.05))
async def keyed(key: int, number: int) -> int:
    """At most one of a key at a time, and the last call runs."""
    note(f"keyed-{key}-{number}")
    await asyncio.sleep(0.1)
    return number


@app.task(lease=1, max_lost=20, lane=Lane("customer", running=2), running=6)
async def post(customer: str, seconds: float) -> None:
    note(f"post:{customer}")
    await asyncio.sleep(seconds)
    note(f"posted:{customer}")


@app.task(lease=1, max_lost=50, lane=Lane("customer", running=2), running=10)
async def brief(customer: str) -> None:
    note(f"post:{customer}")
    note(f"posted:{customer}")


@app.task(lease=1, max_lost=20, lane=Lane("order", order=True), backoff=wait_fixed(0.05))
async def ship(order: str, n: int, seconds: float) -> None:
    note(f"ship:{order}:{n}:{get_context().fence}")
    await asyncio.sleep(seconds)
    if n == 2 and get_context().attempt < 3:
        raise Retry(after=0.05)
    note(f"shipped:{order}:{n}")


@app.task
async def steady(seconds: float) -> int:
    """As `work`, with a lease that a process which waits for a core does not lose."""
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


# -- what handlers start, print and leave behind ---------------------------------------------------------

STATUS = ["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"]


def _dispositions() -> list[str]:
    """What programs that a handler starts find ignored and blocked, and how a forked process ends."""
    by_subprocess = subprocess.check_output(STATUS, text=True).split()[1::2]
    told = Path(os.environ["LEDGER"]).with_suffix(".signals")
    os.system(f"{shlex.join(STATUS)} > {told}")  # noqa: S605 - a shell is what is to be asked
    ended = [str(_ended_by(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    return [*by_subprocess, *told.read_text().split()[1::2], *ended]


def _waits(ready: Any) -> None:
    try:
        ready.send(0)
        for _ in range(600):  # a signal just before a sleep begins is seen when it ends only
            time.sleep(0.1)
    except KeyboardInterrupt:
        os._exit(13)


def _ended_by(number: signal.Signals) -> int | None:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_waits, args=(theirs,))
    child.start()
    ours.recv()
    assert child.pid is not None
    os.kill(child.pid, number)
    child.join(20)
    return child.exitcode


@app.task(max_attempts=1)
async def signals_on_loop() -> list[str]:
    return _dispositions()


@app.task(max_attempts=1)
def signals_in_thread() -> list[str]:
    return _dispositions()


@app.task(max_attempts=1, executor="process")
def signals_in_process() -> list[str]:
    return _dispositions()


@app.task(max_attempts=1, executor="process", lease=1)
def with_another() -> None:
    """Runs for long, with a process below its own."""
    tool = subprocess.Popen(["sleep", "300"])
    note(f"below-{tool.pid}")
    time.sleep(300)


def _say(text: str, then: str) -> None:
    print(text)
    print(text, "on stderr", file=sys.stderr)
    note("said")
    if then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(30)


@app.task(max_attempts=1)
def says(text: str, then: str) -> None:
    _say(text, then)


@app.task(max_attempts=1, executor="process")
def says_in_process(text: str, then: str) -> None:
    _say(text, then)


@app.task(max_attempts=1)
def will_say_goodbye() -> None:
    atexit.register(note_plainly, "goodbye")


def note_plainly(event: str) -> None:
    with Path(os.environ["LEDGER"]).open("a") as ledger:
        ledger.write(f"{event} none {os.getpid()} 0\n")


@app.task(max_attempts=1)
def leaves_a_thread() -> None:
    """One that never ends, and keeps Python from ending."""
    threading.Thread(target=threading.Event().wait).start()


@app.task(max_attempts=1)
def leaves_an_orphan() -> int:
    return int(subprocess.check_output(["sh", "-c", "sleep 0.2 >/dev/null & echo $!"]))


@app.task(max_attempts=1)
async def fails() -> None:
    raise ValueError("plain")


@app.task(max_attempts=1, timeout=20)
async def ends_in_a_subtask(error: str, how: str) -> str:
    """Starts a task that wants to end the program."""

    async def ends() -> None:
        await asyncio.sleep(0)
        raise SystemExit(3) if error == "SystemExit" else KeyboardInterrupt

    task = asyncio.create_task(ends())
    if how == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(ends())
    elif how == "gather":
        await asyncio.gather(task, asyncio.sleep(60))
    elif how == "later":
        await asyncio.sleep(0.1)
    return type(task.exception()).__name__


def part(name: str) -> str:
    note(f"part:{name}")
    return name


@app.task(lease=1, max_lost=50, max_attempts=50, backoff=wait_fixed(0.05))
async def staged(number: int) -> list[str]:
    """Five steps with a sleep among them, then two follow-ups."""
    context, found = get_context(), list[str]()
    for one in range(5):
        found.append(await context.step(f"step {one}", part, f"{number}-{one}"))
        context.progress(one + 1, 5)
        await asyncio.sleep(0.05)
        if one == 2:
            await context.sleep(0.2)
    context.enqueue_many([follower.bind(number, 0), follower.bind(number, 1)])
    return found


@app.task(lease=1, max_lost=50, max_attempts=50, backoff=wait_fixed(0.05))
async def follower(number: int, which: int) -> None:
    note(f"follower:{number}-{which}")
