"""An app with a lifespan and dependencies at the top of a module: child processes import it by name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from streamq import Depends, StreamQ, get_context

NOTES = os.environ.get("STREAMQ_TEST_NOTES", "/dev/null")
app = StreamQ("shop")


def note(line: str) -> None:
    with Path(NOTES).open("a") as file:
        file.write(f"{line} {os.getpid()}\n")


@app.lifespan
async def pool(app: StreamQ) -> AsyncIterator[dict[str, int]]:
    note(f"open {app.name}")
    if os.environ.get("STREAMQ_TEST_FAIL") == "start":
        raise ConnectionError("no database")
    if os.environ.get("STREAMQ_TEST_FAIL") == "never":
        return
    yield {"pid": os.getpid(), "loop": id(asyncio.get_running_loop())}
    note("close")
    if os.environ.get("STREAMQ_TEST_FAIL") == "hang":
        await asyncio.sleep(600)
    if os.environ.get("STREAMQ_TEST_FAIL") == "twice":
        yield {}


async def connection(pool: dict[str, int] = Depends(pool)) -> AsyncIterator[str]:
    assert id(asyncio.get_running_loop()) == pool["loop"]
    note("begin")
    yield f"connection of {pool['pid']}"
    note("commit")


def session(connection: str = Depends(connection)) -> Iterator[str]:
    yield f"session on {connection}"


@app.task
async def where() -> list[int]:
    return [os.getpid(), get_context().state["pid"]]


@app.task(executor="process")
def inside(word: str, db: str = Depends(session)) -> list[str]:
    return [word, db, str(os.getpid()), str(get_context().state["pid"])]
