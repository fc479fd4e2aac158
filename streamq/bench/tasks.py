"""The app that `streamq bench` measures: handlers that only record that they were called.

Owns the handlers. The worker that serves them is started by its command, as a user's worker would be.
"""

from __future__ import annotations

import asyncio
from typing import Final

from streamq import StreamQ, environment
from streamq.bench.record import mark

APP: Final = environment.BENCH_APP.name
"""The environment variable that names the app."""

app: StreamQ = StreamQ(environment.BENCH_APP.get())


@app.task
async def noop(stamp: int, text: str) -> None:
    """Do nothing; the result is stored, which is the default."""
    mark(stamp)


@app.task(retention=0)
async def forgotten(stamp: int, text: str) -> None:
    """Do nothing and store no result."""
    mark(stamp)


@app.task(retention=0)
async def nap(stamp: int, text: str) -> None:
    """Wait 50 ms, as for I/O."""
    await asyncio.sleep(0.05)
    mark(stamp)


@app.task(retention=0)
async def rest(stamp: int, text: str) -> None:
    """Record the start, then wait ten seconds, as for I/O."""
    mark(stamp)
    await asyncio.sleep(10)


@app.task(retention=0, executor="process")
def crunch(stamp: int, text: str) -> None:
    """Use about 20 ms of a core."""
    sum(n * n for n in range(300_000))
    mark(stamp)
