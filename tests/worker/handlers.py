"""Handlers for tests that need them at the top of a module: processes import them by name."""

from __future__ import annotations

import asyncio
import atexit
import logging
import multiprocessing
import os
import signal
import time
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from tenacity import wait_fixed

from streamq import Batch, Item, Retry, StreamQ, get_context
from streamq.app import app as queue
from streamq.transport.address import Address

if parent_process() is not None:
    time.sleep(float(os.environ.get("SLOW_IMPORT", "0")))

app = StreamQ("shop", "unix:///nowhere.sock")


def at(url: str) -> StreamQ:
    """The app at another server."""
    app._move_to(Address.parse(url))
    queue._APPS.add(app)  # so that the test closes it
    return app


@app.task(executor="process", max_attempts=1)
def where() -> list[int]:
    return [os.getpid(), get_context().attempt]


@app.task(executor="process", max_attempts=1)
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(executor="process", max_attempts=1)
def fails(text: str) -> None:
    raise RuntimeError(text)


@app.task(executor="process", max_attempts=1, timeout=0.5)
def hurries() -> None:
    pass


@app.task(executor="process", max_attempts=1)
def sleeps() -> None:
    time.sleep(60)


@app.task(executor="process", max_attempts=1, max_payload=20_000_000)
def echoes(text: str, grow: int = 1) -> str:
    return text * grow


@app.task(executor="process", max_attempts=1, max_payload=20_000_000)
def fails_at_length(text: str) -> None:
    raise ValueError(text)


def _square(n: int) -> int:
    return n * n


@app.task(executor="process", max_attempts=1)
def shares_work(method: str) -> list[int]:
    context: Any = multiprocessing.get_context(method)
    with context.Pool(2) as pool:
        squares: list[int] = pool.map(_square, range(4))
    return squares


@app.task(executor="process", max_attempts=1)
def promises(path: str) -> int:
    """Its process has an exit handler from now on."""
    atexit.register(Path(path).write_text, "said goodbye")
    return os.getpid()


@app.task(executor="process", max_attempts=1)
def starts_and_waits(path: str) -> None:
    """With another process below its own, which holds the pipe to the worker too."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(300,))
    child.start()
    Path(path).write_text(f"{os.getpid()} {child.pid}")
    time.sleep(300)


def boom() -> None:
    raise ValueError("no such account\nsecond line")


@app.task(executor="process", max_attempts=2, backoff=wait_fixed(0.01))
def explodes() -> None:
    boom()


def grouped(what: str) -> ExceptionGroup[Exception]:
    """What a handler raises that is to be retried, given up or run again in an hour."""
    first: dict[str, list[Exception]] = {
        "retried": [ConnectionError()],
        "given up": [ConnectionError(), FileNotFoundError()],
        "asked": [Retry(after="1h"), Retry(after="5m"), ConnectionError()],
    }
    return ExceptionGroup("several", [ExceptionGroup("inner", first[what]), ConnectionError()])


@app.task(
    executor="process", max_attempts=2, backoff=wait_fixed(0), retry_on=OSError, give_up_on=FileNotFoundError
)
def groups(what: str) -> None:
    raise grouped(what)


@app.task
async def on_loop() -> list[int]:
    context = get_context()
    return [os.getpid(), context.attempt, context.lost]


@app.task
def in_thread() -> list[int]:
    context = get_context()
    return [os.getpid(), context.attempt, context.lost]


@app.task
async def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def waits_for(path: str, note: str) -> None:
    """Notes its process, and waits for a file."""
    with Path(note).open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(path).exists():
        time.sleep(0.01)


@app.task(executor="process", max_attempts=1)
def raises(what: str) -> Any:
    from tests.worker import test_slots as odd

    if what == "result":
        return odd.Odd(RuntimeError)
    raise {
        "Unpickled": odd.Unpickled(1, 2), "Unshown": odd.Unshown(), "Base": odd.Base(),
        "MemoryError": MemoryError(),
    }[what]  # fmt: skip


def _deep() -> None:
    time.sleep(60)  # it stands here


@app.task(executor="process", max_attempts=1, timeout=0.5)
def sleeps_deep() -> None:
    _deep()


@app.task(executor="process", max_attempts=1, timeout=0.5)
def in_native_code() -> None:
    """Python signal handlers are never called in it."""
    import re

    re.match("(a+)+$", "a" * 60 + "b")  # it stands here


@app.task(executor="process", max_attempts=1)
def follows() -> str:
    return str(get_context().enqueue(where.bind()).id)


@app.task(executor="process", max_attempts=100, backoff=wait_fixed(0.01), lease=5)
def chain(n: int) -> None:
    get_context().enqueue(link.bind(n))


@app.task(executor="process", max_attempts=100, backoff=wait_fixed(0.01), lease=5)
def link(n: int) -> int:
    return n


def children() -> list[int]:
    """The processes that run handlers of this one."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def _mark(path: str, text: str) -> int:
    with Path(path).open("a") as file:
        file.write(text + " ")
    return len(text)


@app.task(executor="process", max_attempts=3, backoff=wait_fixed(0.01))
def steps(path: str) -> int:
    context = get_context()
    first: int = context.step_sync("one", _mark, path, "one")
    if context.attempt == 1:
        raise ValueError
    second: int = context.step_sync("two", _mark, path, "two")
    if context.attempt == 2:
        raise ValueError
    return max(first, second)


@app.task(executor="process", max_attempts=3, backoff=wait_fixed(0.01))
def dies_between(path: str) -> int:
    context = get_context()
    context.step_sync("one", _mark, path, "one")
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    context.step_sync("two", _mark, path, "two")
    return context.attempt


@app.task(batch=Batch(20, linger="500ms"), lease=1, max_lost=3)
def poisoned(items: list[Item[int]]) -> list[int]:
    if any(item.value == 13 for item in items):
        os.kill(os.getpid(), signal.SIGKILL)
    return [item.value for item in items]


@app.task(max_attempts=2, timeout=120, lease=1)
async def exports(path: str, every: float = 3600.0, kill_at: int = -1, stop_at: int = -1) -> int:
    """stop_at: the row at which it waits until its worker stops."""
    context = get_context()
    with Path(path).open("a") as file:  # noqa: ASYNC230
        async for row in context.resume(range(6_000), every=every):
            file.write(f"{row}\n")
            file.flush()
            if row == kill_at and not context.lost:
                os.kill(os.getpid(), signal.SIGKILL)
            while row == stop_at and not context._stops():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.0002)
    return context.attempt


@app.task(executor="process", max_attempts=1)
def waits() -> int:
    return get_context().wait_sync("approved", int, timeout="1h")


@app.task(executor="process")
def tells(n: int) -> None:
    context = get_context()
    for one in range(n):
        context.progress(one + 1, n)
        context.emit(one)


@app.task(executor="process", logs="warning")
def logs_in_child(text: str) -> None:
    logging.getLogger("shop").warning(text)


@app.task(executor="process", max_attempts=1)
def counts_down(left: int, ran: list[list[int]]) -> list[list[int]]:
    ran = [*ran, [left, os.getpid()]]
    return get_context().continue_as_new(counts_down.bind(left - 1, ran)) if left else ran
