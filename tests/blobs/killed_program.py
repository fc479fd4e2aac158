"""A program that is killed between two steps of a blob's life. Words: the point, the server, the store.

Owns the points: `part`, `stored` in a producer; `result`, `settled`, `deleted` in a worker. Kills itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streamq import Blobs, FileBlobs, StreamQ, Worker, WorkerOptions
from streamq.worker import blob_sweeper

BIG = "x" * 5000
IN_PRODUCER = ("part", "stored")
IN_WORKER = ("result", "settled", "deleted")


def made(url: str, folder: str) -> tuple[StreamQ, Any]:
    """Return the app, and its task."""
    app = StreamQ("shop", url, blobs=Blobs(FileBlobs(folder), over=1024))

    @app.task(name="echo", retention=600, lease="1s")
    async def echo(text: str) -> str:
        return text.upper()

    return app, echo


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killing(before: Callable[..., Any]) -> Callable[..., None]:
    """Return a method that does what another does, and is killed then."""

    def method(*args: Any) -> None:
        before(*args)
        killed()

    return method


async def work(app: StreamQ, point: str) -> None:
    worker = Worker(app, WorkerOptions(block=0.5, heartbeat=0.2))
    if point == "result":
        FileBlobs.put = killing(FileBlobs.put)  # type: ignore[method-assign]
    elif point == "deleted":
        blob_sweeper.EVERY = 0.05  # type: ignore[misc]
        FileBlobs.delete = killing(FileBlobs.delete)  # type: ignore[method-assign]
    else:
        app.on("completed")(killed)  # told when it is settled
    await worker.run()


def main(point: str, url: str, folder: str) -> None:
    app, echo = made(url, folder)
    if point == "part":
        Path.replace = killed  # type: ignore[assignment, method-assign]
    elif point == "stored":
        FileBlobs.put = killing(FileBlobs.put)  # type: ignore[method-assign]
    if point in IN_PRODUCER:
        echo.enqueue(BIG)
    else:
        asyncio.run(work(app, point))


if __name__ == "__main__":
    main(*sys.argv[1:])
