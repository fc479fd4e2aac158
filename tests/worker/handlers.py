"""Handlers for tests that need them at the top of a module: processes import them by name."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import time
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

from streamq import StreamQ, get_context
from streamq.client import Client
from streamq.queue import app as queue
from streamq.transport import Address

if parent_process() is not None:
    time.sleep(float(os.environ.get("SLOW_IMPORT", "0")))

app = StreamQ("shop", "unix:///nowhere.sock")


def at(url: str) -> StreamQ:
    """The app at another server."""
    app.address = Address.parse(url)
    app._client.close()
    app._client = Client(app.registry, app.address, patience=5.0)
    app.registry.record = None
    app._asyncs._address = app.address
    app._asyncs.forget()
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
